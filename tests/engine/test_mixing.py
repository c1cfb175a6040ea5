"""Mixtures of two models: what they are, and which there cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine import checkpoints
from engine.api import PaintRequest
from engine.errors import InvalidRequest
from engine.mixing import mix
from engine.pipelines import Pipelines


def two_on_a_shelf(folder: Path, shelf: Path, more: float) -> None:
    """Put the model in ``folder`` on a shelf as "earlier", and what it became, every weight so much larger, "later"."""
    card = checkpoints._read_card(folder)
    tensors = checkpoints.read_tensors(card)
    larger = {k: v + more if k.startswith("net.") and v.is_floating_point() else v for k, v in tensors.items()}
    for name, values in (("earlier", tensors), ("later", larger)):
        checkpoints.save_tensors(dict(card.fields) | {"name": name}, values, shelf / name)


@pytest.fixture
def later(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A painter that the tiny one became: every weight of its network a little larger."""
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / "shelf"))
    two_on_a_shelf(tiny_models / "tiny-painter", tmp_path / "shelf", 0.125)
    return "later"


def test_a_mixture_lies_between_the_two_and_paints(later: str, tmp_path: Path) -> None:
    fields, tensors = mix(checkpoints.find("earlier"), checkpoints.find(later), 0.75, "both")
    weight = "net.start.weight"
    ours, theirs = (checkpoints.read_tensors(checkpoints.find(name))[weight].float() for name in ("earlier", later))
    torch.testing.assert_close(tensors[weight], 0.25 * ours + 0.75 * theirs)
    judge = next(name for name in tensors if name.startswith("discriminator."))
    assert tensors[judge].equal(checkpoints.read_tensors(checkpoints.find(later))[judge])
    assert [part["share"] for part in fields["mixed"]] == [0.25, 0.75]
    checkpoints.save_tensors(fields, tensors, tmp_path / "shelf" / "both")
    with Pipelines() as pipelines:
        (outcome,) = pipelines.run([PaintRequest(genre="portrait", seed=1, model="both", width=64, height=64)])
    assert not isinstance(outcome, Exception)


def test_the_norms_of_a_mixture_are_its_own(later: str) -> None:
    _, tensors = mix(checkpoints.find("earlier"), checkpoints.find(later), 0.5, "both")
    ours, theirs = (checkpoints.read_tensors(checkpoints.find(name)) for name in ("earlier", later))
    norms = [name for name in tensors if name.startswith("net.") and name.endswith("running_var")]
    between = [torch.lerp(ours[name].float(), theirs[name].float(), 0.5) for name in norms]
    assert norms
    assert not any(torch.allclose(tensors[name].float(), x, rtol=1e-3) for name, x in zip(norms, between, strict=True))


def test_a_mixed_brush_keeps_the_palettes_of_the_second(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / "shelf"))
    two_on_a_shelf(tiny_models / "tiny-brush", tmp_path / "shelf", 0.5)
    ours, theirs = (checkpoints.read_tensors(checkpoints.find(name)) for name in ("earlier", "later"))
    _, mixed = mix(checkpoints.find("earlier"), checkpoints.find("later"), 0.5, "both")
    assert mixed["net.palettes"].equal(theirs["net.palettes"])
    weight = next(key for key in mixed if key.endswith("weight"))
    torch.testing.assert_close(mixed[weight], ours[weight].float() + 0.25, rtol=0, atol=2e-3)


@pytest.mark.usefixtures("tiny_models")
def test_models_of_two_lineages_do_not_mix() -> None:
    with pytest.raises(InvalidRequest, match="tiny-painter and tiny-brush differ in kind"):
        mix(checkpoints.find("tiny-painter"), checkpoints.find("tiny-brush"), 0.5, "both")
