"""Whoever reads "thinking..." reads an answer: if the bot dies in between, one that says so, from its next life."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import discord

from bot.discord.texts import Voice, language_of
from bot.studio import Promise

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

log = logging.getLogger(__name__)

HURRY = 1.0  # s that a busy disk may hold up a first answer, which Discord wants within three
AGAIN = 10.0  # s until Discord is asked again when it did not answer


def key_of(interaction: discord.Interaction[Any]) -> str:
    """Return the name of an interaction in the studio, for its promise and its job alike."""
    return f"discord:{interaction.id}"


class Thinking:
    """Notes who was told "thinking..." until they have their answer."""

    def __init__(self, bot: Ganvas) -> None:
        self._bot = bot
        self._open: set[int] = set()  # interactions

    async def begins(self, interaction: discord.Interaction[Any]) -> None:
        """Note it on disk, before anybody reads it."""
        address = {
            "application": interaction.application_id,
            "token": interaction.token,
            "language": language_of(interaction.locale),
        }
        promise = Promise(key_of(interaction), address, interaction.expires_at.timestamp())
        self._open.add(interaction.id)
        noting = asyncio.create_task(self._bot.studio.promises.give(promise))
        await asyncio.wait([noting], timeout=HURRY)
        noting.add_done_callback(_complain)

    def passed_on(self, interaction: discord.Interaction[Any]) -> None:
        """Note that a job will give the answer."""
        self._open.discard(interaction.id)

    async def ends(self, interaction: discord.Interaction[Any]) -> None:
        """Note that the answer was given."""
        if interaction.id in self._open:
            self._open.discard(interaction.id)
            await self._bot.studio.promises.keep(key_of(interaction))

    async def make_good(self, owed: list[Promise]) -> None:
        """Tell everybody whom an earlier life left waiting, for as long as their interactions live."""
        while owed:
            owed = [promise for promise in owed if not await self._tell(promise)]
            await asyncio.sleep(AGAIN if owed else 0)

    async def _tell(self, promise: Promise) -> bool:
        """Whether nothing more is to be done."""
        say = Voice(promise.address["language"])
        hook = discord.Webhook.partial(promise.address["application"], promise.address["token"], client=self._bot)
        try:
            message = await hook.fetch_message("@original")  # type: ignore[arg-type]
            if message.flags.loading:  # else the answer came, and only our note of it did not
                text = say("I was restarted before I could answer this; please send it again.")
                await hook.edit_message(message.id, content=text)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            status = getattr(error, "status", 500)
            if time.time() < promise.expires and (status >= 500 or status == 429):
                log.info("Somebody who was left waiting could not be told yet.")
                return False
            log.info("Somebody who was left waiting could not be told: %s", getattr(error, "code", "no connection"))
        await self._bot.studio.promises.keep(promise.key)
        return True


def _complain(noting: asyncio.Task[None]) -> None:
    if not noting.cancelled() and (error := noting.exception()):
        log.error("A promised answer could not be noted.", exc_info=error)
