"""Pictures between the stages: float32 tensors (1, 3, H, W) in [0, 1], channels last."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB

SMALLEST = 64  # px a network gets at least; below that its own padding would have nothing to reflect


def from_pixels(pixels: Pixels) -> Tensor:
    """Return (1, 3, H, W) of ``pixels``."""
    return torch.tensor(pixels).permute(2, 0, 1)[None].float().div_(255).contiguous(memory_format=torch.channels_last)


def to_pixels(picture: Tensor) -> Pixels:
    """Return (H, W, 3) of a picture, rounded."""
    array: Pixels = picture[0].mul(255).round_().clamp_(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return array


def resize(picture: Tensor, height: int, width: int) -> Tensor:
    """Return ``picture`` at height x width px, antialiased."""
    if picture.shape[2:] == (height, width):
        return picture
    return F.interpolate(picture, (height, width), mode="bicubic", antialias=True).clamp_(0, 1)


def scaled(picture: Tensor, long_side: int) -> Tensor:
    """Return ``picture`` with a long side of ``long_side`` px."""
    height, width = picture.shape[2:]
    factor = long_side / max(height, width)
    return resize(picture, max(1, round(height * factor)), max(1, round(width * factor)))


def cover(picture: Tensor, height: int, width: int) -> Tensor:
    """Return ``picture`` scaled until it covers height x width px, and the middle of that."""
    factor = max(height / picture.shape[2], width / picture.shape[3])
    large = resize(picture, max(height, round(picture.shape[2] * factor)), max(width, round(picture.shape[3] * factor)))
    top, left = (large.shape[2] - height) // 2, (large.shape[3] - width) // 2
    return large[:, :, top : top + height, left : left + width]


def pad_to_stride(picture: Tensor, stride: int) -> Tensor:
    """Grow ``picture`` at its right and bottom by its own reflection to multiples of ``stride``, at least SMALLEST."""
    height, width = picture.shape[2:]
    down = max(SMALLEST, -(-height // stride) * stride) - height
    right = max(SMALLEST, -(-width // stride) * stride) - width
    if not down and not right:
        return picture
    mode = "reflect" if down < height and right < width else "replicate"
    return F.pad(picture, (0, right, 0, down), mode=mode)


def with_colours_of(painting: Tensor, photo: Tensor) -> Tensor:
    """Return the painting's brightness with the photo's colours (luma of one, chroma of the other; BT.601)."""
    return (photo + _luma(painting) - _luma(photo)).clamp_(0, 1)


def with_relief_of(painting: Tensor, picture: Tensor, depth: float) -> Tensor:
    """Return ``picture`` with the share ``depth`` of the painting's strokes: its luma at the picture's own mean and
    contrast, and nothing of its colours."""
    strokes, own = _luma(painting), _luma(picture)
    strokes = (strokes - strokes.mean()) / strokes.std().clamp_min(1e-3) * own.std() + own.mean()
    return (picture + depth * (strokes - own)).clamp_(0, 1)


def _luma(picture: Tensor) -> Tensor:
    weights = picture.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]
    return (picture * weights).sum(1, keepdim=True)
