"""Every metric against a slow written-out reference, and against cases whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.evaluate import metrics
from engine.evaluate.metrics import Scale


def heap(count: int, seed: int, *, shift: float = 0.0, spread: float = 1.0, width: int = 12) -> Tensor:
    return shift + spread * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def slow_kid(real: Tensor, fake: Tensor) -> float:
    def k(x: Tensor, y: Tensor) -> float:
        return (sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    n, m = len(real), len(fake)
    inner_real = sum(k(real[i], real[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    inner_fake = sum(k(fake[i], fake[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    cross = sum(k(x, y) for x in real for y in fake) / (n * m)
    return inner_real + inner_fake - 2 * cross


def test_kid_is_its_definition() -> None:
    real, fake = heap(9, 1, width=4), heap(7, 2, width=4, shift=0.5)
    assert metrics.kid(real, fake) == pytest.approx(slow_kid(real, fake), rel=1e-5)


def test_kid_is_about_zero_for_one_distribution_and_grows_with_the_distance() -> None:
    real = heap(300, 1)
    same, near, far = (metrics.kid(real, heap(300, 2, shift=shift)) for shift in (0, 0.3, 1))
    assert abs(same) < 0.02 < near < far
    assert metrics.kid(real, heap(300, 3, spread=0.01)) > 0.1  # collapsed to one picture


def test_kid_is_unbiased_however_few_the_pictures() -> None:
    small = [metrics.kid(heap(10, 2 * i), heap(10, 2 * i + 1)) for i in range(300)]
    assert abs(np.mean(small)) < 3 * np.std(small) / np.sqrt(len(small))


def test_the_bootstrap_counts_no_picture_as_its_own_neighbour() -> None:
    real, fake = heap(200, 1), heap(200, 2)
    found = metrics.kid_interval(real, fake)
    assert found.low < 0 < found.high and found.low < found.value < found.high


def test_paired_kid_sees_what_two_intervals_cannot() -> None:
    real, champion = heap(200, 1), heap(200, 2, shift=0.3)
    candidate = champion * 0.97 + 0.02  # a little worse for every single latent
    difference, before = metrics.paired_kid(real, candidate, champion)
    assert difference.low > 0  # plainly worse
    alone = metrics.kid_interval(real, candidate)
    assert alone.low < before.value < alone.high  # which single intervals don't show
    same, _ = metrics.paired_kid(real, champion, champion)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="199 candidates"):
        metrics.paired_kid(real, candidate[1:], champion)


def test_frechet_is_the_formula_for_gaussians() -> None:
    real = heap(4000, 1, width=3)
    assert metrics.frechet(real, real) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet(real, real + 2) == pytest.approx(3 * 2**2, rel=1e-3)  # only the mean differs
    mean, std = real.mean(0), real.std(0)
    wider = (real - mean) * 3 + mean
    # Spread three times as large on every axis: |3s - s|^2 summed over the eigenvalues of the covariance.
    assert metrics.frechet(real, wider) == pytest.approx(float((2 * std).square().sum()), rel=1e-3)


def test_frechet_agrees_with_the_matrix_root() -> None:
    real, fake = heap(50, 1, width=5) @ heap(5, 9, width=5), heap(60, 2, width=5, shift=0.4)
    a, b = (np.cov(x.numpy().T.astype(np.float64)) for x in (real, fake))
    values, vectors = np.linalg.eig(a @ b)
    root = (vectors * np.sqrt(values)) @ np.linalg.inv(vectors)
    expected = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root.real)
    assert metrics.frechet(real, fake) == pytest.approx(float(expected), rel=1e-5)


def test_precision_and_recall_are_their_definition() -> None:
    real, fake, k = heap(20, 1, width=2), heap(15, 2, width=2, shift=0.7), 3

    def reach(points: Tensor, i: int) -> float:
        return sorted(float((points[i] - other).norm()) for j, other in enumerate(points) if j != i)[k - 1]

    inside = [any((f - r).norm() <= reach(real, i) for i, r in enumerate(real)) for f in fake]
    covered = [any((f - r).norm() <= reach(fake, j) for j, f in enumerate(fake)) for r in real]
    reached = [any((f - r).norm() <= reach(real, i) for f in fake) for i, r in enumerate(real)]
    found = metrics.precision_recall(real, fake, k)
    assert found.precision == pytest.approx(np.mean(inside))
    assert found.recall == pytest.approx(np.mean(covered))
    assert found.coverage == pytest.approx(np.mean(reached))


def test_a_collapsed_painter_has_precision_but_no_recall() -> None:
    real = heap(300, 1, width=4)
    good = metrics.precision_recall(real, heap(300, 2, width=4))
    collapsed = metrics.precision_recall(real, heap(300, 2, width=4, spread=0.05))
    strange = metrics.precision_recall(real, heap(300, 2, width=4, shift=20))
    assert good.precision > 0.8 and good.recall > 0.8 and good.coverage > 0.8
    assert collapsed.precision > 0.9 and collapsed.recall < 0.1 and collapsed.coverage < 0.3
    assert (strange.precision, strange.recall, strange.coverage) == (0, 0, 0)


def test_diversity_is_the_mean_over_pairs_of_one_genre() -> None:
    features, labels = heap(9, 1), torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 1])
    found = metrics.diversity(features, labels)
    for label in (0, 1):
        rows = features[labels == label]
        expected = np.mean([float((a - b).norm()) for a, b in itertools.combinations(rows, 2)])
        assert found[label] == pytest.approx(expected, rel=1e-5)
    assert 2 not in found  # a single picture says nothing
    assert metrics.diversity(torch.ones(5, 3), torch.zeros(5, dtype=torch.long)) == {0: 0.0}


def test_copies_are_nearest_to_what_they_copy() -> None:
    known = heap(50, 1)
    distance, which = metrics.nearest(known, torch.cat([known[[7]] + 1e-3, heap(1, 5, shift=4)]))
    assert which[0] == 7 and distance[0] < 0.01 < distance[1]


def test_the_classifier_learns_rare_genres_too() -> None:
    centres = 3 * heap(3, 9)
    labels = torch.tensor([0] * 200 + [1] * 30 + [2] * 8)
    features = centres[labels] + heap(len(labels), 1)
    classifier = metrics.fit_classifier(features, labels, 3)
    fresh = torch.arange(3).repeat(20)
    found = metrics.accuracy(classifier(centres[fresh] + heap(60, 2)), fresh)
    assert found["mean"] > 0.9 and set(found["by_label"]) == {0, 1, 2}
    blind = metrics.accuracy(classifier(heap(60, 3)), fresh)
    assert 0.1 < blind["mean"] < 0.6


def test_scaling_makes_every_feature_count_alike() -> None:
    real = heap(100, 1) * torch.linspace(0.5, 3, 12)
    scaled = Scale.of(real)(real)
    assert torch.allclose(scaled.std(0), torch.ones(12), atol=1e-4)


def test_a_feature_that_is_dead_on_paintings_does_not_outweigh_all_others() -> None:
    real = heap(100, 1)
    real[:, 3] = 1e-7 * real[:, 3]
    fake = real.clone()
    fake[:, 3] = 0.05
    assert Scale.of(real)(fake)[:, 3].abs().max() < 1
    assert torch.isfinite(Scale.of(torch.ones(10, 3))(torch.ones(2, 3))).all()


def test_bootstrap_and_wilson_agree_on_a_share() -> None:
    wins = np.array([1] * 70 + [0] * 30)
    found = metrics.bootstrap(lambda rows: float(wins[rows].mean()), 100)
    assert found.value == pytest.approx(0.7) and 0.55 < found.low < 0.65 < 0.75 < found.high < 0.85
    assert metrics.wilson_lower(70, 100) == pytest.approx(0.6042, abs=1e-3)
    assert metrics.wilson_lower(0, 0) == 0 and metrics.wilson_lower(1, 1) < 0.25
