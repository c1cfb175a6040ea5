"""May tomorrow's painter be tried?  A list of named checks with numbers, and every one must pass.

All of it is measured on paintings no lesson shows, on the same latents for candidate, champion and base release, in
feature spaces neither the discriminator nor the taste looks through.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoints import Model
from engine.evaluate import metrics
from engine.evaluate.metrics import Scale
from engine.evaluate.painters import Latents, batches, paint
from engine.evaluate.spaces import Space
from engine.nets.painter import Painter
from engine.nightly import prior
from engine.nightly.lesson import drift
from engine.nightly.looks import Look
from engine.nightly.taste import Taste

LIKED = "taste of other voters, sure gain"
NEARER = "surely nearer to the paintings in one space"  # asked where there is no taste
GAINS = (LIKED, NEARER)  # what a night is held for; all other checks ask what it cost
IN_ALL = ("change of the weights in all", "lean of the prior in all")  # and "pictures moved": from the base release


@dataclass(frozen=True)
class GateConfig:
    """What a candidate may cost."""

    samples: int = 600
    worse_tonight: float = 0.05  # share by which KID may surely be worse than the champion's
    worse_in_all: float = 0.10  # and than the base release's
    kid_noise: float = (
        0.01  # KID below which two sets are one, in features of unit spread; a share of nothing is nothing
    )
    samples_noise: float = (
        0.05  # the same where the base's samples stand for paintings: all learning leads away from them
    )
    recall_loss: float = 0.03  # share of the base release's recall that may surely be lost
    diversity: float = 0.95  # of the base release's, on average; 0.9 in the worst genre
    accuracy_loss: float = 0.02  # points of genre accuracy
    nearer: float = 0.97  # nearest known painting, against the champion's distance
    nightly_drift: float = 0.012  # a little above the lesson's own limits, for rounding
    total_drift: float = 0.085
    nightly_lean: float = 0.35  # spreads of the prior by which a genre's may move, the lesson's limits with some room
    total_lean: float = 0.51
    moved: float = 0.5  # median distance to the base release's picture, in mean distances of its own samples
    slower: float = 2.0
    seed: int = 20_260


@dataclass(frozen=True)
class Check:
    """One question to a candidate."""

    name: str
    value: float
    limit: str  # as people read it, e.g. "at most 0.012"
    passed: bool

    @property
    def leash(self) -> bool:
        """Whether it asks only how far from the base release the candidate went, not whether it paints worse."""
        return self.name in IN_ALL or self.name.startswith("pictures moved")

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.4g}, {self.limit}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"name": self.name, "value": float(f"{self.value:.5g}"), "limit": self.limit, "passed": self.passed}


@dataclass(frozen=True)
class Evidence:
    """What the gate needs beside the painters."""

    real: Tensor  # uint8 (N, 3, S, S), paintings no lesson shows
    real_labels: Tensor  # (N,)
    latents: Latents
    spaces: Sequence[Space]
    known: Tensor | None = None  # uint8 (M, 3, S, S), what the lesson showed, to look for copies of
    looks: Look | None = None
    taste: Taste | None = None  # of voters the lesson did not hear


def at_most(name: str, value: float, limit: float) -> Check:
    """Check that ``value`` does not exceed ``limit``; NaN never passes."""
    return Check(name, value, f"at most {limit:.4g}", value <= limit)


def at_least(name: str, value: float, limit: float) -> Check:
    """Check that ``value`` reaches ``limit``; NaN never passes."""
    return Check(name, value, f"at least {limit:.4g}", value >= limit)


class Gate:
    """Champion, base release and paintings are looked at once, then any number of candidates are judged.

    Args:
        learning: names of the weights a lesson may change.
    """

    def __init__(
        self, champion: Model, base: Model, evidence: Evidence, config: GateConfig, *, learning: set[str]
    ) -> None:
        self._champion, self._base, self._evidence, self._config = champion, base, evidence, config
        self._learning = learning
        self._painted = {
            name: paint(net, evidence.latents) for name, net in (("champion", champion.net), ("base", base.net))
        }
        self._rooms = [Room(space, self._painted, evidence) for space in evidence.spaces]

    def judge(self, candidate: nn.Module) -> list[Check]:
        """Return all checks; weights that are broken or went too far are not looked at further."""
        evidence, config = self._evidence, self._config
        checks = sound(candidate, self._learning, self._champion, self._base, config)
        if not all(check.passed for check in checks):
            return checks
        painted = paint(candidate, evidence.latents)
        checks += clean(painted, self._painted["champion"])
        gains = []
        for number, room in enumerate(self._rooms):
            found, gain = room.judge(painted, config, first=number == 0)
            checks += found
            gains.append(gain)
        if evidence.taste is not None and evidence.looks is not None:
            checks.append(taste_gain(painted, self._painted["champion"], evidence.taste, evidence.looks))
        else:
            checks.append(Check(NEARER, min(gains), "below 0", min(gains) < 0))
        checks.append(_latency(candidate, self._champion.net, evidence.latents, config))
        return checks


def sound(net: nn.Module, learning: set[str], champion: Model, base: Model, config: GateConfig) -> list[Check]:
    """Check the weights: finite, frozen where they must be, and near."""
    broken = sum(
        int((~torch.isfinite(value)).sum()) for value in net.state_dict().values() if value.is_floating_point()
    )
    checks = [at_most("weights that are NaN or infinite", broken, 0)]
    if broken:
        return checks
    frozen = set(net.state_dict()) - learning - {"centre"}
    checks.append(at_most("change of the frozen weights", drift(net, champion.net, frozen), 0))
    checks.append(at_most("change of the weights tonight", drift(net, champion.net, learning), config.nightly_drift))
    checks.append(at_most(IN_ALL[0], drift(net, base.net, learning), config.total_drift))
    if isinstance(net, Painter):
        tonight, in_all = (
            float(prior.leaning(net, other.net).norm(dim=1).max())  # type: ignore[arg-type]
            for other in (champion, base)
        )
        checks.append(at_most("lean of the prior tonight", tonight, config.nightly_lean))
        checks.append(at_most(IN_ALL[1], in_all, config.total_lean))
    return checks


def clean(candidate: Tensor, champion: Tensor) -> list[Check]:
    """Check the pictures, uint8 (N, 3, S, S): none flat or black more than before, and no new checkerboard."""
    ours, theirs = flatness(candidate), flatness(champion)
    return [
        at_most("share of flat or black pictures", ours, max(0.01, 1.5 * theirs)),
        at_most("checkerboard", checkerboard(candidate), 1.5 * checkerboard(champion) + 1e-4),
    ]


def flatness(pictures: Tensor) -> float:
    """Return the share of pictures whose pixels differ by less than 3 grey levels, or are nearly black throughout."""
    luma = pictures.float().mean(1)
    return float(((luma.std((1, 2)) < 3) | (luma.mean((1, 2)) < 6)).float().mean())


def checkerboard(pictures: Tensor) -> float:
    """Return the energy at Nyquist, in rows, columns and both, as a share of all detail; a lattice is all there."""
    luma = pictures.float().mean(1)
    luma = luma[:, : luma.shape[1] // 2 * 2, : luma.shape[2] // 2 * 2]
    sign_y = torch.tensor([1.0, -1.0]).repeat(luma.shape[1] // 2)[:, None]
    sign_x = torch.tensor([1.0, -1.0]).repeat(luma.shape[2] // 2)[None]

    def smooth(x: Tensor) -> Tensor:
        return F.avg_pool2d(x[:, None], 8, ceil_mode=True)[:, 0]

    lattice = sum(
        smooth(luma * sign).square().mean()
        for sign in (sign_y.expand_as(luma[0]), sign_x.expand_as(luma[0]), sign_y * sign_x)
    )
    return float(lattice / luma.var((1, 2)).mean().clamp_min(1e-6))


class Room:
    """One space with all that candidates are compared with, in units of the paintings' spread."""

    def __init__(self, space: Space, painted: dict[str, Tensor], evidence: Evidence) -> None:
        self._space, self._evidence = space, evidence
        self._size = evidence.real.shape[2]
        real = space(batches(evidence.real))
        self._scale = Scale.of(real)
        self._real = self._scale(real)
        self._champion, self._base = (self._look(painted[name]) for name in ("champion", "base"))

    def _look(self, pictures: Tensor) -> Tensor:
        return self._scale(self._space(batches(pictures, self._size)))

    def judge(self, painted: Tensor, config: GateConfig, *, first: bool) -> tuple[list[Check], float]:
        """Return the checks, and the upper end of the change of KID, below 0 if it surely got better.

        Args:
            first: also ask for genres and copies, once is enough.
        """
        name, labels = self._space.name, self._evidence.latents.labels
        candidate, base = self._look(painted), self._base
        tonight, of_champion = metrics.paired_kid(self._real, candidate, self._champion)
        in_all, of_base = metrics.paired_kid(self._real, candidate, base)
        checks = [
            at_most(f"KID in {name}, surely worse than the champion's by", tonight.high,
                    max(config.worse_tonight * of_champion.value, config.kid_noise)),
            at_most(f"KID in {name}, surely worse than the base's by", in_all.high,
                    max(config.worse_in_all * of_base.value, config.kid_noise)),
        ]  # fmt: skip
        checks.append(
            at_most(f"recall in {name}, surely lost of the base's", self._lost(candidate), config.recall_loss)
        )
        ours, theirs = metrics.diversity(candidate, labels), metrics.diversity(base, labels)
        ratios = [ours[label] / max(theirs[label], 1e-9) for label in theirs]
        checks.append(at_least(f"diversity in {name}, of the base's", sum(ratios) / len(ratios), config.diversity))
        checks.append(at_least(f"diversity in {name}, in the worst genre", min(ratios), config.diversity - 0.05))
        moved = (candidate - base).norm(dim=1).median() / (sum(theirs.values()) / len(theirs))
        checks.append(at_most(f"pictures moved in {name}", float(moved), config.moved))
        if first:
            checks.append(self._accuracy(candidate, config))
            if self._evidence.known is not None:
                checks.append(self._memory(candidate, config))
        return checks, tonight.high

    def _lost(self, candidate: Tensor) -> float:
        """Return the lower end of the share of the base's recall that is lost, paired by painting.

        Recall itself moves by a twentieth from one draw of 600 samples to the next: against a fixed share of the base's
        it refused nights that were better in all else.
        """
        ours, theirs = metrics.recalled(self._real, candidate).float().numpy(), self._recalled_of_base
        found = metrics.bootstrap(
            lambda rows: 1 - float(ours[rows].mean()) / max(float(theirs[rows].mean()), 1e-9), len(ours)
        )
        return found.low

    def _accuracy(self, candidate: Tensor, config: GateConfig) -> Check:
        labels = self._evidence.latents.labels
        classes = int(max(self._evidence.real_labels.max(), labels.max())) + 1
        classifier = metrics.fit_classifier(self._real, self._evidence.real_labels, classes)
        ours, theirs = (metrics.accuracy(classifier(x), labels)["mean"] for x in (candidate, self._base))
        return at_least("genre accuracy", ours, theirs - config.accuracy_loss)

    def _memory(self, candidate: Tensor, config: GateConfig) -> Check:
        near, usual = (float(metrics.nearest(self._known, x)[0].median()) for x in (candidate, self._champion))
        return at_least("distance to the nearest known painting", near, config.nearer * usual)

    @functools.cached_property
    def _recalled_of_base(self) -> np.ndarray:
        return metrics.recalled(self._real, self._base).float().numpy()

    @functools.cached_property
    def _known(self) -> Tensor:
        assert self._evidence.known is not None
        return self._look(self._evidence.known)


def taste_gain(candidate: Tensor, champion: Tensor, taste: Taste, looks: Look) -> Check:
    """Check that voters the lesson did not hear would surely like it better: paired by latent, 95 % bootstrap."""
    with torch.inference_mode():
        ours, theirs = (
            torch.cat([taste.expected(looks(batch)) for batch in batches(x)]) for x in (candidate, champion)
        )
    gain = (ours - theirs).numpy()
    found = metrics.bootstrap(lambda rows: float(gain[rows].mean()), len(gain))
    return Check(LIKED, found.low, "above 0", found.low > 0)


def _latency(candidate: nn.Module, champion: nn.Module, latents: Latents, config: GateConfig) -> Check:
    """Compare the fastest of some batches in turn, so that a busy machine slows both."""
    few = Latents(latents.z[:8], latents.labels[:8])
    best = [float("inf"), float("inf")]
    for _ in range(5):
        for which, net in enumerate((candidate, champion)):
            begun = time.perf_counter()
            paint(net, few)
            best[which] = min(best[which], time.perf_counter() - begun)
    return at_most("time for a picture, of the champion's", best[0] / best[1], config.slower)
