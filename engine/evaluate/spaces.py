"""Feature spaces that judge: frozen networks no discriminator looks through, so that nobody marks his own work.

EfficientNet-Lite2 knows what is shown, VGG16 how it is painted.  The painter's discriminator learns through Lite0, the
taste model through Lite1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.nets import channels_last
from engine.nets.efficientnet import load_lite
from engine.nets.vgg import channel_statistics, load_vgg
from engine.train.system import has_bf16

SIZE = 128  # px, side at which all pictures are looked at
VGG_TAPS = ("conv2_2", "conv3_3", "conv4_1")


@dataclass(frozen=True)
class Space:
    """A named map from pictures (B, 3, H, W) in [0, 1] to features (B, F)."""

    name: str
    look: Callable[[Tensor], Tensor]

    def __call__(self, batches: Iterable[Tensor]) -> Tensor:
        """Return the features (N, F) of all pictures in ``batches``, float32."""
        found = []
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16()):
            for batch in batches:
                found.append(self.look(seen(batch)).float())
        return torch.cat(found).clone()


def seen(pictures: Tensor, size: int = SIZE) -> Tensor:
    """Return ``pictures`` (B, 3, H, W) at ``size`` px, as every space sees them."""
    if pictures.shape[2:] != (size, size):
        pictures = F.interpolate(
            pictures, size=(size, size), mode="bilinear", antialias=pictures.shape[2] > size, align_corners=False
        )
    return pictures.contiguous(memory_format=torch.channels_last)


def lite_space(variant: int) -> Space:
    """Return the means of EfficientNet-Lite's maps at strides 16 and 32."""
    net = channels_last(load_lite(variant))

    def look(pictures: Tensor) -> Tensor:
        return torch.cat([x.float().mean((2, 3)) for x in net(pictures)[2:]], dim=1)

    return Space(f"lite{variant}", look)


def vgg_space() -> Space:
    """Return mean and spread of VGG16's channels: colour, texture, brush strokes."""
    net = channels_last(load_vgg(VGG_TAPS))

    def look(pictures: Tensor) -> Tensor:
        return torch.cat([channel_statistics(x) for x in net(pictures).values()], dim=1)

    return Space("vgg", look)


def judges() -> tuple[Space, Space]:
    """Return the two spaces in which models are measured.

    Raises:
        BrokenModel: the weights are not installed; the message says how to install them.
    """
    return lite_space(2), vgg_space()
