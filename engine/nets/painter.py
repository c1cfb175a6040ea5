"""The painter: a small genre-conditional generator, and a discriminator that looks through frozen ImageNet features.

Generator: residual blocks with conditional batch norm, as in SNGAN-projection (Miyato and Koyama 2018); the latent sets
the 4x4 layout and, with the genre, the gains of every block.  Discriminator: Projected GAN (Sauer et al. 2021,
2111.01007) with slim heads; genre and art style enter by projection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from engine.nets import register
from engine.nets.efficientnet import LiteFeatures
from engine.nets.enlarge import reach_of

EMPHASIS = 1.5  # weight of an art style that is asked for: at 1, as it is learned, often a hint; at 2 forms dissolve
SMALLEST = 64  # px, of the smallest painter that others grow from
WIDTHS = {4: 256, 8: 256, 16: 160, 32: 96, 64: 48, 128: 32, 256: 16}  # resolution -> channels


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are linear in the condition; it starts as plain batch norm."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False, eps=1e-4)
        self.affine = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        gain, bias = self.affine(w)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(bias, self.norm(x), 1 + gain)


def convolve_twice_as_large(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Enlarge x (B, C, H, W) twice (nearest), then apply the 3x3 ``conv``, zero padded: (B, O, 2H, 2W)."""
    return F.conv_transpose2d(x, reach_of(conv.weight), conv.bias, stride=2, padding=1)


class GeneratorBlock(nn.Module):
    """Twice as large: two convolutions, and a 1x1 way around them."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(inputs, condition)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = ConditionalBatchNorm(outputs, condition)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(x, w), 0.2)
        y = convolve_twice_as_large(y, self.conv1)
        y = self.conv2(F.leaky_relu(self.norm2(y, w), 0.2))
        return y + F.interpolate(self.skip(x), scale_factor=2.0, mode="bilinear")


class ToRGB(nn.Sequential):
    """What the features of one size show: (B, C, H, W) -> (B, 3, H, W), before the sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels), nn.LeakyReLU(0.2), nn.Conv2d(channels, 3, 3, padding=1))


def _example_labels(genres: int, art_styles: int) -> Tensor:
    """Return the labels (2, G + S) of two paintings, the second in no art style."""
    labels = F.one_hot(torch.arange(2) % genres, genres + art_styles).float()
    labels[0, genres:] = F.one_hot(torch.tensor(0), art_styles) if art_styles else 0
    return labels


@register("painter")
class Painter(nn.Module):
    """z (B, Z) ~ N(0, 1) and labels (B, G) or (B, G + S) -> paintings (B, 3, R, R) in [0, 1].

    Labels are the weights of the genres and, behind them, of the art styles; where those are left out or zero the
    painting is in any style.  Each genre has its own place among the latents: z is moved to N(``centre``,
    ``spread``^2), which training fits to where the encoder finds the genre's paintings, and on by ``style_centre``, as
    far as it finds those of an art style from there.  With N(0, 1) for all most of z fell where no painting lies.

    Args:
        genres: how many genres there are.
        art_styles: how many art styles there are.
        resolution: 64, 128 or 256 px; a larger net starts from a smaller one's tensors of the same names.
        z_dim: length of the latent.
        embedding: length of a genre's embedding.
        width: factor on all channels.
    """

    def __init__(
        self,
        genres: int = 9,
        resolution: int = 64,
        z_dim: int = 128,
        embedding: int = 64,
        width: float = 1.0,
        art_styles: int = 0,
    ) -> None:
        super().__init__()
        self.genres, self.art_styles, self.resolution, self.z_dim = genres, art_styles, resolution, z_dim
        condition = z_dim + embedding
        channels = {r: int(c * width) for r, c in WIDTHS.items()}
        self.embed = nn.Linear(genres, embedding, bias=False)
        self.embed_style = nn.Linear(art_styles, embedding, bias=False) if art_styles else None
        self.start = nn.Linear(condition, 16 * channels[4])
        self.blocks = nn.ModuleDict(
            {f"{r}px": GeneratorBlock(channels[r // 2], channels[r], condition) for r in WIDTHS if 8 <= r <= resolution}
        )
        self.to_rgb = nn.ModuleDict(
            {f"{r}px": ToRGB(channels[r]) for r in WIDTHS if SMALLEST <= r <= resolution or r == resolution}
        )
        for to_rgb in list(self.to_rgb.values())[1:]:  # a grown net begins as the smaller one, enlarged
            nn.init.zeros_(to_rgb[2].weight)  # type: ignore[index]
            nn.init.zeros_(to_rgb[2].bias)  # type: ignore[index]
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(genres, z_dim))
        self.register_buffer("spread", torch.eye(z_dim).repeat(genres, 1, 1))
        if self.embed_style is not None:
            nn.init.zeros_(self.embed_style.weight)  # a painter that learns art styles begins as it was without them
            self.style_centre: Tensor
            self.register_buffer("style_centre", torch.zeros(art_styles, z_dim))

    def place(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return z (B, Z) ~ N(0, 1) moved to where paintings of its labels lie: (B, Z)."""
        # Products and sums, not matrix products: each row is the same in any batch, and no autocast rounds it.
        genre, art_style = labels[:, : self.genres], labels[:, self.genres :]
        centre = (genre[:, :, None] * self.centre).sum(1)
        if art_style.shape[1]:
            centre = centre + (art_style[:, :, None] * self.style_centre).sum(1)
        return centre + ((genre[:, :, None, None] * self.spread).sum(1) * z[:, None]).sum(2)

    def condition(self, z: Tensor, labels: Tensor, psi: Tensor | None = None) -> Tensor:
        """Return w (B, Z + E).  ``psi`` (B,) in [0, 1] truncates towards the labels' own mean painting, z = 0, not
        towards one mean of all (the conditional truncation of Dobler et al. 2202.11777)."""
        return self.condition_placed(self.place(z if psi is None else z * psi[:, None], labels), labels)

    def condition_placed(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return w (B, Z + E) for z (B, Z) that is where its labels lie, as an encoder's is."""
        embedding = self.embed(labels[:, : self.genres])
        if self.embed_style is not None and labels.shape[1] > self.genres:
            embedding = embedding + self.embed_style(labels[:, self.genres :])
        return torch.cat([z, embedding], dim=1)

    def layout(self, w: Tensor) -> Tensor:
        """Return what is where in paintings: (B, C, 4, 4), from which all else grows."""
        return self.start(w).view(len(w), -1, 4, 4)

    def synthesize(self, w: Tensor, layout: Tensor | None = None) -> Tensor:
        """Return paintings (B, 3, R, R) in [0, 1]; a ``layout`` (B, C, h, w) of another shape gives R/4 px a place."""
        x = self.layout(w) if layout is None else layout
        picture = x.new_zeros(1, dtype=torch.float32)
        for size, block in self.blocks.items():
            x = block(x, w)
            if size in self.to_rgb:  # every size from 64 px on adds what it can show (StyleGAN2's skips, 1912.04958)
                coarse = F.interpolate(picture, scale_factor=2.0, mode="bilinear") if picture.dim() == 4 else picture
                picture = coarse + self.to_rgb[size](x).float()
        return torch.sigmoid(2 * picture)

    def forward(self, z: Tensor, labels: Tensor, psi: Tensor | None = None) -> Tensor:
        return self.synthesize(self.condition(z, labels, psi))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Let a painter from before there were places have all genres in one, N(0, 1)."""
        for name in ("centre", "spread"):
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return latents and labels; the size is the net's own."""
        return torch.randn(2, self.z_dim), _example_labels(self.genres, self.art_styles)


@torch.no_grad()
def measure_norms(net: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Measure the batch norms of ``net`` anew, for averaged weights: the plain mean over batches of (z, labels)."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    net.train()
    for z, labels in inputs:
        net(z, labels)
    net.eval()


class Projector(nn.Module):
    """Fixed random mixing of the feature maps across channels and, coarse to fine, across scales (2111.01007, 3.2)."""

    def __init__(self, channels: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.across = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(channels, widths, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, w, 3, padding=1) for a, w in zip(widths[1:], widths[:-1], strict=True))
        self.requires_grad_(False)  # saved with the model: a projection drawn anew would void the heads

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        mixed = [conv(x) for conv, x in zip(self.across, maps, strict=True)]
        for level in range(len(mixed) - 2, -1, -1):
            above = F.interpolate(mixed[level + 1], size=mixed[level].shape[2:], mode="nearest")
            mixed[level] = mixed[level] + self.down[level](above)
        return mixed


class Head(nn.Module):
    """Logits (B, h, w) of one scale: spectral-normed strided convolutions down to about 4x4, labels by projection."""

    def __init__(self, inputs: int, halvings: int, genres: int, art_styles: int = 0) -> None:
        super().__init__()
        self.genres = genres
        layers: list[nn.Module] = []
        for _ in range(halvings):
            outputs = min(2 * inputs, 256)
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)), nn.BatchNorm2d(outputs),
                       nn.LeakyReLU(0.2)]  # fmt: skip
            inputs = outputs
        if not layers:
            layers = [spectral_norm(nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)), nn.BatchNorm2d(inputs),
                      nn.LeakyReLU(0.2)]  # fmt: skip
        self.body = nn.Sequential(*layers)
        self.out = spectral_norm(nn.Conv2d(inputs, 1, 1))
        self.genre = spectral_norm(nn.Linear(genres, inputs, bias=False))
        self.art_style = spectral_norm(nn.Linear(art_styles, inputs, bias=False)) if art_styles else None

    def forward(self, x: Tensor, labels: Tensor, conditioning: float) -> Tensor:
        x = self.body(x)
        logits = self.out(x)[:, 0]
        if conditioning:
            wanted = self.genre(labels[:, : self.genres])
            if self.art_style is not None and labels.shape[1] > self.genres:
                wanted = wanted + self.art_style(labels[:, self.genres :])
            logits = logits + conditioning * torch.einsum("bchw,bc->bhw", x, wanted) / x.shape[1] ** 0.5
        return logits


@register("projected-discriminator")
class ProjectedDiscriminator(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] and labels (B, G) or (B, G + S), as a painter's -> logits of four scales.

    Args:
        genres: how many genres there are.
        art_styles: how many art styles there are.
        size: px to which pictures are scaled before the feature network.
        widths: channels of the projected maps.
    """

    def __init__(
        self,
        genres: int = 9,
        size: int = 96,
        widths: tuple[int, int, int, int] = (32, 64, 128, 256),
        art_styles: int = 0,
    ) -> None:
        super().__init__()
        self.genres, self.art_styles, self.size = genres, art_styles, size
        self.features = LiteFeatures(0)
        self.projector = Projector(self.features.channels, tuple(widths))
        self.heads = nn.ModuleList(Head(w, 3 - level, genres, art_styles) for level, w in enumerate(widths))

    def train(self, mode: bool = True) -> ProjectedDiscriminator:
        """Switch the heads; the features stay as they are."""
        super().train(mode)
        self.features.eval()
        return self

    def look(self, pictures: Tensor) -> list[Tensor]:
        """Return the frozen feature maps of ``pictures``."""
        if pictures.shape[2] != self.size:
            antialias = pictures.shape[2] > self.size
            pictures = F.interpolate(pictures, size=(self.size, self.size), mode="bilinear", antialias=antialias)
        return self.features(pictures)

    def judge(self, maps: list[Tensor], labels: Tensor, conditioning: float = 1.0) -> list[Tensor]:
        """Return the logits (B, h, w) of each scale; ``conditioning`` in [0, 1] fades the labels in."""
        return self.judge_mixed(self.projector(maps), labels, conditioning)

    def judge_mixed(self, mixed: list[Tensor], labels: Tensor, conditioning: float = 1.0) -> list[Tensor]:
        """Return the same of maps that went through the ``projector`` already."""
        return [head(x, labels, conditioning) for head, x in zip(self.heads, mixed, strict=True)]

    def score(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Return one number per picture (B,), higher is better: what best-of-K ranks by."""
        return torch.stack([logits.float().mean((1, 2)) for logits in self.judge(self.look(pictures), labels)]).mean(0)

    def forward(self, pictures: Tensor, labels: Tensor) -> Tensor:
        return self.score(pictures, labels)

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return pictures and labels."""
        return torch.rand(2, 3, size, size), _example_labels(self.genres, self.art_styles)
