"""The size ladder: any picture or animation into any limit of bytes, sides and formats, and one sentence about it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.api import MOVING_FORMATS, FitRequest, Output
from engine.data import intake
from engine.errors import GanvasError, InvalidRequest, UnreadableImage
from engine.media import metadata
from engine.media.encode import encode

Pixels = NDArray[np.uint8]

MAX_FRAMES: Final = 1200
_BUDGET: Final = 160_000_000  # px of all frames together, at 3 bytes each, held while an animation is made again
_SMALLEST: Final = 8  # px

_NAMES: Final = {"png": "PNG", "webp": "WebP", "jpeg": "JPEG", "gif": "GIF", "mp4": "MP4"}
# What is tried at each size, best first.  Formats without a quality have one rung.
_STILL: Final = {"png": (100,), "webp": (90, 80, 65), "jpeg": (90, 80, 65), "gif": (100,), "mp4": (90,)}
_MOVING: Final = {"gif": (100,), "webp": (80, 60), "mp4": (90, 70)}


@dataclass(frozen=True)
class _Source:
    """What a file's header says of it."""

    kind: str  # as people call it: a name of intake.READABLE, or MP4
    size: tuple[int, int]  # px, as stored
    frames: int = 1
    fps: float = 24.0
    loop: bool = True
    private: bool = False  # carries what a camera wrote, e.g. where it stood

    @property
    def format(self) -> str:
        return self.kind.lower()


def fit(request: FitRequest) -> tuple[Output, tuple[str, ...]]:
    """Return ``request.image`` within the limits, and what was done to it in at most one sentence.

    What fits already comes back as it is, byte for byte (without its recipe, where that is to be stripped).  Else
    formats and qualities are tried from the best down, then smaller sizes.  The same request gives the same bytes.

    Raises:
        UnreadableImage: it is no picture or film, or broken.
        InvalidRequest: it does not fit at any size.
    """
    data = request.image
    source = _look(data)
    recipe = None if request.strip else metadata.read_recipe(data)
    if request.strip:
        data = metadata.without_recipe(data)
    side = min(max(source.size), request.max_side)
    if side == max(source.size) and len(data) <= request.max_bytes and _welcome(source, request):
        _still(data, source, side=64)  # a header promises pixels; only the decoder knows
        width, height = source.size
        untouched = Output(
            data=data, format=source.format, width=width, height=height, frames=source.frames, recipe=recipe or {}
        )  # fmt: skip
        return untouched, ()

    rungs = _rungs(source, request)
    moving = source.frames > 1 and any(format in MOVING_FORMATS for format, _ in rungs)
    if moving:
        side = min(side, _affordable(source))
    while side >= _SMALLEST:
        frames = _animation(data, source, side) if moving else [_still(data, source, side)]
        tried: dict[tuple[str, int], int] = {}
        for format, quality in rungs:
            encoded = encode(frames, format, recipe, fps=source.fps, loop=source.loop, quality=quality)
            if len(encoded) <= request.max_bytes:
                height, width = (s - s % 2 if format == "mp4" else s for s in frames[0].shape[:2])
                output = Output(
                    data=encoded, format=format, width=width, height=height, frames=len(frames), recipe=recipe or {}
                )  # fmt: skip
                return output, (_note(source, request, output, too_large=len(data) > request.max_bytes or bool(tried)),)
            tried[format, quality] = len(encoded)
        best = min(tried, key=tried.__getitem__)
        rungs = [best]
        # Bytes grow with the area, a little slower than in proportion.
        side = int(side * min(0.9, max(0.3, 0.95 * (request.max_bytes / tried[best]) ** 0.5)))
    raise InvalidRequest(
        f"This {source.kind} can't be made to fit {_bytes(request.max_bytes)} as {' or '.join(request.formats)}."
    )


def _welcome(source: _Source, request: FitRequest) -> bool:
    return source.format in request.formats and not source.private


def _rungs(source: _Source, request: FitRequest) -> list[tuple[str, int]]:
    """Return formats with their qualities, best first: its own format, then those that are smaller at equal looks."""
    if source.frames > 1 and any(format in MOVING_FORMATS for format in request.formats):
        order, qualities = [source.format, "webp", "mp4", "gif"], _MOVING
    else:
        own = source.format if source.format in ("png", "webp", "jpeg") else "webp"
        order, qualities = [own, "webp", "jpeg", "png"], _STILL
        if not set(order) & set(request.formats):
            order = ["gif", "mp4"]
    usable = [format for format in dict.fromkeys(order) if format in request.formats and format in qualities]
    return [(format, quality) for format in usable for quality in qualities[format]]


def _note(source: _Source, request: FitRequest, output: Output, *, too_large: bool) -> str:
    made = f"Sent as {_NAMES[output.format]}"
    if max(output.width, output.height) < max(source.size) - 1:
        made += f" at {max(output.width, output.height)} px"
    if output.frames < source.frames:
        made += ", its first frame only,"
    if too_large:
        return f"{made} so that it fits {_bytes(request.max_bytes)}."
    if max(source.size) > request.max_side:
        return f"{made} so that no side is over {request.max_side} px."
    if source.format not in request.formats:
        return f"{made} because {source.kind} is not accepted here."
    return f"{made} without what the camera wrote into it (EXIF)."


def _bytes(count: int) -> str:
    return f"{count / 2**20:.3g} MB" if count >= 2**20 else f"{count / 2**10:.3g} kB"


# Reading: headers first, pixels at the size that is wanted.


def _look(data: bytes) -> _Source:
    if intake.sniff(data) == "a video" and data[4:8] == b"ftyp":
        return _look_at_film(data)
    kind = intake.identify(data)
    try:
        with intake.opened(data, kind) as image:
            intake.check_size(image.size)
            frames = getattr(image, "n_frames", 1) if kind in ("GIF", "WebP", "PNG") else 1
            private = bool(image.getexif())
            if frames == 1:
                return _Source(kind, image.size, private=private)
            seconds = _seconds(image, frames)
            loop = image.info.get("loop", 1 if kind == "GIF" else 0) == 0
            # An animated PNG is no format we write, so its name must not match one.
            return _Source("APNG" if kind == "PNG" else kind, image.size, frames, frames / seconds, loop, private)
    except GanvasError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken data
        raise intake.broken(kind, error) from error


def _seconds(image: Image.Image, frames: int) -> float:
    """Return how long an animation lasts; browsers give frames without a time a tenth of a second."""
    _check_length(frames)
    total = 0.0
    for index in range(frames):
        image.seek(index)
        image.load()  # a WebP knows a frame's time once it is decoded
        total += float(image.info.get("duration") or 100) / 1000
    return total


def _check_length(frames: int) -> None:
    if frames > MAX_FRAMES:
        raise UnreadableImage(f"This animation has more than {MAX_FRAMES} frames, the most that can be made again.")


def _look_at_film(data: bytes) -> _Source:
    import av  # as in encode.py

    try:
        with av.open(io.BytesIO(data), "r") as film:
            stream = film.streams.video[0]
            rate = stream.average_rate or Fraction(24)
            intake.check_size((stream.width, stream.height))
            return _Source("MP4", (stream.width, stream.height), max(stream.frames, 1), min(max(float(rate), 1), 60))
    except GanvasError:
        raise
    except Exception as error:  # as above
        raise intake.broken("MP4", error) from error


def _affordable(source: _Source) -> int:
    """Return the long side at which all frames together stay within the budget of memory."""
    _check_length(source.frames)
    width, height = source.size
    share = min(1.0, (_BUDGET / (source.frames * width * height)) ** 0.5)
    return int(max(source.size) * share)


def _still(data: bytes, source: _Source, side: int) -> Pixels:
    if source.kind == "MP4":
        return next(_film_frames(data, intake.shrunk(source.size, side)))
    return intake.open_photo(data, max_side=side)


def _animation(data: bytes, source: _Source, side: int) -> list[Pixels]:
    size = intake.shrunk(source.size, side)
    if source.kind == "MP4":
        return list(_film_frames(data, size))
    kind = "PNG" if source.kind == "APNG" else source.kind
    try:
        with intake.opened(data, kind) as image:
            frames = []
            for index in range(source.frames):
                image.seek(index)
                frame = intake.flatten(image)
                frames.append(np.asarray(frame if frame.size == size else frame.resize(size, Image.Resampling.LANCZOS)))
            return frames
    except Exception as error:  # as above
        raise intake.broken(kind, error) from error


def _film_frames(data: bytes, size: tuple[int, int]) -> Iterator[Pixels]:
    import av

    count = 0
    try:
        with av.open(io.BytesIO(data), "r") as film:
            film.streams.video[0].codec_context.thread_count = 1
            for count, frame in enumerate(film.decode(video=0), 1):
                _check_length(count)
                yield np.asarray(frame.reformat(*size, format="rgb24").to_ndarray(), np.uint8)
    except GanvasError:
        raise
    except Exception as error:  # as above
        raise intake.broken("MP4", error) from error
    if not count:
        raise UnreadableImage("This MP4 holds no pictures.")
