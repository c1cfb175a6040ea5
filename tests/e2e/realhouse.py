"""A whole house for each test: the stand-in for Discord, a fast engine, and the real ``python -m bot`` between them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from discordstandin import TOKEN, Channel, Guild, Message, Person, StandIn
from fakeengine import FakeEngine

ROOT = Path(__file__).resolve().parents[2]


class BotProcess:
    """The bot, as a host runs it."""

    def __init__(
        self, folder: Path, discord: StandIn, engine: FakeEngine | MortalEngine, *,
        command: Sequence[str] = ("-m", "bot"), **more: str,
    ) -> None:  # fmt: skip
        self.folder, self.discord, self.command = folder, discord, command
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GANVAS_", "DISCORD_"))}
        self.env = clean | {
            "PYTHONPATH": str(ROOT),
            "DISCORD_TOKEN": TOKEN,
            "GANVAS_DISCORD_API": discord.url,
            "GANVAS_ENGINE_URL": engine.url,
            "GANVAS_DATA": str(folder / "var"),
            "GANVAS_WEB_PORT": "0",
            "GANVAS_NIGHTS": "false",
            **more,
        }
        self.process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What the bot wrote so far, over all its lives."""
        file = self.folder / "bot.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.returncode is None

    async def launch(self) -> None:
        """Start it, without waiting for anything."""
        with (self.folder / "bot.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *self.command, cwd=self.folder, env=self.env, stdout=log, stderr=log
            )

    async def start(self, within: float = 90) -> None:
        """Start it and wait until it is on Discord."""
        before = self.discord.identifies
        await self.launch()
        try:

            def up() -> bool:
                return not self.alive or bool(self.discord.identifies > before and self.discord.commands)

            await self.discord.wait(up, "the bot", within)
            if not self.alive:
                raise AssertionError("The bot has ended.")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-4000:]}") from None

    async def kill(self) -> None:
        """End it without a chance to do anything (kill -9)."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await asyncio.wait_for(self.process.wait(), 20)


class Nursery:
    """A program loaded once and born many times; see nursery.py."""

    def __init__(self, *program: str, env: Mapping[str, str], cwd: Path) -> None:
        self._program, self._env, self._cwd = program, env, cwd
        self._mother: asyncio.subprocess.Process | None = None
        self._child = 0

    async def bear(self, log: Path) -> None:
        """Start the program; its first life also loads it."""
        if self._mother is None:
            with log.open("ab") as file:
                self._mother = await asyncio.create_subprocess_exec(
                    sys.executable, str(Path(__file__).with_name("nursery.py")), *self._program, env=dict(self._env),
                    cwd=self._cwd, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=file,
                )  # fmt: skip
        assert self._mother.stdin and self._mother.stdout
        self._mother.stdin.write(b"!")
        self._child = int(await self._mother.stdout.readline())

    @property
    def alive(self) -> bool:
        """Whether the program runs."""
        try:
            os.kill(self._child, 0)
        except ProcessLookupError:
            return False
        return self._child != 0

    async def end(self, number: signal.Signals) -> None:
        """End the program that runs, if one does."""
        if self.alive:
            os.kill(self._child, number)
        async with asyncio.timeout(20):
            while self.alive:
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        """End both mother and child."""
        await self.end(signal.SIGTERM)
        if self._mother is not None:
            await self._mother.communicate(b"")  # closes its stdin, at which it ends


class MortalBot(BotProcess):
    """A bot that can afford many lives."""

    def __init__(self, folder: Path, discord: StandIn, engine: MortalEngine, **more: str) -> None:
        super().__init__(folder, discord, engine, **more)
        self._nursery = Nursery("bot", env=self.env, cwd=folder)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._nursery.alive

    async def launch(self) -> None:
        """Start it, without waiting for anything."""
        await self._nursery.bear(self.folder / "bot.log")

    async def close(self) -> None:
        """End it for good."""
        await self._nursery.close()

    async def _end(self, number: signal.Signals) -> None:
        await self._nursery.end(number)


class MortalEngine:
    """The fast engine in a process of its own, which can be killed and comes back at the same address.

    Args:
        spread: seconds a job takes at most.
    """

    def __init__(self, folder: Path, spread: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = folder / "engine.log"
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        self._nursery = Nursery("engine", str(self._port), str(spread), env=env, cwd=folder)

    async def start(self) -> None:
        """Start it and wait until it listens."""
        await self._nursery.bear(self._log)
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                except ConnectionError:
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                return

    async def kill(self) -> None:
        """End it without a chance to do anything (kill -9)."""
        await self._nursery.end(signal.SIGKILL)

    async def close(self) -> None:
        """End it for good."""
        await self._nursery.close()


@dataclass
class House:
    """Everything a test needs."""

    discord: StandIn
    engine: FakeEngine
    bot: BotProcess
    guild: Guild
    room: Channel

    def person(self, name: str, **more: object) -> Person:
        """Return a new member of the guild."""
        person: Person = self.discord.person(name, self.guild, **more)  # type: ignore[arg-type]
        return person

    def works(self, *, gallery: Channel | None = None) -> list[Message]:
        """Return the messages of the bot that show pictures."""
        where = [gallery] if gallery else list(self.discord.channels.values())
        return [m for channel in where for m in self.discord.messages(channel) if m.author.bot and m.attachments]

    def check(self) -> None:
        """Assert what holds after every test: no rule broken, nobody mentioned, no picture without words."""
        assert self.discord.violations == []
        assert self.discord.mentioning == []
        for message in self.works():
            assert all(a.description for a in message.attachments), "a picture without alternative text"
        assert "Traceback" not in self.bot.log, self.bot.log[-6000:]
        assert TOKEN not in self.bot.log
