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
    """sum_l |G_l - A_l|^2 / |A_l|^2, per picture (B,): each layer weighs the same whatever its energy."""
    return torch.stack(
        [
            (grams[tap] - target).square().sum((1, 2)) / target.square().sum((1, 2)).clamp_min(1e-6)
            for tap, target in targets.items()
        ]
    ).sum(0)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of instance-normalised features, per picture (B,): structure without colour or contrast."""
    return (F.instance_norm(features.float()) - F.instance_norm(target.float())).square().mean((1, 2, 3))


def total_variation(picture: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, per picture (B,)."""
    down = (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean((1, 2, 3))
    right = (picture[:, :, :, 1:] - picture[:, :, :, :-1]).abs().mean((1, 2, 3))
    return down + right


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
