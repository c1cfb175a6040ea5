"""The instance norm whose gradient is written out, against what autograd makes of its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.nets.normalise import Normalise


def plain(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-3).sqrt() * gain[:, :, None, None] + bias[:, :, None, None]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [1, 3], ids=["one for all", "one a sample"])
def test_the_written_gradient_is_autograds(rows: int, memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = (2 + 3 * torch.randn(3, 5, 6, 7)).contiguous(memory_format=memory).requires_grad_()
    gain, bias = (torch.randn(rows, 5, requires_grad=True) for _ in range(2))
    before, weight = x.detach().clone(), torch.randn(x.shape)
    ours, theirs = Normalise.apply(x, gain, bias, 1e-3), plain(x, gain, bias)
    torch.testing.assert_close(ours, theirs)
    assert x.equal(before)
    for mine, other in zip(
        torch.autograd.grad((ours * weight).sum(), (x, gain, bias)),
        torch.autograd.grad((theirs * weight).sum(), (x, gain, bias)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_it_keeps_the_precision_of_its_maps() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8).bfloat16().requires_grad_()
    gain, bias = torch.ones(1, 4), torch.zeros(1, 4)
    y = Normalise.apply(x, gain, bias, 1e-3)
    (by_x,) = torch.autograd.grad(y.float().square().sum(), x)
    assert y.dtype == by_x.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), plain(x.float(), gain, bias), rtol=0.02, atol=0.02)
