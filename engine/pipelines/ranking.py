"""Which of several samples becomes the painting: what the discriminator, and the community's taste, like best.

GANGogh's author let the discriminator pick her images; a painter that learned from votes brings the taste it learned
(nightly/taste.py), which has as much to say.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from engine.api import PaintRequest
from engine.checkpoints import Card, Model
from engine.errors import BrokenModel
from engine.nightly.looks import Looks, load_looks
from engine.nightly.taste import Taste
from engine.pipelines.job import Job
from engine.pipelines.latents import BATCH, Point, padded, stacked
from engine.pipelines.pictures import cover

UNRANKED = 5  # one painting of so many is the first sample, so that votes also tell of what the taste would not choose

log = logging.getLogger(__name__)


def usual(card: Card) -> int:
    """Return from how many samples this painter chooses when nobody says how many."""
    return int((card.get("defaults") or {}).get("best_of", 1))


def unranked(request: PaintRequest, seed: int) -> bool:
    """Whether the painting of ``seed`` is taken as it comes; never where a number was asked for."""
    return request.best_of == 0 and seed % UNRANKED == 0


@dataclass(frozen=True)
class Judged:
    """How good samples are, by every judge there is."""

    scores: tuple[list[float], ...]  # one list for each judge; more is better

    @classmethod
    def of(cls, job: Job, model: Model, points: Sequence[Point], pictures: Sequence[Tensor]) -> Judged:
        """Let the discriminator, which knows squares only, and the taste look at the middle of each picture."""
        assert model.discriminator is not None
        looks = _looks() if model.taste else None
        taste = Taste.of(model.taste) if model.taste and looks else None
        critic: list[float] = []
        community: list[float] = []
        for start in range(0, len(points), BATCH):
            _, labels, _ = stacked(points[start : start + BATCH])
            middles = padded([cover(each, *[min(each.shape[2:])] * 2)[0] for each in pictures[start : start + BATCH]])
            with job.network():
                critic.extend(model.discriminator.score(middles, labels).float().tolist())  # type: ignore[operator]
                if taste and looks:
                    community.extend(taste.lower(looks(middles)).tolist())
        return cls((critic, community) if taste else (critic,))

    def best(self, samples: range) -> int:
        """Return the one of ``samples`` with the least sum of places; the last judge decides between equals."""
        places = [sorted(samples, key=lambda i, own=own: -own[i]) for own in self.scores]  # type: ignore[misc]
        return min(samples, key=lambda i: (sum(order.index(i) for order in places), places[-1].index(i)))


@lru_cache(maxsize=1)
def _looks() -> Looks | None:
    """Return what the taste looks through; None where its weights are not installed, and then the critic decides."""
    try:
        return load_looks()
    except BrokenModel as error:
        log.warning("Samples are ranked without the taste: %s", error)
        return None
