"""Points in latent space and the paths between them."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.api import Stop
from engine.checkpoints import Model
from engine.errors import InvalidRequest
from engine.pipelines.job import Job

# Kernels of one picture and of eight round differently, so the generator always gets eight, and the last are padding:
# a painting's bytes do not hang on its neighbours.
BATCH = 8


@dataclass(frozen=True)
class Point:
    """A latent ``z`` (Z,), genre weights (G,) and the truncation psi."""

    z: Tensor
    genre: Tensor
    psi: float


def point(model: Model, genre: str, seed: int, psi: float) -> Point:
    """Return the point that a genre and a seed name.

    Raises:
        InvalidRequest: the painter never learned that genre.
    """
    genres = list(model.card["genres"])
    if genre not in genres:
        raise InvalidRequest(f"The painter {model.card.name} does not paint {genre}; it paints {', '.join(genres)}.")
    draw = torch.Generator().manual_seed(seed)
    weights = torch.zeros(len(genres))
    weights[genres.index(genre)] = 1
    return Point(torch.randn(int(model.net.z_dim), generator=draw), weights, psi)  # type: ignore[arg-type]


def candidate_seed(seed: int, index: int) -> int:
    """Return the seed of candidate ``index`` of a best-of; the first is the painting's own."""
    if index == 0:
        return seed
    return (
        int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "big") >> 11
    )  # exact in JavaScript too


def paint(job: Job, model: Model, points: Sequence[Point], *, share: tuple[float, float] = (0, 1)) -> list[Tensor]:
    """Return the generator's pictures (1, 3, R, R) of ``points``, in batches of BATCH."""
    pictures: list[Tensor] = []
    for start in range(0, len(points), BATCH):
        job.check(share[0] + (share[1] - share[0]) * start / len(points))
        z, genre, psi = _stacked(points[start : start + BATCH])
        with job.network():
            painted = model.net(z, genre, psi).float().clamp_(0, 1)
        pictures.extend(painted[: len(points) - start].split(1))
    return pictures


def scores(job: Job, model: Model, points: Sequence[Point], pictures: Sequence[Tensor]) -> list[float]:
    """Return what the discriminator thinks of each picture; higher is better."""
    assert model.discriminator is not None
    found: list[float] = []
    for start in range(0, len(points), BATCH):
        _, genre, _ = _stacked(points[start : start + BATCH])
        batch = list(pictures[start : start + BATCH])
        batch += batch[-1:] * (BATCH - len(batch))
        with job.network():
            found.extend(model.discriminator.score(torch.cat(batch), genre).float().tolist())  # type: ignore[operator]
    return found[: len(points)]


def _stacked(points: Sequence[Point]) -> tuple[Tensor, Tensor, Tensor]:
    padded = [*points, *[points[-1]] * (BATCH - len(points))]
    return (
        torch.stack([each.z for each in padded]),
        torch.stack([each.genre for each in padded]),
        torch.tensor([each.psi for each in padded]),
    )


def path(model: Model, stops: Sequence[Stop], frames: int, psi: float, *, loop: bool) -> list[Point]:
    """Return ``frames`` points in equal steps along the way through ``stops``.

    Between two stops z is slerped and the genre weights lerped.  A leg's length is the angle between the latents,
    joined with the distance of the genres, so a short leg gets few frames.  A loop ends one step before its start.
    """
    corners = [point(model, stop.genre, stop.seed, psi) for stop in stops]
    if loop:
        corners.append(corners[0])
    lengths = [math.hypot(_angle(a.z, b.z), float((a.genre - b.genre).norm())) for a, b in itertools.pairwise(corners)]
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
        points.append(Point(slerp(a.z, b.z, t), torch.lerp(a.genre, b.genre, t), psi))
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
