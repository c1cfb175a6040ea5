"""What is in a folder of paintings: how many of each genre and art style, how large, how colourful, how broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import media
from engine.data.folders import Pixels, Report, genre_of, walk
from engine.data.sorting import GREY, brightness

SIZES = (64, 128, 256, 512, 1024)  # px, short sides that are counted


def describe_folder(root: Path, *, on_file: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Return counts by genre and art style, sizes, brightness, the share without colour, and the broken files."""
    report = Report()
    genres: Counter[str] = Counter()
    styles: Counter[str] = Counter()
    short, bright, grey = [], [], []
    for done, (path, picture) in enumerate(walk(root, report), 1):
        genres[genre_of(root, path)] += 1
        parts = path.relative_to(root).parts
        if len(parts) > 2:
            styles[parts[1]] += 1
        short.append(min(picture.shape[:2]))
        small = picture[:: max(1, picture.shape[0] // 64), :: max(1, picture.shape[1] // 64)]
        bright.append(brightness(small))
        grey.append(float(np.mean(small.max(2).astype(int) - small.min(2))) / 255 < GREY / 2)
        if on_file:
            on_file(done)
    return {
        "pictures": sum(genres.values()),
        "genres": dict(genres.most_common()),
        "art_styles": dict(styles.most_common()),
        "short_side": {
            "least": min(short, default=0),
            "median": int(np.median(short)) if short else 0,
            "most": max(short, default=0),
            "at_least": {str(size): sum(side >= size for side in short) for size in SIZES},
        },
        "brightness": round(float(np.mean(bright)), 3) if bright else 0.0,
        "without_colour": sum(grey),
        "broken": report.broken,
    }


def sheet_of(root: Path, *, per_genre: int = 8, size: int = 128) -> Pixels:
    """Return a contact sheet: a row of ``per_genre`` pictures for every genre, evenly taken, each ``size`` px long."""
    report = Report()
    by_genre: dict[str, list[Pixels]] = {}
    for path, picture in walk(root, report, max_side=size):
        by_genre.setdefault(genre_of(root, path), []).append(picture)
    blank = np.full((size, size, 3), 255, np.uint8)
    cells, captions = [], []
    for genre, pictures in sorted(by_genre.items()):
        rows = np.linspace(0, len(pictures) - 1, min(per_genre, len(pictures))).round().astype(int)
        chosen = [pictures[row] for row in rows]
        cells += chosen + [blank] * (per_genre - len(chosen))
        captions += [f"{genre} ({len(pictures)})", *[""] * (per_genre - 1)]
    return media.grid(cells, per_genre, captions)
