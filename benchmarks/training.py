"""How fast `train` learns, against a plain loop of the same networks and losses: eager, float32, NCHW.

    python benchmarks/training.py [--systems painter,cyclegan,stylizer] [--csv benchmarks/results/training.csv]

Both loops take the steps of the same system with the same settings.  `train` runs as the command does: bf16 where the
processor has it, channels last, the allocator told to keep its pages.  The plain loop has none of that, and its
networks are written in the usual operations: where ours make one of enlarging and convolving, it enlarges, then
convolves, and what cyclegan (identity) and painter (telling) ask every second step, twice as loudly, it asks every
step.  Each is a process of its own; they work in turns, so that what else the machine does falls on both.  The pictures
are noise: nothing here depends on what they show.  Promise: at least twice as many images per second.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from engine.train.cli import MALLOC

if TYPE_CHECKING:
    from torch import Tensor

SYSTEMS = {  # the settings that make the first step a usual one
    "painter": {"memory": "0", "fade": "0,0.0001"},
    "cyclegan": {},
    "stylizer": {"lessons": "0", "styles": ""},
}
PLAIN = {"cyclegan": {"identity_every": "1"}, "painter": {"telling_every": "1"}}  # as published; as defined
GENRES = ("abstract", "animal-painting", "cityscape", "flower-painting", "genre-painting", "landscape", "marina",
          "portrait", "still-life")  # fmt: skip
ROUNDS = 5


@dataclass
class Turn:
    """What one turn of a loop took."""

    images: int
    seconds: float  # by the clock
    processor: float  # of all threads together: what stays comparable on a busy machine


class Loop:
    """A process that trains for a number of seconds whenever it is told to."""

    def __init__(self, system: str, data: Path, *, plain: bool, threads: int) -> None:
        command = [sys.executable, __file__, "--work", system, "--data", str(data), "--threads", str(threads)]
        environment = dict(os.environ) if plain else os.environ | MALLOC
        self.process = subprocess.Popen(
            command + ["--plain"] * plain, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def turn(self, seconds: float) -> Turn:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(seconds, file=self.process.stdin, flush=True)
        images, wall, processor = self.process.stdout.readline().split()
        return Turn(int(images), float(wall), float(processor))

    def end(self) -> None:
        self.process.communicate()


def work(name: str, data: Path, *, plain: bool, threads: int) -> None:
    """Answer each line of stdin, a number of seconds, with the images, seconds and processor seconds that were used."""
    import torch

    if plain:
        torch.channels_last = torch.contiguous_format
    torch.set_num_threads(threads)
    from engine.train.system import build_config, find_system

    if plain:
        write_plainly()
    kind = find_system(name)
    if plain and name == "cyclegan":  # every batch goes through a network by itself, as published
        kind._paint = lambda _, net, *batches: tuple(map(net.paint_freely, batches))  # type: ignore[attr-defined]
        kind._judge = lambda _, critic, *batches: tuple(map(critic, batches))  # type: ignore[attr-defined]
    config = build_config(kind, None, SYSTEMS[name] | (PLAIN.get(name, {}) | {"bf16": "false"} if plain else {}))
    torch.manual_seed(config.seed)
    system = kind(config, data, data / "cache")
    for line in sys.stdin:
        before, started, processor = system.images, time.perf_counter(), time.process_time()
        while (passed := time.perf_counter() - started) < float(line):
            system.step()
            system.images += config.batch
        print(system.images - before, passed, time.process_time() - processor, flush=True)


def write_plainly() -> None:
    """Let the networks compute what they define in the usual operations: enlarge, pad, convolve, normalise."""
    from torch.nn import functional as F

    from engine.nets import painter, stylenet

    class Normalise:
        @staticmethod
        def apply(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
            return F.instance_norm(x, eps=eps) * gain[:, :, None, None] + bias[:, :, None, None]

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(F.pad(F.interpolate(x, scale_factor=2.0), (1, 1, 1, 1), mode="reflect"), weight)

    stylenet.Normalise = Normalise  # type: ignore[assignment, misc]
    stylenet.convolve_twice_as_large = convolve
    painter.convolve_twice_as_large = lambda x, conv: conv(F.interpolate(x, scale_factor=2.0))


def draw(root: Path) -> None:
    """Write noise, blurred so that it decodes as fast as pictures do: photos, styles, paintings of nine genres."""
    rng = np.random.default_rng(0)
    folders = {"photos": 24, "styles": 8} | {f"paintings/{genre}": 8 for genre in GENRES}
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            small = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
            small.resize((320, 320), Image.Resampling.BICUBIC).save(root / folder / f"{number}.jpg")


def compare(system: str, data: Path, seconds: float, threads: int) -> list[tuple[str, str, float, str]]:
    """Return the rows of one system: images/s of both loops, and how many times as many ours shows."""
    loops = {plain: Loop(system, data, plain=plain, threads=threads) for plain in (True, False)}
    try:
        for loop in loops.values():
            loop.turn(seconds / 2)  # memory, kernels and the styles' targets are warm after that
        turns = [{plain: loop.turn(seconds) for plain, loop in loops.items()} for _ in range(ROUNDS)]
    finally:
        for loop in loops.values():
            loop.end()
    rows = []
    for unit in ("seconds", "processor"):
        speed = [{plain: turn.images / getattr(turn, unit) for plain, turn in both.items()} for both in turns]
        per = "images/s" if unit == "seconds" else "images per processor second"
        rows += [
            (system, "plain float32 NCHW loop", statistics.median(each[True] for each in speed), per),
            (system, "as train runs it", statistics.median(each[False] for each in speed), per),
            (system, "times as many", statistics.median(each[False] / each[True] for each in speed), per),
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--seconds", type=float, default=6, help="of each turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)  # this and the next two: of the processes started here
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, Path(arguments.data), plain=arguments.plain, threads=arguments.threads)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        for system in arguments.systems.split(","):
            for row in compare(system, Path(folder), arguments.seconds, arguments.threads):
                print("{:10} {:26} {:8.2f} {}".format(*row), flush=True)
                rows.append(row)
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("machine", "threads", "system", "what", "value", "unit"))
            writer.writerows((platform.machine(), arguments.threads, *row) for row in rows)


if __name__ == "__main__":
    main()
