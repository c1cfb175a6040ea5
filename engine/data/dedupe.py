"""Near-duplicates by difference hash: 64 bits that say where a tiny grey copy gets brighter from left to right.

Copies of other sizes, qualities and mild colour changes differ in few bits, other paintings in about half of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.folders import Pixels, Report, walk
from engine.errors import InvalidRequest

THRESHOLD = 5  # of 64 bits
_BLOCK = 512  # hashes compared with all others at a time


@dataclass(frozen=True)
class Group:
    """Pictures that are one: the largest stays, the others may go."""

    keep: Path
    others: tuple[Path, ...]


def dhash(picture: Pixels) -> int:
    """Return the 64-bit difference hash of ``picture`` (H, W, 3)."""
    small = Image.fromarray(picture).convert("L").resize((9, 8), Image.Resampling.LANCZOS)
    grey = np.asarray(small, np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def similar_pairs(hashes: NDArray[np.uint64], threshold: int) -> list[tuple[int, int]]:
    """Return all pairs i < j whose hashes differ in at most ``threshold`` bits."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        distance = np.bitwise_count(block[:, None] ^ hashes[None, :])
        for i, j in zip(*np.nonzero(distance <= threshold), strict=True):
            if start + i < j:
                pairs.append((start + int(i), int(j)))
    return pairs


def find_duplicates(
    root: Path, report: Report, *, threshold: int = THRESHOLD, on_file: Callable[[int], None] | None = None
) -> list[Group]:
    """Return the groups of near-duplicates below ``root``, each with its largest picture first.

    Raises:
        InvalidRequest: ``threshold`` lies outside 0..32.
    """
    if not 0 <= threshold <= 32:
        raise InvalidRequest(f"The threshold is {threshold}; it must lie between 0 and 32 of 64 bits.")
    paths: list[Path] = []
    hashes: list[int] = []
    pixels: list[int] = []
    for done, (path, picture) in enumerate(walk(root, report), 1):
        paths.append(path)
        hashes.append(dhash(picture))
        pixels.append(picture.shape[0] * picture.shape[1])
        if on_file:
            on_file(done)

    # Join pairs into groups.
    leader = list(range(len(paths)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for i, j in similar_pairs(np.array(hashes, np.uint64), threshold):
        leader[find(j)] = find(i)
    members: dict[int, list[int]] = {}
    for i in range(len(paths)):
        members.setdefault(find(i), []).append(i)
    groups = []
    for group in members.values():
        if len(group) > 1:
            first, *rest = sorted(group, key=lambda i: (-pixels[i], paths[i]))
            groups.append(Group(paths[first], tuple(paths[i] for i in rest)))
    return groups
