"""The canvas: where its grain is, which way it flows, and that it is always the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.checkpoints import Card
from engine.nets.canvas import Canvas, flowing, primed
from engine.nets.stylenet import AXES
from engine.pipelines.stylize import Look

SIDE = 192


def empty() -> Tensor:
    return torch.full((1, 3, SIDE, SIDE), 0.6)


def shaded(axis: int) -> Tensor:
    """Return a picture of two soft bars, which lie across ``axis``."""
    bars = 0.5 + 0.3 * (torch.arange(SIDE) * 4 * torch.pi / SIDE).sin()
    return bars.view((-1, 1) if axis == 2 else (1, -1)).expand(1, 3, SIDE, SIDE).clone()


def roughness(grain: Tensor, axis: int) -> float:
    """Return how much ``grain`` changes from place to place along ``axis``."""
    step = 6  # two places of the grain
    return float((grain.narrow(axis, step, SIDE - step) - grain.narrow(axis, 0, SIDE - step)).square().mean())


@pytest.mark.parametrize("axis", [2, 3])
def test_grain_runs_along_the_contours(axis: int) -> None:
    grain = flowing(shaded(axis), Canvas())
    across, along = roughness(grain, axis), roughness(grain, 5 - axis)
    assert across > 3 * along


def test_grain_runs_across_an_empty_picture_in_waves() -> None:
    grain = flowing(empty(), Canvas())
    assert roughness(grain, 2) > 1.5 * roughness(grain, 3)


def test_a_busy_place_gets_hardly_any() -> None:
    picture = empty()
    torch.manual_seed(1)
    coarse = torch.rand(1, 1, SIDE // 6, SIDE // 12).repeat_interleave(6, 2).repeat_interleave(6, 3)
    picture[..., : SIDE // 2] = coarse
    grain = flowing(picture, Canvas())
    busy, calm = grain[..., : SIDE // 3].std(), grain[..., -SIDE // 3 :].std()
    assert calm > 0.5 and busy < calm / 4


def test_each_picture_has_its_own_whatever_the_batch() -> None:
    pictures = torch.cat([empty(), shaded(2), shaded(3)])
    together = flowing(pictures, Canvas())
    assert together.equal(flowing(pictures, Canvas()))
    for row in range(3):
        torch.testing.assert_close(flowing(pictures[row : row + 1], Canvas()), together[row : row + 1])
    assert not together[1].allclose(together[2], atol=0.1)


@pytest.mark.parametrize("size", [(1, 1), (5, 64), (67, 33), (300, 1400)])
def test_it_takes_any_size(size: tuple[int, int]) -> None:
    grain = flowing(torch.rand(1, 3, *size), Canvas())
    assert grain.shape == (1, 1, *size) and grain.isfinite().all()


def test_broken_colour_leaves_brightness_alone() -> None:
    grain = flowing(empty(), Canvas(chroma=0.4))
    axes = torch.einsum("ij,bjhw->bihw", AXES, grain)
    torch.testing.assert_close(axes[:, :1], flowing(empty(), Canvas()), atol=1e-4, rtol=1e-3)
    of_brightness, *of_colours = axes[0].flatten(1).std(1).tolist()
    assert of_colours == pytest.approx([0.4 * of_brightness] * 2, rel=0.05)
    assert torch.corrcoef(axes[0].flatten(1)).fill_diagonal_(0).abs().max() < 0.3  # each flows by itself


def test_dabs_are_shorter_than_strokes() -> None:
    strokes, dabs = (roughness(flowing(empty(), Canvas(steps=steps)), 3) for steps in (8, 4))
    assert dabs > 1.3 * strokes


def test_a_photo_is_primed_as_strongly_as_asked() -> None:
    photo = empty()
    assert primed(photo, Canvas(0)) is primed(photo, Canvas(), strength=0) is photo
    grain = flowing(photo, Canvas()).expand_as(photo)
    torch.testing.assert_close(primed(photo, Canvas(0.2), strength=0.5) - photo, 0.1 * grain)


def test_the_dark_gets_less() -> None:
    dark, light = (flowing(torch.full((1, 3, SIDE, SIDE), grey), Canvas()).std() for grey in (0.05, 0.9))
    assert dark < 0.5 * light


def test_a_look_has_the_canvas_that_its_card_asks_for() -> None:
    styles = [{"name": "flat", "grain": 0}, {"name": "bold", "grain": 0.09}, {"name": "silent"}]
    stylizer = Card(Path(), {"name": "s", "kind": "stylizer", "styles": styles})
    assert Look(stylizer, (("flat", 1.0),)).canvas == Canvas(0)
    assert Look(stylizer, (("silent", 1.0),)).canvas == Look(stylizer, picture=empty()).canvas == Canvas()
    assert Look(stylizer, (("flat", 2.0), ("bold", 1.0))).canvas.grain == pytest.approx(0.03)
    brush = Card(Path(), {"name": "b", "kind": "brush", "net": {"name": "brush", "config": {"grain": 0.07}}})
    plain = Card(Path(), {"name": "c", "kind": "brush", "net": {"name": "brush", "config": {}}})
    assert Look(brush).canvas == Canvas.of_brush(0.07) and Look(plain).canvas.grain == 0
