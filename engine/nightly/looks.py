"""What the taste model looks at: frozen features of what is shown, and twelve plain ones of colour and form.

All of it is differentiable, so that a painter can be told which way a picture would please more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.evaluate.spaces import seen
from engine.train.system import has_bf16

Look = Callable[[Tensor], Tensor]  # pictures (B, 3, H, W) in [0, 1] -> features (B, F)

HAND = ("brightness", "contrast", "warmth", "greenness", "saturation", "saturation spread", "colourfulness", "edges",
        "fine detail", "asymmetry", "light in the middle", "light above")  # fmt: skip


def hand_features(pictures: Tensor) -> Tensor:
    """Return the features named in ``HAND``, (B, 12), of pictures (B, 3, H, W) in [0, 1]."""
    red, green, blue = pictures.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    vivid = pictures.amax(1) - pictures.amin(1)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    down, right = luma.diff(dim=1), luma.diff(dim=2)
    blurred = F.avg_pool2d(luma[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    height, width = luma.shape[1:]
    middle = luma[:, height // 4 : height - height // 4, width // 4 : width - width // 4]

    def mean(x: Tensor) -> Tensor:
        return x.mean((1, 2))

    def spread(x: Tensor) -> Tensor:
        return (x.var((1, 2)) + 1e-6).sqrt()  # the root of zero has no slope

    return torch.stack(
        [
            mean(luma), spread(luma), mean(red - blue), mean(green - (red + blue) / 2), mean(vivid), spread(vivid),
            (spread(red_green) ** 2 + spread(yellow_blue) ** 2).sqrt()
            + 0.3 * (mean(red_green) ** 2 + mean(yellow_blue) ** 2 + 1e-6).sqrt(),
            mean(down.abs()) + mean(right.abs()), mean((luma - blurred).abs()), mean((luma - luma.flip(2)).abs()),
            mean(middle) - mean(luma), mean(luma[:, : height // 2]) - mean(luma[:, height // 2 :]),
        ],
        dim=1,
    )  # fmt: skip


class Looks:
    """Pictures (B, 3, H, W) in [0, 1] -> features (B, F); the last 12 are those of :func:`hand_features`.

    Args:
        net: frozen feature maps, coarsest last; None leaves them out.
    """

    def __init__(self, net: nn.Module | None = None) -> None:
        self.net = net

    def __call__(self, pictures: Tensor) -> Tensor:
        parts = [hand_features(pictures.float())]
        if self.net is not None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16()):
                maps = self.net(seen(pictures))
            parts = [x.float().mean((2, 3)) for x in maps[2:]] + parts
        return torch.cat(parts, dim=1)


def load_looks() -> Looks:
    """Return the looks of EfficientNet-Lite1, through which neither discriminator nor gate look.

    Raises:
        BrokenModel: its weights are not installed; the message says how to install them.
    """
    from engine.nets import channels_last
    from engine.nets.efficientnet import load_lite

    return Looks(channels_last(load_lite(1)))
