"""The bot's promised figures, measured against the stand-in for Discord, in one run on a quiet machine (2 minutes).

    python benchmarks/discord_latency.py [--members 100] [--jobs 96] [--only PART] [--csv FILE.csv]

storm     all members paint at the same moment, the engine costs nothing: first answer p95 < 250 ms and none lost, the
          event loop never blocked > 50 ms, ready < 2 s, < 150 MB of memory, no torch
newcomer  a member has twenty jobs waiting when somebody else comes: how long for theirs, beside one in an empty house
path      the same /paint and /stylize by the real engine, asked directly and by members on Discord, in turns, with as
          many at once as the bot hands over: >= 90 % of its throughput

The stand-in runs in this process, the bot in its own; processor seconds of both are told apart, because the wall time
of a first answer holds the stand-in's share too, and on a busy machine that of everybody else.  On a machine of two
cores engine, bot and stand-in share them; on Discord's own machines the stand-in's part is not ours to pay.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import itertools
import os
import platform
import re
import secrets
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

SELF = Path(__file__).resolve()
ROOT = SELF.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

from discordstandin import Answer, Channel, Guild, InteractionFailed, Person, StandIn  # noqa: E402
from fakeengine import FakeEngine  # noqa: E402
from realhouse import BotProcess  # noqa: E402

from bot.config import Settings  # noqa: E402
from engine.api import PaintRequest, Request, StylizeRequest  # noqa: E402
from engine.client import Engine, connect  # noqa: E402
from engine.errors import EngineUnavailable  # noqa: E402

SETTLE = 5.0  # s from the start of the process to the first command
SIDE = 512  # px, of what the real engine paints
LONG_SIDE = 1280  # px, of the photos it stylizes, and of the results
ROUNDS = 2  # of asking directly and on Discord
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """One figure, and what was promised of it."""

    figure: str
    what: str
    value: float
    unit: str
    promised: str = ""


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
        torch = int("torch" in sys.modules)
        print(f"longest callback: {worst[0] * 1000:.1f} ms, {worst[1] * 1000:.1f} ms of it at work; {torch} torch")


def memory(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    text = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"^VmRSS:\s+(\d+)", text, re.MULTILINE)
    assert found
    return int(found[1]) * 1024 / 1e6


def processor_time(pid: int) -> float:
    """Return the seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Bench:
    """A guild with one room, and a bot in it."""

    def __init__(self, discord: StandIn, guild: Guild, room: Channel, bot: BotProcess) -> None:
        self.discord, self.guild, self.room, self.bot = discord, guild, room, bot
        self.ready = 0.0
        self.log = ""  # what the bot wrote, once it has ended

    @property
    def pid(self) -> int:
        """Process id of the bot."""
        assert self.bot.process is not None
        return self.bot.process.pid

    def people(self, count: int) -> list[Person]:
        """Return new members."""
        return [self.discord.person(f"Member{number}", self.guild) for number in range(count)]

    async def paint(self, person: Person, seed: int) -> Answer | None:
        """Send /paint; None when the first answer did not come in time."""
        try:
            return await person.slash(self.room, "paint", genre="landscape", seed=str(seed))
        except InteractionFailed:
            return None

    @property
    def works(self) -> int:
        """How many works are in the room."""
        return sum(bool(message.attachments) for message in self.discord.messages(self.room))

    async def shown(self, count: int) -> None:
        """Wait until so many works are in the room."""
        await self.discord.wait(lambda: self.works >= count, "all works", 600)


@asynccontextmanager
async def bench(engine: FakeEngine, *, watched: bool = False, **settings: str) -> AsyncIterator[Bench]:
    """Start a bot."""
    command = (str(SELF), "--as-bot") if watched else ("-m", "bot")
    with tempfile.TemporaryDirectory() as folder:
        async with StandIn(check_bodies=False) as discord:
            guild = discord.guild("Atelier")
            bot = BotProcess(Path(folder), discord, engine, command=command, **settings)
            here = Bench(discord, guild, discord.channel(guild, "studio"), bot)
            began = time.monotonic()
            await bot.start(within=120)
            here.ready = time.monotonic() - began
            await asyncio.sleep(SETTLE)
            try:
                yield here
            finally:
                await bot.stop()
                here.log = bot.log


async def storm(members: int) -> list[Row]:
    """Let everybody paint at the same moment."""
    async with FakeEngine() as engine, bench(engine, watched=True) as here:
        people = here.people(members)
        idle, bot_before, own_before = memory(here.pid), processor_time(here.pid), time.process_time()
        sent = time.monotonic()
        answers = await asyncio.gather(*(here.paint(person, number) for number, person in enumerate(people)))
        answered = time.process_time() - own_before
        waits = sorted(answer.interaction.waited for answer in answers if answer is not None)
        await here.shown(len(waits))
        done, busy = time.monotonic() - sent, memory(here.pid)
        bot_cpu, own_cpu = processor_time(here.pid) - bot_before, time.process_time() - own_before
        violations = len(here.discord.violations)
    told = re.search(r"longest callback: ([\d.]+) ms, ([\d.]+) ms of it at work; (\d) torch", here.log)
    assert told is not None, here.log
    return [
        Row("storm", "members at once", members, ""),
        Row("storm", "first answer, median", statistics.median(waits) * 1000, "ms"),
        Row("storm", "first answer, p95", waits[int(0.95 * (len(waits) - 1))] * 1000, "ms", "< 250"),
        Row("storm", "first answer, worst", waits[-1] * 1000, "ms"),
        Row("storm", "of it processor time of the stand-in, for all", answered * 1000, "ms"),
        Row("storm", "lost", members - len(waits), "", "0"),
        Row("storm", "against a rule of Discord", violations, "", "0"),
        Row("storm", "all delivered after", done, "s"),
        Row("storm", "processor time of the bot, a job", bot_cpu / members * 1000, "ms"),
        Row("storm", "processor time of the stand-in, a job", own_cpu / members * 1000, "ms"),
        Row("storm", "event loop blocked, worst", float(told[1]), "ms", "< 50"),
        Row("storm", "of it at work", float(told[2]), "ms"),
        Row("storm", "ready after", here.ready, "s", "< 2"),
        Row("storm", "memory idle", idle, "MB", "< 150"),
        Row("storm", "memory after the storm", busy, "MB", "< 150"),
        Row("storm", "torch loaded", int(told[3]), "", "0"),
    ]


async def newcomer() -> list[Row]:
    """Let somebody come when another member's twenty jobs wait."""
    async with FakeEngine() as engine:
        engine.seconds = 0.5
        async with bench(engine, GANVAS_MEMBER_WAITING="50", GANVAS_ENGINE_PARALLEL="2") as here:
            times, done = [], 0
            eager, first, second = here.people(3)
            for person, before in ((first, 0), (second, 20)):
                await asyncio.gather(*(here.paint(eager, number) for number in range(before)))
                began, done = time.monotonic(), len(engine.ran)
                answer = await here.paint(person, 0)
                assert answer is not None
                await answer.until(files=1)
                times.append(time.monotonic() - began)
            ahead = len(engine.ran) - done - 1
            await here.shown(22)
    return [
        Row("newcomer", "a job of half a second in an empty house", times[0], "s"),
        Row("newcomer", "the same behind another member's twenty, two at a time", times[1], "s"),
        Row("newcomer", "of the twenty done in between", ahead, "", "<= 3"),
    ]


@dataclass(frozen=True)
class Share:
    """What some jobs took, in seconds."""

    wall: float
    engine: float  # of the processor
    bot: float
    other: float  # of the processor, by this process: the client, or the stand-in with its members

    def __add__(self, other: Share) -> Share:
        return Share(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


async def path(jobs: int) -> list[Row]:
    """Let the real engine work, asked directly and through the whole house in turns, both as installed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine", "serve", "--host", "127.0.0.1", "--port", str(port), cwd=ROOT,
        env=os.environ | {"GANVAS_ENGINE_TOKEN": token}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    engine = FakeEngine()  # never started; it lends its address
    engine.url = f"http://127.0.0.1:{port}"
    photo = _photo()
    stylings = max(2, jobs // 6)  # each takes as long as six to ten paintings
    rows: list[Row] = []
    try:
        async with connect(engine.url, token) as direct, bench(engine, GANVAS_ENGINE_TOKEN=token) as here:
            await _until_warm(direct)
            style = next(style["name"] for card in await direct.models() for style in card.get("styles", ()))
            rows += await _compare(
                here, direct, server.pid, "paint", f"paintings of {SIDE} px", jobs,
                lambda seed: PaintRequest(genre="landscape", seed=seed, width=SIDE, height=SIDE),
                lambda seed: {"genre": "landscape", "seed": str(seed)},
            )  # fmt: skip
            rows += await _compare(
                here, direct, server.pid, "stylize", f"photos of {LONG_SIDE} px stylized", stylings,
                lambda _: StylizeRequest(photo=photo, style=style),
                lambda _: {"photo": ("photo.jpg", photo), "style": style},
            )  # fmt: skip
    finally:
        server.terminate()
        await server.wait()
    return rows


async def _compare(
    here: Bench, direct: Engine, engine: int, command: str, what: str, jobs: int,
    request: Callable[[int], Request], options: Callable[[int], dict[str, Any]],
) -> list[Row]:  # fmt: skip
    """Ask for the same directly and on Discord, twice in turns: whatever else the machine does meets both."""
    parallel = Settings.model_fields["engine_parallel"].default
    turns = asyncio.Semaphore(parallel)
    numbers = itertools.count()

    async def ask() -> None:
        async with turns:
            await direct.run(request(next(numbers)))

    async def send(person: Person) -> None:
        await person.slash(here.room, command, **options(next(numbers)))

    async def taken(work: Callable[[], Awaitable[object]]) -> Share:
        def now() -> Share:
            return Share(time.monotonic(), processor_time(engine), processor_time(here.pid), time.process_time())

        before = now()
        await work()
        return Share(*(b - a for a, b in zip(astuple(before), astuple(now()), strict=True)))

    async def alone() -> None:
        await asyncio.gather(*(ask() for _ in range(jobs)))

    async def whole() -> None:
        people, shown = here.people(jobs), here.works
        await asyncio.gather(*map(send, people))
        await here.shown(shown + jobs)

    await asyncio.gather(*(ask() for _ in range(parallel // 2)), send(here.people(1)[0]))  # everything is warm
    await here.shown(1)
    own, all_of_it = Share(0, 0, 0, 0), Share(0, 0, 0, 0)
    for _ in range(ROUNDS):
        own += await taken(alone)
        all_of_it += await taken(whole)
    count = jobs * ROUNDS

    def processor(seconds: float, who: str) -> Row:
        return Row("path", f"of the processor: {who}, a job", seconds / count * 1000, "ms")

    return [
        Row("path", f"{count} {what} by the engine alone", own.wall, "s"),
        Row("path", f"/{command}: the same from command to message on Discord", all_of_it.wall, "s"),
        Row("path", "throughput of the whole path, of the engine's own", own.wall / all_of_it.wall * 100, "%", ">= 90"),
        processor(own.engine, "the engine alone"),
        processor(own.other, "who asks it"),
        processor(all_of_it.engine, "the engine on Discord's path"),
        processor(all_of_it.bot, "the bot"),
        processor(all_of_it.other, "the stand-in for Discord, which is no part of it"),
    ]


def _photo() -> bytes:
    """Return the sample photo as a telephone would send it."""
    with Image.open(ROOT / "data" / "samples" / "china.jpg") as picture:
        height = round(LONG_SIDE * picture.height / picture.width)
        buffer = io.BytesIO()
        picture.resize((LONG_SIDE, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def _until_warm(engine: Engine) -> None:
    for _ in range(240):
        try:
            if (await engine.health())["worker"] == "idle":
                return
        except EngineUnavailable:
            pass
        await asyncio.sleep(0.5)
    raise SystemExit("The engine did not start within two minutes.")


async def measure(members: int, jobs: int, only: str | None) -> list[Row]:
    """Return all figures, or one part."""
    return [
        Row("machine", "load of the last minute", os.getloadavg()[0], ""),  # above the processors times are not ours
        *(await storm(members) if only in (None, "storm") else ()),
        *(await newcomer() if only in (None, "newcomer") else ()),
        *(await path(jobs) if jobs and only in (None, "path") else ()),
    ]


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=96, help="paintings by the real engine; 0 leaves that part out")
    parser.add_argument("--only", choices=("storm", "newcomer", "path"))
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--as-bot", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_bot:
        sys.exit(run_watched())
    rows = asyncio.run(measure(options.members, options.jobs, options.only))
    for row in rows:
        print(f"{row.figure:9} {row.what:55} {row.value:9.2f} {row.unit:3} {row.promised}")
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("machine", "figure", "what", "value", "unit", "promised"))
            for row in rows:
                writer.writerow((platform.machine(), row.figure, row.what, round(row.value, 2), row.unit, row.promised))


if __name__ == "__main__":
    main()
