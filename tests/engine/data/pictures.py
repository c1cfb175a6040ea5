"""Pictures drawn here, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.folders import Pixels


def drawn(seed: int, width: int = 96, height: int = 64, *, colour: tuple[int, int, int] | None = None) -> Pixels:
    """Return a smooth picture of its own, or one of nearly one colour."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    if colour is not None:
        coarse = np.clip(np.array(colour) + rng.integers(-8, 9, (6, 6, 3)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(pixels: Pixels, path: Path) -> Path:
    """Write ``pixels`` to ``path`` and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def folder(root: Path, **genres: int) -> Path:
    """Write so many pictures of each genre below ``root``; underscores stand for dashes."""
    seed = 0
    for genre, count in genres.items():
        for number in range(count):
            save(drawn(seed := seed + 1), root / genre.replace("_", "-") / f"{number}.jpg")
    return root
