"""Discriminators that judge every patch or every pixel; spectral norm keeps them smooth (Miyato et al. 2018).

PatchGAN: Isola et al. 2017 (1611.07004).  U-Net discriminator: Schoenfeld et al. 2020 (2002.12655), small, as
Real-ESRGAN uses it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from engine.errors import InvalidRequest
from engine.nets import register

NORMS = ("spectral", "instance", "batch")


def _norm(name: str, channels: int) -> list[nn.Module]:
    if name == "instance":
        return [nn.InstanceNorm2d(channels)]
    return [nn.BatchNorm2d(channels)] if name == "batch" else []


@register("patchgan")
class PatchGAN(nn.Module):
    """Pictures (B, C, H, W) in [0, 1] -> logits (B, 1, h, w), one for each ``70x70`` patch at ``depth=3``.

    Args:
        inputs: channels of the input; 6 where a pair is judged (pix2pix).
        width: channels after the first convolution, ``ndf`` in the papers.
        depth: convolutions of stride 2; 3 gives the field of 70 px, 2 of 34 px, 1 of 16 px.
        norm: "spectral", "instance" or "batch".
    """

    def __init__(self, inputs: int = 3, width: int = 32, depth: int = 3, norm: str = "spectral") -> None:
        super().__init__()
        if norm not in NORMS:
            raise InvalidRequest(f"norm is {norm!r}; it must be one of {', '.join(NORMS)}.")
        self.inputs = inputs
        wrap = spectral_norm if norm == "spectral" else nn.Identity()
        layers: list[nn.Module] = [wrap(nn.Conv2d(inputs, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
        channels = width
        for level in range(1, depth + 1):
            wider = min(2 * channels, 8 * width)
            layers += [wrap(nn.Conv2d(channels, wider, 4, 2 if level < depth else 1, 1)), *_norm(norm, wider),
                       nn.LeakyReLU(0.2)]  # fmt: skip
            channels = wider
        self.body = nn.Sequential(*layers, wrap(nn.Conv2d(channels, 1, 4, 1, 1)))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.body(2 * pictures - 1)

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return pictures."""
        return (torch.rand(2, self.inputs, size, size),)


@register("unet-discriminator")
class UNetDiscriminator(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], H and W multiples of 8 -> a logit for every pixel (B, 1, H, W).

    Args:
        width: channels at the full size; doubled at each of three halvings.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, 1, bias=False))

        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(conv(width * 2**i, width * 2 ** (i + 1), 4, 2) for i in range(3))
        self.up = nn.ModuleList(conv(width * 2 ** (i + 1), width * 2**i) for i in reversed(range(3)))
        self.last = nn.Sequential(conv(width, width), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(2 * pictures - 1), 0.2)
        passed = []
        for conv in self.down:
            passed.append(x)
            x = F.leaky_relu(conv(x), 0.2)
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = F.leaky_relu(conv(x), 0.2) + passed.pop()
        return self.last(x)

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return pictures of ``size`` px, rounded down to a multiple of 8."""
        return (torch.rand(2, 3, size // 8 * 8, size // 8 * 8),)
