"""Instance norm with its gradient written out: autograd makes twice as many passes over the maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Normalise(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps) * gain + bias, moments over all places of each map.

    x (B, C, H, W) of any precision; gain and bias (B or 1, C) in float32, as the moments are.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
        places = x.permute(0, 2, 3, 1).flatten(1, 2).float()  # (B, P, C)
        mean = places.mean(1)
        inverse = ((places - mean[:, None]).square_().mean(1) + eps).rsqrt()
        ctx.save_for_backward(x, mean, inverse, gain)
        scale = gain * inverse
        return torch.addcmul(_maps(bias - mean * scale, x), x, _maps(scale, x))

    @staticmethod
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, mean, inverse, gain = ctx.saved_tensors
        by_bias = by_y.sum((2, 3)).float()
        by_gain = ((by_y * x).sum((2, 3)).float() - mean * by_bias) * inverse
        scale, places = gain * inverse, x.shape[2] * x.shape[3]
        tilt = -scale * inverse * by_gain / places
        shift = -scale * by_bias / places - tilt * mean
        by_x = torch.addcmul(_maps(shift, x), by_y, _maps(scale, x)).addcmul_(x, _maps(tilt, x))
        return by_x, by_gain.sum_to_size(gain.shape), by_bias.sum_to_size(gain.shape), None


def _maps(values: Tensor, like: Tensor) -> Tensor:
    return values[:, :, None, None].to(like.dtype)
