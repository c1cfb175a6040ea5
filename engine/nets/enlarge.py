"""Enlarging twice and convolving in one step, with 4/9 of the multiplications and nothing large but the result."""

from __future__ import annotations

import torch
from torch import Tensor


def reach_of(weight: Tensor) -> Tensor:
    """Return the kernel (C, O, 4, 4) of a transposed convolution of stride 2 that does what a 3x3 ``weight`` does.

    ``weight`` (O, C, 3, 3) sees a map that was enlarged twice (nearest): every place of it reaches 4x4 places of the
    result, each by the sum of the weights that see one of its four copies.
    """
    spread = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    return torch.einsum("yi,xj,ocij->coyx", spread, spread, weight)
