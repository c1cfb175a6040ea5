"""DCGAN (Radford et al. 2016, 1511.06434), at any power of two: the teaching model, and the first of both articles."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import InvalidRequest
from engine.nets import register


def _levels(resolution: int) -> int:
    """Return how often 4 px are doubled."""
    levels = round(math.log2(resolution / 4))
    if levels < 2 or 4 * 2**levels != resolution:
        raise InvalidRequest(f"resolution is {resolution}; it must be a power of two of at least 16 px.")
    return levels


def _initialise(net: nn.Module) -> None:
    """Weights ~ N(0, 0.02), as published."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)


@register("dcgan-generator")
class DCGANGenerator(nn.Module):
    """z (B, Z) ~ N(0, 1) -> paintings (B, 3, R, R) in [0, 1].

    Args:
        resolution: px.
        z_dim: length of the latent.
        width: channels before the last layer, ``ngf``.
        uniform: the first article's latents were uniform in [-1, 1]: a Gaussian z is mapped to that by its own CDF.
        genres: how many genres are asked for; the net knows none and paints for all alike.
    """

    def __init__(
        self, resolution: int = 64, z_dim: int = 100, width: int = 64, uniform: bool = False, genres: int = 1
    ) -> None:
        super().__init__()
        self.resolution, self.z_dim, self.uniform, self.genres = resolution, z_dim, uniform, genres
        levels = _levels(resolution)
        channels = [min(8, 2 ** (levels - 1 - level)) * width for level in range(levels)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(z_dim, channels[0], 4, bias=False)]
        for inputs, outputs in zip(channels, [*channels[1:], 3], strict=True):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
        self.body = nn.Sequential(*layers)
        _initialise(self)

    def condition(self, z: Tensor, genre: Tensor, psi: Tensor | None = None) -> Tensor:
        """Return w (B, Z); ``psi`` (B,) in [0, 1] truncates towards the middle of the latents."""
        z = z if psi is None else z * psi[:, None]
        return torch.erf(z / math.sqrt(2)) if self.uniform else z

    def synthesize(self, w: Tensor) -> Tensor:
        """Return paintings."""
        return torch.sigmoid(2 * self.body(w[:, :, None, None]).float())  # (tanh + 1) / 2

    def forward(self, z: Tensor, genre: Tensor, psi: Tensor | None = None) -> Tensor:
        return self.synthesize(self.condition(z, genre, psi))

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return latents and genres; the size is the net's own."""
        return torch.randn(2, self.z_dim), torch.ones(2, self.genres) / self.genres


@register("dcgan-discriminator")
class DCGANDiscriminator(nn.Module):
    """Pictures (B, 3, R, R) in [0, 1] -> logits (B,), higher is realer.

    Args:
        resolution: px.
        width: channels after the first layer, ``ndf``.
    """

    def __init__(self, resolution: int = 64, width: int = 64) -> None:
        super().__init__()
        self.resolution = resolution
        channels = [min(8, 2**level) * width for level in range(_levels(resolution))]
        layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        for inputs, outputs in itertools.pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 4, bias=False))
        _initialise(self)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.body(2 * pictures - 1).flatten()

    def score(self, pictures: Tensor, genre: Tensor) -> Tensor:
        """Return one number per picture (B,): what best-of-K ranks by."""
        if pictures.shape[2] != self.resolution:
            pictures = F.interpolate(pictures, (self.resolution,) * 2, mode="bilinear", antialias=True)
        return self(pictures)

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return pictures of the net's own size."""
        return (torch.rand(2, 3, self.resolution, self.resolution),)
