"""The prior leans towards what is liked, by as much as the formula says, and never past its leash."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from engine.nets.painter import Painter
from engine.nightly.prior import lean, leaning
from engine.nightly.taste import Taste


class Straight(Painter):
    """Its picture is its latent, so that what a taste wishes is known."""

    def forward(self, z: Tensor, genre: Tensor, psi: Tensor | None = None) -> Tensor:
        return self.place(z, genre)


TASTE = Taste(torch.zeros(8), torch.ones(8), torch.eye(8)[:1].repeat(2, 1))  # likes the first number


def painter() -> Straight:
    net = Straight(2, 64, z_dim=8, embedding=4, width=0.1).requires_grad_(False)
    rng = torch.Generator().manual_seed(5)
    net.centre.copy_(torch.randn(2, 8, generator=rng))
    for label in range(2):
        root = torch.randn(8, 8, generator=rng)
        net.spread[label] = (root @ root.T / 8 + 0.1 * torch.eye(8)).double().float()
    return net


def leant(base: Painter, nights: int = 1, ceiling: float = 99.0) -> Painter:
    net = copy.deepcopy(base)
    for night in range(nights):
        lean(net, base, TASTE, lambda x: x, strength=0.25, total=0.75, ceiling=ceiling, samples=512, seed=night)
    return net


def test_a_reward_linear_in_z_moves_the_prior_by_its_strength_along_the_reward() -> None:
    base = painter()
    net = leant(base)
    found = leaning(net, base)
    for label in range(2):
        wanted = base.spread[label, 0] / base.spread[label, 0].norm()  # the slope of the first number, in spreads
        assert torch.allclose(found[label], 0.25 * wanted, atol=0.02)
    assert torch.equal(net.spread, base.spread)


def test_what_is_drawn_is_liked_more_and_as_varied() -> None:
    base = painter()
    net = leant(base, nights=2)
    z, genre = torch.randn(4000, 8, generator=torch.Generator().manual_seed(1)), torch.eye(2)[torch.arange(4000) % 2]
    ours, theirs = net(z, genre), base(z, genre)
    assert (ours[:, 0] - theirs[:, 0]).mean() > 0.4 * theirs[:, 0].std() * 0.8
    assert torch.allclose(ours.std(0), theirs.std(0), rtol=0.1)


def test_many_nights_stay_on_the_leash() -> None:
    base = painter()
    assert leaning(leant(base, nights=9), base).norm(dim=1).tolist() == pytest.approx([0.75, 0.75], rel=1e-3)


def test_it_does_not_lean_for_praise_beyond_what_paintings_get() -> None:
    base = painter()
    assert leaning(leant(base, ceiling=-99.0), base).abs().max() < 1e-5


def test_a_prior_without_width_in_some_direction_does_not_move_there() -> None:
    base = painter()
    base.spread[0] = torch.diag(torch.tensor([0.0, 1, 1, 1, 1, 1, 1, 1]))
    net = leant(base)
    assert torch.isfinite(net.centre).all() and torch.allclose(net.centre[0], base.centre[0], atol=1e-5)
