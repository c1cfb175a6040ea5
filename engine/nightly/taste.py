"""A small model of what the community likes: Bradley-Terry on frozen features, and whether it may be believed."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.nightly.looks import HAND
from engine.nightly.votes import Pair

MEMBERS = 5  # models, each fitted on other voters
DECAY = 0.01  # weight of the squared weights against the mean loss of a pair
HAND_GAIN = 3.0  # plain features may weigh more than one of hundreds of frozen ones
LEAST_PAIRS, LEAST_VOTERS = 150, 8  # below these nothing can be held out
LEAST_ACCURACY = 0.52  # of pairs nobody showed the model; the lower end of its interval must lie above


@dataclass(frozen=True)
class Taste:
    """r(x) = w . (x - mean) / std for each of M members; only differences within a genre mean something."""

    mean: Tensor  # (F,)
    std: Tensor  # (F,)
    weights: Tensor  # (M, F)

    def tensors(self) -> dict[str, Tensor]:
        """Return what :meth:`of` makes the same taste from."""
        return {"mean": self.mean, "std": self.std, "weights": self.weights}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Taste:
        """Return the taste of :meth:`tensors`."""
        return cls(tensors["mean"], tensors["std"], tensors["weights"])

    def members(self, features: Tensor) -> Tensor:
        """Return the scores (M, B) of features (B, F)."""
        return self.weights @ ((features - self.mean) / self.std).T

    def expected(self, features: Tensor) -> Tensor:
        """Return the mean score (B,)."""
        return self.members(features).mean(0)

    def lower(self, features: Tensor) -> Tensor:
        """Return mean less one standard deviation over the members (B,): no praise for what is merely uncertain."""
        scores = self.members(features)
        return scores.mean(0) - (scores.var(0, unbiased=False) + 1e-8).sqrt()


@dataclass(frozen=True)
class Trust:
    """How well the taste predicts pairs of works and voters it was not fitted on."""

    pairs: int
    voters: int
    accuracy: float
    low: float  # lower end of the 95 % interval, by voters or by works, whichever is lower

    @property
    def scarce(self) -> bool:
        """Whether there is too little to hold any of it out."""
        return self.voters < LEAST_VOTERS or self.pairs < LEAST_PAIRS

    @property
    def usable(self) -> bool:
        """Whether the taste may steer a lesson."""
        return self.why is None

    @property
    def why(self) -> str | None:
        """Return the reason not to use it, or None."""
        if self.voters < LEAST_VOTERS:
            return f"only {self.voters} people voted on pairs of paintings; {LEAST_VOTERS} are needed"
        if self.pairs < LEAST_PAIRS:
            return f"only {self.pairs} pairs of paintings can be compared; {LEAST_PAIRS} are needed"
        if not self.low > LEAST_ACCURACY:
            return (
                f"held-out votes are predicted at {self.accuracy:.0%} (at least {self.low:.0%}), "
                f"which is not surely above {LEAST_ACCURACY:.0%}"
            )
        return None


def fit(features: Mapping[str, Tensor], pairs: Sequence[Pair], *, members: int = MEMBERS, seed: int = 0) -> Taste:
    """Return the taste that explains ``pairs`` best; ``features`` (F,) by work."""
    rng = np.random.default_rng(seed)
    table = torch.stack([features[key] for key in sorted(features)])
    mean, std = table.mean(0), table.std(0).clamp_min(1e-4)
    std[-len(HAND) :] /= HAND_GAIN
    taste = Taste(mean, std, torch.zeros(1, table.shape[1]))
    difference = torch.stack([(features[p.winner] - features[p.loser]) / std for p in pairs])  # (P, F)
    weight = torch.tensor([pair.weight for pair in pairs])
    by_voter: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        by_voter[pair.voter].append(index)
    groups = [by_voter[voter] for voter in sorted(by_voter)]
    found = []
    for member in range(members):
        drawn = range(len(groups)) if member == 0 else rng.integers(len(groups), size=len(groups)).tolist()
        rows = torch.tensor([index for group in drawn for index in groups[group]])
        found.append(_bradley_terry(difference[rows], weight[rows]))
    return Taste(taste.mean, taste.std, torch.stack(found))


def _bradley_terry(difference: Tensor, weight: Tensor) -> Tensor:
    """argmin_w sum_i a_i log(1 + exp(-w . d_i)) / sum a + DECAY |w|^2, for differences (P, F) -> (F,)."""
    w = torch.zeros(difference.shape[1], requires_grad=True)
    share = weight / weight.sum()
    optimizer = torch.optim.LBFGS([w], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (share * F.softplus(-(difference @ w))).sum() + DECAY * w.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return w.detach()


def unheard(pairs: Sequence[Pair]) -> Trust:
    """Return what is known of the pairs before anybody looked at a work."""
    return Trust(len(pairs), len({pair.voter for pair in pairs}), 0.5, 0.0)


def trust(features: Mapping[str, Tensor], pairs: Sequence[Pair], *, splits: int = 3, seed: int = 0) -> Trust:
    """Return how far a taste fitted on these votes can be believed.

    Works are halved (by a hash, ``splits`` times); a taste fitted on the pairs inside one half predicts those inside
    the other.  The interval draws voters and, apart from that, works again, because neither one loud voter nor one
    famous work is evidence of a taste.
    """
    told = unheard(pairs)
    if told.scarce:
        return told
    judged: list[Pair] = []
    right: list[float] = []
    for split in range(splits):
        half = {key: hashlib.sha256(f"{seed}/{split}/{key}".encode()).digest()[0] % 2 for key in features}
        inside = [[p for p in pairs if half[p.winner] == side and half[p.loser] == side] for side in (0, 1)]
        for known, unknown in (inside, inside[::-1]):
            if len(known) < 10 or len(unknown) < 10:
                continue
            taste = fit(features, known, members=1, seed=seed)
            score = {key: float(taste.expected(features[key][None])) for key in features}
            judged += unknown
            right += [float(score[p.winner] > score[p.loser]) for p in unknown]
    if not judged:
        return told
    weight = np.array([pair.weight for pair in judged])
    correct = np.array(right)
    accuracy = float((weight * correct).sum() / weight.sum())
    rng = np.random.default_rng(seed)
    lows = [
        _clustered_low([name(pair) for pair in judged], weight, correct, rng)
        for name in (lambda pair: pair.voter, lambda pair: pair.winner, lambda pair: pair.loser)
    ]
    return Trust(told.pairs, told.voters, accuracy, min(lows))


def _clustered_low(names: Sequence[str], weight: np.ndarray, correct: np.ndarray, rng: np.random.Generator) -> float:
    """Return the 2.5 % quantile of the weighted accuracy when whole clusters are drawn again."""
    _, cluster = np.unique(names, return_inverse=True)
    count = cluster.max() + 1
    total = np.bincount(cluster, weight, count)
    good = np.bincount(cluster, weight * correct, count)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=1000)
    return float(np.quantile((draws @ good) / np.maximum(draws @ total, 1e-12), 0.025))


def replay_weights(scores: Tensor, *, least: float = 0.8) -> Tensor:
    """Return sampling weights (N,) of real paintings: clip(exp(b r), 1/2, 2), liked ones oftener.

    b is as large as an effective sample size of ``least`` N allows, and at most 1.
    """
    centred = (scores - scores.mean()) / scores.std().clamp_min(1e-6)
    for b in torch.linspace(1, 0, 41):
        weights = (b * centred).exp().clamp(0.5, 2)
        if weights.sum() ** 2 / weights.square().sum() >= least * len(weights):
            return weights / weights.sum()
    return torch.full_like(scores, 1 / len(scores))
