"""Fixtures of the engine's tests: photos drawn here, and a models folder of tiny networks with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from drawn import photo_bytes
from torch import nn

from engine import checkpoints, nets
from engine.nets.stylenet import palette_of

GENRES = ["flower-painting", "landscape", "portrait"]
STYLES = [{"name": "waves", "title": "Waves"}, {"name": "dots", "title": "Dots", "movement": "pointillism"}]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def photo() -> bytes:
    """A PNG of 200 x 120 px."""
    return photo_bytes(200, 120)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a model of every kind, built once."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    stylizer = {"styles": 2, "style_dim": 8, "widths": [8, 12, 16], "blocks": 1}
    style_net = shaken(nets.create("stylenet", **stylizer))
    style_net.style_table.copy_(torch.cat([torch.randn(2, 8), palette_of(torch.rand(2, 3, 8, 8))], dim=1))
    checkpoints.save(
        _fields("tiny-stylizer", "stylizer", "stylenet", stylizer) | {"styles": STYLES}, style_net, root=root
    )
    brush = {"widths": [8, 12, 16], "blocks": 1}
    checkpoints.save(_fields("tiny-brush", "brush", "brush", brush), shaken(nets.create("brush", **brush)), root=root)
    painter = {"genres": 3, "art_styles": 1, "resolution": 32, "z_dim": 16, "embedding": 8, "width": 0.1}
    judge = {"genres": 3, "art_styles": 1, "size": 32, "widths": [8, 8, 8, 8]}
    paint_net = shaken(nets.create("painter", **painter))
    paint_net.style_centre.normal_()  # type: ignore[union-attr, operator]
    checkpoints.save(
        _fields("tiny-painter", "painter", "painter", painter)
        | {
            "discriminator": {"name": "projected-discriminator", "config": judge},
            "genres": GENRES,
            "art_styles": ["baroque"],
            "resolution": 32,
        },
        paint_net,
        nets.create("projected-discriminator", **judge),
        root=root,
    )
    enhancer = {"width": 8, "depth": 2}
    checkpoints.save(
        _fields("tiny-enhancer", "enhancer", "enhancer", enhancer) | {"scales": [2, 4]},
        shaken(nets.create("enhancer", **enhancer)),
        root=root,
    )
    return root


def shaken(net: nn.Module) -> nn.Module:
    """Return ``net`` with what starts at zero moved away from it; untrained networks leave pictures as they are."""
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return net


def _fields(name: str, kind: str, net: str, config: dict[str, object]) -> dict[str, object]:
    return {"name": name, "kind": kind, "system": "test", "net": {"name": net, "config": config}}


@pytest.fixture
def tiny_models(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny models are all there are."""
    monkeypatch.setenv("GANVAS_MODELS", str(tiny_folder))
    monkeypatch.setenv("GANVAS_DTYPE", "float32")
    yield tiny_folder
