"""Does the service's memory stay bounded?  2,000 mixed requests through a real engine process, its memory over time.

Tells the idle engine's appetite for processor time, too.

    python benchmarks/soak.py [--requests N] [--at-once N] [--side PX] [--csv FILE]

Photos of all shapes and some that are none, paintings, morphs, enlargements, re-encodings; some are cancelled.  The
memory is that of the engine and of the processes it decodes in.  Fails if the last three quarters of the requests
made it grow by more than a twentieth, or if the idle engine takes more than 0.5% of a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import os
import platform
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from PIL import Image

from engine.api import EnhanceRequest, FitRequest, MorphRequest, PaintRequest, Request, Stop, StylizeRequest
from engine.client import Engine, connect
from engine.errors import GanvasError

TOLERANCE = 1.05
IDLE = 20  # seconds
APPETITE = 0.005  # of a processor, that the idle engine may take
GENRES = ("landscape", "flower-painting", "portrait")


def picture(draw: random.Random, longest: int) -> bytes:
    """Return an encoded photo of random shape, of cheap but not trivial content."""
    size = draw.randint(longest // 3, longest), draw.randint(longest // 3, longest)
    small = Image.frombytes("RGB", (16, 16), draw.randbytes(16 * 16 * 3))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(buffer, draw.choice(("JPEG", "PNG", "WEBP")))
    return buffer.getvalue()


def request(draw: random.Random, side: int) -> Request:
    """Return one of the things members ask for, as often as they might."""
    genre, seed = draw.choice(GENRES), draw.randrange(2**31)
    match draw.choices(range(7), (30, 30, 4, 8, 20, 5, 3))[0]:
        case 0:
            return StylizeRequest(
                photo=picture(draw, 2 * side), size=draw.choice((side // 2, side)), keep_colours=draw.random() < 0.3
            )
        case 1:
            return PaintRequest(genre=genre, seed=seed, count=draw.randint(1, 4), width=side // 2, height=side // 2)
        case 2:
            return MorphRequest(stops=(Stop(genre, seed), Stop(genre, seed + 1)), frames=8, size=128)
        case 3:
            return EnhanceRequest(image=picture(draw, side // 2), scale=2)
        case 4:
            return FitRequest(image=picture(draw, 2 * side), max_side=side // 2, formats=("webp",))
        case 5:
            return StylizeRequest(photo=picture(draw, side)[:-200])
        case _:
            return StylizeRequest(photo=draw.randbytes(5_000))


def memory(pid: int) -> int:
    """Return the resident bytes of the process group of ``pid``: the engine and its decoders."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == pid:
            total += int(fields[21]) * 4096
    return total


def cpu_seconds(pid: int) -> float:
    """Return the processor time that ``pid`` has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def send(engine: Engine, draw: random.Random, side: int, outcomes: Counter[str]) -> None:
    """Send one request and count how it ended; one in thirty is cancelled in its middle."""
    task = asyncio.create_task(engine.run(await asyncio.to_thread(request, draw, side)))
    if draw.random() < 1 / 30:
        asyncio.get_running_loop().call_later(draw.random() / 10, task.cancel)
    try:
        await task
        outcomes["done"] += 1
    except asyncio.CancelledError:
        outcomes["cancelled"] += 1
    except GanvasError as error:
        outcomes[error.code] += 1


async def soak(requests: int, at_once: int, side: int) -> tuple[list[tuple[int, float, int]], float]:
    """Return (requests, seconds, bytes) along the way, and the idle engine's share of a processor afterwards."""
    draw, outcomes, samples, idle = random.Random(1), Counter[str](), [], 0.0
    begun, numbers = time.perf_counter(), iter(range(1, requests + 1))
    async with connect() as engine:

        async def member() -> None:
            for number in numbers:
                await send(engine, draw, side, outcomes)
                if number % max(1, requests // 80) == 0 and engine.pid:
                    samples.append((number, time.perf_counter() - begun, memory(engine.pid)))
                    print(f"{number:5} requests {samples[-1][1]:7.1f} s {samples[-1][2] / 2**20:7.1f} MiB", flush=True)

        await asyncio.gather(*(member() for _ in range(at_once)))
        if engine.pid:
            before = cpu_seconds(engine.pid)
            await asyncio.sleep(IDLE)
            idle = (cpu_seconds(engine.pid) - before) / IDLE
            print(f"idle: {idle:.2%} of a processor over {IDLE} s")
    print("outcomes: " + ", ".join(f"{count} {name}" for name, count in outcomes.most_common()))
    return samples, idle


def main() -> int:
    """Soak, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--side", type=int, default=512, help="px, of the pictures made")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    samples, idle = asyncio.run(soak(options.requests, options.at_once, options.side))
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("machine", "requests", "seconds", "bytes"))
            writer.writerows((platform.platform(), *sample) for sample in samples)
    quarter = [sample[2] for sample in samples if sample[0] <= options.requests / 4]
    early = max(quarter[len(quarter) // 2 :])
    late = statistics.median(sample[2] for sample in samples if sample[0] > options.requests * 7 / 8)
    print(
        f"at a quarter of the way {early / 2**20:.1f} MiB, at the end {late / 2**20:.1f} MiB: {late / early:.3f} times"
    )
    return 0 if late < early * TOLERANCE and idle <= APPETITE else 1


if __name__ == "__main__":
    sys.exit(main())
