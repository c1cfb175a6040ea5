"""A painter small enough to be taught in a second, and judges to match."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from engine import checkpoints, nets
from engine.checkpoints import Model
from engine.evaluate.spaces import Space
from engine.nightly.gate import GateConfig
from engine.nightly.lesson import LessonConfig
from engine.nightly.looks import Looks
from engine.nightly.night import Judges, NightConfig

sys.path.insert(0, str(Path(__file__).parent))

import critic  # noqa: F401  # it registers its net

GENRES = ["flower-painting", "landscape"]
PAINTER = {"genres": 2, "resolution": 32, "z_dim": 16, "embedding": 8, "width": 0.05}
CRITIC = {"genres": 2}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the painter "tiny", whose latents say what colours a picture has."""
    root = tmp_path_factory.mktemp("shelf")
    torch.manual_seed(3)
    net = nets.create("painter", **PAINTER)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".affine." in name:
                parameter.normal_(0, 0.15)
            if name.startswith("to_rgb") and parameter.dim() > 1:
                parameter.mul_(5)
    fields = {
        "name": "tiny", "kind": "painter", "system": "painter", "net": {"name": "painter", "config": PAINTER},
        "discriminator": {"name": "small-critic", "config": CRITIC}, "genres": GENRES, "resolution": 32,
    }  # fmt: skip
    checkpoints.save(fields, net, nets.create("small-critic", **CRITIC), root=root)
    return root


@pytest.fixture
def tiny(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """The painter, the only one there is."""
    monkeypatch.setenv("GANVAS_MODELS", str(shelf))
    yield checkpoints.load("tiny", discriminator=True)


@pytest.fixture
def judges() -> Judges:
    """Two small spaces, and the plain features of the taste."""

    def thumbnail(pictures: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(pictures, 3).flatten(1)

    spread = Space("spread", lambda pictures: F.adaptive_avg_pool2d(pictures, 8).std((2, 3)))
    return Judges(Looks(), (Space("thumbnail", thumbnail), spread))


@pytest.fixture
def config() -> NightConfig:
    """A night of seconds: fast rates, few samples."""
    lesson = LessonConfig(steps=24, minutes=15, batch=8, rate=1e-3, reward=1.0, nightly_drift=0.01, total_drift=0.2)
    gate = GateConfig(samples=160, kid_noise=0.15, nightly_drift=0.03, total_drift=0.21, slower=20)
    return NightConfig(lesson=lesson, gate=gate, anchors=200)
