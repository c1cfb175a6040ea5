"""Fixtures of the engine's tests: photos drawn here, and a models folder of tiny networks with random weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine import checkpoints, nets

GENRES = ["flower-painting", "landscape", "portrait"]
STYLES = [{"name": "waves", "title": "Waves"}, {"name": "dots", "title": "Dots", "movement": "pointillism"}]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def photo_bytes(width: int, height: int, *, format: str = "PNG") -> bytes:
    """Return a picture with a gradient, an edge and some texture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    channels = [x / width * 255, y / height * 255, 127 + 100 * np.sin(x / 7) * np.cos(y / 5)]
    pixels = np.stack(channels, axis=-1)
    pixels[height // 4 : height // 2, width // 3 : width // 2] = (200, 40, 30)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format)
    return file.getvalue()


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
    style_net = nets.create("stylenet", **stylizer)
    style_net.style_table.copy_(torch.randn(2, 8))
    checkpoints.save(
        _fields("tiny-stylizer", "stylizer", "stylenet", stylizer) | {"styles": STYLES}, style_net, root=root
    )
    brush = {"widths": [8, 12, 16], "blocks": 1}
    checkpoints.save(_fields("tiny-brush", "brush", "brush", brush), nets.create("brush", **brush), root=root)
    return root


def _fields(name: str, kind: str, net: str, config: dict[str, object]) -> dict[str, object]:
    return {"name": name, "kind": kind, "system": "test", "net": {"name": net, "config": config}}


@pytest.fixture
def tiny_models(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny models are all there are."""
    monkeypatch.setenv("GANVAS_MODELS", str(tiny_folder))
    monkeypatch.setenv("GANVAS_DTYPE", "float32")
    yield tiny_folder
