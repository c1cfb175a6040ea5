"""A discriminator that looks through four small convolutions instead of a whole ImageNet network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import register
from engine.nets.painter import Head, ProjectedDiscriminator, Projector


class SmallFeatures(nn.Module):
    """Maps at strides 2, 4, 8 and 16."""

    channels = (8, 8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8, 8, 3, 2, 1) for i in range(4))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        found, x = [], 4 * x - 2
        for conv in self.convs:
            x = F.relu(conv(x))
            found.append(x)
        return found


@register("small-critic")
class SmallCritic(ProjectedDiscriminator):
    """Pictures of 32 px and genres -> logits of four scales."""

    def __init__(self, genres: int) -> None:
        nn.Module.__init__(self)
        self.genres, self.size = genres, 32
        self.features = SmallFeatures()  # type: ignore[assignment]
        self.projector = Projector(SmallFeatures.channels, (8, 8, 8, 8))
        self.heads = nn.ModuleList(Head(8, 2 - min(level, 2), genres) for level in range(4))

    def example(self, size: int) -> tuple[Tensor, ...]:
        return torch.rand(2, 3, 32, 32), F.one_hot(torch.arange(2), self.genres).float()
