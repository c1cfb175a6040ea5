"""Putting pictures in order: by brightness, by colour, or into clusters of what looks alike."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.crops import apart
from engine.data.folders import Pixels, Report, place, walk
from engine.errors import BrokenModel, InvalidRequest

ORDERS = ("brightness", "colour", "cluster")
SEEN = 128  # px, side of the copy that is looked at
GREY = 0.12  # mean saturation below which a picture has no colour of its own


def brightness(picture: Pixels) -> float:
    """Return the mean luma of ``picture`` in [0, 1]."""
    return float((picture @ np.array([0.299, 0.587, 0.114])).mean() / 255)


def colour(picture: Pixels) -> tuple[bool, float]:
    """Return (has a colour, key): grey pictures first by brightness, then by the hue of the most vivid pixels."""
    small = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX), np.float64).reshape(-1, 3) / 255
    vivid = small.max(1) - small.min(1)
    if vivid.mean() < GREY:
        return False, brightness(picture)
    red, green, blue = np.average(small - small.min(1, keepdims=True), axis=0, weights=vivid)
    return True, colorsys.rgb_to_hsv(red, green, blue)[0]


def features(pictures: list[Pixels]) -> NDArray[np.float32]:
    """Return a standardised vector (N, F) for each picture: frozen ImageNet features, or thumbnails without them."""
    squares = np.stack([np.asarray(Image.fromarray(picture).resize((SEEN, SEEN))) for picture in pictures])
    try:
        told = _lite(squares)
    except BrokenModel:  # the training-time wheel is not installed
        small = [Image.fromarray(square).resize((8, 8), Image.Resampling.BOX) for square in squares]
        told = np.stack([np.asarray(each, np.float32).ravel() for each in small])
    return ((told - told.mean(0)) / (told.std(0) + 1e-6)).astype(np.float32)


def _lite(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    import torch

    from engine.nets.efficientnet import load_lite

    net = load_lite(0)
    found = []
    with torch.inference_mode():
        for start in range(0, len(squares), 32):
            batch = torch.from_numpy(squares[start : start + 32]).permute(0, 3, 1, 2).float() / 255
            maps = net(batch)
            found.append(torch.cat([maps[2].mean((2, 3)), maps[3].mean((2, 3))], dim=1))
    return torch.cat(found).numpy()


def k_means(points: NDArray[np.float32], count: int, *, seed: int = 0, steps: int = 50) -> NDArray[np.int64]:
    """Return the cluster (N,) of each point (N, F): k-means++ starts, then Lloyd's steps; the largest cluster is 0."""
    rng = np.random.default_rng(seed)
    centres = points[rng.integers(len(points))][None]
    while len(centres) < count:
        near = ((points[:, None] - centres[None]) ** 2).sum(2).min(1)
        odds = near / near.sum() if near.sum() > 0 else None
        centres = np.concatenate([centres, points[rng.choice(len(points), p=odds)][None]])
    homes = np.zeros(len(points), np.int64)
    for _ in range(steps):
        distance = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)[None]
        moved = distance.argmin(1)
        for cluster in np.unique(moved):
            centres[cluster] = points[moved == cluster].mean(0)
        if (moved == homes).all():
            break
        homes = moved
    order = np.argsort(-np.bincount(homes, minlength=count), kind="stable")
    return np.argsort(order)[homes]


def sort_folder(
    source: Path, out: Path, *, by: str, clusters: int = 8, on_file: Callable[[int], None] | None = None
) -> Report:
    """Put the pictures of ``source`` into ``out`` again: numbered in order, or in a folder for each cluster.

    Raises:
        InvalidRequest: no such order, or more clusters than pictures.
    """
    if by not in ORDERS:
        raise InvalidRequest(f"The order is {by!r}; it must be one of {', '.join(ORDERS)}.")
    apart(source, out)
    report = Report()
    paths: list[Path] = []
    seen: list[Pixels] = []
    for done, (path, picture) in enumerate(walk(source, report, max_side=2 * SEEN), 1):
        paths.append(path)
        seen.append(picture)
        if on_file:
            on_file(done)
    if by == "cluster":
        if not 2 <= clusters <= len(paths):
            raise InvalidRequest(
                f"{clusters} clusters of {len(paths)} pictures cannot be made; choose 2 to {len(paths)}."
            )
        homes = k_means(features(seen), clusters)
        targets = [
            out / f"cluster-{home + 1:02d}" / f"{index:05d}-{path.name}"
            for index, (path, home) in enumerate(zip(paths, homes, strict=True), 1)
        ]
        sources = paths
    else:
        key: Callable[[Pixels], object] = brightness if by == "brightness" else colour
        keys = [key(picture) for picture in seen]
        order = sorted(range(len(paths)), key=lambda i: (keys[i], paths[i]))
        sources = [paths[i] for i in order]
        targets = [out / f"{index:05d}-{path.name}" for index, path in enumerate(sources, 1)]
    for path, target in zip(sources, targets, strict=True):
        place(path, target)
        report.written += 1
    return report
