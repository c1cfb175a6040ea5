"""`dataset paint`: photos become paintings of a genre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.cli import MISTAKE, run
from engine.data.painted import PAINTERLY, paint_folder
from engine.pipelines.stylize import find_look


@pytest.fixture
def photos(tiny_models: Path, tmp_path: Path) -> Path:
    """Two photos in a folder of a genre, and a file that is none."""
    home = tmp_path / "photos/animal-painting"
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(home / f"{name}.png")
    (home / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


def test_every_photo_is_painted_in_different_looks(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = paint_folder(photos, out, looks=("dots", "waves", "tiny-brush"), each=2, size=64)
    assert report.written == 4 and len(report.broken) == 1
    assert {name.rsplit("-", 1)[0].split("-")[0] for name in contents(out)} == {"animal"}
    for photo in ("cat", "dog"):
        paintings = [data for name, data in contents(out).items() if Path(name).name.startswith(photo)]
        assert len(set(paintings)) == 2


def test_again_it_paints_only_what_is_missing_and_the_same(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paint_folder(photos, out, looks=("dots", "waves"), each=2, size=64)
    before = contents(out)
    lost = next(iter(before))
    (out / lost).unlink()
    report = paint_folder(photos, out, looks=("dots", "waves"), each=2, size=64)
    assert (report.written, report.skipped) == (1, 3)
    assert contents(out) == before


def test_a_look_that_nobody_knows_is_refused_before_any_work(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dataset", "paint", str(photos), str(tmp_path / "out"), "--look", "monnet"]) == MISTAKE
    assert "monnet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_looks_it_chooses_by_itself_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANVAS_MODELS", raising=False)
    assert [find_look(name).name for name in PAINTERLY] == list(PAINTERLY)
