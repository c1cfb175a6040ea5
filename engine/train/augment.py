"""DiffAugment (Zhao et al. 2020, 2006.10738): the same differentiable changes for what is real and what is painted.

Drawn once and applied where needed, so that a picture and its reconstruction can be changed alike and then compared.
Colour changes are milder than published: strong ones leak into paintings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """One draw for a batch of B pictures."""

    brightness: Tensor  # (B, 1, 1, 1), added
    saturation: Tensor  # factor around the pixel's grey
    contrast: Tensor  # factor around the picture's mean
    shift: Tensor  # (B, 2) in [-1/8, 1/8] of the picture
    hole: Tensor  # (B, 2) centre of the cutout, in [0, 1]
    hole_size: float  # side of the cutout, as a share of the picture

    @classmethod
    def draw(
        cls, batch: int, rng: torch.Generator, hole_size: float = 0.2, device: torch.device | None = None
    ) -> Augmentation:
        """Draw for ``batch`` pictures on ``device`` from ``rng``, a generator of the processor."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(batch, *shape, generator=rng).to(device)

        return cls(
            brightness=uniform(-0.15, 0.15, 1, 1, 1),
            saturation=uniform(0.5, 1.5, 1, 1, 1),
            contrast=uniform(0.75, 1.25, 1, 1, 1),
            shift=uniform(-0.125, 0.125, 2),
            hole=uniform(0, 1, 2),
            hole_size=hole_size,
        )

    def __getitem__(self, rows: slice) -> Augmentation:
        """Return the draw of some of the pictures."""
        return Augmentation(
            self.brightness[rows],
            self.saturation[rows],
            self.contrast[rows],
            self.shift[rows],
            self.hole[rows],
            self.hole_size,
        )

    def __call__(self, pictures: Tensor) -> Tensor:
        """Change ``pictures`` (B, 3, H, W) in [0, 1]; what is shifted in or cut out is mid grey."""
        x = pictures - 0.5 + self.brightness
        grey = x.mean(1, keepdim=True)
        x = (x - grey) * self.saturation + grey
        mean = x.mean((1, 2, 3), keepdim=True)
        x = (x - mean) * self.contrast + mean
        return self._cut(self._move(x)) + 0.5

    def _move(self, x: Tensor) -> Tensor:
        """Shift by whole pixels, so that nothing is blurred."""
        size = x.shape[2]
        pad = size // 8 + 1
        rows = (self.shift * size).round().long() + pad  # (B, 2)
        padded = F.pad(x, (pad, pad, pad, pad))
        moved = [padded[i, :, t : t + size, left : left + size] for i, (t, left) in enumerate(rows.tolist())]
        return torch.stack(moved)

    def _cut(self, x: Tensor) -> Tensor:
        size = x.shape[2]
        line = (torch.arange(size, device=x.device) + 0.5) / size
        inside = (line[None, None] - self.hole[:, :, None]).abs() < self.hole_size / 2  # (B, 2, S)
        mask = inside[:, 0, :, None] & inside[:, 1, None, :]
        return x * (~mask)[:, None]
