"""Packs of pictures of one genre."""

from __future__ import annotations

import torch

from engine import losses
from engine.nets.packed import PackedDiscriminator


def packs(alike: bool) -> torch.Tensor:
    """Return 8 packs of four maps, each map alone drawn from the same distribution: of one kind, or of any."""
    kinds = torch.randint(2, (8, 1 if alike else 4, 1, 1, 1)).float().expand(8, 4, 1, 1, 1)
    return (2 * kinds - 1) * torch.ones(8, 4, 4, 8, 8) + 0.3 * torch.randn(8, 4, 4, 8, 8)


def test_sameness_within_a_pack_is_found_out() -> None:
    torch.manual_seed(0)
    critic = PackedDiscriminator(genres=1, channels=4, width=8)
    optimizer = torch.optim.Adam(critic.parameters(), 5e-3)
    genre = torch.ones(8, 1)
    for _ in range(150):
        loss = losses.hinge_discriminator(critic(packs(alike=False), genre), critic(packs(alike=True), genre))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    varied = critic(packs(alike=False), genre).mean((1, 2))
    alike = critic(packs(alike=True), genre).mean((1, 2))
    assert varied.median() > alike.max()


def test_a_pack_is_a_set() -> None:
    critic = PackedDiscriminator(genres=2, channels=4, width=8).eval()
    maps, genre = critic.example(64)
    assert torch.allclose(critic(maps, genre), critic(maps.flip(1), genre), atol=1e-5)
