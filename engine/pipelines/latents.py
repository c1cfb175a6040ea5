"""Points in latent space and the paths between them."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.api import Stop
from engine.checkpoints import Card, Model
from engine.errors import InvalidRequest
from engine.nets.painter import EMPHASIS
from engine.pipelines.job import Job

# Kernels of one picture and of eight round differently, so the generator always gets eight, and the last are padding:
# a painting's bytes do not hang on its neighbours.
BATCH = 8
SIDE = 4  # places along a side of the layout that a painter grows a square painting from
LONGEST = 16  # places along the longer side of a canvas that is no square
DRIFT = 0.5  # of the way from a painting to a neighbour that is left after each place beyond its edge


@dataclass(frozen=True)
class Point:
    """A latent ``z`` (Z,), labels (G + S,) and the truncation psi; for a canvas that is no square also its layout's
    rows and columns, and the two latents towards which it drifts beyond its edges."""

    z: Tensor
    labels: Tensor
    psi: float
    grid: tuple[int, int] = (SIDE, SIDE)
    neighbours: tuple[Tensor, ...] = ()


def grid_for(model: Model, width: int, height: int) -> tuple[int, int]:
    """Return the rows and columns of the layout that come next to ``width`` x ``height``; a square for a painter that
    can do nothing else."""
    if not hasattr(model.net, "layout"):
        return SIDE, SIDE
    longer = min(LONGEST, round(SIDE * max(width, height) / min(width, height)))
    return (SIDE, longer) if width > height else (longer, SIDE)


def point(
    model: Model, genre: str, seed: int, psi: float, grid: tuple[int, int] = (SIDE, SIDE), art_style: str | None = None
) -> Point:
    """Return the point that a genre, a seed and perhaps an ``art_style`` that the painter learned name, on a canvas of
    ``grid``.

    Raises:
        InvalidRequest: the painter never learned that genre.
    """
    genres = list(model.card["genres"])
    if genre not in genres:
        raise InvalidRequest(f"The painter {model.card.name} does not paint {genre}; it paints {', '.join(genres)}.")
    draw = torch.Generator().manual_seed(seed)
    art_styles = art_styles_of(model.card)
    labels = torch.zeros(len(genres) + len(art_styles))
    labels[genres.index(genre)] = 1
    if art_style in art_styles:
        labels[len(genres) + art_styles.index(art_style)] = EMPHASIS
    z, *neighbours = (torch.randn(int(model.net.z_dim), generator=draw) for _ in range(3))  # type: ignore[arg-type]
    return Point(z, labels, psi, grid, tuple(neighbours))


def art_styles_of(card: Card) -> list[str]:
    """Return the art styles that a painter learned."""
    return list(card.get("art_styles") or ())


def candidate_seed(seed: int, index: int) -> int:
    """Return the seed of candidate ``index`` of a best-of; the first is the painting's own."""
    if index == 0:
        return seed
    return (
        int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "big") >> 11
    )  # exact in JavaScript too


def paint(job: Job, model: Model, points: Sequence[Point], *, share: tuple[float, float] = (0, 1)) -> list[Tensor]:
    """Return the generator's pictures (1, 3, h, w) of ``points``, in batches of BATCH of one grid."""
    by_grid: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for index, each in enumerate(points):
        by_grid[each.grid].append(index)
    pictures: dict[int, Tensor] = {}
    for indices in by_grid.values():
        for start in range(0, len(indices), BATCH):
            job.check(share[0] + (share[1] - share[0]) * len(pictures) / len(points))
            batch = indices[start : start + BATCH]
            with job.network():
                painted = _painted(model, [points[index] for index in batch]).float().clamp_(0, 1)
            pictures |= zip(batch, painted[: len(batch)].split(1), strict=True)
    return [pictures[index] for index in range(len(points))]


def _painted(model: Model, points: Sequence[Point]) -> Tensor:
    """Return the pictures (BATCH, 3, h, w) of at most BATCH points of one grid."""
    net, grid = model.net, points[0].grid
    z, labels, psi = stacked(points)
    if grid == (SIDE, SIDE):
        return net(z, labels, psi)
    # The painting itself is in the middle.  Beyond its edges the canvas goes on as its mirror image, which has no
    # seam, and drifts place by place towards its neighbours, so that nothing is seen twice.
    before = (max(grid) - SIDE + 1) // 2
    places = []
    for place in range(-before, max(grid) - before):
        beyond = max(0, -place, place - SIDE + 1)
        turn = abs(place) % (2 * SIDE - 2)
        drifted = _drifted(points, 0 if place < 0 else 1, 1 - DRIFT**beyond)
        layout = net.layout(net.condition(drifted, labels, psi))  # type: ignore[operator]
        places.append(layout.select(3 if grid[1] > grid[0] else 2, min(turn, 2 * SIDE - 2 - turn)))
    canvas = torch.stack(places, 3 if grid[1] > grid[0] else 2)
    picture: Tensor = net.synthesize(net.condition(z, labels, psi), canvas)  # type: ignore[operator]
    return picture


def _drifted(points: Sequence[Point], side: int, t: float) -> Tensor:
    """Return the latents (BATCH, Z) that lie the share ``t`` of the way from each point to its neighbour."""
    return padded([slerp(each.z, each.neighbours[side], t) for each in points])


def stacked(points: Sequence[Point]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        padded([each.z for each in points]),
        padded([each.labels for each in points]),
        padded([torch.tensor(float(each.psi)) for each in points]),
    )


def padded(rows: Sequence[Tensor]) -> Tensor:
    """Stack at most BATCH rows into exactly so many, the last one again and again."""
    return torch.stack([*rows, *[rows[-1]] * (BATCH - len(rows))])


def path(model: Model, stops: Sequence[Stop], frames: int, psi: float, *, loop: bool) -> list[Point]:
    """Return ``frames`` points in equal steps along the way through ``stops``.

    Between two stops z is slerped and the labels lerped.  A leg's length is the angle between the latents, joined with
    the distance of the labels, so a short leg gets few frames.  A loop ends one step before its start.
    """
    corners = [point(model, stop.genre, stop.seed, psi, art_style=stop.art_style) for stop in stops]
    if loop:
        corners.append(corners[0])
    lengths = [
        math.hypot(_angle(a.z, b.z), float((a.labels - b.labels).norm())) for a, b in itertools.pairwise(corners)
    ]
    total = sum(lengths)
    steps = frames if loop else frames - 1
    points = []
    for frame in range(frames):
        left, leg = total * frame / steps, 0
        while leg < len(lengths) - 1 and left > lengths[leg]:
            left -= lengths[leg]
            leg += 1
        t = min(1.0, left / lengths[leg]) if lengths[leg] else 0.0
        a, b = corners[leg], corners[leg + 1]
        points.append(Point(slerp(a.z, b.z, t), torch.lerp(a.labels, b.labels, t), psi))
    return points


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Go from ``a`` (t = 0) to ``b`` (t = 1) along the sphere, the length changing evenly."""
    if t in (0, 1):
        return (a, b)[int(t)]
    angle = _angle(a, b)
    if angle < 1e-4 or math.pi - angle < 1e-4:  # the same point, or no one way round: a straight line
        return torch.lerp(a, b, t)
    length = torch.lerp(a.norm(), b.norm(), t)
    direction = math.sin((1 - t) * angle) * a / a.norm() + math.sin(t * angle) * b / b.norm()
    return direction / math.sin(angle) * length


def _angle(a: Tensor, b: Tensor) -> float:
    cosine = torch.dot(a, b) / (a.norm() * b.norm())
    return math.acos(min(1.0, max(-1.0, float(cosine))))
