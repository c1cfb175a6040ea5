"""A whole house for each test: the stand-in for Discord, a fast engine, and the real ``python -m bot`` between them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from discordstandin import TOKEN, Channel, Guild, Message, Person, StandIn
from fakeengine import EngineProcess, FakeEngine

ROOT = Path(__file__).resolve().parents[2]


class BotProcess:
    """The bot, as a host runs it."""

    def __init__(
        self, folder: Path, discord: StandIn, engine: FakeEngine | EngineProcess, *,
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
        process = self.process
        assert process is not None
        try:

            def up() -> bool:
                ended = process.returncode is not None
                return ended or bool(self.discord.identifies > before and self.discord.commands)

            await self.discord.wait(up, "the bot", within)
            if process.returncode is not None:
                raise AssertionError(f"The bot ended with {process.returncode}.")
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
