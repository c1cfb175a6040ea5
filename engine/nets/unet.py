"""The generator of pix2pix (Isola et al. 2017, 1611.07004): an hourglass whose halves are joined at every size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import register
from engine.nets.stylenet import Statistics


class _Level(nn.Module):
    """Halve, go deeper, enlarge, and join with what came in."""

    def __init__(self, inputs: int, inner: int, deeper: _Level | None, dropout: float) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, inner, 4, 2, 1)
        # At the bottom a picture may be a single point, which no norm can centre.
        self.norm = nn.BatchNorm2d(inner) if deeper is not None else nn.Identity()
        self.deeper = deeper
        self.up = nn.Conv2d(inner if deeper is None else 2 * inner, inputs, 3, padding=1)
        self.up_norm = nn.BatchNorm2d(inputs)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.down(F.leaky_relu(x, 0.2)))
        if self.deeper is not None:
            y = self.deeper(y)
        y = self.up_norm(self.up(F.interpolate(F.relu(y), scale_factor=2.0, mode="nearest")))
        return torch.cat([x, F.dropout(y, self.dropout, self.training)], dim=1)


@register("unet")
class UNet(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], H and W multiples of ``stride`` -> pictures of the same kind.

    Dropout is the only noise, and only in training: afterwards the same picture gives the same painting.

    Args:
        depth: halvings; 8 brings 256 px down to one point.
        width: channels after the first halving, ``ngf`` in the papers.
        dropout: of the three levels above the bottom.
    """

    margin = 128  # px

    def __init__(self, depth: int = 8, width: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        self.stride = 2**depth
        channels = [min(8, 2**level) * width for level in range(depth)]
        deeper: _Level | None = None
        for level in range(depth - 1, 0, -1):
            noisy = depth - 4 <= level < depth - 1
            deeper = _Level(channels[level - 1], channels[level], deeper, dropout if noisy else 0.0)
        self.first = nn.Conv2d(3, channels[0], 4, 2, 1)
        self.hourglass = deeper if deeper is not None else nn.Identity()
        self.last = nn.Conv2d((2 if deeper is not None else 1) * channels[0], 3, 3, padding=1)

    def forward(self, photo: Tensor, style: None = None, statistics: Statistics | None = None) -> Tensor:
        x = self.hourglass(self.first(2 * photo - 1))
        x = self.last(F.interpolate(F.relu(x), scale_factor=2.0, mode="nearest"))
        return torch.sigmoid(2 * x.float())  # (tanh + 1) / 2

    def statistics(self, photo: Tensor, style: None = None) -> Statistics:
        """Return empty statistics: batch norms carry their own."""
        return Statistics().rewind()

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return pictures of ``size`` px, rounded up to a multiple of the stride."""
        side = -(-size // self.stride) * self.stride
        return (torch.rand(2, 3, side, side),)
