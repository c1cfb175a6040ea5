"""GANGogh's networks (Jones and Bonafilia 2017): a genre opens and closes the gates of every layer of the generator.

The gate is PixelCNN's (van den Oord et al. 2016): tanh(f + V_f h) * sigmoid(g + V_g h), where h is the genre and f, g
are the halves of a layer's channels.  As in the article's code V h is a map of the layer's own size, learned per genre.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import register

RESOLUTION = 64  # px


class Gate(nn.Module):
    """x (B, 2C, S, S), genres (B, G) -> tanh(f + V_f h) * sigmoid(g + V_g h), (B, C, S, S)."""

    def __init__(self, channels: int, side: int, genres: int) -> None:
        super().__init__()
        self.shape = (2 * channels, side, side)
        self.maps = nn.Linear(genres, 2 * channels * side * side, bias=False)

    def forward(self, x: Tensor, genre: Tensor) -> Tensor:
        f, g = (x + self.maps(genre).view(-1, *self.shape)).chunk(2, dim=1)
        return torch.tanh(f) * torch.sigmoid(g)


@register("gangogh-generator")
class GANGoghGenerator(nn.Module):
    """z (B, Z) ~ N(0, 1) and genre weights (B, G) -> paintings (B, 3, 64, 64) in [0, 1].

    Args:
        genres: how many genres there are.
        z_dim: length of the latent.
        width: channels of the last layer but one, ``DIM`` in the article's code.
    """

    resolution = RESOLUTION

    def __init__(self, genres: int = 14, z_dim: int = 128, width: int = 64) -> None:
        super().__init__()
        self.genres, self.z_dim = genres, z_dim
        channels = [8 * width, 4 * width, 2 * width, width]
        self.start = nn.Linear(z_dim + genres, 16 * 2 * channels[0])
        self.norms = nn.ModuleList(nn.BatchNorm2d(2 * c) for c in channels)
        self.gates = nn.ModuleList(Gate(c, 4 << level, genres) for level, c in enumerate(channels))
        pairs = zip(channels, [*(2 * c for c in channels[1:]), 3], strict=True)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 5, 2, 2, output_padding=1) for a, b in pairs)

    def condition(self, z: Tensor, genre: Tensor, psi: Tensor | None = None) -> Tensor:
        """Return w (B, Z + G); ``psi`` (B,) in [0, 1] truncates towards the middle of the latents."""
        return torch.cat([z if psi is None else z * psi[:, None], genre], dim=1)

    def synthesize(self, w: Tensor) -> Tensor:
        """Return paintings."""
        genre = w[:, self.z_dim :]
        x = self.start(w).view(len(w), -1, 4, 4)
        for norm, gate, up in zip(self.norms, self.gates, self.ups, strict=True):
            x = up(gate(norm(x), genre))
        return torch.sigmoid(2 * x.float())  # (tanh + 1) / 2

    def forward(self, z: Tensor, genre: Tensor, psi: Tensor | None = None) -> Tensor:
        return self.synthesize(self.condition(z, genre, psi))

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return latents and genres; the size is the net's own."""
        return torch.randn(2, self.z_dim), F.one_hot(torch.arange(2) % self.genres, self.genres).float()


@register("gangogh-discriminator")
class GANGoghDiscriminator(nn.Module):
    """Pictures (B, 3, 64, 64) in [0, 1] -> the critic's number (B,) and genre logits (B, G).

    Layer norm, for the gradient penalty is taken picture by picture.
    """

    def __init__(self, genres: int = 14, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 5, 2, 2), nn.LeakyReLU(0.2)]
        for level in range(3):
            inputs, outputs = width << level, width << (level + 1)
            layers += [nn.Conv2d(inputs, outputs, 5, 2, 2), nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.critic = nn.Linear(16 * 8 * width, 1)
        self.genre = nn.Linear(16 * 8 * width, genres)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(2 * pictures - 1)
        return self.critic(x)[:, 0], self.genre(x)

    def score(self, pictures: Tensor, genre: Tensor) -> Tensor:
        """Return critic + log p(genre), (B,): what best-of-K ranks by, as the article picked its pictures."""
        if pictures.shape[2] != RESOLUTION:
            pictures = F.interpolate(pictures, (RESOLUTION,) * 2, mode="bilinear", antialias=True)
        value, logits = self(pictures)
        return value + (genre * F.log_softmax(logits, dim=1)).sum(1)

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return pictures of the net's own size."""
        return (torch.rand(2, 3, RESOLUTION, RESOLUTION),)
