"""Each loss is its equation; tests hold every one against a slow written-out reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

# Style transfer


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) over all places of all pictures of features (B, C, h, w).

    Over the batch, not per picture: a 96 px view has 144 places at conv4_1 for 512 channels, and even a piece of the
    style picture itself is then far from the whole of it.
    """
    flat = features.float().transpose(0, 1).flatten(1)  # (C, B h w)
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    return mean, centred @ centred.T / flat.shape[1]


def style_loss(found: Mapping[str, tuple[Tensor, Tensor]], wanted: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """sum over layers and both moments of 2 |m - a|^2 / (|a|^2 + |m|^2), the denominator held constant.

    Gatys' Gram matrix (2016, eq. 3) is mean and covariance in one, and its energy is nearly all in the mean; apart,
    both count.  Divided by both energies a term is at most 2, so that a contrasty photo under a flat style cannot
    drown the others (with |a|^2 alone the first losses lay between 1 and 100).
    """
    total = []
    for tap, targets in wanted.items():
        for ours, target in zip(found[tap], targets, strict=True):
            energy = target.square().sum() + ours.detach().square().sum()
            total.append(2 * (ours - target).square().sum() / energy.clamp_min(1e-6))
    return torch.stack(total).sum()


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


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(E[(D(x) - 1)^2] + E[D(G(z))^2]) / 2 (Mao et al. 2017)."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def lsgan_generator(fake: Tensor) -> Tensor:
    """E[(D(G(z)) - 1)^2]."""
    return (fake - 1).square().mean()


def cross_entropy(logits: Tensor, label: float | Tensor) -> Tensor:
    """-E[y log s(l) + (1 - y) log(1 - s(l))] = E[max(l, 0) - l y + log(1 + e^-|l|)], y in [0, 1] may be soft."""
    return (logits.clamp_min(0) - logits * label + torch.log1p(torch.exp(-logits.abs()))).mean()


def vanilla_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(-E[log D(x)] - E[log(1 - D(G(z)))]) / 2 (Goodfellow et al. 2014)."""
    return (cross_entropy(real, 1.0) + cross_entropy(fake, 0.0)) / 2


def vanilla_generator(fake: Tensor) -> Tensor:
    """-E[log D(G(z))], the form that does not saturate."""
    return cross_entropy(fake, 1.0)


ADVERSARIAL = {  # name in a config -> losses of discriminator and generator
    "hinge": (hinge_discriminator, hinge_generator),
    "lsgan": (lsgan_discriminator, lsgan_generator),
    "bce": (vanilla_discriminator, vanilla_generator),
}


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(G(z))] - E[D(x)] (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """E[(|grad D(x)|_2 - 1)^2] at x = real + share (fake - real), share (B, 1, 1, 1) (Gulrajani et al. 2017)."""
    between = torch.lerp(real, fake, share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def genre_loss(logits: Tensor, genre: Tensor) -> Tensor:
    """-E[sum_g y_g log softmax(l)_g], genres (B, G) as weights: the auxiliary classifier (Odena et al. 2017)."""
    return -(genre * F.log_softmax(logits.float(), dim=1)).sum(1).mean()


# Contrast


def patch_nce(query: Tensor, key: Tensor, temperature: float = 0.07) -> Tensor:
    """-E[log e^(q_i k_i / t) / sum_j e^(q_i k_j / t)], q, k (B, N, C) of unit length (Park et al. 2020)."""
    similarity = query.float() @ key.float().mT / temperature  # (B, N, N)
    own = similarity.diagonal(dim1=1, dim2=2)
    return (similarity.logsumexp(dim=2) - own).mean()


# Likeness


def likeness(maps: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Mean over scales of |F_l(x) - F_l(y)|_1 / |F_l(y)|_1: distance in frozen features, alike for every scale."""
    return torch.stack(
        [
            (ours.float() - theirs.float()).abs().mean() / theirs.float().abs().mean()
            for ours, theirs in zip(maps, targets, strict=True)
        ]
    ).mean()


def surprise(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log N(z; mean, variance) in nats, for each row (B,), less a constant: what a painting does not tell of its z.

    All (B, Z); its negative bounds the mutual information of z and painting from below (InfoGAN, 1606.03657, eq. 4).
    """
    return 0.5 * ((z - mean).square() / log_variance.exp() + log_variance).sum(1)


def texture(maps: list[Tensor], targets: list[Tensor], windows: int = 6) -> Tensor:
    """Mean over scales of |s_l(x) - s_l(y)|_1 / |s_l(y)|_1, s_l the sd of each feature in windows x windows places.

    How lively a place is, not where each stroke lies: what a small picture no longer tells may be invented but not
    left out (after Sajjadi et al. 2017, 1612.07919).
    """

    def deviation(features: Tensor) -> Tensor:
        side = max(1, features.shape[3] // windows)
        features = features.float()
        variance = F.avg_pool2d(features.square(), side) - F.avg_pool2d(features, side).square()
        return (variance.clamp_min(0) + 1e-2).sqrt()

    return torch.stack(
        [
            (deviation(ours) - deviation(theirs)).abs().mean() / deviation(theirs).mean()
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
