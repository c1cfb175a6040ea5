"""The real command tree, without a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

from bot.config import Settings
from bot.discord.client import COGS, Ganvas
from bot.studio import Studio


class _Offline(Ganvas):
    def background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin nothing: there is no studio to work on."""
        work.close()


@asynccontextmanager
async def offline(*, nudes: bool = False) -> AsyncIterator[Ganvas]:
    """Yield a bot with all its commands and no house behind it."""
    async with _Offline(cast(Studio, None), Settings(nudes=nudes)) as bot:
        for name in COGS:
            await bot.load_extension(f"bot.discord.cogs.{name}")
        yield bot
