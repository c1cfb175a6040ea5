"""A discriminator that sees several pictures of one genre at once, so that sameness gives a forger away.

Pictures one at a time say nothing of variety: a generator that paints the same good bouquet from every z fools any
discriminator of single pictures.  PacGAN (Lin et al. 2018, 1712.04086) judges packs, concatenated; here a pack is what
it is, a set (Zaheer et al. 2017, 1703.06114): its mean and its spread at every place of a learned feature map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from engine.nets import register


@register("packed-discriminator")
class PackedDiscriminator(nn.Module):
    """Feature maps (N, P, C, h, w) of N packs of P pictures and each pack's genre (N, G) -> logits (N, h/2, w/2).

    Args:
        genres: how many genres there are.
        channels: of the feature maps.
        width: of what it learns to see in them.
    """

    def __init__(self, genres: int = 9, channels: int = 128, width: int = 128) -> None:
        super().__init__()
        self.channels, self.genres = channels, genres
        self.each = nn.Sequential(
            spectral_norm(nn.Conv2d(channels, width, 4, 2, 1)), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.pack = nn.Sequential(
            spectral_norm(nn.Conv2d(2 * width, width, 3, padding=1)), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.out = spectral_norm(nn.Conv2d(width, 1, 1))
        self.genre = spectral_norm(nn.Linear(genres, width, bias=False))

    def forward(self, maps: Tensor, genre: Tensor) -> Tensor:
        seen = self.each(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        spread = (seen.var(1, unbiased=False) + 1e-6).sqrt()
        x = self.pack(torch.cat([seen.mean(1), spread], dim=1))
        return self.out(x)[:, 0] + torch.einsum("nchw,nc->nhw", x, self.genre(genre)) / x.shape[1] ** 0.5

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return the maps of two packs, and genres."""
        genre = F.one_hot(torch.arange(2) % self.genres, self.genres).float()
        return torch.randn(2, 4, self.channels, size // 8, size // 8), genre
