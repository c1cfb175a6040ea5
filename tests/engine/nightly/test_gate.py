"""The gate: a candidate that is broken, collapsed, a copyist or merely different is refused, and it says why."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.checkpoints import Model
from engine.evaluate.painters import draw_latents, paint
from engine.nets.painter import Painter
from engine.nightly import gate
from engine.nightly.gate import Check, Evidence
from engine.nightly.lesson import learning_parameters
from engine.nightly.night import Judges, NightConfig


@pytest.fixture
def evidence(tiny: Model, judges: Judges) -> Evidence:
    """Paintings are samples of the painter itself, so that it is as good as can be."""
    labels = torch.arange(2)
    real = draw_latents(160, 16, labels, seed=1)
    return Evidence(paint(tiny.net, real), real.labels, draw_latents(160, 16, labels, seed=2), judges.spaces)


def refusals(
    candidate: nn.Module, tiny: Model, evidence: Evidence, config: NightConfig, *, strict: bool = True
) -> list[str]:
    """Return the names of failed checks; not ``strict`` lets all weights change at will, to reach the later checks."""
    learning = set(learning_parameters(tiny.net, 2))  # type: ignore[arg-type]
    limits = config.gate
    if not strict:
        learning = {name for name, _ in tiny.net.named_parameters()}
        limits = replace(limits, nightly_drift=1e9, total_drift=1e9)
    checks = gate.Gate(tiny, tiny, evidence, limits, learning=learning).judge(candidate)
    assert all(isinstance(check, Check) for check in checks)
    return [check.name for check in checks if not check.passed]


def test_the_same_painter_is_refused_for_nothing_but_having_learned_nothing(
    tiny: Model, evidence: Evidence, config: NightConfig
) -> None:
    assert refusals(copy.deepcopy(tiny.net), tiny, evidence, config) == ["surely nearer to the paintings in one space"]


def test_nan_is_refused(tiny: Model, evidence: Evidence, config: NightConfig) -> None:
    broken = copy.deepcopy(tiny.net)
    with torch.no_grad():
        next(iter(learning_parameters(broken, 2).values()))[0] = float("nan")  # type: ignore[arg-type]
    assert refusals(broken, tiny, evidence, config) == ["weights that are NaN or infinite"]


def test_a_painter_that_went_too_far_or_where_it_must_not_is_refused(
    tiny: Model, evidence: Evidence, config: NightConfig
) -> None:
    far = copy.deepcopy(tiny.net)
    with torch.no_grad():
        for parameter in far.parameters():
            parameter.mul_(1.5)
    assert refusals(far, tiny, evidence, config) == [
        "change of the frozen weights", "change of the weights tonight", "change of the weights in all",
    ]  # fmt: skip


def test_a_prior_that_leans_too_far_or_narrows_is_refused(tiny: Model, evidence: Evidence, config: NightConfig) -> None:
    leant, narrow = copy.deepcopy(tiny.net), copy.deepcopy(tiny.net)
    assert isinstance(leant, Painter) and isinstance(narrow, Painter)
    leant.centre[1, 3] += 0.9
    assert {"lean of the prior tonight", "lean of the prior in all"} <= set(refusals(leant, tiny, evidence, config))
    narrow.spread *= 0.99
    assert refusals(narrow, tiny, evidence, config) == ["change of the frozen weights"]


class Collapsed(nn.Module):
    """Paints one picture for each genre, whatever the latent."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.genres = net, net.genres

    def forward(self, z: Tensor, genre: Tensor, psi: Tensor) -> Tensor:
        one = torch.randn(16, generator=torch.Generator().manual_seed(1))
        return self.net(one.expand_as(z), genre, psi)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.net.state_dict()


def test_a_collapsed_painter_is_refused(tiny: Model, evidence: Evidence, config: NightConfig) -> None:
    found = refusals(Collapsed(tiny.net), tiny, evidence, config)
    for space in ("thumbnail", "spread"):
        assert f"recall in {space}, surely lost of the base's" in found
        assert f"diversity in {space}, of the base's" in found
        assert f"KID in {space}, surely worse than the champion's by" in found


class Filter(nn.Module):
    """Changes each picture of a painter."""

    def __init__(self, net: nn.Module, change: str) -> None:
        super().__init__()
        self.net, self.genres, self.change = net, net.genres, change

    def forward(self, z: Tensor, genre: Tensor, psi: Tensor) -> Tensor:
        picture = self.net(z, genre, psi)
        if self.change == "black":
            return torch.where(torch.arange(len(z))[:, None, None, None] % 4 == 0, 0.0, picture)
        if self.change == "lattice":
            board = (torch.arange(32)[:, None] + torch.arange(32)[None]) % 2
            return (picture + 0.1 * (board - 0.5)).clamp(0, 1)
        if self.change == "wrong genre":
            return self.net(z, genre.flip(1), psi)
        return picture.flip(1)  # red is blue

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.net.state_dict()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("black", "share of flat or black pictures"),
        ("lattice", "checkerboard"),
        ("red for blue", "pictures moved in thumbnail"),
    ],
)
def test_what_anybody_sees_is_refused(
    tiny: Model, evidence: Evidence, config: NightConfig, change: str, name: str
) -> None:
    assert name in refusals(Filter(tiny.net, change), tiny, evidence, config)


def test_a_copyist_is_refused(tiny: Model, evidence: Evidence, config: NightConfig) -> None:
    """The candidate paints what the lesson showed, the champion does not."""
    known = evidence.real.flip(2)

    class Copyist(Collapsed):
        def forward(self, z: Tensor, genre: Tensor, psi: Tensor) -> Tensor:
            rows = (z[:, 0].abs() * 1000).long() % len(known)
            return known[rows].float() / 255

    found = refusals(Copyist(tiny.net), tiny, replace(evidence, known=known), config)
    assert "distance to the nearest known painting" in found


def test_checkerboards_are_told_from_textures() -> None:
    rng = torch.Generator().manual_seed(0)
    smooth = torch.rand(4, 3, 64, 64, generator=rng).mul(255).byte()
    board = (torch.arange(64)[:, None] + torch.arange(64)[None]) % 2 * 40 + 100
    stripes = (torch.arange(64) % 2 * 40 + 100).expand(64, 64)
    noise = gate.checkerboard(smooth)
    assert noise < 0.2
    for lattice in (board, stripes, stripes.T):
        assert gate.checkerboard(lattice.expand(4, 3, 64, 64).byte()) > 0.8


def test_flatness_counts_blank_and_black_pictures() -> None:
    varied = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    blank = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    black = torch.randint(0, 6, (1, 3, 16, 16), dtype=torch.uint8)
    assert gate.flatness(torch.cat([varied, blank, black, varied])) == 0.5


def test_a_number_that_is_none_never_passes() -> None:
    assert not gate.at_most("x", float("nan"), 1).passed and not gate.at_least("x", float("nan"), 1).passed
