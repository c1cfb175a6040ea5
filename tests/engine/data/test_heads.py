"""Heads and shoulders: one face to a picture, in the middle, or nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import drawn, save
from PIL import Image, ImageDraw, ImageFilter

from engine.cli import MISTAKE, run
from engine.data.folders import Pixels, Report
from engine.data.heads import KINDS, Whose, head_folder, squares_around


def portrait() -> Pixels:
    """A face that looks at you, its middle at (100, 105) of 200 x 240 px."""
    picture = Image.new("RGB", (200, 240), (90, 90, 100))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((50, 160, 150, 240), fill=(50, 50, 90))
    draw.ellipse((60, 50, 140, 160), fill=(225, 190, 165))
    draw.rectangle((60, 40, 140, 70), fill=(60, 40, 30))
    for x in (82, 118):
        draw.ellipse((x - 10, 92, x + 10, 104), fill=(120, 85, 75))
        draw.ellipse((x - 5, 93, x + 5, 103), fill=(30, 20, 20))
        draw.line((x - 12, 86, x + 12, 86), fill=(50, 30, 20), width=3)
    draw.line((100, 100, 97, 122), fill=(190, 150, 130), width=4)
    draw.ellipse((93, 118, 107, 126), fill=(190, 140, 120))
    draw.ellipse((85, 134, 115, 142), fill=(160, 80, 80))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)))


def test_a_face_is_found_and_cut_out_three_times(tmp_path: Path) -> None:
    if not hasattr(pytest.importorskip("cv2"), "CascadeClassifier"):
        pytest.skip("OpenCV 5 has no cascades")
    save(portrait(), tmp_path / "in/portrait/baroque/lady.png")
    save(drawn(1), tmp_path / "in/portrait/nobody.png")
    assert run(["dataset", "heads", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64"]) == 0
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert found == [f"portrait/baroque/lady-{number}.jpg" for number in (1, 2, 3)]
    with Image.open(tmp_path / "out" / found[0]) as square:
        assert square.size == (64, 64)


@pytest.mark.parametrize(("whose", "above"), [(Whose.PEOPLE, 4), (Whose.CATS, 0)])
def test_the_face_is_in_the_middle_and_that_of_a_person_a_little_above(whose: Whose, above: int) -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[145:155, 195:205] = 255
    for square in squares_around(picture, (200, 150, 80), KINDS[whose], 84, 5, np.random.default_rng(0)):
        down, along = (each.mean() for each in np.nonzero(square[:, :, 0] > 128))
        assert 36 <= along <= 48 and 36 <= down + above <= 48


@pytest.mark.parametrize("face", [(20.0, 150.0, 80.0), (200.0, 150.0, 30.0)], ids=["at the edge", "tiny"])
def test_a_face_that_would_teach_nothing_is_left(face: tuple[float, float, float]) -> None:
    assert not list(squares_around(drawn(1, 400, 300), face, KINDS[Whose.PEOPLE], 128, 3, np.random.default_rng(0)))


@pytest.mark.parametrize("faces", [[], [(50.0, 50.0, 40.0), (80.0, 50.0, 40.0)]], ids=["none", "two"])
def test_pictures_of_nobody_and_of_many_are_passed_over(
    tmp_path: Path, faces: list[tuple[float, float, float]]
) -> None:
    save(drawn(1, 160, 120), tmp_path / "in/a.png")
    assert head_folder(tmp_path / "in", tmp_path / "out", size=64, find=lambda picture: faces) == Report(skipped=1)


def test_without_opencv_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(drawn(1), tmp_path / "in/a.png")
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run(["dataset", "heads", str(tmp_path / "in"), str(tmp_path / "out")]) == MISTAKE
    assert "pip install 'ganvas[faces]'" in capsys.readouterr().err
