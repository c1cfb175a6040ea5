"""The generator of Johnson et al. 2016 as CycleGAN uses it (Zhu et al. 2017): 6 or 9 residual blocks at stride 4.

Two departures: enlargement by nearest neighbour and a convolution, where the transposed convolution drew checkerboards,
and pictures in [0, 1].  ``brush`` (stylenet.py) does the same work at a fortieth of the cost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import InvalidRequest
from engine.nets import register
from engine.nets.stylenet import InstanceNorm, Statistics

NORMS = ("instance", "batch")


class _Conv(nn.Module):
    """Reflect pad -> convolution -> norm -> ReLU."""

    def __init__(
        self, inputs: int, outputs: int, norm: str, *, kernel: int = 3, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.norm = InstanceNorm(outputs, 0) if norm == "instance" else nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor, statistics: Statistics | None) -> Tensor:
        x = self.conv(F.pad(x, (self.conv.kernel_size[0] // 2,) * 4, mode="reflect"))
        x = self.norm(x, None, statistics) if isinstance(self.norm, InstanceNorm) else self.norm(x)
        return F.relu(x) if self.relu else x


class _Residual(nn.Module):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.first = _Conv(channels, channels, norm)
        self.second = _Conv(channels, channels, norm, relu=False)

    def forward(self, x: Tensor, statistics: Statistics | None) -> Tensor:
        return x + self.second(self.first(x, statistics), statistics)


@register("resnet")
class ResNet(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], H and W multiples of 4 -> pictures of the same kind.

    Args:
        blocks: residual blocks; published are 6 for 128 px and 9 for 256 px.
        width: channels at the full size, ``ngf`` in the papers.
        norm: "instance" or "batch".
    """

    stride = 4
    margin = 96  # px of context beyond which a tile's pixel hardly sees

    def __init__(self, blocks: int = 9, width: int = 64, norm: str = "instance") -> None:
        super().__init__()
        if norm not in NORMS:
            raise InvalidRequest(f"norm is {norm!r}; it must be one of {', '.join(NORMS)}.")
        self.down = nn.ModuleList(
            [
                _Conv(3, width, norm, kernel=7),
                _Conv(width, 2 * width, norm, stride=2),
                _Conv(2 * width, 4 * width, norm, stride=2),
            ]
        )
        self.trunk = nn.ModuleList(_Residual(4 * width, norm) for _ in range(blocks))
        self.up = nn.ModuleList([_Conv(4 * width, 2 * width, norm), _Conv(2 * width, width, norm)])
        self.paint = nn.Conv2d(width, 3, 7)

    def forward(self, photo: Tensor, style: None = None, statistics: Statistics | None = None) -> Tensor:
        x = 2 * photo - 1
        for layer in (*self.down, *self.trunk):
            x = layer(x, statistics)
        for conv in self.up:
            x = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"), statistics)
        x = self.paint(F.pad(x, (3, 3, 3, 3), mode="reflect"))
        return torch.sigmoid(2 * x.float())  # (tanh + 1) / 2

    def paint_freely(self, photo: Tensor) -> Tensor:
        """Return the painting as training sees it, which is the painting itself: the sigmoid keeps it in [0, 1]."""
        return self(photo)

    def statistics(self, photo: Tensor, style: None = None) -> Statistics:
        """Measure the instance norms on a small copy of the picture, to be used by its tiles."""
        measured = Statistics()
        self(photo, None, measured)
        return measured.rewind()

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return pictures of ``size`` px, rounded down to a multiple of 4."""
        return (torch.rand(2, 3, size // 4 * 4, size // 4 * 4),)
