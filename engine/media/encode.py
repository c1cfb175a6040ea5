"""Pixels in, the bytes of a PNG, WebP, JPEG, GIF or MP4 out, with the recipe inside."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.api import MOVING_FORMATS, STILL_FORMATS, Output
from engine.errors import InvalidRequest
from engine.media import gif, metadata

Pixels = NDArray[np.uint8]
Recipe = Mapping[str, Any]

QUALITY = 90  # of WebP and JPEG, 1..100; MP4 takes the constant rate factor that looks alike


def encode(
    pixels: Pixels | Sequence[Pixels],
    format: str,
    recipe: Recipe | None = None,
    *,
    fps: float = 24,
    loop: bool = True,
    quality: int = QUALITY,
) -> bytes:
    """Return one picture (H, W, 3), or a sequence of them as an animation, in ``format``.

    Args:
        pixels: uint8 RGB; all frames of one size.
        format: png, webp, jpeg for a picture; gif, webp, mp4 for either.
        recipe: embedded as :mod:`engine.media.metadata` describes.
        fps: frames a second of an animation.
        loop: whether an animation starts again at its end (GIF, WebP; players decide for MP4).
        quality: 1..100, of the formats that lose something.

    Raises:
        InvalidRequest: an unknown format, an animation in a format that can't move, or frames that differ in size.
    """
    frames = [pixels] if isinstance(pixels, np.ndarray) and pixels.ndim == 3 else list(pixels)
    _check(frames, format)
    match format:
        case "png":
            return _png(frames[0], recipe)
        case "jpeg":
            return _jpeg(frames[0], recipe, quality)
        case "webp":
            return _webp(frames, recipe, fps, loop, quality)
        case "gif":
            return gif.encode(frames, fps, loop=loop, comment=None if recipe is None else metadata.comment(recipe))
        case _:
            return _mp4(frames, recipe, fps, quality)


def encode_still(pixels: Pixels, format: str, recipe: Recipe | None = None, *, quality: int = QUALITY) -> Output:
    """Return one picture (H, W, 3) as an :class:`Output`."""
    data = encode(pixels, format, recipe, quality=quality)
    return Output(data=data, format=format, width=pixels.shape[1], height=pixels.shape[0], recipe=dict(recipe or {}))


def encode_animation(
    frames: Sequence[Pixels],
    fps: float,
    format: str,
    recipe: Recipe | None = None,
    *,
    loop: bool = True,
    quality: int = QUALITY,
) -> Output:
    """Return frames (H, W, 3) as an :class:`Output`; an MP4's sides are even, so one px may be cut off."""
    data = encode(frames, format, recipe, fps=fps, loop=loop, quality=quality)
    height, width = frames[0].shape[:2]
    if format == "mp4":
        height, width = height - height % 2, width - width % 2
    return Output(
        data=data, format=format, width=width, height=height, frames=len(frames), recipe=dict(recipe or {})
    )  # fmt: skip


def _check(frames: list[Pixels], format: str) -> None:
    known = sorted({*STILL_FORMATS, *MOVING_FORMATS})
    if format not in known:
        raise InvalidRequest(f"There is no format {format!r}; choose one of {', '.join(known)}.")
    if len(frames) != 1 and format not in MOVING_FORMATS:
        raise InvalidRequest(f"A {format} holds 1 frame, not {len(frames)}; choose one of {', '.join(MOVING_FORMATS)}.")
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1 or any(frame.dtype != np.uint8 or frame.shape[2:] != (3,) for frame in frames):
        raise InvalidRequest(f"Frames must be uint8 RGB of one size, not {sorted(shapes)}.")


def _png(pixels: Pixels, recipe: Recipe | None) -> bytes:
    info = PngInfo()
    if recipe is not None:
        info.add_itxt(metadata.KEYWORD, metadata.pack(recipe))
    out = io.BytesIO()
    # Paint repeats nothing that a search for repetitions would find: without it, a fifth of the time and fewer bytes.
    Image.fromarray(pixels).save(out, "PNG", pnginfo=info, compress_type=zlib.Z_RLE)
    return out.getvalue()


def _jpeg(pixels: Pixels, recipe: Recipe | None, quality: int) -> bytes:
    out = io.BytesIO()
    comment = b"" if recipe is None else metadata.comment(recipe)
    # No chroma subsampling at high quality: paintings have red edges.
    subsampling = 0 if quality >= 85 else 2
    # Neither optimised nor progressive: 3% fewer bytes would take six times as long.
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling=subsampling, comment=comment)
    return out.getvalue()


def _webp(frames: list[Pixels], recipe: Recipe | None, fps: float, loop: bool, quality: int) -> bytes:
    out = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in frames)
    # Method 2 takes half the time of 4 for 2% (stills) to 5% more bytes.
    options: dict[str, Any] = {"quality": quality, "method": 2, "xmp": b"" if recipe is None else metadata.xmp(recipe)}
    if not others:
        first.save(out, "WEBP", **options)
        return out.getvalue()
    ends = [round(1000 * (index + 1) / fps) for index in range(len(frames))]
    durations = [end - start for start, end in zip([0, *ends], ends, strict=False)]  # ms
    first.save(
        out, "WEBP", save_all=True, append_images=others, duration=durations, loop=0 if loop else 1, **options
    )  # fmt: skip
    return out.getvalue()


def _mp4(frames: list[Pixels], recipe: Recipe | None, fps: float, quality: int) -> bytes:
    height, width = (side - side % 2 for side in frames[0].shape[:2])  # yuv420p halves both sides
    if not height or not width:
        raise InvalidRequest("An MP4 needs at least 2 px on each side.")
    comment = "" if recipe is None else metadata.comment(recipe).decode()
    # The index goes before the pictures, so that a film starts before it has arrived.  FFmpeg's own "faststart"
    # reads its output back, which a buffer in memory can't do; room for the index does the same.
    room = 1600 + 24 * len(frames) + len(comment)
    # Bit-exact and single-threaded: the same frames are the same bytes, with no date and no version in them.  Even so
    # x264's look-ahead rounds by chance of memory (several files from the same frames) unless it is "cpu-independent".
    import av  # here, because FFmpeg costs a quarter of a second that stills need not wait for

    out = io.BytesIO()
    container = av.open(out, "w", format="mp4", options={"moov_size": str(room), "fflags": "+bitexact"})
    with container:
        if comment:
            container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(_crf(quality)), "preset": "medium", "x264-params": "threads=1:cpu-independent=1"}
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def _crf(quality: int) -> int:
    """Return x264's constant rate factor for a quality of 1..100: 90 is 18, 60 is 26."""
    return max(10, min(45, round(18 + (90 - quality) * 8 / 30)))
