"""Folders of pictures as uint8 memory maps: decoded once, then a batch costs a copy.

A data set is ``<root>/<genre>/[<art style>/]*.jpg`` (any depth below the genre counts), or a flat folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from engine.errors import InvalidRequest

log = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class PictureSet:
    """``pixels`` (N, S, S, 3) uint8 on disk, a label per picture, and where each came from."""

    pixels: np.ndarray
    labels: np.ndarray  # (N,) index into ``genres``
    genres: tuple[str, ...]
    paths: tuple[str, ...]
    digest: str  # sha256 of names and sizes: what the training was shown

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: Tensor | np.ndarray) -> Tensor:
        """Return the pictures of ``rows`` as float (B, 3, S, S) in [0, 1]."""
        pixels = torch.from_numpy(self.pixels[np.asarray(rows)])
        return pixels.permute(0, 3, 1, 2).float().div_(255)


def find_pictures(root: Path) -> list[Path]:
    """Return every picture below ``root``, sorted."""
    if not root.is_dir():
        raise InvalidRequest(f"There is no folder {root}; give one that holds pictures.")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InvalidRequest(f"There are no pictures in {root}; known are {', '.join(sorted(SUFFIXES))}.")
    return found


def squares(picture: Image.Image, size: int) -> Iterator[Image.Image]:
    """Yield ``picture`` as squares of ``size`` px: the middle one, or both ends where it is much longer than wide."""
    width, height = picture.size
    side = min(width, height)
    ends = (0.0, 1.0) if max(width, height) > 1.3 * side else (0.5,)
    for end in ends:
        left, top = round((width - side) * end), round((height - side) * end)
        box = (left, top, left + side, top + side)
        yield picture.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _decode(job: tuple[str, int]) -> list[bytes] | str:
    path, size = job
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            return [square.tobytes() for square in squares(upright, size)]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path}: {error}"


def load_pictures(root: Path, size: int, cache: Path, *, workers: int = 2) -> PictureSet:
    """Return the pictures below ``root`` as squares of ``size`` px, from ``cache`` where they are already there.

    A broken file is reported in the log and skipped.  The genre of a picture is the first folder below ``root``.
    """
    paths = find_pictures(root)
    names = [path.relative_to(root).as_posix() for path in paths]
    told = hashlib.sha256()
    for path, name in zip(paths, names, strict=True):
        told.update(f"{name}\0{path.stat().st_size}\0".encode())
    digest = told.hexdigest()
    folder = cache / f"{digest[:16]}-{size}"
    if not (folder / "index.json").exists():
        _write_cache(root, names, size, folder, workers)
    index = json.loads((folder / "index.json").read_text())
    pixels = np.memmap(folder / "pixels.u8", np.uint8, "r", shape=(len(index["names"]), size, size, 3))
    homes = [name.split("/")[0] if "/" in name else "pictures" for name in index["names"]]
    genres = tuple(sorted(set(homes)))
    labels = np.array([genres.index(home) for home in homes], dtype=np.int64)
    return PictureSet(pixels, labels, genres, tuple(index["names"]), digest)


def _write_cache(root: Path, names: list[str], size: int, folder: Path, workers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # another run may be at it; the lock ends with this very process
        if not (folder / "index.json").exists():
            _decode_all(root, names, size, folder, workers)


def _decode_all(root: Path, names: list[str], size: int, folder: Path, workers: int) -> None:
    kept: list[str] = []
    with ProcessPoolExecutor(workers) as pool, open(folder / "pixels.u8", "wb") as file:
        jobs = ((str(root / name), size) for name in names)
        for name, decoded in zip(names, pool.map(_decode, jobs, chunksize=32), strict=True):
            if isinstance(decoded, str):
                log.warning("skipped a broken picture: %s", decoded)
                continue
            for square in decoded:
                file.write(square)
                kept.append(name)
        file.flush()
        os.fsync(file.fileno())
    if not kept:
        raise InvalidRequest(f"None of the {len(names)} files in {root} could be read as a picture.")
    part = folder / "index.json.part"
    part.write_text(json.dumps({"names": kept}))
    part.replace(folder / "index.json")
