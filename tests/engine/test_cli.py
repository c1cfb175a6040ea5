"""The command line as people and scripts use it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import photo_bytes
from PIL import Image

from engine import checkpoints, cli, media
from engine.cli.console import parse_size
from engine.errors import InvalidRequest


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a photo, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(photo_bytes(90, 70))
    return tmp_path


def opened(path: str) -> Image.Image:
    """Return the picture in a file."""
    return Image.open(io.BytesIO(Path(path).read_bytes()))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    code = cli.run(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run with ``--json``; stdout must be that one object."""
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    value = json.loads(out)
    assert isinstance(value, dict)
    return value


def test_stylize_writes_the_format_of_the_suffix(capsys: pytest.CaptureFixture[str]) -> None:
    for suffix, format in ((".png", "PNG"), (".webp", "WEBP"), (".jpg", "JPEG"), (".JPEG", "JPEG")):
        code, out, _ = run(capsys, "stylize", "photo.png", "-o", f"out{suffix}", "--style", "waves", "--size", "90")
        assert code == 0
        assert out.startswith(f"out{suffix}: 90 x 70 px")
        assert opened(f"out{suffix}").format == format


def test_every_option_of_stylize(capsys: pytest.CaptureFixture[str]) -> None:
    base = ("stylize", "photo.png", "--size", "90", "-o")
    plain = run_json(capsys, *base, "a.png", "--style", "waves")
    for number, options in enumerate(
        [("--style", "dots"), ("--style-image", "photo.png"), ("--model", "tiny-brush"), ("--strength", "0.5"),
         ("--keep-colours",)]
    ):  # fmt: skip
        other = run_json(capsys, *base, f"{number}.png", *options)
        assert other["outputs"][0]["sha256"] != plain["outputs"][0]["sha256"]


def test_json_says_what_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    said = run_json(capsys, "paint", "--genre", "flowers", "--seed", "autumn", "--size", "96x64", "-o", "a.png")
    [output] = said["outputs"]
    data = Path("a.png").read_bytes()
    assert output["sha256"] == hashlib.sha256(data).hexdigest()
    assert (output["width"], output["height"], output["bytes"]) == (96, 64, len(data))
    assert output["recipe"] == media.read_recipe(data)
    assert said["seconds"]["total"] > 0


def test_several_paintings_are_numbered(capsys: pytest.CaptureFixture[str]) -> None:
    said = run_json(capsys, "paint", "--genre", "portrait", "--count", "3", "--size", "64", "-o", "a.png")
    assert [output["path"] for output in said["outputs"]] == ["a-1.png", "a-2.png", "a-3.png"]
    assert all(Path(output["path"]).is_file() for output in said["outputs"])


def test_a_text_is_a_seed_and_no_seed_is_a_new_painting(capsys: pytest.CaptureFixture[str]) -> None:
    def painted(*options: str) -> str:
        said = run_json(capsys, "paint", "--genre", "portrait", "--size", "64", "-o", "a.png", *options)
        return str(said["outputs"][0]["sha256"])

    assert painted("--seed", "autumn") == painted("--seed", "autumn")
    assert painted("--seed", "7") != painted("--seed", "8")
    assert painted() != painted()


def test_morph_between_a_seed_a_stop_and_a_painting(capsys: pytest.CaptureFixture[str]) -> None:
    run_json(capsys, "paint", "--genre", "landscape", "--seed", "3", "--size", "64", "-o", "c.png")
    said = run_json(
        capsys, "morph", "1", "flowers:tulips", "c.png", "--genre", "portrait", "--frames", "6", "--size", "32",
        "-o", "m.gif", "--loop",
    )  # fmt: skip
    assert said["outputs"][0]["frames"] == 6
    stops = said["outputs"][0]["recipe"]["options"]["stops"]
    assert [stop["genre"] for stop in stops] == ["portrait", "flower-painting", "landscape"]
    assert (stops[0]["seed"], stops[2]["seed"]) == (1, 3)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_morphs_come_in_every_moving_format(capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    arguments = ("morph", "portrait:1", "portrait:2", "--frames", "4", "--size", "32", "-o", f"m{suffix}")
    assert run(capsys, *arguments)[0] == 0
    assert media.read_recipe(Path(f"m{suffix}").read_bytes()) is not None


def test_enhance_and_chain(capsys: pytest.CaptureFixture[str]) -> None:
    said = run_json(capsys, "enhance", "photo.png", "-o", "e.png")
    assert (said["outputs"][0]["width"], said["outputs"][0]["height"]) == (180, 140)
    said = run_json(capsys, "enhance", "photo.png", "-o", "e.png", "--size", "128x72", "--strength", "0.5")
    assert (said["outputs"][0]["width"], said["outputs"][0]["height"]) == (128, 72)
    said = run_json(capsys, "chain", "photo.png", "waves", "tiny-brush", "tiny-enhancer", "-o", "c.png")
    assert said["outputs"][0]["width"] == 180


def test_recipe_prints_json_and_replay_proves_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run_json(capsys, "stylize", "photo.png", "-o", "a.png", "--style", "waves", "--size", "90")
    code, out, _ = run(capsys, "recipe", "a.png")
    assert code == 0
    assert json.loads(out)["options"]["style"] == "waves"
    code, out, _ = run(capsys, "replay", "a.png", "-o", "b.png")
    assert (code, out.splitlines()[-1]) == (0, "The bytes agree.")
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()

    (tmp_path / "elsewhere").mkdir()
    Path("photo.png").rename("elsewhere/p.png")
    code, _, err = run(capsys, "replay", "a.png", "-o", "c.png")
    assert code == 2
    assert "starts from a picture (photo) that is not here" in err
    assert not Path("c.png").exists()
    assert run_json(capsys, "replay", "a.png", "-o", "c.png", "--source", "elsewhere")["same_bytes"] is True


def test_replay_says_when_the_bytes_differ_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    run_json(capsys, "paint", "--genre", "portrait", "--seed", "1", "--size", "64", "-o", "a.png")
    data = Path("a.png").read_bytes()
    recipe = media.read_recipe(data)
    assert recipe is not None
    recipe["models"]["tiny-painter"] = "0" * 64
    Path("a.png").write_bytes(media.encode_still(np.asarray(opened("a.png")), "png", recipe).data)
    code, out, err = run(capsys, "replay", "a.png", "-o", "b.png")
    assert code == 1
    assert "The bytes differ." in out
    assert "tiny-painter is not the one" in err


def test_sheets(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ("styles", "photo.png", "--size", "48"),
        ("genres", "--seed", "3", "--size", "32"),
        ("samples", "--model", "tiny-painter", "--size", "32"),
        ("samples", "--model", "tiny-brush", "--photo", "photo.png", "--size", "48"),
        ("samples", "--model", "tiny-enhancer", "--photo", "photo.png"),
    ):
        said = run_json(capsys, "sheet", *arguments, "-o", "s.png")
        assert opened("s.png").size == (said["outputs"][0]["width"], said["outputs"][0]["height"])
    code, _, err = run(capsys, "sheet", "cycle", "photo.png", "--model", "tiny-brush", "-o", "s.png")
    assert code == 2
    assert "tiny-brush has no inverse" in err


def test_models_are_listed_shown_exported_and_imported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, "models")
    assert code == 0
    assert "tiny-stylizer" in out
    assert "2 styles" in out
    names = [model["name"] for model in run_json(capsys, "models")["models"]]
    assert names == sorted(names) and len(names) == 4
    assert json.loads(run(capsys, "models", "show", "tiny-brush")[1])["kind"] == "brush"

    run_json(capsys, "models", "export", "tiny-brush", "-o", "brush.zip")
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / "own"))
    assert run_json(capsys, "models", "import", "brush.zip")["name"] == "tiny-brush"
    assert run_json(capsys, "models", "appoint", "tiny-brush") == {"kind": "brush", "name": "tiny-brush"}
    assert [card.name for card in checkpoints.catalogue()] == ["tiny-brush"]


def test_samples_show_every_style_and_genre(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny_models, own)
    monkeypatch.setenv("GANVAS_MODELS", str(own))
    assert run(capsys, "models", "samples", "tiny-stylizer")[2] == "A stylizer's samples need a photo: --photo FILE.\n"
    assert run(capsys, "models", "samples", "tiny-brush")[0] == 2
    for name, options, field in (
        ("tiny-stylizer", ("--photo", "photo.png"), "styles"), ("tiny-painter", (), "genres")
    ):  # fmt: skip
        assert run(capsys, "models", "samples", name, *options, "--size", "64")[0] == 0
        card = checkpoints.find(name)
        known = card.styles if field == "styles" else card["genres"]
        made = {path.stem: opened(str(path)).size for path in (card.folder / "samples").iterdir()}
        assert made.keys() == set(known)
        assert all(max(size) == 64 for size in made.values())


def test_bench_measures_every_model(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.cli import bench

    monkeypatch.setattr(bench, "SIDES", {"stylizer": (64,), "brush": (64,), "enhancer": (32,)})
    monkeypatch.setattr(bench, "PRODUCT", 64)
    told = run_json(capsys, "bench")
    rows = told["models"]
    assert told["peak_gflop_per_second"]["float32"] > 0
    assert {row["model"] for row in rows} == {"tiny-brush", "tiny-enhancer", "tiny-painter", "tiny-stylizer"}
    assert all(row["seconds"] > 0 and row["gflop"] >= 0 and row["of_peak"] >= 0 for row in rows)


STYLIZE = ("stylize", "photo.png", "-o", "a.png")
PAINT = ("paint", "-o", "a.png", "--genre")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sculpt",), "no command 'sculpt'; there are stylize, paint"),
        (("stylize",), "'photo'"),
        (("stylize", "photo.png"), "--out"),
        ((*STYLIZE, "--shine"), "--shine"),
        ((*STYLIZE, "--style", "oil"), "no style 'oil'; there are waves, dots"),
        ((*STYLIZE, "--style", "waves", "--model", "tiny-brush"), "Choose one of"),
        ((*STYLIZE, "--strength", "1.5"), "strength is 1.5; it must lie between 0 and 1"),
        ((*STYLIZE, "--strength", "much"), "'much'"),
        ((*STYLIZE, "--size", "9999"), "size is 9999; it must lie between 16 and 4096"),
        ((*STYLIZE, "--style-image", "none.png"), "no file 'none.png'"),
        (("stylize", "none.png", "-o", "a.png"), "no file 'none.png'"),
        (("stylize", ".", "-o", "a.png"), "no file '.'"),
        (("stylize", "photo.png", "-o", "a.bmp"), "'.bmp'; the output must end in one of .png, .webp, .jpg, .jpeg"),
        (("stylize", "photo.png", "-o", "a"), "must end in one of .png"),
        (("stylize", "photo.png", "-o", "no/a.png"), "no such folder"),
        ((*PAINT, "cats"), "no genre 'cats'; choose one of abstract"),
        ((*PAINT, "marina"), "does not paint marina; it paints flower-painting"),
        ((*PAINT, "portrait", "--count", "99"), "count is 99; it must lie between 1 and 16"),
        ((*PAINT, "portrait", "--size", "big"), "size is 'big'; it must be WIDTHxHEIGHT"),
        ((*PAINT, "portrait", "--model", "oil"), "no model 'oil'; there are tiny-brush"),
        (("morph", "portrait:1", "-o", "a.gif"), "needs 2 to 16 stops, not 1"),
        (("morph", "1", "2", "-o", "a.gif"), "'1' has no genre"),
        (("morph", "photo.png", "portrait:1", "-o", "a.gif"), "holds no recipe"),
        (("morph", "portrait:1", "portrait:2", "-o", "a.png"), "one of .webp, .gif, .mp4"),
        (("enhance", "photo.png", "-o", "a.png", "--scale", "3"), "scale is 3; it must be 2 or 4"),
        (("chain", "photo.png", "oil", "-o", "a.png"), "no style 'oil'"),
        (("recipe", "photo.png"), "holds no recipe"),
        (("replay", "photo.png", "-o", "a.png"), "holds no recipe"),
        (("models", "show", "oil"), "no model 'oil'"),
        (("models", "import", "photo.png"), "no zip"),
        (("models", "burn"), "burn"),
        (("sheet", "samples", "--model", "tiny-brush", "-o", "a.png"), "--photo"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], workplace: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in workplace.iterdir()) == ["photo.png"]


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in ("stylize", "paint", "morph", "enhance", "chain", "recipe", "replay", "sheet", "models", "bench"):
        assert f"  {command} " in out
        code, its_own, _ = run(capsys, command, "--help")
        assert code == 0
        assert f"python -m engine {command}" in its_own


@pytest.mark.parametrize(("text", "size"), [("512", (512, 512)), ("640x480", (640, 480)), ("Wall", (1920, 1080))])
def test_sizes_are_understood(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x", "x1", "1x2x3", "-5", "5.5", "999999", "²"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="WIDTHxHEIGHT"):
        parse_size(text)


def engine(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    command = [sys.executable, "-m", "engine", *arguments]
    home = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": home}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)


def test_a_real_process_paints_over_a_photo() -> None:
    done = engine("stylize", "photo.png", "-o", "a.png", "--style", "waves", "--size", "90", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"][0]["width"] == 90
    assert all(line.startswith("stylize: ") for line in done.stderr.splitlines())
    done = engine("stylize", "photo.png", "-o", "a.png", "--style", "oil")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["recipe", "photo.png"], ["stylize", "--help"]])
def test_small_commands_do_not_wait_for_torch(arguments: list[str]) -> None:
    code = f"import sys; from engine.cli import run; run({arguments!r}); sys.exit('torch' in sys.modules)"
    home = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=os.environ | {"PYTHONPATH": home}, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing_behind(workplace: Path, number: signal.Signals) -> None:
    home = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "engine", "morph", "portrait:1", "portrait:2", "-o", "m.gif", "--frames", "600",
               "--size", "512", "--finish", "waves"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": home}) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("morph:")  # it is at work
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert sorted(path.name for path in workplace.iterdir()) == ["photo.png"]


def test_a_failed_write_keeps_the_old_file(
    capsys: pytest.CaptureFixture[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").write_bytes(b"old")

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(checkpoints, "_write", full)
    code, _, err = run(capsys, *STYLIZE, "--size", "64")
    assert code == 2
    assert "No space left on device" in err
    assert Path("a.png").read_bytes() == b"old"
    assert sorted(path.name for path in workplace.iterdir()) == ["a.png", "photo.png"]
