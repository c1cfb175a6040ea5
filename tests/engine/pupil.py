"""Stands in for `python -m engine finetune`: what the first voter is called, that it does.  Needs no torch."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from engine import checkpoints


def main() -> int:
    options = argparse.ArgumentParser()
    for name in ("votes", "out", "pause-file"):
        options.add_argument(f"--{name}", type=Path, required=True)
    for name in ("base", "name", "minutes", "steps", "seed", "threads", "paintings"):
        options.add_argument(f"--{name}")
    options.add_argument("--json", action="store_true")
    options.add_argument("--until-eof", action="store_true")
    asked = options.parse_args()
    threading.Thread(target=die_at_eof, daemon=True).start()
    order, _, detail = json.loads(asked.votes.read_text().splitlines()[0])["voter"].partition(":")
    (asked.out / "pid").write_text(str(os.getpid()))
    match order:
        case "wait":  # until a file appears; candidate then
            say("lesson: 40%")
            while not Path(detail).exists():
                with (asked.out / "ticks").open("a") as ticks:
                    ticks.write("p" if asked.pause_file.exists() else "w")
                time.sleep(0.02)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die-once":
            if not Path(detail).exists():
                Path(detail).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "stopped":  # as the command line is by SIGTERM
            return 130
        case "mistake":
            say("The weights of EfficientNet-Lite1 are not installed.")
            return 2
        case "rested" | "refused":
            return conclude(asked.out, order, f"The pupil {order}.")
    candidate = asked.out / asked.name
    shutil.copytree(checkpoints.find(asked.base).folder, candidate)
    card = json.loads((candidate / "card.json").read_text())
    card |= {"name": asked.name, "parent": card["name"], "base": card.get("base") or card["name"], "night": {}}
    if order == "damaged":
        with (candidate / "model.safetensors").open("r+b") as weights:
            weights.truncate(100)
    (candidate / "card.json").write_text(json.dumps(card))
    for name in ("before", "after"):
        (asked.out / f"{name}.webp").write_bytes(name.encode())
    return conclude(asked.out, "candidate", "It passed the gate.")


def conclude(out: Path, state: str, why: str) -> int:
    told: dict[str, Any] = {
        "state": state, "why": why, "taste": {"pairs": 300, "voters": 20, "accuracy": 0.66, "low": 0.6, "usable": True},
        "gate": [{"name": "KID", "value": 0.01, "limit": "at most 0.02", "passed": state == "candidate"}],
    }  # fmt: skip
    checkpoints.write_atomic(out / "night.json", json.dumps(told).encode())
    return 0


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def die_at_eof() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
