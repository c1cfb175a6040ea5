"""What only the stylizer does: its styles outlive a release."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_systems import tiny

from engine.train.initial import read_initial
from engine.train.run import train


def test_a_released_stylizer_keeps_its_styles_in_a_new_run(data: Path, tmp_path: Path) -> None:
    kind, config = tiny("stylizer", images="4")
    folder = train(kind, config, data, tmp_path / "run")
    (folder / "training.safetensors").unlink()  # the model alone, as it is released
    initial = read_initial(folder)
    _, other = tiny("stylizer", images="4", seed="7", styles="waves")
    system = kind(other, data, tmp_path / "cache")
    system.start_from(initial)
    row = [style["name"] for style in initial.card["styles"]].index("waves")
    assert initial.card["styles"][row] == {
        "name": "waves",
        "title": "The Waves",
        "artist": "Ada",
        "movement": "ukiyo-e",
    }
    given = initial.networks["G"]["style_table"][row].float()
    torch.testing.assert_close(system.style_table()[0], given, atol=2e-3, rtol=1e-2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("empty", [0.0, 1.0])
def test_an_empty_photo_has_a_finite_gradient_or_is_passed_over(
    data: Path, tmp_path: Path, empty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, config = tiny("stylizer")
    system = kind(config, data, tmp_path / "cache")
    blank = torch.full((config.batch, 3, 64, 64), empty)
    monkeypatch.setattr(system, "_crops", lambda: blank)
    for _ in range(2):
        assert all(torch.isfinite(torch.tensor(loss)) for loss in system.step().values())
    assert all(parameter.isfinite().all() for parameter in system.networks["G"].parameters())
