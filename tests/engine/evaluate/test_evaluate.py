"""Models measured from the command line, in small spaces of the tests' own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from engine import checkpoints
from engine.cli import MISTAKE, run
from engine.evaluate import brushes, enhancers, painters, spaces, stylizers
from engine.evaluate.report import headline, write_report
from engine.evaluate.spaces import Space
from engine.nets.vgg import VGGFeatures
from engine.pipelines.pictures import from_pixels, to_pixels
from engine.train import gatys as gatys_module
from engine.train.gatys import CONTENT_TAP, STYLE_TAPS, Yardstick, gatys

GENRES = ("flower-painting", "landscape", "portrait")


def picture(rng: np.random.Generator, tint: int, side: int = 40) -> Image.Image:
    coarse = rng.integers(0, 200, (5, 5, 3), dtype=np.uint8)
    coarse[:, :, tint] = 230
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def paintings(tmp_path: Path) -> Path:
    """Sixteen paintings of each genre, each genre with a colour of its own."""
    rng = np.random.default_rng(0)
    for tint, genre in enumerate(GENRES):
        folder = tmp_path / "paintings" / genre
        folder.mkdir(parents=True)
        for number in range(16):
            picture(rng, tint).save(folder / f"{number}.png")
    return tmp_path / "paintings"


@pytest.fixture(autouse=True)
def small_spaces(monkeypatch: pytest.MonkeyPatch) -> tuple[Space, Space]:
    def thumbnail(pictures: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(pictures, 3).flatten(1)

    found = Space("thumbnail", thumbnail), Space("spread", lambda pictures: pictures.std((2, 3)))
    monkeypatch.setattr(spaces, "judges", lambda: found)
    return found


class Eyes(torch.nn.Module):
    """Stands for VGG16: one random convolution a scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = torch.nn.ModuleList(torch.nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(5))
        self.requires_grad_(False)

    def forward(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        found, x = {}, 255 * picture - 110
        for number, (tap, conv) in enumerate(zip((*STYLE_TAPS, CONTENT_TAP), self.convs, strict=True)):
            x = F.relu(conv(F.max_pool2d(x, 2) if number in (1, 2) else x))
            found[tap] = x
        return found


def eyes() -> VGGFeatures:
    return cast(VGGFeatures, Eyes())


def evaluate(*arguments: object) -> int:
    return run(["evaluate", *map(str, arguments)])


def test_a_painter_is_measured_in_two_spaces(
    tiny_models: Path, paintings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    options = ("--data", paintings, "--count", 60, "--cache", tmp_path / "cache", "--report", out, "--json")
    assert evaluate("tiny-painter", *options) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reference"] | {"digest": ""} == {
        "paintings": 48, "held_out": False, "digest": "", "genres": dict.fromkeys(GENRES, 16),
    }  # fmt: skip
    assert set(told["spaces"]) == {"thumbnail", "spread"}
    for figures in told["spaces"].values():
        assert figures["kid"]["low"] <= figures["kid"]["value"] <= figures["kid"]["high"]
        assert figures["frechet"] > 0 and 0 <= figures["recall"] <= 1
        assert set(figures["diversity"]["by_genre"]) == set(GENRES)
    assert told["genre_accuracy"]["paintings"] == 1.0  # colours tell these genres apart
    assert told["genre_accuracy"]["painter"] < 0.8  # random weights know nothing of them
    page = out.read_text()
    assert page.count("data:image/webp;base64,") == 2 and "which it may have been trained on" in page
    assert "http" not in page
    assert page.index("KID (low)") < page.index("<img") < page.index("All figures")
    assert f"{told['genre_accuracy']['painter']} (paintings 1.0, chance" in page


def test_the_same_seed_gives_the_same_figures(
    tiny_models: Path, paintings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for seed in (1, 1, 2):
        options = ("--data", paintings, "--count", 20, "--cache", tmp_path / "cache", "--seed", seed, "--json")
        assert evaluate("tiny-painter", *options) == 0
        found.append(json.loads(capsys.readouterr().out) | {"seconds": 0, "seed": 0})
    assert found[0] == found[1] != found[2]


def test_split_data_are_judged_by_their_held_out_part(tiny_models: Path, paintings: Path, tmp_path: Path) -> None:
    assert run(["dataset", "split", str(paintings), str(tmp_path / "split"), "--share", "0.4"]) == 0
    references = painters.load_references(tmp_path / "split", GENRES, 32, tmp_path / "cache")
    assert references.held_out and references.trained is not None
    assert len(references.judged) + len(references.trained) == 48
    named = painters.load_references(tmp_path / "split" / "held-out", GENRES, 32, tmp_path / "cache")
    assert named.held_out and named.judged.pictures.digest == references.judged.pictures.digest
    model = checkpoints.load("tiny-painter")
    account = painters.evaluate_painter(model, references, spaces.judges(), count=24)
    assert account.figures["memory"]["ratio"] > 0


def test_a_painter_that_copies_is_found_out(tiny_models: Path, paintings: Path, tmp_path: Path) -> None:
    """A "painter" that returns training pictures has KID about 0, full diversity, and no distance to them."""
    references = painters.load_references(paintings, GENRES, 32, tmp_path / "cache")
    rows = references.judged

    class Copyist(torch.nn.Module):
        genres, z_dim = 3, 4

        def forward(self, z: torch.Tensor, genre: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
            labels = genre.argmax(1)
            chosen = [int(rows.rows[16 * int(label) + int(z[i, 0].abs() * 97) % 16]) for i, label in enumerate(labels)]
            return rows.pictures.batch(np.array(chosen))

    model = checkpoints.Model(checkpoints.find("tiny-painter"), Copyist())
    figures = painters.evaluate_painter(model, references, spaces.judges(), count=96).figures
    assert figures["memory"]["nearest"] < 0.05
    assert abs(figures["spaces"]["thumbnail"]["kid"]["value"]) < 0.3
    assert figures["spaces"]["thumbnail"]["diversity"]["of_paintings"] > 0.8
    assert figures["genre_accuracy"]["painter"] == 1.0


def test_art_styles_are_measured_where_painter_and_paintings_know_them(
    tiny_models: Path, paintings: Path, tmp_path: Path
) -> None:
    """A "painter" whose baroque is dark as the paintings' is, or bright."""
    for file in list(paintings.rglob("*.png")):
        dark = int(file.stem) % 2
        folder = file.parent / ("Baroque" if dark else "Rococo")
        folder.mkdir(exist_ok=True)
        with Image.open(file) as bright:
            Image.fromarray(np.asarray(bright) // (4 if dark else 1)).save(folder / file.name)
        file.unlink()
    references = painters.load_references(paintings, GENRES, 32, tmp_path / "cache")

    class Stylist(torch.nn.Module):
        genres, art_styles, z_dim = 3, 2, 4

        def __init__(self, dark: int) -> None:
            super().__init__()
            self.dark = dark

        def forward(self, z: torch.Tensor, labels: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
            tints = F.one_hot(labels[:, :3].argmax(1), 3)[:, :, None, None].float().expand(-1, 3, 32, 32)
            asked = labels[:, 3 + self.dark].gt(0).float() if labels.shape[1] > 3 else labels[:, 0]
            return (0.4 + 0.5 * tints + 0.01 * z.mean(1)[:, None, None, None]) / (1 + 3 * asked)[:, None, None, None]

    card = checkpoints.find("tiny-painter")
    card = replace(card, fields=dict(card.fields) | {"art_styles": ["baroque", "rococo"]})
    for dark, share in ((0, 1.0), (1, 0.0)):
        model = checkpoints.Model(card, Stylist(dark))
        figures = painters.evaluate_painter(model, references, spaces.judges(), count=48).figures
        assert figures["art_style_accuracy"]["paintings"] > 0.9
        assert figures["art_style_accuracy"]["painter"] == share
        [told] = [row[1] for row in headline(figures) if row[0] == "art style accuracy"]
        assert told.startswith(f"{share} (paintings ")


def test_too_few_paintings_or_a_strange_report_is_one_sentence(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in/landscape").mkdir(parents=True)
    picture(np.random.default_rng(0), 0).save(tmp_path / "in/landscape/a.png")
    assert evaluate("tiny-painter", "--data", tmp_path / "in", "--cache", tmp_path / "cache") == MISTAKE
    assert "at least 10 are needed" in capsys.readouterr().err
    assert evaluate("tiny-painter", "--data", tmp_path, "--report", tmp_path / "r.txt") == MISTAKE
    assert ".html or .json" in capsys.readouterr().err


def test_a_brush_is_measured_by_how_near_to_its_paintings_it_brings_photos(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(brushes, "load_eyes", eyes)
    rng, model = np.random.default_rng(0), checkpoints.load("tiny-brush")
    for side in ("photos", "paintings"):
        (tmp_path / side).mkdir()
    for number in range(10):
        photo = picture(rng, number % 3, 256)
        photo.save(tmp_path / f"photos/{number}.png")
        with torch.inference_mode():
            painted = model.net(from_pixels(np.asarray(photo)))
        Image.fromarray(to_pixels(painted)).save(tmp_path / f"paintings/{number}.png")
    options = ("--data", tmp_path, "--size", 256, "--cache", tmp_path / "cache")
    assert evaluate("tiny-brush", *options, "--report", tmp_path / "report.html", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == told["paintings"] == 10 and told["content_distance"] > 0
    for figures in told["spaces"].values():
        assert figures["kid"]["value"] < 0.01 < figures["kid_of_photos"]["value"]
    page = (tmp_path / "report.html").read_text()
    assert "10 photos, painted, against 10 paintings" in page and "KID of the photos themselves" in page
    assert page.count("<img") == 1

    assert evaluate("tiny-brush", *options, "--size", 128) == MISTAKE
    assert "256 px or more" in capsys.readouterr().err
    assert evaluate("tiny-brush", *options, "--count", 9) == MISTAKE
    assert "at least 10 photos" in capsys.readouterr().err
    (tmp_path / "photos/0.png").unlink()
    assert evaluate("tiny-brush", *options) == MISTAKE
    assert "There are 9 pictures in" in capsys.readouterr().err
    (tmp_path / "paintings").rename(tmp_path / "mine")
    picture(rng, 0, 256).save(tmp_path / "photos/0.png")
    assert evaluate("tiny-brush", *options, "--json", "--target", "mine/*.png") == 0
    assert json.loads(capsys.readouterr().out)["paintings"] == 10
    assert evaluate("tiny-brush", *options) == MISTAKE
    assert "There are no pictures 'paintings'" in capsys.readouterr().err


def test_an_enhancer_is_measured_by_enlarging_what_was_shrunk(
    tiny_models: Path,
    paintings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(enhancers, "load_eyes", eyes)
    options = ("--data", paintings, "--size", 32, "--cache", tmp_path / "cache")
    assert evaluate("tiny-enhancer", *options, "--report", tmp_path / "report.html", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == 48 and set(told["scales"]) == {"x2", "x4"}
    for by in ("bicubic", "model"):
        twice, four_times = (told["scales"][scale][by] for scale in ("x2", "x4"))
        assert twice["psnr"] > four_times["psnr"] and 0 < twice["content_distance"] < four_times["content_distance"]
    assert told["scales"]["x2"]["bicubic"]["psnr"] > told["scales"]["x2"]["model"]["psnr"]  # random weights harm
    page = (tmp_path / "report.html").read_text()
    assert "x4, this model" in page and "shrunk and enlarged again" in page and page.count("<img") == 1

    held_out = tmp_path / "split/held-out"
    held_out.mkdir(parents=True)
    picture(np.random.default_rng(0), 0).save(held_out / "a.png")
    assert evaluate("tiny-enhancer", "--data", tmp_path / "split", "--cache", tmp_path / "cache") == MISTAKE
    assert "There are 1 pictures to compare" in capsys.readouterr().err
    assert evaluate("tiny-enhancer", *options[:2], "--size", 50) == MISTAKE
    assert "a multiple of 4" in capsys.readouterr().err


def test_pieces_cover_the_picture() -> None:
    pictures = torch.rand(2, 3, 256, 256)
    found = brushes.pieces(pictures)
    assert found.shape == (8, 3, 128, 128)
    assert found[1].equal(pictures[0, :, :128, 128:]) and found[6].equal(pictures[1, :, 128:, :128])


def test_gatys_moves_the_photo_towards_the_style() -> None:
    rng, seen = torch.Generator().manual_seed(1), eyes()
    photo, style = torch.rand(1, 3, 32, 32, generator=rng), torch.rand(1, 3, 40, 32, generator=rng) ** 3
    shares: list[float] = []
    painted = gatys(photo, style, eyes=seen, steps=12, on_step=shares.append)
    measure = Yardstick(photo, style, seen)
    with torch.no_grad():
        before, after = measure(photo), measure(painted)
        assert measure(style[:, :, :32])[0] < before[0]
    assert after[0] < 0.8 * before[0] and before[1] == pytest.approx(0, abs=1e-3) and after[1] > 0
    assert shares[-1] == 1 and painted.min() >= 0 and painted.max() <= 1


def test_the_gatys_command_writes_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gatys_module, "load_eyes", eyes)
    rng = np.random.default_rng(0)
    for name in ("photo.png", "style.png"):
        picture(rng, 1, 80).save(tmp_path / name)
    arguments = ["gatys", tmp_path / "photo.png", tmp_path / "style.png", "-o", tmp_path / "out.png"]
    assert run([*map(str, arguments), "--size", "64", "--steps", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"][0]["width"] == 64
    with Image.open(tmp_path / "out.png") as made:
        assert made.size == (64, 64)


def test_a_stylizer_is_measured_beside_the_yardstick(tiny_models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, count in (("photos", 2), ("styles", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            picture(rng, number, 64).save(tmp_path / folder / f"{'some-waves' if number else 'other'}.png")
    model = checkpoints.load("tiny-stylizer")
    account = stylizers.evaluate_stylizer(model, tmp_path, photos=2, styles=2, size=64, steps=3, eyes=eyes())
    mean = account.figures["mean"]
    assert set(mean) == {"photo", "model", "gatys"} and len(account.figures["pairs"]) == 12
    assert mean["photo"]["content_distance"] == pytest.approx(0, abs=1e-3)
    assert mean["gatys"]["style_distance"] < mean["photo"]["style_distance"]
    write_report(account, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["mean"] == mean
    write_report(account, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"<th>this model</th><td>{mean['model']['style_distance']}</td>" in page and page.count("<img") == 1
