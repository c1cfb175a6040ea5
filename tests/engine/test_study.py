"""A style nobody trained on: what looking closely changes, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import losses, nets
from engine.api import StylizeRequest
from engine.errors import JobCancelled
from engine.nets.stylenet import PALETTE, StyleNet
from engine.pipelines import Pipelines
from engine.pipelines.job import inference
from engine.pipelines.pictures import from_pixels
from engine.pipelines.study import PIECE, STYLE_TAPS, pieces_of, study
from tests.engine.drawn import photo_bytes


@pytest.fixture
def net() -> StyleNet:
    torch.manual_seed(2)
    net = nets.create("stylenet", styles=1, style_dim=8, widths=(8, 12, 16), blocks=1)
    assert isinstance(net, StyleNet)
    return net.eval().requires_grad_(False)


def drawn(seed: int, height: int = 96, width: int = 128) -> torch.Tensor:
    """Return a picture of coarse coloured noise, (1, 3, H, W)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return from_pixels(np.ascontiguousarray(small.repeat(8, 0).repeat(8, 1)))


def test_a_studied_style_is_nearer_to_its_picture_than_the_first_guess(net: StyleNet) -> None:
    photo, picture = drawn(1), drawn(2)
    wanted = {tap: losses.moments(x) for tap, x in net.features(picture, STYLE_TAPS).items()}

    def distance(vector: torch.Tensor) -> float:
        with torch.no_grad():
            painted = net.paint_freely(photo, vector)
            found = {tap: losses.moments(x) for tap, x in net.features(painted, STYLE_TAPS).items()}
            return float(losses.style_loss(found, wanted))

    studied = study(net, photo, picture)
    assert studied.shape == (1, 8 + net.corrections + PALETTE)
    assert distance(studied) < 0.9 * distance(net.encode_style(picture))


def test_a_vector_without_corrections_paints_as_one_that_corrects_nothing(net: StyleNet) -> None:
    photo, vector = drawn(1), net.encode_style(drawn(2))
    torch.testing.assert_close(net(photo, vector), net(photo, net.uncorrected(vector)))


def test_a_study_leaves_the_network_alone_and_finds_the_same_again(net: StyleNet) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with inference("float32"):  # as jobs run
        first, second = (study(net, drawn(1), drawn(2)) for _ in range(2))
    assert first.equal(second)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_pieces_are_as_large_as_in_the_photo_and_come_from_all_of_it() -> None:
    large = torch.arange(400 * 900).view(1, 1, 400, 900).float().expand(1, 3, 400, 900)
    pieces = pieces_of(large)
    assert pieces.shape == (1, 3, 2 * PIECE, 3 * PIECE)
    assert pieces[0, 0, 0, 0] == large[0, 0, 0, 0] and pieces[0, 0, -1, -1] == large[0, 0, -1, -1]
    assert pieces_of(large.mT).shape == (1, 3, 3 * PIECE, 2 * PIECE)
    small = torch.rand(1, 3, 100, 120)
    assert pieces_of(small).equal(small)


@pytest.mark.usefixtures("tiny_models")
def test_a_study_can_be_cancelled() -> None:
    told: list[float] = []
    request = StylizeRequest(photo=photo_bytes(90, 70), style_image=photo_bytes(64, 64), size=96)
    with Pipelines() as pipelines:
        (outcome,) = pipelines.run([request], lambda told_now: told.append(told_now.share), lambda: len(told) > 5)
    assert isinstance(outcome, JobCancelled) and told[-1] < 0.5
