"""Votes by reaction: every raw event goes to the studio's ledger, and after a gap the true state is read again.

Only raw events, never counts from a cache; messages that are not ours cost no request.  Rules: docs of voting, 1 to 35.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from weakref import WeakValueDictionary

import discord
from discord.ext import commands

from bot.discord.client import Ganvas
from bot.discord.people import PLATFORM, guild_key, voter_of
from bot.discord.recount import FAILURES, Recount, emoji_key
from bot.studio import Member, PostLate, Voter
from engine.errors import GanvasError

log = logging.getLogger(__name__)


class Votes(commands.Cog):
    """Reactions are votes."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._recount = Recount(bot)

    async def cog_load(self) -> None:
        """Begin to keep the ledger true."""
        self.bot.background(self._recount.keep_true(), "recount")
        self.bot.background(self._catch_up(), "late posts")

    def _in_order(self, message: int) -> asyncio.Lock:
        """Return the lock that keeps the events of one message in the order of their arrival."""
        return self._locks.setdefault(message, asyncio.Lock())

    async def _concerns(self, payload: discord.RawReactionActionEvent) -> str | None:
        """Return the work that a reaction is a vote on; None for what is no vote: other messages, DMs, our own."""
        await self.bot.studio.votes.seen()
        if payload.guild_id is None or (self.bot.user and payload.user_id == self.bot.user.id):
            return None
        art_id = await self.bot.art_shown(payload.message_id, payload.message_author_id)
        if art_id is None:
            return None
        value = await self.bot.studio.votes.value_of(emoji_key(payload.emoji), guild_key(payload.guild_id))
        return art_id if value else None

    async def _react(self, payload: discord.RawReactionActionEvent, voter: Voter, *, added: bool) -> None:
        async with self._in_order(payload.message_id):
            art_id = await self._concerns(payload)
            if art_id is not None:
                await self.bot.studio.votes.react(
                    art_id, voter, emoji_key(payload.emoji), message=str(payload.message_id), burst=payload.burst,
                    added=added,
                )  # fmt: skip

    @commands.Cog.listener()
    async def on_raw_reaction_add(self, payload: discord.RawReactionActionEvent) -> None:
        """Count a vote; whether the voter may vote, the studio decides."""
        if payload.member is not None:  # it is there in every guild
            await self._react(payload, voter_of(payload.member, payload.guild_id), added=True)

    @commands.Cog.listener()
    async def on_raw_reaction_remove(self, payload: discord.RawReactionActionEvent) -> None:
        """Take a vote back, on the id alone: the member may have left."""
        voter = Voter(Member(PLATFORM, str(payload.user_id)), guild=guild_key(payload.guild_id))
        await self._react(payload, voter, added=False)

    async def _clear(self, message: int, emoji: str | None) -> None:
        async with self._in_order(message):
            await self.bot.studio.votes.seen()
            art_id = await self.bot.studio.gallery.art_of(PLATFORM, str(message))
            if art_id is not None:
                await self.bot.studio.votes.clear(art_id, message=str(message), emoji=emoji)

    @commands.Cog.listener()
    async def on_raw_reaction_clear(self, payload: discord.RawReactionClearEvent) -> None:
        """Take back all votes by reaction on a message."""
        await self._clear(payload.message_id, None)

    @commands.Cog.listener()
    async def on_raw_reaction_clear_emoji(self, payload: discord.RawReactionClearEmojiEvent) -> None:
        """Take back the votes by one emoji on a message."""
        await self._clear(payload.message_id, emoji_key(payload.emoji))

    # Messages that go away

    async def _deleted(self, messages: Iterable[int]) -> None:
        ours = []
        for message in messages:
            if await self.bot.studio.gallery.art_of(PLATFORM, str(message)) is not None:
                ours.append(str(message))
        if ours:
            await self.bot.studio.gallery.post_deleted(PLATFORM, ours)

    @commands.Cog.listener()
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """Note that a post is gone."""
        await self._deleted([payload.message_id])

    @commands.Cog.listener()
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """Note that posts are gone."""
        await self._deleted(payload.message_ids)

    @commands.Cog.listener()
    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        """Note that all posts of a channel are gone."""
        await self.bot.studio.gallery.channel_deleted(PLATFORM, str(channel.id))

    @commands.Cog.listener()
    async def on_raw_thread_delete(self, payload: discord.RawThreadDeleteEvent) -> None:
        """Note that all posts of a thread are gone."""
        await self.bot.studio.gallery.channel_deleted(PLATFORM, str(payload.thread_id))

    @commands.Cog.listener()
    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Note that nothing in a guild can be reached any more."""
        await self.bot.studio.gallery.guild_left(f"{PLATFORM}:{guild.id}")

    # After a gap

    @commands.Cog.listener()
    async def on_ready(self) -> None:
        """Recount: a new session means that events were missed."""
        self._recount.missed()

    async def _catch_up(self) -> None:
        """Read the messages that people could react to before we knew what they show."""
        with self.bot.studio.events.subscribe(PostLate) as stream:
            async for event in stream:
                if isinstance(event, PostLate) and event.post.platform == PLATFORM:
                    try:
                        await self._recount.one(event.art_id, event.post)
                    except (discord.Forbidden, GanvasError) as error:
                        log.info("The votes on %s stay as they are: %s", event.art_id, error)
                    except FAILURES:
                        self._recount.missed()


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Votes(bot))
