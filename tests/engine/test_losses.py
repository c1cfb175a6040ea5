"""Each loss against a slow reference written out with loops and plain numbers."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine import losses


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    torch.manual_seed(4)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def numbers(x: Tensor) -> list[float]:
    return [float(value) for value in x.flatten()]


def close(found: Tensor, wanted: float | list[float]) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-4, atol=1e-6)


# Style transfer


def test_moments() -> None:
    x = torch.randn(2, 3, 4, 5)
    mean_, covariance = losses.moments(x)
    places = [(b, r, c) for b in range(2) for r in range(4) for c in range(5)]
    middle = [mean([float(x[b, i, r, c]) for b, r, c in places]) for i in range(3)]
    close(mean_, middle)
    for i in range(3):
        for j in range(3):
            products = [(float(x[b, i, r, c]) - middle[i]) * (float(x[b, j, r, c]) - middle[j]) for b, r, c in places]
            close(covariance[i, j], mean(products))


def test_style_loss() -> None:
    found, target = ({tap: losses.moments(torch.randn(1, 3, 4, 4)) for tap in ("low", "high")} for _ in range(2))
    total = 0.0
    for tap in ("low", "high"):
        for ours, theirs in zip(found[tap], target[tap], strict=True):
            pairs = list(zip(numbers(ours), numbers(theirs), strict=True))
            energy = sum(a**2 for a, _ in pairs) + sum(b**2 for _, b in pairs)
            total += 2 * sum((a - b) ** 2 for a, b in pairs) / energy
    close(losses.style_loss(found, target), total)
    close(losses.style_loss(target, target), 0.0)


def test_content_loss_compares_structure_and_not_colour_or_contrast() -> None:
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    def normalised(values: Tensor) -> list[float]:
        own = numbers(values)
        middle = mean(own)
        variance = mean([(value - middle) ** 2 for value in own])
        return [(value - middle) / math.sqrt(variance + 1e-5) for value in own]

    wanted = [
        mean([(a - b) ** 2 for c in range(3) for a, b in zip(normalised(x[i, c]), normalised(y[i, c]), strict=True)])
        for i in range(2)
    ]
    close(losses.content_loss(x, y), wanted)
    assert losses.content_loss(x, 3 * x + 1).max() < 1e-4


def test_total_variation() -> None:
    x = torch.rand(2, 3, 4, 5)
    wanted = []
    for b in range(2):
        down = [abs(float(x[b, c, i + 1, j] - x[b, c, i, j])) for c in range(3) for i in range(3) for j in range(5)]
        right = [abs(float(x[b, c, i, j + 1] - x[b, c, i, j])) for c in range(3) for i in range(4) for j in range(4)]
        wanted.append(mean(down) + mean(right))
    close(losses.total_variation(x), wanted)


def test_overflow() -> None:
    x = torch.tensor([[-0.5, 0.5, 1.25, 1.0]]).view(1, 1, 2, 2)
    close(losses.overflow(x), [(0.25 + 0 + 0.0625 + 0) / 4])


# Adversarial


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(3, 5), 2 * torch.randn(3, 5)


def test_hinge(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    wanted = mean([max(0, 1 - r) for r in numbers(real)]) + mean([max(0, 1 + f) for f in numbers(fake)])
    close(losses.hinge_discriminator(real, fake), wanted)
    close(losses.hinge_generator(fake), -mean(numbers(fake)))


def test_lsgan(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    wanted = (mean([(r - 1) ** 2 for r in numbers(real)]) + mean([f**2 for f in numbers(fake)])) / 2
    close(losses.lsgan_discriminator(real, fake), wanted)
    close(losses.lsgan_generator(fake), mean([(f - 1) ** 2 for f in numbers(fake)]))


def test_cross_entropy_with_hard_and_soft_labels(logits: tuple[Tensor, Tensor]) -> None:
    def entropy(logit: float, label: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -label * math.log(p) - (1 - label) * math.log(1 - p)

    real, fake = logits
    soft = torch.rand(3, 5)
    pairs = zip(numbers(real), numbers(soft), strict=True)
    close(losses.cross_entropy(real, soft), mean([entropy(a, b) for a, b in pairs]))
    wanted = (mean([entropy(r, 1) for r in numbers(real)]) + mean([entropy(f, 0) for f in numbers(fake)])) / 2
    close(losses.vanilla_discriminator(real, fake), wanted)
    close(losses.vanilla_generator(fake), mean([entropy(f, 1) for f in numbers(fake)]))
    assert losses.cross_entropy(torch.tensor([500.0, -500.0]), 0.5).isfinite()


def test_wasserstein(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    close(losses.wasserstein(real, fake), mean(numbers(fake)) - mean(numbers(real)))


def test_gradient_penalty_by_finite_differences() -> None:
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)
    ).double()
    real, fake = torch.rand(2, 3, 2, 2).double(), torch.rand(2, 3, 2, 2).double()
    share = torch.rand(2, 1, 1, 1).double()
    found = losses.gradient_penalty(lambda x: net(x)[:, 0], real, fake, share)
    wanted = []
    for b in range(2):
        x = (real[b] + share[b] * (fake[b] - real[b])).flatten()
        squares = 0.0
        for k in range(12):
            step = torch.zeros(12).double()
            step[k] = 1e-6
            up, low = (net((x + sign * step).view(1, 3, 2, 2)).item() for sign in (1, -1))
            squares += ((up - low) / 2e-6) ** 2
        wanted.append((math.sqrt(squares) - 1) ** 2)
    close(found, mean(wanted))
    found.backward()  # the critic learns from it
    assert net[1].weight.grad.abs().sum() > 0


def test_genre_loss() -> None:
    logits = torch.randn(3, 4)
    genre = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 0.5, 0.5, 0]])
    wanted = []
    for b in range(3):
        total = sum(math.exp(value) for value in numbers(logits[b]))
        pairs = zip(numbers(genre[b]), numbers(logits[b]), strict=True)
        wanted.append(-sum(weight * math.log(math.exp(value) / total) for weight, value in pairs))
    close(losses.genre_loss(logits, genre), mean(wanted))


# Contrast and likeness


def test_patch_nce() -> None:
    query, key = (F.normalize(torch.randn(2, 5, 3), dim=2) for _ in range(2))
    wanted = []
    for b in range(2):
        for i in range(5):
            near = [math.exp(sum(numbers(query[b, i] * key[b, j])) / 0.07) for j in range(5)]
            wanted.append(-math.log(near[i] / sum(near)))
    close(losses.patch_nce(query, key), mean(wanted))
    assert losses.patch_nce(key, key) < losses.patch_nce(query, key)


def test_likeness() -> None:
    ours, theirs = ([torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)] for _ in range(2))
    wanted = []
    for a, b in zip(ours, theirs, strict=True):
        distance = mean([abs(x - y) for x, y in zip(numbers(a), numbers(b), strict=True)])
        wanted.append(distance / mean([abs(y) for y in numbers(b)]))
    close(losses.likeness(ours, theirs), mean(wanted))


def test_surprise() -> None:
    z, mean_, log_variance = torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 5)
    density = torch.distributions.Normal(mean_, (log_variance / 2).exp()).log_prob(z).sum(1)
    close(losses.surprise(z, mean_, log_variance), (-density - 5 / 2 * math.log(2 * math.pi)).tolist())


def test_texture() -> None:
    ours, theirs = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)

    def deviations(x: Tensor) -> list[float]:
        found = []
        for c in range(2):
            for top in (0, 2):
                for left in (0, 2):
                    values = numbers(x[0, c, top : top + 2, left : left + 2])
                    found.append(math.sqrt(mean([(v - mean(values)) ** 2 for v in values]) + 1e-2))
        return found

    pairs = list(zip(deviations(ours), deviations(theirs), strict=True))
    wanted = mean([abs(a - b) for a, b in pairs]) / mean([b for _, b in pairs])
    close(losses.texture([ours], [theirs], windows=2), wanted)


def test_absolute() -> None:
    x, y = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    close(losses.absolute(x, y), mean([abs(a - b) for a, b in zip(numbers(x), numbers(y), strict=True)]))


def test_spectral() -> None:
    x, y = torch.rand(1, 1, 4, 6), torch.rand(1, 1, 4, 6)
    difference = (x - y)[0, 0].numpy().astype(np.float64)
    parts = []
    for u in range(4):
        for v in range(6 // 2 + 1):  # the other half mirrors it
            value = 0j
            for r in range(4):
                for c in range(6):
                    value += difference[r, c] * cmath.exp(-2j * math.pi * (u * r / 4 + v * c / 6)) / math.sqrt(24)
            parts += [abs(value.real), abs(value.imag)]
    close(losses.spectral(x, y), mean(parts))
