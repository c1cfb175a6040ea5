"""Folders of pictures ``<root>/<genre>/[<art style>/]name``: how they are walked, named and written."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.api import parse_genre
from engine.data.intake import open_photo
from engine.data.paintings import find_pictures
from engine.errors import UnknownName, UnreadableImage

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB

UNLABELLED = "unlabelled"  # the folder of what nobody gave a genre; trainings by genre leave it out
QUALITY = 95  # of the JPEGs written here; colour at full resolution, because brush strokes are colour


@dataclass
class Report:
    """What became of many files: how many were written, and why the others were not."""

    written: int = 0
    skipped: int = 0  # there already
    broken: list[str] = field(default_factory=list)  # one sentence each


def slug(text: str) -> str:
    """Return ``text`` as a safe file name: small ASCII letters, digits and dashes, at most 60, or "picture"."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "picture"


def art_style_of(name: str) -> str:
    """Return the art style that a picture's path below the root tells, as a slug; "" where it tells none."""
    below = Path(name).parts[1:-1]
    return slug(below[0]) if below else ""


def genre_folder(text: str) -> str:
    """Return the folder of a genre: its full name if it is known by any alias, else what the artist calls it."""
    try:
        return parse_genre(text)
    except UnknownName:
        return slug(text) if text.strip() else UNLABELLED


def genre_of(root: Path, path: Path) -> str:
    """Return the first folder of ``path`` below ``root``."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else UNLABELLED


def walk(root: Path, report: Report, *, max_side: int | None = None) -> Iterator[tuple[Path, Pixels]]:
    """Yield every picture below ``root`` by name, upright; a broken one is told in ``report`` and passed over."""
    for path in find_pictures(root):
        try:
            yield path, open_photo(path.read_bytes(), max_side=max_side)
        except (UnreadableImage, OSError) as error:
            report.broken.append(f"{path}: {error}")


def content_name(name: str, data: bytes) -> str:
    """Return a file name that says where it came from and is the same for the same bytes."""
    return f"{slug(Path(name).stem)}-{hashlib.sha256(data).hexdigest()[:8]}.jpg"


def write_picture(pixels: Pixels, path: Path) -> None:
    """Write ``pixels`` in the format of ``path``'s suffix, wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    if path.suffix == ".png":
        Image.fromarray(pixels).save(file, "PNG")
    else:
        Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(file.getvalue())
    part.replace(path)


def place(source: Path, target: Path) -> None:
    """Put the file ``source`` at ``target`` too: as a hard link, which costs nothing, or as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # another file system
        shutil.copyfile(source, part)
    part.replace(target)
    part.unlink(missing_ok=True)  # replacing a link by another link to the same file leaves both names
