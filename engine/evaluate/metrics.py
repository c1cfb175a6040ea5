"""Distances between sets of pictures, each its equation; pure functions of features.

Features are float tensors (N, F), a row per picture.  "Real" are paintings, "fake" what a painter made.  Nothing here
draws at random except by the seed it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the three numbers, rounded to six digits."""
        return {name: float(f"{number:.6g}") for name, number in asdict(self).items()}


# Features


@dataclass(frozen=True)
class Scale:
    """Mean and spread of each feature over a set of real pictures."""

    mean: Tensor  # (F,)
    std: Tensor

    @classmethod
    def of(cls, real: Tensor) -> Scale:
        """Measure ``real`` (N, F).

        A channel that is all but dead on real pictures is not blown up: the spread counts as at least a tenth of the
        usual one (measured: VGG16 has such channels, and one of them in a fake outweighed all others a millionfold).
        """
        std, mean = torch.std_mean(real, dim=0)
        return cls(mean, std.clamp_min(max(0.1 * float(std.median()), 1e-6)))

    def __call__(self, features: Tensor) -> Tensor:
        """Return ``features`` (N, F) in units of the real pictures' spread, so that every feature counts alike."""
        return (features - self.mean) / self.std


# KID: the squared maximum mean discrepancy (Binkowski et al. 2018, 1801.01401)


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (<x, y> / F + 1)^3 for (N, F), (M, F) -> (N, M)."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def kid(real: Tensor, fake: Tensor) -> float:
    """Return the unbiased MMD^2: about 0, even a little below, for samples of one distribution; larger if apart."""
    ones_real, ones_fake = torch.ones(1, len(real)), torch.ones(1, len(fake))
    return float(_mmd(_Kernels.of(real, fake), ones_real, ones_fake))


def kid_interval(real: Tensor, fake: Tensor, *, resamples: int = 200, seed: int = 0) -> Interval:
    """Return KID with its bootstrap interval: pictures of both sets are drawn again with replacement."""
    rng = np.random.default_rng(seed)
    values = _mmd(_Kernels.of(real, fake), _draws(len(real), resamples, rng), _draws(len(fake), resamples, rng))
    return _interval(kid(real, fake), values)


def paired_kid(
    real: Tensor, candidate: Tensor, champion: Tensor, *, resamples: int = 200, seed: int = 0
) -> tuple[Interval, Interval]:
    """Return the interval of KID(candidate) - KID(champion), and that of KID(champion).

    Row i of ``candidate`` and ``champion`` was painted from the same latent and genre, and both are resampled alike, so
    what the two have in common cancels: far smaller differences show than in two separate intervals.

    Raises:
        ValueError: the two have not the same number of rows.
    """
    if len(candidate) != len(champion):
        raise ValueError(f"{len(candidate)} candidates cannot be paired with {len(champion)} champions")
    rng = np.random.default_rng(seed)
    of_real, of_fake = _draws(len(real), resamples, rng), _draws(len(champion), resamples, rng)
    ours = _mmd(_Kernels.of(real, candidate), of_real, of_fake)
    theirs = _mmd(_Kernels.of(real, champion), of_real, of_fake)
    before, after = kid(real, champion), kid(real, candidate)
    return _interval(after - before, ours - theirs), _interval(before, theirs)


@dataclass(frozen=True)
class _Kernels:
    """Kernel matrices with themselves left out of the inner ones."""

    real: Tensor  # (N, N), zero on the diagonal
    fake: Tensor  # (M, M), zero on the diagonal
    cross: Tensor  # (N, M)

    @classmethod
    def of(cls, real: Tensor, fake: Tensor) -> _Kernels:
        inner = [polynomial_kernel(x, x).fill_diagonal_(0) for x in (real, fake)]
        return cls(inner[0], inner[1], polynomial_kernel(real, fake))


def _mmd(kernels: _Kernels, real: Tensor, fake: Tensor) -> Tensor:
    """Return MMD^2 (R,) for weights ``real`` (R, N) and ``fake`` (R, M): how often each picture was drawn.

    A picture drawn twice is not paired with its own copy; that keeps the estimate unbiased under the bootstrap.
    """
    a, b = real.double(), fake.double()

    def inner(weights: Tensor, kernel: Tensor) -> Tensor:
        pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
        return ((weights @ kernel) * weights).sum(1) / pairs

    cross = ((a @ kernels.cross) * b).sum(1) / (a.sum(1) * b.sum(1))
    return inner(a, kernels.real) + inner(b, kernels.fake) - 2 * cross


def _draws(count: int, resamples: int, rng: np.random.Generator) -> Tensor:
    """Return (resamples, count): how often each of ``count`` pictures came in a draw with replacement."""
    return torch.from_numpy(rng.multinomial(count, np.full(count, 1 / count), size=resamples)).float()


def _interval(value: float, resampled: Tensor) -> Interval:
    low, high = np.quantile(resampled.double().numpy(), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return ``statistic`` of all rows with its interval; it is called with the rows (count,) of each draw."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(count, size=count)) for _ in range(resamples)]
    return _interval(statistic(np.arange(count)), torch.tensor(values, dtype=torch.float64))


# Frechet distance (Dowson and Landau 1982; as FID by Heusel et al. 2017)


def frechet(real: Tensor, fake: Tensor) -> float:
    """|m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of the Gaussians that fit (N, F) and (M, F); 0 or more."""
    mean = [x.double().mean(0) for x in (real, fake)]
    cov = [torch.cov(x.double().T) for x in (real, fake)]
    # tr (S_r S_f)^1/2 = sum of the roots of the eigenvalues of R S_f R, where R R = S_r; that one is symmetric.
    values, vectors = torch.linalg.eigh(cov[0])
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov[1] @ root).clamp_min(0).sqrt().sum()
    distance = (mean[0] - mean[1]).square().sum() + cov[0].trace() + cov[1].trace() - 2 * overlap
    return max(0.0, float(distance))


# Precision, recall (Kynkaanniemi et al. 2019, 1904.06991) and coverage (Naeem et al. 2020, 2002.09797)


@dataclass(frozen=True)
class Manifolds:
    """Shares in [0, 1]."""

    precision: float  # of fakes that lie among the real ones
    recall: float  # of real ones that lie among the fakes
    coverage: float  # of real ones that have a fake nearer than their k-th neighbour


def precision_recall(real: Tensor, fake: Tensor, k: int = 5) -> Manifolds:
    """Compare the unions of balls that reach to each picture's ``k``-th nearest neighbour in its own set."""
    across = torch.cdist(real.float(), fake.float())  # (N, M)
    reach_real = _reach(real, k)
    return Manifolds(
        precision=float((across <= reach_real[:, None]).any(0).float().mean()),
        recall=float(recalled(real, fake, k).float().mean()),
        coverage=float((across.min(1).values <= reach_real).float().mean()),
    )


def recalled(real: Tensor, fake: Tensor, k: int = 5) -> Tensor:
    """Return which real ones lie among the fakes, bool (N,); its mean is the recall."""
    return (torch.cdist(real.float(), fake.float()) <= _reach(fake, k)[None, :]).any(1)


def _reach(points: Tensor, k: int) -> Tensor:
    """Return the distance (N,) of each point to its ``k``-th nearest neighbour, not counting itself."""
    distance = torch.cdist(points.float(), points.float()).fill_diagonal_(torch.inf)
    return distance.kthvalue(min(k, len(points) - 1), dim=1).values


# Diversity and memorisation


def diversity(features: Tensor, labels: Tensor) -> dict[int, float]:
    """Return {label: mean distance of all pairs of rows with that label}; 0 where all pictures are one."""
    found = {}
    for label in labels.unique().tolist():
        rows = features[labels == label].float()
        if len(rows) > 1:
            found[int(label)] = float(torch.pdist(rows).mean())
    return found


def nearest(known: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each of ``pictures`` (M, F) the distance to the nearest of ``known`` (N, F), and which that is."""
    found = torch.cdist(pictures.float(), known.float()).min(1)
    return found.values, found.indices


# Genre accuracy


@dataclass(frozen=True)
class Classifier:
    """Multinomial logistic regression."""

    weight: Tensor  # (F, C)
    bias: Tensor  # (C,)

    def __call__(self, features: Tensor) -> Tensor:
        """Return the most likely label (N,) of each row (N, F)."""
        return (features.float() @ self.weight + self.bias).argmax(1)


def fit_classifier(
    features: Tensor, labels: Tensor, classes: int, *, decay: float = 1e-2, steps: int = 100
) -> Classifier:
    """Fit by L-BFGS; every class weighs the same, however many pictures it has.

    Args:
        features: (N, F), standardised.
        labels: (N,) in 0..classes - 1.
        decay: weight of the squared weights against the mean cross entropy.
    """
    features = features.float()
    weight = torch.zeros(features.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    counts = torch.bincount(labels, minlength=classes).float().clamp_min(1)
    fair = (1 / counts) / (1 / counts)[labels].mean()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight + bias, labels, weight=fair) + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return Classifier(weight.detach(), bias.detach())


def accuracy(predicted: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return {"mean": share right, averaged over labels, "by_label": {label: share right}}."""
    by_label = {int(c): float((predicted[labels == c] == c).float().mean()) for c in labels.unique().tolist()}
    return {"mean": sum(by_label.values()) / len(by_label), "by_label": by_label}


# Votes


def wilson_lower(successes: float, total: float, z: float = 1.96) -> float:
    """Return the lower bound of the Wilson interval of a share; 0 without any trial."""
    if total <= 0:
        return 0.0
    share = successes / total
    middle = share + z * z / (2 * total)
    spread = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return float((middle - spread) / (1 + z * z / total))
