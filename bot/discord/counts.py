"""The numbers on the vote buttons of posts, true again soon after votes that came another way."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import aiohttp
import discord

from bot.discord.buttons import work_view
from bot.discord.people import PLATFORM, guild_key
from bot.discord.texts import Voice
from bot.studio import Artwork, NotFound, Post, Tally, VotesChanged

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

log = logging.getLogger(__name__)

SETTLE = 5.0  # s from a vote to the edit that shows it and all others until then, and so between two edits at least
REMEMBERED = 4096  # messages whose numbers are known


class Counts:
    """Edits the posts of works whose votes changed; the copies in the gallery are edited by the showcase."""

    def __init__(self, bot: Ganvas) -> None:
        self._bot = bot
        self._due: dict[str, Tally] = {}
        self._followed: set[str] = set()  # works whose posts are being edited
        self._shown: OrderedDict[int, tuple[int, int]] = OrderedDict()
        # One edit at a time in a channel: a recount may change hundreds, and of so many at once Discord refuses most.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def shows(self, message: int, tally: Tally) -> None:
        """Note what a message shows already, because its own button was pressed."""
        self._shown[message] = (tally.up, tally.down)
        self._shown.move_to_end(message)
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)

    async def follow(self) -> None:
        """Listen to votes for ever."""
        with self._bot.studio.events.subscribe(VotesChanged) as stream:
            async for event in stream:
                assert isinstance(event, VotesChanged)
                self._due[event.art_id] = event.tally
                if event.art_id not in self._followed:
                    self._followed.add(event.art_id)
                    self._bot.background(self._keep_true(event.art_id), f"counts of {event.art_id}")

    async def _keep_true(self, art_id: str) -> None:
        try:
            while art_id in self._due:
                await asyncio.sleep(SETTLE)
                await self._refresh(art_id, self._due.pop(art_id))
        finally:
            self._followed.discard(art_id)

    async def _refresh(self, art_id: str, tally: Tally) -> None:
        try:
            art = await self._bot.studio.gallery.get(art_id, viewer=None, moderator=True)
        except NotFound:
            return  # removed meanwhile; its posts go away by themselves
        for post in await self._bot.studio.gallery.posts(art_id):
            known = self._shown.get(int(post.message)) == (tally.up, tally.down) if post.platform == PLATFORM else True
            if not known and not post.deleted and post.role != "gallery":
                await self._edit(art, post, tally)

    async def _edit(self, art: Artwork, post: Post, tally: Tally) -> None:
        view = work_view(art, Voice(await self._language(art, post)))
        try:
            async with self._turns.setdefault(post.channel, asyncio.Lock()):
                await self._bot.message(int(post.channel), int(post.message)).edit(view=view)
        except (discord.HTTPException, aiohttp.ClientError) as error:
            log.info("The votes of %s are not shown in the message %s: %s", art.id, post.message, error)
        else:
            self.shows(int(post.message), tally)

    async def _language(self, art: Artwork, post: Post) -> str:
        if post.role == "original" and art.job_id is not None:
            with suppress(NotFound):  # a forgotten job
                return str((await self._bot.studio.queue.get(art.job_id)).address.get("language", "en"))
        guild = getattr(self._bot.get_channel(int(post.channel)), "guild", None)
        return (await self._bot.studio.policy.settings(guild_key(guild.id if guild else None))).language
