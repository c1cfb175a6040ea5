"""What the painter promises beyond what every net does."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from engine import nets


def test_a_grown_painter_begins_as_the_smaller_one_enlarged() -> None:
    torch.manual_seed(0)
    small = nets.create("painter", genres=3, resolution=64, width=0.1).eval()
    large = nets.create("painter", genres=3, resolution=128, width=0.1).eval()
    large.load_state_dict(small.state_dict(), strict=False)
    z, genre = torch.randn(2, 128), F.one_hot(torch.tensor([0, 2]), 3).float()
    assert torch.allclose(F.avg_pool2d(large(z, genre), 2), small(z, genre), atol=0.05)


def test_every_block_of_a_grown_painter_learns() -> None:
    torch.manual_seed(0)
    net = nets.create("painter", genres=3, resolution=128, width=0.1)
    z, genre = torch.randn(2, 128), F.one_hot(torch.tensor([0, 2]), 3).float()
    for _ in range(2):  # the finest block's own gradient arrives once its zero-initialised end has moved
        loss = (net(z, genre) - torch.rand(2, 3, 128, 128)).square().mean()
        net.zero_grad()
        loss.backward()
        torch.optim.SGD(net.parameters(), 1.0).step()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())
