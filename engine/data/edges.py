"""Canny's edge detector (1986) in numpy: blur, gradient, thin ridges, keep what hangs on a strong edge."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.crops import apart
from engine.data.folders import Pixels, Report, walk, write_picture

Field = NDArray[np.float32]  # (H, W)

SIGMA = 1.4  # px, of the blur
STRONG = 0.80  # quantile of the gradients along ridges above which an edge begins
WEAK = 0.4  # of the strong threshold: down to this an edge goes on
FAINTEST = 4.0  # grey levels per px; below this nothing is an edge, or a flat picture would be all noise


def canny(picture: Pixels, *, sigma: float = SIGMA, strong: float = STRONG) -> Pixels:
    """Return the edges of ``picture`` (H, W, 3): black lines of one px on white, (H, W, 3) uint8.

    Args:
        sigma: px; a larger blur keeps only the large forms.
        strong: quantile in (0, 1); higher keeps fewer lines.
    """
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    down, right = _gradient(_blur(grey, sigma))
    size = np.hypot(down, right)
    ridge = np.where(_is_ridge(size, down, right), size, 0)
    found = ridge[ridge > FAINTEST]
    high = max(FAINTEST, float(np.quantile(found, strong))) if found.size else math.inf
    lines = _connected(ridge >= high, ridge >= max(FAINTEST, WEAK * high))
    return np.repeat(np.where(lines, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _blur(grey: Field, sigma: float) -> Field:
    reach = max(1, math.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if each == axis else (0, 0) for each in (0, 1)]
        padded, length = np.pad(grey, pad, "edge"), grey.shape[axis]
        parts = (tap * np.take(padded, range(i, i + length), axis) for i, tap in enumerate(taps))
        grey = np.sum(list(parts), axis=0, dtype=np.float32)
    return grey


def _gradient(grey: Field) -> tuple[Field, Field]:
    """Sobel's derivatives, in grey levels per px."""
    p = np.pad(grey, 1, "edge")
    across = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    along = p[:-2] + 2 * p[1:-1] + p[2:]
    return np.float32(0.125) * (across[2:] - across[:-2]), np.float32(0.125) * (along[:, 2:] - along[:, :-2])


def _is_ridge(size: Field, down: Field, right: Field) -> NDArray[np.bool_]:
    """Say where the gradient is larger than at both neighbours in its own direction (of four)."""
    sector = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    p = np.pad(size, 1)
    height, width = size.shape

    def neighbour(dy: int, dx: int) -> Field:
        return p[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    steps = ((0, 1), (1, 1), (1, 0), (1, -1))
    ahead = np.choose(sector, [neighbour(dy, dx) for dy, dx in steps])
    behind = np.choose(sector, [neighbour(-dy, -dx) for dy, dx in steps])
    return (size > ahead) & (size >= behind)  # of two equal neighbours one stays


def _connected(strong: NDArray[np.bool_], weak: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the weak points that hang together with a strong one (8 neighbours)."""
    lines = strong
    height, width = strong.shape
    while True:
        p = np.pad(lines, 1)
        near = np.zeros_like(lines)
        for dy in range(3):
            for dx in range(3):
                near |= p[dy : dy + height, dx : dx + width]
        grown = near & weak
        if (grown == lines).all():
            return lines
        lines = grown


def edge_folder(
    source: Path, out: Path, *, sigma: float = SIGMA, on_file: Callable[[int], None] | None = None
) -> Report:
    """Write the edges of every picture of ``source`` as a PNG of the same name and folder below ``out``."""
    apart(source, out)
    report = Report()
    for done, (path, picture) in enumerate(walk(source, report), 1):
        write_picture(canny(picture, sigma=sigma), (out / path.relative_to(source)).with_suffix(".png"))
        report.written += 1
        if on_file:
            on_file(done)
    return report
