"""The gallery channel: works that are liked go up, works no longer liked come down; and what was deleted goes away.

What there is to do stands in the studio's tables, claimed by one at a time, so a crash in between loses nothing.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time

import discord
from discord.ext import commands

from bot.discord.buttons import gallery_view
from bot.discord.captions import alt_text, caption
from bot.discord.client import Ganvas
from bot.discord.notices import tell_managers
from bot.discord.people import PLATFORM, age_restricted
from bot.discord.texts import Voice
from bot.studio import GalleryDue, GalleryTask, TombstonesDue

log = logging.getLogger(__name__)

AGAIN = 60.0  # s after which what could not be done is tried again
SETTLE = 5.0  # s between two edits of one gallery message
SEARCHED = 100  # own messages looked through after a crash


class Showcase(commands.Cog):
    """Keeps the gallery channels."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot
        self._edited: dict[str, float] = {}

    async def cog_load(self) -> None:
        """Begin."""
        self.bot.background(self._hang(), "gallery channel")
        self.bot.background(self._bury(), "tombstones")

    # Gallery copies

    async def _hang(self) -> None:
        await self.bot.wait_until_ready()
        with self.bot.studio.events.subscribe(GalleryDue) as stream:
            while True:
                waiting = False
                for task in await self.bot.studio.votes.gallery_tasks(PLATFORM):
                    waiting |= not await self._do(task)
                try:
                    async with asyncio.timeout(SETTLE if waiting else AGAIN):
                        await anext(aiter(stream))
                except TimeoutError:
                    pass

    async def _do(self, due: GalleryTask) -> bool:
        """Do what a gallery channel lacks; False if it has to wait."""
        art_id = due.artwork.id
        if due.action == "edit" and time.monotonic() - self._edited.get(art_id, -SETTLE) < SETTLE:
            return False
        task = await self.bot.studio.votes.claim(art_id)
        if task is None:
            return True
        try:
            if task.action == "post":
                await self._post(task)
            elif task.action == "edit":
                await self._edit(task)
            else:
                await self._take_down(task)
        except (discord.Forbidden, discord.NotFound) as error:
            log.warning("The gallery channel %s of %s: %s", task.channel, art_id, error)
            await self.bot.studio.votes.gave_up(art_id, error.text)
            if task.artwork.guild and isinstance(error, discord.Forbidden):
                guild_id = int(task.artwork.guild.removeprefix(f"{PLATFORM}:"))
                await tell_managers(self.bot, guild_id, "gallery", [task.channel])
        except (discord.HTTPException, OSError) as error:
            log.warning("The gallery copy of %s has to wait: %s", art_id, error)
            await self.bot.studio.votes.gave_up(art_id, str(error))
        return True

    async def _content(self, task: GalleryTask) -> tuple[str, Voice]:
        art = task.artwork
        settings = await self.bot.studio.policy.settings(art.guild)
        say = Voice(settings.language)
        return f"{caption(art, say)} · `{art.id}` · <@{art.member.id}> · ❤ {art.tally.up}", say

    async def _post(self, task: GalleryTask) -> None:
        art = task.artwork
        channel = self.bot.get_channel(int(task.channel))
        if not isinstance(channel, discord.abc.Messageable) or not isinstance(channel, discord.abc.Snowflake):
            await self.bot.studio.votes.gave_up(art.id, "The gallery channel is gone.")
            return
        if art.age_restricted and not age_restricted(channel):
            await self.bot.studio.votes.gave_up(art.id, "The gallery channel is not age-restricted.")
            return
        if task.repeated and (found := await self._find(channel, art.id)):
            await self.bot.studio.votes.posted(art.id, task.channel, found, late=True)
            return
        content, say = await self._content(task)
        limit = getattr(getattr(channel, "guild", None), "filesize_limit", discord.utils.DEFAULT_FILE_SIZE_LIMIT_BYTES)
        output = await self.bot.studio.gallery.fit(art.id, viewer=art.member, max_bytes=limit)
        suffix = "jpg" if output.format == "jpeg" else output.format
        file = discord.File(io.BytesIO(output.data), f"ganvas-{art.id}.{suffix}", description=alt_text(art, say))
        nonce = f"gallery.{art.id}"
        sent = await channel.send(content, file=file, view=gallery_view(art, say), nonce=nonce)
        await self.bot.studio.votes.posted(art.id, task.channel, str(sent.id))

    async def _find(self, channel: discord.abc.Messageable, art_id: str) -> str | None:
        async for message in channel.history(limit=SEARCHED):
            ours = self.bot.user is not None and message.author.id == self.bot.user.id
            if ours and any(f"ganvas-{art_id}." in attachment.filename for attachment in message.attachments):
                return str(message.id)
        return None

    async def _edit(self, task: GalleryTask) -> None:
        content, say = await self._content(task)
        message = self.bot.message(int(task.channel), int(task.message or 0))
        await message.edit(content=content, view=gallery_view(task.artwork, say))
        self._edited[task.artwork.id] = time.monotonic()
        await self.bot.studio.votes.edited(task.artwork.id)

    async def _take_down(self, task: GalleryTask) -> None:
        if task.message is not None:
            try:
                await self.bot.message(int(task.channel), int(task.message)).delete()
            except discord.NotFound:
                log.info("The gallery copy of %s was gone already.", task.artwork.id)
        await self.bot.studio.votes.unposted(task.artwork.id)

    # Posts of deleted works

    async def _bury(self) -> None:
        await self.bot.wait_until_ready()
        with self.bot.studio.events.subscribe(TombstonesDue) as stream:
            while True:
                left = await self._bury_all()
                try:
                    async with asyncio.timeout(AGAIN if left else None):
                        await anext(aiter(stream))
                except TimeoutError:
                    pass

    async def _bury_all(self) -> int:
        """Delete the posts of deleted works; return how many are left for later."""
        left = 0
        for stone in await self.bot.studio.policy.tombstones(PLATFORM):
            try:
                await self.bot.message(int(stone.channel), int(stone.message)).delete()
            except (discord.NotFound, discord.Forbidden) as error:
                log.info("A post of a deleted work is out of reach: %s", error)
            except discord.HTTPException as error:
                log.warning("A post of a deleted work stays for now: %s", error)
                left += 1
                continue
            await self.bot.studio.policy.buried(stone.id)
        return left


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Showcase(bot))
