"""The training loop: counted in images, resumable exactly, and open to look at while it runs.

A run folder holds ``run.json`` (system, config, code version, data hash), ``state.safetensors`` (for --resume),
``log.jsonl``, TensorBoard events, ``sheets/*.png``, ``index.html`` and ``release/`` (a model folder).
"""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

import engine
from engine.errors import GanvasError, InvalidRequest
from engine.train.page import write_page
from engine.train.state import load_state, save_state
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
    checkpoint_minutes: float = 4.0,
    snapshot_every: int | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train until ``config.images`` are shown or ``minutes`` are over; return the released model's folder.

    Args:
        resume: continue the run in ``run``; without it the folder must be new.
        initial: a training state or released tensors to start from (fine-tuning).
        snapshot_every: images between sheets; None makes them sparser as the run grows.
        on_step: called with the images shown and the losses after each step.

    Raises:
        InvalidRequest: the run exists already, or has another system or config.
        TrainingDiverged: a loss is not finite.
    """
    # Set up the run.
    card = {"system": kind.name, "config": config.model_dump(mode="json"), "engine": engine.__version__}
    if resume:
        _check_same(run, card)
    elif (run / "state.safetensors").exists():
        raise InvalidRequest(f"{run} already holds a run; continue it with --resume or choose another folder.")
    (run / "sheets").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    system = kind(config, data, run.parent / "cache")
    card["data"] = system.data_digest
    seconds_before = 0.0
    if resume:
        state = load_state(run / "state.safetensors")
        system.load(state)
        seconds_before = state["seconds"]
    elif initial is not None:
        system.load(load_state(initial))
    (run / "run.json").write_text(json.dumps(card, indent=2))

    # Train.
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    started = saved = time.monotonic()
    start_images, next_sheet = system.images, _next_sheet(system.images, snapshot_every)
    sums: dict[str, float] = {}
    steps = 0
    with SummaryWriter(run / "tensorboard") as board, open(run / "log.jsonl", "a") as journal:
        try:
            _terminate_like_ctrl_c()
            while system.images < config.images:
                losses = system.step()
                if not all(math.isfinite(value) for value in losses.values()):
                    raise TrainingDiverged(f"{losses} after {system.images} images; the last good state is kept.")
                system.images += config.batch
                steps += 1
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value
                if on_step:
                    on_step(system.images, losses)

                now = time.monotonic()
                if steps % 50 == 0:
                    means = {name: total / 50 for name, total in sums.items()}
                    sums.clear()
                    speed = (system.images - start_images) / (now - started)
                    row = {"images": system.images, "images/s": round(speed, 2)} | means
                    journal.write(json.dumps(row) + "\n")
                    journal.flush()
                    for name, value in row.items():
                        board.add_scalar(name, value, system.images)
                if system.images >= next_sheet:
                    _save_sheet(system, run)
                    next_sheet = _next_sheet(system.images, snapshot_every)
                if now - saved > 60 * checkpoint_minutes:
                    save_state(system.state() | {"seconds": seconds_before + now - started}, run / "state.safetensors")
                    saved = now
                if minutes is not None and now - started > 60 * minutes:
                    break
        except KeyboardInterrupt:
            log.warning("interrupted after %d images; saving", system.images)

    # Save, show and release.
    seconds = seconds_before + time.monotonic() - started
    save_state(system.state() | {"seconds": seconds}, run / "state.safetensors")
    _save_sheet(system, run)
    return release(system, run, seconds)


def _terminate_like_ctrl_c() -> None:
    """Let SIGTERM and SIGINT end the run in order, also where a shell started it in the background and ignores SIGINT."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def release(system: System, run: Path, seconds: float) -> Path:
    """Write the averaged networks as a model folder below ``run`` and return it."""
    tensors, card = system.release()
    folder = run / "release"
    folder.mkdir(exist_ok=True)
    stored = {name: _half(value) for name, value in tensors.items()}
    save_file(stored, folder / "model.safetensors")
    card = {"format": 1, "kind": system.kind, "system": system.name, "engine": engine.__version__} | card
    card |= {"dtype": "float16", "images_seen": system.images, "cpu_hours": round(seconds / 3600, 2)}
    (folder / "card.json").write_text(json.dumps(card, indent=2))
    return folder


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().half().contiguous() if tensor.dtype is torch.float32 else tensor.detach().contiguous()


def _check_same(run: Path, card: dict[str, Any]) -> None:
    if not (run / "state.safetensors").exists():
        raise InvalidRequest(f"{run} holds no run to resume.")
    before = json.loads((run / "run.json").read_text())
    if before["system"] != card["system"]:
        raise InvalidRequest(f"{run} trains {before['system']}, not {card['system']}.")
    differ = [key for key, value in card["config"].items() if before["config"].get(key) != value]
    if any(key != "images" for key in differ):  # a longer budget is the one thing a resume may change
        raise InvalidRequest(f"{run} was started with another {', '.join(differ)}; resume it with the same settings.")


def _next_sheet(images: int, every: int | None) -> int:
    """Return when the next sheet is due: evenly, or about 12 per tenfold (250, 300, 360, ...)."""
    if every:
        return (images // every + 1) * every
    return max(250, int(images * 1.21))


def _save_sheet(system: System, run: Path) -> None:
    path = run / "sheets" / f"{system.images:08d}.png"
    Image.fromarray(system.sheet()).save(path)
    write_page(run)
