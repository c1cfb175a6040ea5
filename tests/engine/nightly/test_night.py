"""Whole nights: what is learned, what is not, and that nothing ever touches the painter in office."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from town import GENRES, judged, random_votes, vote

from engine import checkpoints
from engine.checkpoints import Model
from engine.cli import MISTAKE, run
from engine.data.splits import split_folder
from engine.errors import BrokenModel
from engine.evaluate.painters import Latents, paint
from engine.nightly import cli, gate, night, simulation
from engine.nightly.night import Judges, NightConfig, hold_night
from engine.nightly.simulation import Community, chart, find_taste, simulate
from engine.nightly.votes import collect


def warm_votes(painter: Model, voters: int = 24, works: int = 60) -> list[dict[str, Any]]:
    """Return votes of people who like the warmer half of each genre."""
    labels = torch.arange(works) % 2
    z = torch.stack([torch.randn(16, generator=torch.Generator().manual_seed(i)) for i in range(works)])
    pictures = paint(painter.net, Latents(z, labels), 0.8).float() / 255
    liked = simulation.within_genres(find_taste("warm")(pictures), [GENRES[int(label)] for label in labels])
    return judged(lambda v, w, rng: rng.random() < 1 / (1 + 2.7 ** (-3 * liked[w])), voters, works)


def fingerprint(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*")) if path.is_file()
    }  # fmt: skip


def hold(
    lines: list[dict[str, Any]], tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig, **more: Any
) -> night.Night:
    before = fingerprint(tiny.card.folder.parent)
    found = hold_night(collect(lines, tmp_path), tiny, tmp_path / "night", judges, config, name="apprentice", **more)
    assert fingerprint(tiny.card.folder.parent) == before  # the painter in office, whatever happened
    if found.candidate is None:
        assert not (tmp_path / "night/apprentice").exists()
    return found


def test_a_community_with_a_taste_gets_a_candidate(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig
) -> None:
    found = hold(warm_votes(tiny), tiny, tmp_path, judges, config)
    assert found.state == "candidate", found.why
    told = json.loads((tmp_path / "night/night.json").read_text())
    assert told["state"] == "candidate" and told["taste"]["usable"] and told["real"]["source"].startswith("samples of")
    assert all(check["passed"] for check in told["gate"]) and len(told["gate"]) > 12
    taught = checkpoints.load_folder(tmp_path / "night/apprentice", discriminator=True)
    assert (taught.card["base"], taught.card["parent"]) == ("tiny", "tiny") and taught.discriminator is not None
    assert taught.card["base_sha256"] == tiny.card.sha256
    assert taught.taste is not None and taught.card["defaults"]["best_of"] == night.BEST_OF
    z, genre = torch.randn(64, 16), F.one_hot(torch.arange(64) % 2, 2).float()
    warm = find_taste("warm")
    with torch.inference_mode():
        assert (warm(taught.net(z, genre)) > warm(tiny.net(z, genre))).float().mean() > 0.8


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("empty", "only 0 people"),
        ("random", "not surely above"),
        ("one voter", "only 1 people"),
        ("single image", "only 0 people"),
        ("all down", ""),
    ],
)
def test_nights_from_which_nothing_follows_are_rested(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig, case: str, why: str
) -> None:
    lines = {
        "empty": [],
        "random": random_votes(),
        "one voter": [vote("mallory", seed, "up" if seed % 2 else "down") for seed in range(1000)],
        "single image": [vote(f"voter-{v}", 1, "up") for v in range(300)],
        "all down": judged(lambda v, w, rng: False),
    }[case]
    found = hold(lines, tiny, tmp_path, judges, config)
    assert found.state == "rested" and why in found.why
    assert json.loads((tmp_path / "night/night.json").read_text())["state"] == "rested"


def test_one_loud_voter_cannot_turn_the_others(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig
) -> None:
    lines = warm_votes(tiny)
    against = [line | {"voter": "mallory", "value": {"up": "down", "down": "up"}[line["value"]]} for line in lines]
    taught = hold(lines + against[:1000], tiny, tmp_path, judges, config)
    assert taught.figures["taste"]["accuracy"] > 0.55
    assert taught.state == "candidate", taught.why


def test_a_candidate_that_fails_the_gate_is_refused_with_the_reason(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig
) -> None:
    strict = replace(config, gate=replace(config.gate, nightly_drift=1e-6))
    found = hold(warm_votes(tiny), tiny, tmp_path, judges, strict)
    assert found.state == "refused" and "change of the weights tonight" in found.why


def test_a_lesson_that_gains_nothing_rests_and_is_not_tried_in_parts(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig
) -> None:
    still = replace(config, lesson=replace(config.lesson, rate=0.0, lean=0.0))
    found = hold(warm_votes(tiny), tiny, tmp_path, judges, still)
    assert found.state == "rested" and "gained nothing sure" in found.why
    assert list(found.figures["tried"]) == ["1.0"]


GAIN = gate.at_least(gate.LIKED, 1, 0)
NO_GAIN, COST = gate.at_least(gate.LIKED, -1, 0), gate.at_most("KID in thumbnail", 1, 0)


@pytest.mark.parametrize(
    ("whole", "half", "state", "why"),
    [
        ([GAIN], [], "candidate", "passed"),
        ([COST, GAIN], [GAIN], "candidate", "passed"),
        ([COST, GAIN], [NO_GAIN], "refused", "KID"),  # what is liked costs too much
        ([COST, NO_GAIN], [NO_GAIN], "rested", "nothing sure"),  # there is nothing left to learn
        ([COST, NO_GAIN], [COST, NO_GAIN], "refused", "KID"),  # even a tenth of it does harm
    ],
)
def test_what_becomes_of_a_lesson_that_does_harm(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig, monkeypatch: pytest.MonkeyPatch,
    whole: list[gate.Check], half: list[gate.Check], state: str, why: str,
) -> None:  # fmt: skip
    """Two refused nights bring the base release back: a painter that has learned what there is must not be refused."""
    answers = iter([whole, half, half, half])
    monkeypatch.setattr(gate.Gate, "judge", lambda self, candidate: [gate.at_most("NaN", 0, 0), *next(answers)])
    found = hold(warm_votes(tiny), tiny, tmp_path, judges, replace(config, lesson=replace(config.lesson, steps=1)))
    assert found.state == state and why in found.why


def test_a_painter_at_the_end_of_its_leash_rests(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig
) -> None:
    """It was taught well; two nights like this must not bring the base release back."""
    short = replace(config, gate=replace(config.gate, moved=1e-6))
    found = hold(warm_votes(tiny), tiny, tmp_path, judges, short)
    assert found.state == "rested" and "as far from the base release as it may go: pictures moved" in found.why
    assert list(found.figures["tried"]) == ["1.0", "0.5", "0.25", "0.1"]


def test_a_lesson_that_becomes_nan_is_refused(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.losses.hinge_generator", lambda fake: fake.mean() * float("nan"))
    found = hold(warm_votes(tiny), tiny, tmp_path, judges, config)
    assert found.state == "refused" and "nan" in found.why


def test_paintings_of_the_host_teach_and_a_tenth_of_them_judges(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig
) -> None:
    from PIL import Image

    rng = torch.Generator().manual_seed(0)
    for genre in GENRES:
        (tmp_path / "paintings" / genre).mkdir(parents=True)
        for number in range(150):
            coarse = torch.randint(0, 256, (4, 4, 3), generator=rng, dtype=torch.uint8).numpy()
            Image.fromarray(coarse).resize((32, 32)).save(tmp_path / "paintings" / genre / f"{number}.png")
    material = night.gather(tiny, tmp_path / "paintings", tmp_path / "cache", 100)
    assert material.source == "paintings" and 15 <= len(material.real) <= 50
    assert len(material.stream) + len(material.real) == 300 and material.known is not None
    shown = {row.tobytes() for row in material.stream.pixels[material.stream.rows]}
    kept = {row.permute(1, 2, 0).contiguous().numpy().tobytes() for row in material.real}
    assert not shown & kept
    assert night.gather(tiny, tmp_path / "nowhere", tmp_path / "cache", 100).source.startswith("samples")

    # A data set whose tenth was split off before keeps another tenth for the gate.
    split_folder(tmp_path / "paintings", tmp_path / "split")
    again = night.gather(tiny, tmp_path / "split" / "train", tmp_path / "cache", 100)
    assert 10 <= len(again.real) <= 50


def test_a_dry_run_writes_nothing(tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig) -> None:
    found = hold(warm_votes(tiny), tiny, tmp_path, judges, config, dry_run=True)
    assert "dry run" in found.why and found.figures["taste"]["usable"] and not (tmp_path / "night").exists()


def test_a_night_killed_in_the_middle_leaves_the_painter_and_no_candidate(tiny: Model, tmp_path: Path) -> None:
    before = fingerprint(tiny.card.folder.parent)
    script = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
torch.set_num_threads(1)
from pathlib import Path
import critic, test_night
from engine import checkpoints
from engine.evaluate.spaces import Space
from engine.nightly.lesson import LessonConfig
from engine.nightly.looks import Looks
from engine.nightly.night import Judges, NightConfig, hold_night
from engine.nightly.votes import collect
tiny = checkpoints.load("tiny", discriminator=True)
def tell(share):
    print(share, flush=True)
hold_night(collect(test_night.warm_votes(tiny), Path()), tiny, Path({str(tmp_path / "night")!r}), Judges(Looks(), ()),
    NightConfig(lesson=LessonConfig(steps=100000, batch=4), anchors=60), name="apprentice", tell=tell)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=dict(os.environ))
    assert process.stdout is not None
    assert process.stdout.readline()  # the lesson is under way
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert fingerprint(tiny.card.folder.parent) == before
    assert not list(tmp_path.rglob("*.safetensors"))
    checkpoints.load("tiny", discriminator=True)


def test_works_of_painters_that_are_gone_are_seen_in_their_files(tiny: Model, tmp_path: Path, judges: Judges) -> None:
    works, _ = simulation.exhibit(tiny, tmp_path / "works", tmp_path, seed=5)
    for line in works:
        line["recipe"]["models"] = {"long-gone": "0" * 64}
    (tmp_path / works[0]["file"]).unlink()
    ballot = collect([line | {"voter": "ada", "value": "up"} for line in works], tmp_path)
    seen = night.look_at(ballot, tiny, judges.looks)
    assert len(seen) == len(works) - 1 and ballot.left_out["works that cannot be seen any more"] == 1


def test_a_painter_whose_release_was_replaced_is_its_own_base(tiny: Model, tmp_path: Path) -> None:
    """Its anchors would hold it to a painter it does not come from."""
    fields = dict(tiny.card.fields) | {"name": "tiny-7", "base": "tiny"}
    for sha256, base in ((tiny.card.sha256, "tiny"), ("0" * 64, "tiny-7")):
        card = checkpoints.save(fields | {"base_sha256": sha256}, tiny.net, root=tmp_path / base)
        assert night.base_of(checkpoints.load_folder(card.folder)).card.name == base


# Simulation


def test_a_simulated_community_pulls_the_painter_its_way(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig
) -> None:
    community = Community(16, find_taste("bright"), "none", 0)
    report = simulate(tiny, community, 2, tmp_path / "out", judges, config)
    assert report["nights"][0]["win_rate"] == 0.5 and report["promoted"] >= 1
    assert 0.5 < report["nights"][-1]["win_rate_of_any"] < report["nights"][-1]["win_rate"]
    assert report["nights"][-1]["win_rate"] > 0.65 and report["nights"][-1]["diversity_of_base"] > 0.9
    assert json.loads((tmp_path / "out/simulation.json").read_text()) == report
    assert (tmp_path / "out/chart.svg").read_text().count("<polyline") == 2


@pytest.mark.parametrize("attack", ["one-voter", "single-image", "all-down", "random"])
def test_attacks_promote_nothing_worse(
    tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig, attack: str
) -> None:
    quick = replace(config, lesson=replace(config.lesson, steps=12))
    report = simulate(tiny, Community(12, find_taste("warm"), attack, 0), 1, tmp_path / "out", judges, quick)
    assert report["nights"][-1]["win_rate"] >= 0.5


def test_sock_puppets_do_not_turn_the_taste(tiny: Model, tmp_path: Path, judges: Judges, config: NightConfig) -> None:
    report = simulate(tiny, Community(16, find_taste("warm"), "sockpuppets", 0), 1, tmp_path / "out", judges, config)
    assert report["nights"][-1]["win_rate"] >= 0.5


def test_a_picture_can_be_the_taste(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32), (200, 40, 20)).save(tmp_path / "red.png")
    taste = find_taste(str(tmp_path / "red.png"))
    red, blue = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    red[:, 0], blue[:, 2] = 0.75, 0.75
    assert taste(red) > taste(blue)


def test_the_chart_stays_in_its_box() -> None:
    rows = [{"win_rate": 0.5 + i / 4, "diversity_of_base": 1 - i / 2} for i in range(5)]
    numbers = [
        float(y)
        for part in chart(rows).split('points="')[1:]
        for y in part.split('"')[0].replace(",", " ").split()[1::2]
    ]
    assert min(numbers) >= 20 and max(numbers) <= 320


# The command line


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, judges: Judges) -> None:
    monkeypatch.setattr(cli, "_prepare", lambda threads: None)
    monkeypatch.setattr(cli, "judges", lambda dry_run=False: judges)


def test_finetune_tells_the_night_as_json(
    tiny: Model, quiet: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = tmp_path / "votes.jsonl"
    votes.write_text("".join(json.dumps(line) + "\n" for line in random_votes(voters=10, works=30)))
    arguments = ["finetune", "--votes", str(votes), "--out", str(tmp_path / "night"), "--steps", "3", "--json"]
    assert run(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "rested" and told["votes"]["voters"] == 10 and told["candidate"] is None
    assert run([*arguments, "--dry-run", "--base", "nobody"]) == MISTAKE
    assert "tiny" in capsys.readouterr().err
    assert run(["finetune", "--votes", str(tmp_path / "none"), "--dry-run"]) == MISTAKE


def test_a_quiet_night_needs_no_feature_networks(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(dry_run: bool = False) -> Judges:
        raise BrokenModel("The weights of EfficientNet-Lite1 are not installed.")

    monkeypatch.setattr(cli, "_prepare", lambda threads: None)
    monkeypatch.setattr(cli, "judges", missing)
    votes = tmp_path / "votes.jsonl"
    arguments = ["finetune", "--votes", str(votes), "--out", str(tmp_path / "night"), "--json"]
    votes.write_text("")
    assert run(arguments) == 0
    assert "only 0 people" in json.loads(capsys.readouterr().out)["why"]
    votes.write_text("".join(json.dumps(line) + "\n" for line in random_votes()))
    assert run(arguments) == MISTAKE
    assert "not installed" in capsys.readouterr().err


def test_simulate_refuses_what_it_does_not_know(tiny: Model, quiet: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--taste", "sour"]) == MISTAKE
    assert "warm, blue, bright" in capsys.readouterr().err
    assert run(["simulate", "--taste", "warm", "--attack", "ddos"]) == MISTAKE
    assert "sockpuppets" in capsys.readouterr().err
