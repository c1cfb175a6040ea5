"""Every system on tiny data: it learns, it resumes to the bit, and whatever goes wrong leaves the last good state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_systems import FALLS, TINY, draw, tiny

import engine
from engine import checkpoints, losses, nets
from engine.errors import BrokenModel, InvalidRequest, UnknownName
from engine.nets.stylenet import AXES, palette_of
from engine.train.cut import Cut, brush_of
from engine.train.initial import read_initial
from engine.train.painter import PainterSystem
from engine.train.run import TrainingDiverged, code_version, train
from engine.train.state import StateNotFinite, StateNotSaved, load_state, save_state
from engine.train.system import SYSTEMS, System, build_config, find_system

Losses = dict[str, float]
each_system = pytest.mark.parametrize("name", SYSTEMS)


class Killed(Exception):
    """What stands for kill -9 inside a test."""


def run_to_end(name: str, data: Path, run: Path, steps: int, *, stop_after: int | None = None, **options: Any) -> list:
    """Train ``steps`` steps in all and return (images, losses) of each; die after ``stop_after``, if given."""
    kind, config = tiny(name, images=str(steps * int(TINY[name]["batch"])))
    told: list[tuple[int, Losses]] = []

    def watch(images: int, losses: Losses) -> None:
        told.append((images, losses))
        if stop_after is not None and len(told) > stop_after:
            raise Killed

    try:
        train(kind, config, data, run, on_step=watch, **options)
    except Killed:
        told.pop()  # shown, but after the last state
    return told


def steps_on_one_batch(system: System, count: int) -> list[Losses]:
    """Take ``count`` steps with the same pictures and the same noise every time."""
    told = []
    for _ in range(count):
        system.numpy_rng = np.random.default_rng(7)
        system.torch_rng.manual_seed(7)
        torch.manual_seed(7)
        told.append(system.step())
        system.images += system.config.batch
    return told


def test_every_system_has_tiny_settings() -> None:
    assert set(TINY) == set(FALLS) == set(SYSTEMS)


@each_system
def test_a_few_steps_lower_a_loss(name: str, data: Path, home: Path) -> None:
    kind, config = tiny(name)
    torch.manual_seed(0)
    told = steps_on_one_batch(kind(config, data, home / "cache"), 10)
    assert all(np.isfinite(value) for losses in told for value in losses.values())
    assert told[-1][FALLS[name]] < told[0][FALLS[name]]


@each_system
def test_a_killed_run_resumes_to_the_bit(name: str, data: Path, home: Path) -> None:
    whole = run_to_end(name, data, home / f"{name}-whole", 6)
    broken = home / f"{name}-broken"
    first = run_to_end(name, data, broken, 6, stop_after=3, checkpoint_minutes=0)
    second = run_to_end(name, data, broken, 6, resume=True)
    assert first + second == whole
    mine, theirs = (load_state(run / "state.safetensors") for run in (broken, home / f"{name}-whole"))
    for net, tensors in theirs["networks"].items():
        assert all(torch.equal(value, mine["networks"][net][key]) for key, value in tensors.items()), net


@each_system
def test_the_release_is_a_model_that_loads(name: str, data: Path, tmp_path: Path, home: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / "models"))
    run = home / f"{name}-released"
    run_to_end(name, data, run, 2)
    checkpoints.import_model(run / "release")
    model = checkpoints.load(f"{name}-released", discriminator=False)
    assert model.card.kind == find_system(name).kind
    assert model.card["images_seen"] == 2 * int(TINY[name]["batch"])
    with torch.no_grad():
        painted = model.net(*model.net.example(64))
    assert painted.isfinite().all() and painted.min() >= 0 and painted.max() <= 1
    if "discriminator" in model.card.fields:
        judge = checkpoints.load(f"{name}-released", discriminator=True).discriminator
        genre = torch.eye(len(model.card["genres"]))[:1].expand(len(painted), -1)
        assert judge is not None and judge.score(painted, genre).shape == (len(painted),)
    assert (run / "index.html").read_text().count("<img") == 1


def test_kill_9_of_the_process_loses_nothing_that_was_saved(data: Path, tmp_path: Path) -> None:
    whole = run_to_end("dcgan", data, tmp_path / "whole", 12)
    program = f"""
        import torch
        from pathlib import Path
        from engine.train.run import train
        from engine.train.system import build_config, find_system
        torch.set_num_threads(1)
        kind = find_system("dcgan")
        config = build_config(kind, None, {TINY["dcgan"] | {"bf16": "false", "images": "48"}!r})
        def watch(images, losses):
            print(images, flush=True)
            if images >= 24:
                input()
        run = Path({str(tmp_path / "killed")!r})
        train(kind, config, Path({str(data)!r}), run, checkpoint_minutes=0, on_step=watch)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != b"24":
            assert process.poll() is None
        process.kill()
    resumed = run_to_end("dcgan", data, tmp_path / "killed", 12, resume=True)
    assert resumed == whole[-len(resumed) :] and len(resumed) == 7  # five steps had been saved


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_a_whole_step_and_releases(signal_: int, data: Path, tmp_path: Path) -> None:
    kind, config = tiny("dcgan", images="400")

    def watch(images: int, losses: Losses) -> None:
        if images == 12:
            os.kill(os.getpid(), signal_)

    before = signal.getsignal(signal_)
    folder = train(kind, config, data, tmp_path / "run", on_step=watch)
    assert signal.getsignal(signal_) is before
    assert load_state(tmp_path / "run" / "state.safetensors")["images"] == 12
    assert json.loads((folder / "card.json").read_text())["images_seen"] == 12


def test_a_loss_that_is_no_number_leaves_the_last_good_state(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, config = tiny("dcgan", images="40")
    step = kind.step
    monkeypatch.setattr(kind, "step", lambda self: step(self) | ({"D": float("nan")} if self.images == 12 else {}))
    with pytest.raises(TrainingDiverged, match="12 images"):
        train(kind, config, data, tmp_path / "run", checkpoint_minutes=0)
    assert load_state(tmp_path / "run" / "state.safetensors")["images"] == 12
    assert not (tmp_path / "run" / "release").exists()


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state({"w": torch.ones(3)}, path)
    with pytest.raises(StateNotFinite, match="w is no longer finite"):
        save_state({"w": torch.tensor([1.0, float("nan")])}, path)
    assert load_state(path)["w"].equal(torch.ones(3))


def test_a_full_disk_leaves_the_last_state(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "state.safetensors"
    save_state({"w": torch.ones(3)}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StateNotSaved, match=r"could not be written to .*state\.safetensors"):
            save_state({"w": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert load_state(path)["w"].equal(torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_torn_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BrokenModel, match="no complete training state"):
        load_state(path)


def test_states_keep_their_types(tmp_path: Path) -> None:
    state = {"a": {0: torch.ones(2), "b": [1, None, 2.5, 2**100]}, "flag": True, "text": "é"}
    save_state(state, tmp_path / "s.safetensors")
    again = load_state(tmp_path / "s.safetensors")
    assert again["a"][0].equal(torch.ones(2))
    assert again["a"]["b"] == [1, None, 2.5, 2**100] and again["flag"] is True and again["text"] == "é"


# Settings


@each_system
def test_unknown_fields_and_values_are_errors(name: str) -> None:
    kind = find_system(name)
    with pytest.raises(InvalidRequest, match=rf"{name} has no field 'colour'; it has .*batch.*images"):
        build_config(kind, None, {"colour": "blue"})
    with pytest.raises(InvalidRequest, match="batch is 'many'"):
        build_config(kind, None, {"batch": "many"})
    with pytest.raises(UnknownName, match=f"{name} has no preset 'huge'; it has {', '.join(kind.presets)}"):
        build_config(kind, "huge")


@each_system
def test_every_preset_is_valid(name: str) -> None:
    kind = find_system(name)
    for preset in kind.presets:
        assert build_config(kind, preset).images > 0


def test_lists_are_written_with_commas() -> None:
    config = build_config(find_system("painter"), None, {"genres": "landscape,portrait", "fade": "0,0.5"})
    assert config.genres == ("landscape", "portrait") and config.fade == (0.0, 0.5)  # type: ignore[attr-defined]


def test_an_unknown_system_is_an_error() -> None:
    with pytest.raises(UnknownName, match="no system 'vae'; there are painter, gangogh"):
        find_system("vae")


@each_system
def test_a_dry_run_prints_every_field_and_does_nothing(name: str, tmp_path: Path) -> None:
    from typer import Typer
    from typer.testing import CliRunner

    from engine.train.cli import train as command

    app = Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [name, "--data", str(tmp_path), "--images", "77", "--set", "seed=3", "--dry-run"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert set(shown) == set(find_system(name).config_type.model_fields)
    assert shown["images"] == 77 and shown["seed"] == 3
    assert not list(tmp_path.iterdir())


# Resuming and starting from


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(InvalidRequest, match="holds no run"):
        run_to_end("dcgan", data, run, 2, resume=True)
    run_to_end("dcgan", data, run, 2)
    with pytest.raises(InvalidRequest, match="already holds a run"):
        run_to_end("dcgan", data, run, 2)
    kind, config = tiny("dcgan", swaps="0.1")
    with pytest.raises(InvalidRequest, match="another swaps"):
        train(kind, config, data, run, resume=True)
    kind, config = tiny("gangogh")
    with pytest.raises(InvalidRequest, match="trains dcgan, not gangogh"):
        train(kind, config, data, run, resume=True)


def test_the_journal_tells_each_image_once_after_a_resume(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_to_end("dcgan", data, run, 50)
    with open(run / "log.jsonl", "a") as journal:
        journal.write('{"images": 400, "images/s": 1, "D": 0.5}\n{"images": 6')  # after the state, and torn
    run_to_end("dcgan", data, run, 100, resume=True)
    assert [json.loads(line)["images"] for line in (run / "log.jsonl").read_text().splitlines()] == [200, 400]


def test_a_run_tells_what_it_was_made_of(data: Path, tmp_path: Path) -> None:
    run_to_end("dcgan", data, tmp_path / "run", 50)
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"system", "config", "engine", "code", "seed", "processes", "data"} == card.keys()
    assert card["code"] == code_version() and card["seed"] == 0 and len(card["data"]) == 64
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert 0 < row["cpu_seconds"] < 100


def test_the_code_version_is_the_commit_of_a_checkout_or_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("")
    monkeypatch.setattr("engine.train.run.engine.__file__", str(tmp_path / "engine" / "__init__.py"))
    assert code_version() == engine.__version__
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    assert code_version() == commit
    (tmp_path / "engine" / "__init__.py").write_text("changed = True")
    assert code_version() == f"{commit}-dirty"


def test_a_budget_of_processor_time_ends_a_run(data: Path, tmp_path: Path) -> None:
    kind, config = tiny("dcgan", images="4000000")
    before = time.process_time()
    train(kind, config, data, tmp_path / "run", cpu_minutes=0.02)
    assert time.process_time() - before >= 1.2
    assert 0 < load_state(tmp_path / "run" / "state.safetensors")["images"] < 4000000


def test_sizes_of_a_cyclegan_may_change_on_the_way(data: Path, home: Path) -> None:
    run = home / "cyclegan-grows"
    run_to_end("cyclegan", data, run, 2)
    kind, config = tiny("cyclegan", images="6", load_size="56", crop_size="48")
    train(kind, config, data, run, resume=True)
    state = load_state(run / "state.safetensors")
    assert state["images"] == 6 and state["networks"]["pool_Y"]["kept"].shape == (3, 3, 48, 48)


def test_a_cyclegan_releases_both_ways(data: Path, home: Path) -> None:
    run = home / "both-ways"
    run_to_end("cyclegan", data, run, 1)
    there, back = (json.loads((run / name / "card.json").read_text()) for name in ("release", "release-inverse"))
    assert (there["name"], there["inverse"]) == ("both-ways", "both-ways-inverse")
    assert (back["name"], back["inverse"]) == ("both-ways-inverse", "both-ways")


def test_a_painter_samples_where_its_paintings_lie(data: Path, home: Path) -> None:
    kind, config = tiny("painter", memory="0")
    system = kind(config, data, home / "cache")
    assert isinstance(system, PainterSystem)
    torch.nn.init.normal_(system.E.net[-1].bias)
    system.step()
    z, genre = torch.randn(3000, system.G.z_dim), torch.eye(2)[[1]].expand(3000, -1)
    drawn = system.G.place(z, genre)
    mean, log_variance = system.E(system.known[:, torch.from_numpy(system.rows[1])].flatten(0, 1).float())
    assert (drawn.mean(0) - mean.mean(0)).abs().max() < 0.3
    variance = mean.var(0) + log_variance.exp().mean(0)
    assert (drawn.var(0) / variance - 1).abs().max() < 0.5


def test_a_painter_that_has_to_tell_its_latents_tells_more_of_them(data: Path, home: Path) -> None:
    untold = []
    for telling in ("0", "0.5"):
        kind, config = tiny("painter", memory="0", telling=telling, images="400", learning_rate="1e-3")
        system = kind(config, data, home / "cache")
        assert isinstance(system, PainterSystem)
        for _ in range(60):
            system.step()
            system.images += config.batch
        genre = torch.eye(2)[torch.arange(64) % 2]
        with torch.no_grad():
            z = system.G.place(torch.randn(64, system.G.z_dim, generator=torch.Generator().manual_seed(1)), genre)
            read = system._read(system.G.synthesize(system.G.condition_placed(z, genre)))
            untold.append(float(losses.surprise(z, *read).mean()))
    assert untold[1] < untold[0] - 1


@pytest.fixture(scope="session")
def movements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landscapes and portraits: eight pale ones and eight dark ones in folders of their own, and one of neither."""
    root = tmp_path_factory.mktemp("movements")
    for number, genre in enumerate(("landscape", "portrait")):
        for seed in range(8):
            draw(root / genre / "Plein Air" / f"{seed}.jpg", (64, 64), seed, (0.9, 0.9, 0.8))
            draw(root / genre / "tenebrism" / f"{seed}.jpg", (64, 64), 50 + 20 * number + seed, (0.1, 0.1, 0.1))
        draw(root / genre / "other.jpg", (64, 64), 99, (0.5, 0.5, 0.5))
        draw(root / genre / "seldom" / "one.jpg", (64, 64), 98, (0.5, 0.5, 0.5))
    return root


def test_a_painter_learns_the_art_styles_that_have_paintings_enough(movements: Path, home: Path) -> None:
    kind, config = tiny("painter", art_styles="10", memory="0", images="400")
    system = kind(config, movements, home / "cache")
    assert isinstance(system, PainterSystem)
    for _ in range(4):
        system.step()
        system.images += config.batch
    assert system.sheet().shape == (4 * 128, 12 * 128, 3)
    tensors, card = system.release()
    assert card["art_styles"] == ["plein-air", "tenebrism"]
    net = nets.create("painter", **card["net"]["config"])
    net.load_state_dict({name.removeprefix("net."): value for name, value in tensors.items() if name[:4] == "net."})
    assert net.style_centre.abs().sum() > 0  # type: ignore[union-attr, operator]
    kind, config = tiny("painter", art_styles="0")
    assert kind(config, movements, home / "cache").release()[1]["art_styles"] == []


def test_a_painter_goes_on_with_the_art_styles_of_the_same_names(movements: Path, home: Path, tmp_path: Path) -> None:
    kind, config = tiny("painter", art_styles="10", memory="0")
    system = kind(config, movements, home / "cache")
    assert isinstance(system, PainterSystem)
    learned = torch.randn(system.G.embed_style.weight.shape)  # type: ignore[union-attr]
    system.averages["G"].embed_style.weight.data.copy_(learned)  # type: ignore[union-attr, operator]
    tensors, card = system.release()
    card["art_styles"] = ["tenebrism", "verismo"]
    fields = {"name": "other", "kind": "painter", "system": "painter", **card}
    checkpoints.save_tensors(fields, tensors, tmp_path / "other")
    again = kind(config, movements, home / "cache")
    again.start_from(read_initial(tmp_path / "other"))
    for net in (again.G, again.averages["G"]):  # type: ignore[attr-defined]
        assert not net.embed_style.weight[:, 0].any()
        assert torch.allclose(net.embed_style.weight[:, 1], learned[:, 0], atol=1e-2)


def test_some_art_styles_are_kept_back(movements: Path, home: Path) -> None:
    kind, config = tiny("painter", art_styles="10")
    system = kind(config, movements, home / "cache")
    assert isinstance(system, PainterSystem)
    rng = np.random.default_rng(0)
    labels = system._labels(*system._draw(2000, rng), rng)
    assert labels[:, :2].sum(1).eq(1).all()
    told = labels[:, 2:].sum(1)
    assert 0.5 < told.mean() < 0.7  # of 16 in 18 paintings
    rows = np.flatnonzero(system.own_art_style == 1)
    assert all("tenebrism" in system.pictures.paths[row] for row in rows) and len(rows) == 16


def test_telling_is_asked_every_second_step_and_packs_can_be_left_out(data: Path, home: Path) -> None:
    kind, config = tiny("painter", memory="0", packed="0")
    system = kind(config, data, home / "cache")
    assert isinstance(system, PainterSystem)
    asked, before = [], {name: value.clone() for name, value in system.packed.state_dict().items()}
    for _ in range(4):
        asked.append("untold" in system.step())
        system.images += config.batch
    assert asked == [True, False, True, False]
    assert all(value.equal(before[name]) for name, value in system.packed.state_dict().items())


def test_an_encoder_reads_paintings_without_learning_from_them(data: Path, home: Path) -> None:
    kind, config = tiny("painter")
    system = kind(config, data, home / "cache")
    assert isinstance(system, PainterSystem)
    paintings = torch.rand(2, 3, 32, 32, requires_grad=True)
    mean, log_variance = system._read(paintings)
    (mean.square().sum() + log_variance.sum()).backward()
    assert paintings.grad is not None and paintings.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in system.E.parameters())
    real = system.pictures.batch(np.array([3]))  # of a painting it reads what it was told of it
    assert torch.allclose(system._read(real)[0], system.E(system.known[0, 3:4].float())[0], atol=2e-3)


@pytest.mark.parametrize("preset", ["resnet-6", "resnet-9-batch"])
def test_the_published_cyclegans_take_a_step(preset: str, data: Path, home: Path) -> None:
    kind = find_system("cyclegan")
    small = {"load_size": "36", "crop_size": "32", "width": "4", "critic_width": "4", "pool": "2", "blocks": "1"}
    system = kind(build_config(kind, preset, small), data, home / "cache")
    assert all(np.isfinite(value) for value in system.step().values())
    assert system.sheet().shape == (8 * 128, 6 * 128, 3)


def test_a_state_moved_elsewhere_goes_on_exactly(data: Path, home: Path) -> None:
    whole = run_to_end("gangogh", data, home / "here", 6)
    run_to_end("gangogh", data, home / "moved", 6, stop_after=3, checkpoint_minutes=0)
    rest = run_to_end("gangogh", data, home / "there", 6, initial=home / "moved" / "state.safetensors")
    assert rest == whole[3:]


def test_a_state_of_other_networks_is_no_resume_but_a_start(data: Path, home: Path) -> None:
    run_to_end("dcgan", data, home / "older", 6, stop_after=3, checkpoint_minutes=0)
    file = home / "older" / "state.safetensors"
    state = load_state(file)
    group = state["optimizers"]["D"]["param_groups"][0]
    state["optimizers"]["D"]["param_groups"].append({**group, "params": []})
    save_state(state, file)
    with pytest.raises(InvalidRequest, match="--init"):
        run_to_end("dcgan", data, home / "older", 6, resume=True)
    assert len(run_to_end("dcgan", data, home / "newer", 6, initial=file)) == 6


def test_an_exported_training_state_goes_on_exactly_in_an_empty_home(
    data: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_to_end("dcgan", data, home / "at-once", 6)
    run_to_end("dcgan", data, home / "abroad", 6, stop_after=3, checkpoint_minutes=0)
    run_to_end("dcgan", data, home / "abroad", 3, resume=True)  # nothing is left of three steps: it releases
    (home / "abroad" / "release" / "samples").mkdir()
    (home / "abroad" / "release" / "samples" / "landscape.webp").write_bytes(b"a picture")
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / "here"))
    checkpoints.import_model(home / "abroad" / "release")
    parcel = checkpoints.export("abroad", tmp_path / "parcel.zip", with_training_state=True)
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / "there"))
    card = checkpoints.import_model(parcel)
    assert (card.folder / "samples" / "landscape.webp").read_bytes() == b"a picture"
    middle = run_to_end("dcgan", data, home / "back", 6, initial=Path("abroad"), stop_after=2, checkpoint_minutes=0)
    rest = run_to_end("dcgan", data, home / "back", 6, resume=True)
    assert middle + rest == whole[3:]


def test_init_gives_weights_to_a_new_run(data: Path, home: Path) -> None:
    run_to_end("cyclegan", data, home / "teacher", 3)
    kind, config = tiny("cyclegan", target="paintings/portrait", images="8")
    system = kind(config, data, home / "cache")
    system.start_from(read_initial(home / "teacher" / "state.safetensors"))
    taught = load_state(home / "teacher" / "state.safetensors")
    assert system.images == 0 and not system.optimizers["G"].state
    assert all(torch.equal(v, taught["networks"]["D_X"][k]) for k, v in system.networks["D_X"].state_dict().items())
    released = load_file(home / "teacher" / "release" / "model.safetensors")
    other = kind(config, data, home / "cache")
    other.start_from(read_initial(home / "teacher" / "release" / "model.safetensors"))
    for key, value in other.networks["G"].state_dict().items():
        assert torch.equal(value, released[f"net.{key}"].float())


def test_init_from_something_else_entirely_is_an_error(data: Path, home: Path, tmp_path: Path) -> None:
    run_to_end("pix2pix", data, home / "stranger", 1)
    with pytest.raises(InvalidRequest, match="does not fit gangogh"):
        run_to_end("gangogh", data, tmp_path / "run", 1, initial=home / "stranger")
    with pytest.raises(UnknownName, match="no model 'nowhere'"):
        run_to_end("gangogh", data, tmp_path / "run", 1, initial=Path("nowhere"))


# What single systems promise


def test_a_brush_taken_from_a_stylizer_lays_its_strokes() -> None:
    torch.manual_seed(3)
    config = {"widths": [8, 12, 16], "blocks": 2}
    stylizer = nets.create("stylenet", styles=2, style_dim=5, **config)
    for parameter in stylizer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    brush = nets.create("brush", **config)
    style, photo = torch.cat([torch.randn(1, 5), palette_of(torch.rand(1, 3, 8, 8))], dim=1), torch.rand(1, 3, 32, 32)
    brush.load_state_dict(brush_of(stylizer.state_dict(), style[0]))
    with torch.no_grad():
        ours, theirs = brush.paint_freely(photo), stylizer.paint_freely(photo, style)  # type: ignore[operator]
    luma = AXES[0]  # hues are the photo's
    torch.testing.assert_close(luma @ ours.flatten(2), luma @ theirs.flatten(2), rtol=1e-4, atol=1e-4)


def test_cut_starts_at_a_named_style_or_at_the_mean_of_its_target(data: Path, home: Path) -> None:
    run_to_end("stylizer", data, home / "teacher-of-brushes", 2)
    model = home / "teacher-of-brushes" / "release"
    started = {}
    for style in ("", "waves", "dots"):
        kind, config = tiny("cut", style=style)
        system = kind(config, data, home / "cache")
        assert isinstance(system, Cut)
        system.start_from(read_initial(model))
        started[style] = system.G.trunk[0].first.norm.bias.detach().clone()  # type: ignore[union-attr]
        assert all(torch.equal(v, system.G.state_dict()[k]) for k, v in system.averages["G"].state_dict().items())
    assert not started["waves"].equal(started["dots"]) and not started[""].equal(started["dots"])
    kind, config = tiny("cut", style="mud")
    with pytest.raises(InvalidRequest, match="style is 'mud'; the model has dots, waves"):
        kind(config, data, home / "cache").start_from(read_initial(model / "model.safetensors"))


def test_strokes_may_come_from_other_pictures_and_colours_still_come_from_the_target(data: Path, home: Path) -> None:
    plain, other = (
        kind(config, data, home / "cache")
        for kind, config in (tiny("cut"), tiny("cut", strokes="styles/*", strokes_size="64"))
    )
    assert isinstance(plain, Cut) and isinstance(other, Cut)
    assert other.strokes.pictures.pixels.shape[1] == 64 and plain.strokes is plain.target
    assert other.G.palettes.equal(plain.G.palettes) and other.data_digest != plain.data_digest
    assert np.isfinite(list(other.step().values())).all()
    with pytest.raises(InvalidRequest, match="crop_size is 32; it must be at most strokes_size, 24"):
        tiny("cut")[0](tiny("cut", strokes="styles/*", strokes_size="24")[1], data, home / "cache")
    with pytest.raises(InvalidRequest, match="no pictures 'styles/none-"):
        tiny("cut")[0](tiny("cut", strokes="styles/none-*")[1], data, home / "cache")


def test_a_brush_keeps_the_palettes_of_its_own_paintings_whatever_it_began_as(data: Path, home: Path) -> None:
    run_to_end("cut", data, home / "older-brush", 1)
    kind, config = tiny("cut", target="paintings/portrait")
    system = kind(config, data, home / "cache")
    assert isinstance(system, Cut)
    own = system.G.palettes.clone()
    system.start_from(read_initial(home / "older-brush" / "state.safetensors"))
    assert system.G.palettes.equal(own) and system.averages["G"].get_buffer("palettes").equal(own)


def test_a_target_is_a_folder_a_pattern_or_an_artist(data: Path, home: Path) -> None:
    from engine.train.domains import load_domain

    assert len(load_domain(data, "paintings/landscape", "", 32, home / "cache")) == 14
    assert len(load_domain(data, "paintings/*/1*.jpg", "", 32, home / "cache")) == 2 * 5
    assert len(load_domain(data, "paintings", "ada", 32, home / "cache")) == 14
    with pytest.raises(InvalidRequest, match="knows no works by 'eve'"):
        load_domain(data, "paintings", "eve", 32, home / "cache")
    with pytest.raises(InvalidRequest, match=r"no pictures 'paintings/\*\.png'"):
        load_domain(data, "paintings/*.png", "", 32, home / "cache")


def test_pix2pix_needs_pairs_of_one_name(data: Path, home: Path) -> None:
    kind, config = tiny("pix2pix", source="photos")
    with pytest.raises(InvalidRequest, match="No file of one side has its pair"):
        kind(config, data, home / "cache")


def test_gangogh_measures_genres_on_paintings_it_never_learned(data: Path, home: Path) -> None:
    kind, config = tiny("gangogh")
    system = kind(config, data, home / "cache")
    trained, held_out = (set(rows[:, 0]) for rows in (system.trained, system.held_out))  # type: ignore[attr-defined]
    assert held_out and not trained & held_out and len(trained | held_out) == 28
    assert system.sheet().shape == (2 * 64, 8 * 64, 3)  # the same eight latents for both genres
    assert 0 <= system.release()[1]["metrics"]["genre_accuracy"] <= 1


def test_dcgan_paints_one_genre_if_asked(data: Path, home: Path) -> None:
    kind, config = tiny("dcgan", genres="landscape")
    assert kind(config, data, home / "cache").release()[1]["genres"] == ["landscape"]
    kind, config = tiny("dcgan", genres="marina")
    with pytest.raises(InvalidRequest, match="no paintings of marina; there are landscape, portrait"):
        kind(config, data, home / "cache")


def test_a_painter_without_paintings_of_a_genre_says_how_to_go_on(data: Path, home: Path) -> None:
    kind, config = tiny("painter", genres="landscape,marina")
    with pytest.raises(InvalidRequest, match=r"no paintings of marina; .* --set genres=landscape,portrait\.$"):
        kind(config, data, home / "cache")


def test_the_enhancer_keeps_the_pictures_of_its_sheet_out_of_training(data: Path, home: Path) -> None:
    kind, config = tiny("enhancer")
    system = kind(config, data, home / "cache")
    trained = {path for _, paths in system.sources for path in paths}  # type: ignore[attr-defined]
    assert len(system.shown) == 6 and not trained & set(system.shown)  # type: ignore[attr-defined]
    small = data / "edges" / "none"
    with pytest.raises(InvalidRequest, match="There is no folder"):
        kind(config, small, home / "cache")


@pytest.mark.parametrize("name", ["painter", "cut", "cyclegan", "pix2pix", "stylizer", "enhancer"])
def test_a_preview_shows_what_was_made_and_no_picture_of_the_data(name: str, data: Path, tmp_path: Path) -> None:
    kind, config = tiny(name)
    system = kind(config, data, tmp_path / "cache")
    sheet = system.sheet()
    made = system.preview(sheet)
    assert 0 < made.size < sheet.size
    rows, columns = made.shape[:2]
    places = [
        (top, left)
        for top in range(0, sheet.shape[0] - rows + 1, 32)
        for left in range(0, sheet.shape[1] - columns + 1, 32)
        if np.array_equal(sheet[top : top + rows, left : left + columns], made)
    ]
    assert places, "a preview is a part of its sheet"
