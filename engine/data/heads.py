"""Heads and shoulders out of portraits, heads of cats out of photos: faces of one size at one height can be learned.

Out of whole portraits, where faces are anywhere and often eight pixels wide, painter-128 drew masks; out of whole
animals of as many kinds, backs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.crops import apart
from engine.data.folders import Pixels, Report, walk, write_picture
from engine.errors import InvalidRequest

Face = tuple[float, float, float]  # px: its middle from the left and from above, its width


class Whose(StrEnum):
    """Whose heads are looked for."""

    PEOPLE = "people"
    CATS = "cats"


@dataclass(frozen=True)
class Kind:
    """How heads of one kind are found and cut out."""

    cascade: str  # a file of OpenCV 4
    least: int  # findings of one face in a row: fewer find more faces, and more that are none
    side: float  # widths of a face that the square measures
    down: float  # of a face's width that the square's middle lies below the face's


KINDS = {
    Whose.PEOPLE: Kind("haarcascade_frontalface_alt.xml", 4, 2.1, 0.08),  # shoulders are more than sky
    Whose.CATS: Kind("haarcascade_frontalcatface_extended.xml", 2, 1.55, -0.03),  # it sees some dogs, too
}

SCALES = 0.9, 1.15  # of the square, drawn
SHIFT = 0.04  # of the square, drawn
LEAST = 0.65  # of the wanted size that a square must have in the picture: enlarging more would teach blur
ASKEW = 0.15  # of the square that a face may be away from where it should be, at a picture's edge
LOOKED_AT = 512  # px, short side at which faces are looked for
SMALLEST = 90  # px of those


def head_folder(
    source: Path,
    out: Path,
    *,
    of: Whose = Whose.PEOPLE,
    size: int = 128,
    each: int = 3,
    seed: int = 0,
    find: Callable[[Pixels], list[Face]] | None = None,
    on_file: Callable[[int], None] | None = None,
) -> Report:
    """Write ``each`` slightly different squares of ``size`` px around the face of every picture that shows just one.

    Args:
        find: finds the faces of a picture (H, W, 3); OpenCV's by default.

    Raises:
        InvalidRequest: ``out`` lies in ``source``, or OpenCV 4 is not installed.
    """
    apart(source, out)
    kind = KINDS[of]
    find = find or opencv_faces(kind)
    report, rng = Report(), np.random.default_rng(seed)
    for done, (path, picture) in enumerate(walk(source, report), 1):
        faces, before = find(picture), report.written
        if len(faces) == 1:
            home = (out / path.relative_to(source)).parent
            for number, square in enumerate(squares_around(picture, faces[0], kind, size, each, rng), 1):
                write_picture(square, home / f"{path.stem}-{number}.jpg")
                report.written += 1
        report.skipped += report.written == before
        if on_file:
            on_file(done)
    return report


def squares_around(
    picture: Pixels, face: Face, kind: Kind, size: int, each: int, rng: np.random.Generator
) -> Iterable[Pixels]:
    """Yield up to ``each`` squares (size, size, 3) of ``picture`` (H, W, 3) with ``face`` in the middle, or nearly."""
    height, width = picture.shape[:2]
    x, y, across = face
    usual = kind.side * across
    if min(usual, height, width) < LEAST * size:
        return
    for _ in range(each):
        side = min(usual * rng.uniform(*SCALES), height, width)
        along, down = rng.uniform(-SHIFT, SHIFT, 2) * side
        left = np.clip(x + along - side / 2, 0, width - side)
        top = np.clip(y + kind.down * across + down - side / 2, 0, height - side)
        if max(abs(left + side / 2 - x), abs(top + side / 2 - y - kind.down * across)) <= ASKEW * side:
            box = (left, top, left + side, top + side)
            yield np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS, box))


def opencv_faces(kind: Kind) -> Callable[[Pixels], list[Face]]:
    """Return what finds faces seen from the front (Viola and Jones 2001), with a cascade that comes with OpenCV 4.

    Raises:
        InvalidRequest: it is not installed; later ones have no cascades.
    """
    try:
        import cv2

        cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / kind.cascade))
    except (ImportError, AttributeError) as error:
        raise InvalidRequest("Finding faces needs OpenCV 4: pip install 'ganvas[faces]'.") from error

    def find(picture: Pixels) -> list[Face]:
        grey = Image.fromarray(picture).convert("L")
        larger = LOOKED_AT / min(grey.size)
        grey = grey.resize((round(larger * grey.width), round(larger * grey.height)), Image.Resampling.BICUBIC)
        even = cv2.equalizeHist(np.asarray(grey))
        found = cascade.detectMultiScale(even, 1.05, kind.least, minSize=(SMALLEST, SMALLEST))
        return [((x + w / 2) / larger, (y + h / 2) / larger, w / larger) for x, y, w, h in np.asarray(found).tolist()]

    return find
