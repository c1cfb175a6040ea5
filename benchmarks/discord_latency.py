"""How fast the bot answers on Discord: 100 members at once, against the stand-in, with an engine that costs nothing.

    python benchmarks/discord_latency.py [--members 100] [-o benchmarks/results/discord_latency.csv]

Measured: seconds to the first answer (p50, p95, worst; Discord allows 3), interactions lost, the longest time the bot's
event loop was blocked, its memory, and how long it took to be ready.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

SETTLE = 5.0  # s from the start of the process to the first command
SELF = str(Path(__file__).resolve())
ROOT = Path(SELF).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

from discordstandin import InteractionFailed, StandIn  # noqa: E402
from fakeengine import FakeEngine  # noqa: E402
from realhouse import BotProcess  # noqa: E402


def run_watched() -> int:
    """Be the bot, with a watch on how long each turn of the event loop holds up all others after the start."""
    from bot.__main__ import main as run_bot

    worst = [0.0, 0.0]
    run, settled = asyncio.events.Handle._run, time.perf_counter() + SETTLE

    def watched(handle: asyncio.events.Handle) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        run(handle)
        if wall > settled:
            worst[0] = max(worst[0], time.perf_counter() - wall)
            worst[1] = max(worst[1], time.thread_time() - cpu)

    asyncio.events.Handle._run = watched  # type: ignore[method-assign, assignment]
    try:
        return run_bot()
    finally:
        print(f"longest callback: {worst[0] * 1000:.1f} ms, {worst[1] * 1000:.1f} ms of it at work", flush=True)


def memory(pid: int) -> float:
    """Return the proportional set size of a process in MiB: its own pages and its share of common ones."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]


async def measure(members: int) -> dict[str, float]:
    """Run the bot, let everybody paint at the same moment, and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        async with StandIn() as discord, FakeEngine() as engine:
            guild = discord.guild("Atelier")
            room = discord.channel(guild, "studio")
            bot = BotProcess(Path(folder), discord, engine, command=[SELF, "--as-bot"])
            began = time.monotonic()
            await bot.start(within=60)
            ready = time.monotonic() - began
            assert bot.process is not None
            idle = memory(bot.process.pid)
            await asyncio.sleep(SETTLE)
            people = [discord.person(f"Member{i}", guild) for i in range(members)]

            async def paint(number: int) -> float | None:
                try:
                    answer = await people[number].slash(room, "paint", genre="landscape", seed=str(number))
                except InteractionFailed:
                    return None
                return answer.interaction.waited

            sent = time.monotonic()
            try:
                waits = await asyncio.gather(*(paint(number) for number in range(members)))
                await discord.wait(
                    lambda: sum(bool(m.attachments) for m in discord.messages(room)) == members, "all works", 300
                )
                done = time.monotonic() - sent
                busy = memory(bot.process.pid)
            finally:
                await bot.stop()
            blocked = re.search(r"longest callback: ([\d.]+) ms, ([\d.]+) ms of it at work", bot.log)
            assert blocked is not None, bot.log
    answered = sorted(wait for wait in waits if wait is not None)
    return {
        "members": members,
        "load_1m": round(os.getloadavg()[0], 1),  # above the number of processors the times are not ours
        "ready_s": round(ready, 2),
        "first_answer_p50_ms": round(statistics.median(answered) * 1000, 1),
        "first_answer_p95_ms": round(answered[int(0.95 * (len(answered) - 1))] * 1000, 1),
        "first_answer_worst_ms": round(answered[-1] * 1000, 1),
        "lost": members - len(answered),
        "violations": len(discord.violations),
        "all_delivered_s": round(done, 1),
        "loop_blocked_worst_ms": float(blocked[1]),
        "loop_blocked_worst_cpu_ms": float(blocked[2]),  # without the time other programs had the processor
        "idle_mib": round(idle, 1),
        "busy_mib": round(busy, 1),
    }


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--as-bot", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_bot:
        sys.exit(run_watched())
    figures = asyncio.run(measure(options.members))
    for name, value in figures.items():
        print(f"{name:24} {value}")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, figures)
            writer.writeheader()
            writer.writerow(figures)


if __name__ == "__main__":
    main()
