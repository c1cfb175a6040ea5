"""Squares and tiles out of pictures of any shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.folders import Pixels, Report, walk, write_picture
from engine.data.paintings import squares
from engine.errors import InvalidRequest

MIN_SIZE, MAX_SIZE = 16, 4096  # px


def tiles(picture: Pixels, size: int) -> Iterator[Pixels]:
    """Yield squares of ``size`` px that cover ``picture`` (H, W, 3) wholly, overlapping as little as that allows.

    A picture whose short side is less than ``size`` yields nothing: enlarging it would teach blur.
    """
    for top in _starts(picture.shape[0], size):
        for left in _starts(picture.shape[1], size):
            yield picture[top : top + size, left : left + size]


def _starts(length: int, size: int) -> list[int]:
    if length < size:
        return []
    count = -(-length // size)
    return [round(index * (length - size) / max(count - 1, 1)) for index in range(count)]


def crop_folder(
    source: Path, out: Path, *, size: int, tiled: bool, on_file: Callable[[int], None] | None = None
) -> Report:
    """Write every picture of ``source`` as squares of ``size`` px into the same folders below ``out``.

    Args:
        tiled: cover the picture with tiles at its own scale, instead of scaling its middle (or both ends).

    Raises:
        InvalidRequest: ``size`` is out of range, or ``out`` lies in ``source``.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InvalidRequest(f"The size is {size} px; it must lie between {MIN_SIZE} and {MAX_SIZE}.")
    apart(source, out)
    report = Report()
    for done, (path, picture) in enumerate(walk(source, report), 1):
        pieces = (
            tiles(picture, size) if tiled else (np.asarray(each) for each in squares(Image.fromarray(picture), size))
        )
        home = out / path.relative_to(source).parent
        before = report.written
        for number, piece in enumerate(pieces, 1):
            write_picture(piece, home / f"{path.stem}-{number}.jpg")
            report.written += 1
        report.skipped += report.written == before  # too small for a tile
        if on_file:
            on_file(done)
    return report


def apart(source: Path, out: Path) -> None:
    """See that what is written does not become part of what is read.

    Raises:
        InvalidRequest: ``out`` is ``source`` or lies in it.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise InvalidRequest(f"{str(out)!r} lies in {str(source)!r}; choose a folder outside of it.")
