"""Each loss is its equation; tests hold every one against a slow written-out reference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

# Style transfer


def gram(features: Tensor) -> Tensor:
    """G_ij = <f_i, f_j> / (h w), for features (B, C, h, w) -> (B, C, C) (Gatys et al. 2016, eq. 3)."""
    flat = features.float().flatten(2)
    return flat @ flat.mT / flat.shape[2]


def style_loss(grams: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """sum_l 2 |G_l - A_l|^2 / (|A_l|^2 + |G_l|^2), per picture (B,), the denominator held constant.

    Each layer weighs the same whatever its energy, and a contrasty photo under a flat style cannot drown the others
    (with |A_l|^2 alone the first losses lay between 1 and 100).  Near the target it is Gatys' loss over |A_l|^2.
    """
    total = []
    for tap, target in targets.items():
        energy = target.square().sum((1, 2)) + grams[tap].detach().square().sum((1, 2))
        total.append(2 * (grams[tap] - target).square().sum((1, 2)) / energy.clamp_min(1e-6))
    return torch.stack(total).sum(0)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of instance-normalised features, per picture (B,): structure without colour or contrast."""
    return (F.instance_norm(features.float()) - F.instance_norm(target.float())).square().mean((1, 2, 3))


def total_variation(picture: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, per picture (B,)."""
    down = (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean((1, 2, 3))
    right = (picture[:, :, :, 1:] - picture[:, :, :, :-1]).abs().mean((1, 2, 3))
    return down + right


def overflow(picture: Tensor) -> Tensor:
    """Mean squared distance of the pixels from [0, 1], per picture (B,)."""
    return (picture - picture.clamp(0, 1)).square().mean((1, 2, 3))


# Adversarial


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))] (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """-E[D(G(z))]."""
    return -fake.mean()


# Likeness


def likeness(maps: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Mean over scales of |F_l(x) - F_l(y)|_1 / |F_l(y)|_1: distance in frozen features, alike for every scale."""
    return torch.stack(
        [
            (ours.float() - theirs.float()).abs().mean() / theirs.float().abs().mean()
            for ours, theirs in zip(maps, targets, strict=True)
        ]
    ).mean()


def absolute(picture: Tensor, target: Tensor) -> Tensor:
    """E|x - y|."""
    return (picture.float() - target.float()).abs().mean()


def spectral(picture: Tensor, target: Tensor) -> Tensor:
    """E|FFT(x) - FFT(y)|, orthonormal: blur costs as much as what it hides (Fuoli et al. 2021, 2106.00783)."""
    difference = torch.fft.rfft2(picture.float() - target.float(), norm="ortho")
    return torch.view_as_real(difference).abs().mean()
