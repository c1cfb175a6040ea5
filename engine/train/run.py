"""The training loop: counted in images, resumable exactly, and open to look at while it runs.

A run folder holds ``run.json`` (system, config, code version, data hash), ``state.safetensors`` (for --resume),
``log.jsonl``, TensorBoard events, ``sheets/*.png``, ``index.html`` and ``release/`` (a model folder).
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import engine
from engine.checkpoints import save_tensors
from engine.errors import GanvasError, InvalidRequest
from engine.train import devices
from engine.train.initial import read_initial
from engine.train.page import write_page
from engine.train.state import StateNotSaved, load_state, save_state
from engine.train.system import Config, System

log = logging.getLogger(__name__)


class TrainingDiverged(GanvasError):
    """A loss became NaN or infinite; the last good state is kept."""

    code = "training_diverged"


def train(
    kind: type[System],
    config: Config,
    data: Path,
    run: Path,
    *,
    resume: bool = False,
    initial: Path | None = None,
    minutes: float | None = None,
    cpu_minutes: float | None = None,
    checkpoint_minutes: float = 4.0,
    snapshot_every: int | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (a plain value)
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train until ``config.images`` are shown or the time is over; return the released model's folder.

    Args:
        resume: continue the run in ``run``; without it the folder must be new.
        initial: a run, a training state or a model to start from.  A state of this very training (system, settings and
            pictures) goes on exactly; anything else gives its weights to a new training.
        minutes: a budget by the clock.
        cpu_minutes: a budget of processor time, preparations included: the same on a busy machine as on a quiet one.
        snapshot_every: images between sheets; None makes them sparser as the run grows.
        device: where to compute; several processes that call this within ``devices.together`` train one model.
        on_step: called with the images shown and the losses after each step.

    Raises:
        InvalidRequest: the run exists already, or has another system, config or networks.
        TrainingDiverged: a loss is not finite.
        StateNotSaved: the disk is full at the end; on the way that is only a warning.
    """
    # Set up the run.
    cpu_started = time.process_time()
    first = devices.rank() == 0  # of several processes, the one that writes
    state_file = run / "state.safetensors"
    card: dict[str, Any] = {"system": kind.name, "config": config.model_dump(mode="json")}
    card |= {"engine": engine.__version__, "code": code_version(), "seed": config.seed, "processes": devices.world()}
    if resume:
        _check_same(kind, run, card)
    elif state_file.exists():
        raise InvalidRequest(f"{run} already holds a run; continue it with --resume or choose another folder.")
    start = read_initial(initial) if initial is not None else None
    (run / "sheets").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    with devices.first_alone():
        system = kind(config, data, run.parent / "cache")
    card["data"] = system.data_digest
    state: dict[str, Any] = {}
    if resume:
        state = load_state(state_file)
        if not system.fits(state):
            raise InvalidRequest(
                f"{state_file} is of other networks than this version trains; go on from it in a new run, with --init."
            )
    elif start is not None and _same_training(kind, start.state.get("run"), card) and system.fits(start.state):
        state = start.state  # moved here from another machine
    system.move(device)
    if state:
        system.load(state)
    elif start is not None:
        system.start_from(start)
    devices.train_alike(system)
    cpu_before = state.get("seconds", 0.0) - cpu_started
    if first:
        _keep_rows(run / "log.jsonl", system.images)
        (run / "run.json").write_text(json.dumps(card, indent=2))

    # Train.
    started = saved = time.monotonic()
    start_images, next_sheet = system.images, _next_sheet(system.images, snapshot_every)
    told: dict[str, list[float]] = {}
    steps = 0
    with _Journal(run, system.images if state else None) if first else nullcontext() as journal, _signals() as stop:
        while system.images < config.images:
            losses = system.step()
            if not all(math.isfinite(value) for value in losses.values()):
                raise TrainingDiverged(f"{losses} after {system.images} images; the last good state is kept.")
            devices.follow_first(system)
            system.images += config.batch
            steps += 1
            for name, value in losses.items():
                told.setdefault(name, []).append(value)
            if on_step:
                on_step(system.images, losses)

            now = time.monotonic()
            if journal and steps % 50 == 0:
                means = {name: sum(values) / len(values) for name, values in told.items()}
                told.clear()
                speed = {"images/s": round((system.images - start_images) / (now - started), 2)}
                spent = {"cpu_seconds": round(cpu_before + time.process_time(), 1)}
                journal.write({"images": system.images} | speed | means | spent)
            if first and system.images >= next_sheet:
                _save_sheet(system, run)
                next_sheet = _next_sheet(system.images, snapshot_every)
            if first and now - saved > 60 * checkpoint_minutes:
                try:
                    save_state(_whole_state(system, card, cpu_before + time.process_time()), state_file)
                except StateNotSaved as error:
                    log.warning("%s The training goes on.", error)
                saved = now
            late = minutes is not None and now - started > 60 * minutes
            late |= cpu_minutes is not None and time.process_time() - cpu_started > 60 * cpu_minutes
            if devices.anybody(late or stop.is_set(), device):
                break

    # Save, show and release.
    if not first:
        return run / "release"
    if stop.is_set():
        log.warning("interrupted after %d images; saving", system.images)
    seconds = cpu_before + time.process_time()
    save_state(_whole_state(system, card, seconds), state_file)
    _save_sheet(system, run)
    return release(system, run, seconds)


def code_version() -> str:
    """Return the git commit of the checkout that runs, with "-dirty" where it was edited since; else the release."""
    root = Path(engine.__file__).parents[1]
    if not (root / ".git").exists():
        return engine.__version__
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here, or somebody else's checkout
        return engine.__version__


class _Journal:
    """The rows of a run: lines of log.jsonl, and TensorBoard's events."""

    def __init__(self, run: Path, purge_from: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.board = SummaryWriter(run / "tensorboard", purge_step=None if purge_from is None else purge_from + 1)
        self.rows = run / "log.jsonl"

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.board.close()

    def write(self, row: dict[str, float]) -> None:
        """Write ``row``, which says after how many "images" it was."""
        with self.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            self.board.add_scalar(name, value, row["images"])


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets, so that a run ends after a whole step; a second one ends it at once.

    Signals are heard also where a shell started the run in the background, which makes it ignore SIGINT.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def release(system: System, run: Path, seconds: float) -> Path:
    """Write the averaged networks as the model folder ``run``/release, named after the run, and return it.

    ``seconds`` of the processor were spent on it, all its threads together.
    A system that goes both ways leaves the way back beside it, in ``run``/release-inverse.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", run.resolve().name.lower()).strip("._-")[:56] or system.name
    shared: dict[str, Any] = {"kind": system.kind, "system": system.name}
    shared |= {"images_seen": devices.world() * system.images, "cpu_hours": round(seconds / 3600, 2)}
    with Image.open(run / "sheets" / f"{system.images:08d}.png") as sheet:
        made = Image.fromarray(system.preview(np.asarray(sheet.convert("RGB"))))
    made.thumbnail((1024, 1024))
    preview = io.BytesIO()
    made.save(preview, "WEBP", quality=85)
    with system.on_processor():
        tensors, card = system.release()
        way_back = system.release_inverse()
    card = {"name": name} | shared | card
    if way_back:
        card["inverse"] = f"{name}-inverse"
        inverse = {"name": card["inverse"]} | shared | way_back[1] | {"inverse": name}
        save_tensors(inverse, way_back[0], run / "release-inverse", preview=preview.getvalue())
    state = (run / "state.safetensors").read_bytes()
    return save_tensors(card, tensors, run / "release", preview=preview.getvalue(), training_state=state).folder


def _whole_state(system: System, card: dict[str, Any], seconds: float) -> dict[str, Any]:
    return system.state() | {"seconds": seconds, "run": card}


def _check_same(kind: type[System], run: Path, card: dict[str, Any]) -> None:
    if not (run / "state.safetensors").exists():
        raise InvalidRequest(f"{run} holds no run to resume.")
    before = json.loads((run / "run.json").read_text())
    if before["system"] != card["system"]:
        raise InvalidRequest(f"{run} trains {before['system']}, not {card['system']}.")
    if differ := _differing(kind, before, card):
        raise InvalidRequest(f"{run} was started with another {', '.join(differ)}; resume it with the same settings.")


def _differing(kind: type[System], before: dict[str, Any], card: dict[str, Any]) -> list[str]:
    """Return the fields in which two runs differ, other than the budget and whatever else may change on the way."""
    fields = before["config"].keys() | card["config"].keys()
    return sorted(f for f in fields - kind.may_change if before["config"].get(f) != card["config"].get(f))


def _same_training(kind: type[System], before: dict[str, Any] | None, card: dict[str, Any]) -> bool:
    """Say whether a state is of this very training: the same system, settings and pictures."""
    return (
        before is not None
        and (before["system"], before["data"]) == (card["system"], card["data"])
        and not _differing(kind, before, card)
    )


def _keep_rows(journal: Path, images: int) -> None:
    """Drop what was logged after the state that a run goes on from, and a last line that was cut off."""
    if not journal.exists():
        return
    kept = []
    for line in journal.read_text().splitlines():
        try:
            if json.loads(line)["images"] <= images:
                kept.append(line + "\n")
        except ValueError:
            break
    journal.write_text("".join(kept))


def _next_sheet(images: int, every: int | None) -> int:
    """Return when the next sheet is due: evenly, or about 12 per tenfold (250, 300, 360, ...)."""
    if every:
        return (images // every + 1) * every
    return max(250, int(images * 1.21))


def _save_sheet(system: System, run: Path) -> None:
    path = run / "sheets" / f"{system.images:08d}.png"
    with system.on_processor():
        Image.fromarray(system.sheet()).save(path)
    write_page(run)
