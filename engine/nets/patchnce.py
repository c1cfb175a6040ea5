"""The small heads through which contrastive translation compares patches (Park et al. 2020, 2007.15651)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import register


@register("patch-projector")
class PatchProjector(nn.Module):
    """Feature maps (B, C_i, h_i, w_i) at some places of each -> unit vectors, a list of (B, N, D).

    Args:
        channels: C_i of the maps.
        width: D.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 48, 96, 96), width: int = 128) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(c, width), nn.ReLU(), nn.Linear(width, width)) for c in channels
        )

    def forward(self, maps: list[Tensor], places: list[Tensor]) -> list[Tensor]:
        """Look at ``places`` (N,), indices into the flattened h x w of each map."""
        found = []
        for head, features, rows in zip(self.heads, maps, places, strict=True):
            patches = features.flatten(2)[:, :, rows].mT  # (B, N, C)
            found.append(F.normalize(head(patches).float(), dim=2))
        return found

    def example(self, size: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return maps that halve from one to the next, and four places in each."""
        sides = [max(2, size >> level) for level in range(len(self.channels))]
        maps = [torch.rand(2, c, side, side) for c, side in zip(self.channels, sides, strict=True)]
        return maps, [torch.arange(4) for _ in sides]
