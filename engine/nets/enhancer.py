"""Enlarging by 2 or 4 with drawn-in detail: a plain stack of convolutions at the small size.

SRVGGNetCompact (Wang et al. 2021, Real-ESRGAN) with one trunk for both scales: 0.27 M parameters, 9 GFLOP for
128 -> 512 px.  Nothing is convolved at the large size, and what is learned is added to a bilinear enlargement.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import register

SCALES = (2, 4)


def _without_lattice(x: Tensor) -> Tensor:
    """Blur by [1 2 1] / 4 both ways, which is zero at Nyquist's frequency and there only.

    Pixel-shuffle's sub-pixels are drawn by filters of their own, which a discriminator soon has drawing dotted edges
    (measured, after 300 steps; Sugawara et al. 2018, 1806.02658).
    """
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


class PReLU(nn.PReLU):
    """torch's own, in a third of its time where no gradient is wanted (bfloat16, channels last)."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale what is negative in x (B, C, H, W) by its channel's weight."""
        if torch.is_grad_enabled():
            return super().forward(x)
        return torch.addcmul(x.clamp_min(0), self.weight.to(x.dtype)[:, None, None], x.clamp_max(0))


@register("enhancer")
class Enhancer(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] -> the same at ``scale`` times the size.

    Args:
        width: channels of the trunk.
        depth: convolutions of the trunk.
    """

    margin = 16  # px of context a tile needs; the receptive field reaches depth + 3 px

    def __init__(self, width: int = 48, depth: int = 12) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for _ in range(depth):
            conv = nn.Conv2d(inputs, width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, a=0.25)  # torch's own shrinks the signal 10,000-fold
            layers += [conv, PReLU(width)]
            inputs = width
        self.trunk = nn.Sequential(*layers)
        heads = {f"x{scale}": nn.Conv2d(width, 3 * scale**2, 3, padding=1) for scale in SCALES}
        with torch.no_grad():  # it starts as the bilinear enlargement
            for head in heads.values():
                head.weight.zero_()
                head.bias.zero_()  # type: ignore[union-attr]
        self.heads = nn.ModuleDict(heads)

    def draw(self, picture: Tensor, scale: int) -> Tensor:
        """Return the enlargement before it is cut to [0, 1]: what losses see, so that no pixel is without gradient."""
        detail = F.pixel_shuffle(self.heads[f"x{scale}"](self.trunk(picture - 0.5)), scale).float()
        return F.interpolate(picture, scale_factor=float(scale), mode="bilinear") + _without_lattice(detail)

    def forward(self, picture: Tensor, scale: int) -> Tensor:
        return self.draw(picture, scale).clamp(0, 1)

    def example(self, size: int) -> tuple[Tensor, int]:
        """Return a picture and a scale."""
        return torch.rand(2, 3, size, size), 2
