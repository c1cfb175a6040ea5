"""Hostile bytes in, upright RGB pictures out.

:func:`open_photo` reads every kind of picture people send.  :class:`Decoder` runs it in a small process of its own,
with limits on memory, processor time and wall time, so that no file can crash, stall or swallow the engine.  Both
trust nothing about a file but its own first bytes: a name or a content type is only somebody's opinion.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import queue
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageCms, TiffImagePlugin, WebPImagePlugin  # noqa: F401  # they register

from engine.api import FitRequest, Output
from engine.errors import GanvasError, UnreadableImage, from_wire

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB

MAX_BYTES: Final = 256 * 2**20  # 50 megapixels of TIFF, uncompressed, with room
MAX_PIXELS: Final = 50_000_000
LONGEST_SIDE: Final = 30_000  # px; panoramas of phones end at about 16,000
SHORTEST_SIDE: Final = 8  # px; the networks' stride, and nothing can be seen in less
MAX_ASPECT: Final = 40

READABLE: Final = "JPEG, PNG, WebP, GIF, HEIC, AVIF, BMP or TIFF"
_PILLOW_FORMATS: Final = {
    "JPEG": ("JPEG", "MPO"), "PNG": ("PNG",), "WebP": ("WEBP",), "GIF": ("GIF",), "HEIC": ("HEIF",),
    "AVIF": ("AVIF",), "BMP": ("BMP",), "TIFF": ("TIFF",),
}  # fmt: skip

# How files begin, pictures we read first; the long ones before the short.
_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"BM", "BMP"),
    (b"II*\x00", "TIFF"), (b"MM\x00*", "TIFF"), (b"II+\x00", "TIFF"), (b"MM\x00+", "TIFF"),
    (b"%PDF", "a PDF document"), (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1a\x45\xdf\xa3", "a video"), (b"FLV\x01", "a video"), (b"\x00\x00\x01\xba", "a video"),
    (b"8BPS", "a Photoshop document"), (b"gimp xcf", "a GIMP document"), (b"\x00\x00\x01\x00", "an icon"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"), (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"), (b"FUJIFILMCCD-RAW", "a camera's raw file"), (b"IIRO", "a camera's raw file"),
    (b"IIU\x00", "a camera's raw file"), (b"ID3", "a sound file"), (b"OggS", "a sound file"),
    (b"fLaC", "a sound file"), (b"Rar!", "an archive"), (b"7z\xbc\xaf", "an archive"), (b"\x1f\x8b", "an archive"),
    (b"MZ", "a program"), (b"\x7fELF", "a program"), (b"qoif", "a QOI picture"), (b"{\\rtf", "a text document"),
)  # fmt: skip


def sniff(data: bytes) -> str:
    """Return what ``data`` is by its first bytes: a name out of ``READABLE``, or a noun such as "a PDF document"."""
    head = data[:4096]
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "a video", b"WAVE": "a sound file"}.get(head[8:12], "an unknown file")
    if head[4:8] == b"ftyp":
        return _sniff_boxes(head)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")) or b"<html" in text[:1024]:
        return "a web page"
    if b"%pdf-" in text[:1024]:
        return "a PDF document"
    return "a text file" if _is_text(text) else "an unknown file"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # its last letter may be cut in two
    except UnicodeDecodeError:
        return False
    return text != "" and all(letter.isprintable() or letter in "\t\r\n" for letter in text)


def _sniff_boxes(head: bytes) -> str:
    """Tell HEIC, AVIF and films apart, which share one container, by the brands in its first box."""
    end = min(max(int.from_bytes(head[:4], "big"), 16), 256)
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "HEIC"
    return "a camera's raw file" if b"crx " in brands else "a video"


def open_photo(data: bytes, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return the picture in ``data`` as uint8 (H, W, 3) sRGB: upright, opaque on white, the first frame if it moves.

    This decodes in the calling process; for bytes of strangers use :meth:`Decoder.open`.

    Args:
        data: a whole file in any of the formats of ``READABLE``.
        max_side: shrink until the long side is at most this many px; smaller pictures stay as they are.
        max_pixels: refuse, before decoding, what has more pixels than this.

    Raises:
        UnreadableImage: with one sentence for the person who sent it.
    """
    kind = identify(data)
    try:
        with opened(data, kind) as image:
            check_size(image.size, max_pixels)
            return _to_srgb(image, max_side)
    except GanvasError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken data; the format is all that can be said
        raise broken(kind, error) from error


def identify(data: bytes) -> str:
    """Return the kind of picture in ``data``, a name out of ``READABLE``.

    Raises:
        UnreadableImage: it is empty, too large a file, or no picture; the message says what it seems to be.
    """
    if not data:
        raise UnreadableImage("The file is empty (0 bytes); please send it again.")
    if len(data) > MAX_BYTES:
        raise UnreadableImage(
            f"The file has {len(data) / 2**20:.0f} MB; at most {MAX_BYTES / 2**20:.0f} MB can be read."
        )
    kind = sniff(data)
    if kind not in _PILLOW_FORMATS:
        raise UnreadableImage(f"This is {kind}, not a picture that can be read; send a {READABLE}.")
    return kind


@contextmanager
def opened(data: bytes, kind: str) -> Iterator[Image.Image]:
    """Open ``data`` with the one decoder of its ``kind``; only the header is read so far."""
    if kind == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what we refuse (bombs) or repair (broken EXIF) anyway
        with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS[kind]) as image:
            yield image


def check_size(size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Refuse pictures that are too small, too long, too narrow or too many pixels.

    Raises:
        UnreadableImage: the message names the size and what is allowed.
    """
    width, height = size
    this = f"This picture is {width} x {height} px"
    if min(size) < SHORTEST_SIDE:
        raise UnreadableImage(f"{this}; it must have at least {SHORTEST_SIDE} px on each side.")
    if max(size) > LONGEST_SIDE:
        raise UnreadableImage(f"{this}; the long side may have at most {LONGEST_SIDE} px.")
    if width * height > max_pixels:
        raise UnreadableImage(
            f"{this}, {width * height / 1e6:.0f} megapixels; at most {max_pixels / 1e6:.3g} megapixels can be opened."
        )
    if max(size) > MAX_ASPECT * min(size):
        raise UnreadableImage(f"{this}; it may be at most {MAX_ASPECT} times as long as it is wide.")


def broken(kind: str, error: Exception) -> UnreadableImage:
    """Turn a decoder's complaint about a picture of ``kind`` into a sentence."""
    if isinstance(error, Image.DecompressionBombError):
        return UnreadableImage(
            f"This {kind} unpacks to far more than {MAX_PIXELS / 1e6:.0f} megapixels; send a smaller one."
        )
    if isinstance(error, MemoryError):
        return UnreadableImage(f"This {kind} needs more memory than one picture may take; send a smaller one.")
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return UnreadableImage(f"This {kind} is cut off: its end is missing; please send it again.")
    return UnreadableImage(f"This {kind} is broken and can't be opened; please save it again and resend it.")


# From whatever Pillow found to sRGB.  The picture is shrunk as early as its mode allows, because a large photo in
# four bytes a pixel, in three copies, is the peak of memory.


def _to_srgb(image: Image.Image, max_side: int | None) -> Pixels:
    profile = image.info.get("icc_profile")
    target = shrunk(image.size, max_side)
    image.draft(None, target)  # a JPEG unpacks to 1/2, 1/4 or 1/8 for a fraction of the work
    image.load()
    turn = _orientation(image)  # only now: TIFFs have turned themselves, and a PNG's EXIF may follow its pixels
    image = _eight_bit(image)
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if turn is not None:
        image = image.transpose(turn)
    if profile:
        image = _apply_profile(image, profile)
    return np.asarray(flatten(image))


def shrunk(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return ``size`` scaled down, never up, to a long side of at most ``max_side`` px."""
    long_side = max(size)
    if max_side is None or long_side <= max_side:
        return size
    return max(1, round(size[0] * max_side / long_side)), max(1, round(size[1] * max_side / long_side))


_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn the picture upright by its EXIF tag 0x0112; broken EXIF says nothing."""
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # EXIF is parsed from hostile bytes too, and no reason to refuse a good picture
        return None


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the picture in a mode that can be resized: L, RGB, RGBA or CMYK, or LAB."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_grey_levels(np.asarray(image), mode))
    if image.has_transparency_data and mode != "RGBA":
        return image.convert("RGBA")
    if mode in ("L", "RGB", "RGBA", "CMYK", "LAB"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _grey_levels(values: NDArray[Any], mode: str) -> Pixels:
    """Bring 16-bit, 32-bit and float greys to 0..255.

    16 bits have a fixed white.  Wider numbers have none, so their largest value is taken for the white of the
    narrowest range that holds it (1, 255, 65535), or is white itself.
    """
    if mode.startswith("I;16"):
        white = 65535.0
    else:
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        top = float(values.max())
        scales = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        white = next((scale for scale in scales if top <= scale), top)
    return np.clip(values * np.float32(255 / white) + 0.5, 0, 255).astype(np.uint8)


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert the colours to sRGB by the embedded ICC profile; a broken or unfitting profile is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in (source.profile.profile_description or "").lower():
            return image
        space = source.profile.xcolor_space.strip()
        fitting = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK", "LAB": "Lab"}[image.mode]
        if space != fitting:
            return image
        output = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=output)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image


def flatten(image: Image.Image) -> Image.Image:
    """Return ``image`` in mode RGB, laid on white where it is transparent."""
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


# The same in a process of its own.  Parent and worker talk over a socket pair in messages of a JSON header, whose
# length comes first, and a payload, whose length the header names.


class Decoder:
    """Small worker processes with limits, in which the bytes of strangers are decoded.

    A worker starts at its first picture (about 0.3 s, no torch), lives on, and is replaced whenever it dies or has
    to be killed.  All methods block and are safe to call from any thread; an event loop calls them through
    ``asyncio.to_thread``.

    Args:
        workers: how many pictures are decoded at the same time; the others wait.
        memory: address space of one worker, in bytes.
        timeout: seconds that one picture may take, of the clock and of the processor.
    """

    def __init__(self, *, workers: int = 1, memory: int = 2 * 2**30, timeout: float = 30.0) -> None:
        self.memory = memory
        self.timeout = timeout
        self._all = [_Worker(memory) for _ in range(workers)]
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()  # the last one used is the warmest
        for worker in self._all:
            self._free.put(worker)

    def open(
        self, data: bytes, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS, timeout: float | None = None
    ) -> Pixels:
        """Do as :func:`open_photo` does, safely.

        Raises:
            UnreadableImage: also when the picture crashes its decoder, or takes too much memory or time.
        """
        identify(data)  # what is no picture at all needs no process
        job = {"do": "open", "max_side": max_side, "max_pixels": max_pixels}
        answer, pixels = self._run(job, data, timeout)
        return np.frombuffer(pixels, np.uint8).reshape(answer["shape"])

    def fit(self, request: FitRequest, *, timeout: float = 120.0) -> tuple[Output, tuple[str, ...]]:
        """Do as :func:`engine.media.fit` does, safely.

        Raises:
            UnreadableImage: as in :meth:`open`.
            InvalidRequest: nothing that is allowed fits into so few bytes.
        """
        options = {f.name: getattr(request, f.name) for f in fields(request) if f.name != "image"}
        answer, encoded = self._run({"do": "fit", "options": options}, request.image, timeout)
        return Output(data=bytes(encoded), **answer["output"]), tuple(answer["notes"])

    def pids(self) -> list[int]:
        """Return the process ids of the workers that run now."""
        return [worker.process.pid for worker in self._all if worker.process and worker.process.poll() is None]

    def close(self) -> None:
        """End all workers; a later call starts new ones."""
        for worker in self._all:
            worker.stop()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, job: dict[str, Any], data: bytes, timeout: float | None) -> tuple[dict[str, Any], bytearray]:
        """Hand a job to a free worker; a worker's death is tried again once, as it need not be the picture's fault."""
        timeout = timeout or self.timeout
        worker = self._free.get()
        try:
            for attempt in (1, 2):
                try:
                    answer, payload = worker.run(job | {"seconds": timeout}, data, timeout)
                except TimeoutError as error:
                    worker.stop()
                    raise UnreadableImage(
                        f"This picture took longer than {timeout:g} s to read; send a simpler one."
                    ) from error
                except (OSError, EOFError) as error:
                    worker.stop()
                    if attempt == 2:
                        raise UnreadableImage(
                            "This picture crashes its decoder; please save it again and resend it."
                        ) from error
                else:
                    if "error" in answer:
                        raise from_wire(answer["error"])
                    return answer, payload
            raise AssertionError("unreachable")
        finally:
            self._free.put(worker)


class _Worker:
    """One process of :mod:`engine.data.worker` and our end of the socket to it."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.process: subprocess.Popen[bytes] | None = None
        self.socket: socket.socket | None = None

    def run(self, job: dict[str, Any], data: bytes, timeout: float) -> tuple[dict[str, Any], bytearray]:
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.start()
        assert self.socket is not None
        deadline = time.monotonic() + timeout
        send(self.socket, job, data, deadline)
        return receive(self.socket, deadline)

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine.data.worker", str(theirs.fileno()), str(self.memory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Nothing of ours but the way to our code: a decoder that has been taken over finds no token.
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                    "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
                    "OPENBLAS_NUM_THREADS": "1",
                    "MALLOC_ARENA_MAX": "1",  # an arena a thread would eat the address space
                },
            )
        self.socket = ours

    def stop(self) -> None:
        if self.socket is not None:
            self.socket.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = self.socket = None


def send(to: socket.socket, header: dict[str, Any], payload: bytes | memoryview, deadline: float | None = None) -> None:
    """Send one message; ``deadline`` is on the monotonic clock."""
    head = json.dumps(header | {"size": len(payload)}).encode()
    for part in (struct.pack(">I", len(head)) + head, payload):
        _patience(to, deadline)
        to.sendall(part)


def receive(source: socket.socket, deadline: float | None = None) -> tuple[dict[str, Any], bytearray]:
    """Receive one message; EOFError when the other end is gone, TimeoutError after the deadline."""
    (length,) = struct.unpack(">I", _receive_exactly(source, 4, deadline))
    header = json.loads(_receive_exactly(source, length, deadline))
    return header, _receive_exactly(source, header["size"], deadline)


def _receive_exactly(source: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        _patience(source, deadline)
        count = source.recv_into(view)
        if not count:
            raise EOFError("the other end has gone")
        view = view[count:]
    return data


def _patience(of: socket.socket, deadline: float | None) -> None:
    if deadline is not None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        of.settimeout(left)
