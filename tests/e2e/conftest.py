"""A whole house for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from discordstandin import StandIn
from fakeengine import FakeEngine
from realhouse import BotProcess, House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with StandIn(answer_within=20) as discord, FakeEngine() as engine:
        guild = discord.guild("Atelier")
        room = discord.channel(guild, "studio")
        bot = BotProcess(tmp_path, discord, engine)
        here = House(discord, engine, bot, guild, room)
        try:
            await bot.start()
            yield here
        finally:
            engine.open.set()
            await bot.stop()
        here.check()
