"""After a gap the true reactions are read again, in as few requests as Discord's own counts allow.

A page of a channel's history tells a hundred messages with the number of reactions on each, so a first round reads
the people behind those numbers only where the ledger has others.  Equal numbers may hide that somebody came for
somebody who left: a second, slow round reads the people of the rest.  Both go from the newest message to the oldest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot.discord.notices import tell_managers
from bot.discord.people import PLATFORM
from bot.studio import Member, Post, Voter
from engine.errors import GanvasError

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

log = logging.getLogger(__name__)

PAGE = 100  # messages, and people, that Discord tells in one answer
PACE = {False: 0.2, True: 0.5}  # s between two messages that are read, hurried and thorough; a bot may ask 50 times a s
EVERY = 6 * 3600.0  # s between two recounts when nothing was missed
AGAIN = 300.0  # s until the next when something could not be read
GONE = 10003  # unknown channel
FAILURES = (discord.HTTPException, aiohttp.ClientError, OSError, GanvasError)


def emoji_key(emoji: discord.PartialEmoji | discord.Emoji | str) -> str:
    """Return how the studio knows an emoji: a custom one by its id, for its name may change."""
    number = getattr(emoji, "id", None)
    return str(number) if number else str(emoji)


def counts(message: discord.Message) -> dict[tuple[str, bool], int]:
    """Return ``(emoji, burst)`` -> people who reacted so, without the bot itself."""
    found = {}
    for reaction in message.reactions:
        found[emoji_key(reaction.emoji), False] = reaction.normal_count - reaction.me
        found[emoji_key(reaction.emoji), True] = reaction.burst_count - reaction.me_burst
    return found


@dataclass(frozen=True)
class Shown:
    """A message that shows a work; ``message`` is None if the page that should hold it does not."""

    art_id: str
    guild: str
    post: Post
    message: discord.Message | None
    at: float  # Unix seconds before the message was asked for


class Recount:
    """Keeps the ledger true."""

    def __init__(self, bot: Ganvas) -> None:
        self._bot = bot
        self._missed = asyncio.Event()
        self._complete = True
        self._unread: dict[int, set[str]] = {}  # guild -> channels whose messages may not be read

    def missed(self) -> None:
        """Note that events were missed: what was read before this moment is to be read again."""
        self._missed.set()

    async def keep_true(self) -> None:
        """Recount whenever events were missed, and now and then, for ever."""
        while True:
            try:
                async with asyncio.timeout(EVERY if self._complete else AGAIN):
                    await self._missed.wait()
            except TimeoutError:
                pass  # the slow schedule
            self._missed.clear()
            self._complete = True
            self._unread = {}
            try:
                await self._all()
                for guild_id, channels in self._unread.items():
                    await tell_managers(self._bot, guild_id, "history", sorted(channels))
                await self._bot.studio.votes.seen()
            except Exception:  # one bad moment of the disk must not end all recounts
                log.exception("The recount stumbled; it begins again in %.0f s", AGAIN)
                self._complete = False

    async def _all(self) -> None:
        posts = await self._bot.studio.gallery.votable(PLATFORM)
        posts.sort(key=lambda found: -int(found[2].message))
        gap = await self._bot.studio.votes.gap()
        log.info("Comparing the votes on %d messages; the last event was %.0f s ago.", len(posts), gap)
        done: set[str] = set()
        for thorough in (False, True):
            async for page in self._pages(posts):
                seen = {shown.post.message: counts(shown.message) for shown in page if shown.message is not None}
                agree = await self._bot.studio.votes.compare(PLATFORM, seen)
                for shown in page:
                    message = shown.post.message
                    doubtful = shown.message is None or (message in agree and (thorough or not agree[message]))
                    if doubtful and message not in done:
                        if self._missed.is_set():
                            return
                        done.add(message)
                        await self._try(shown)
                        await asyncio.sleep(PACE[thorough])
            log.info("%d messages were read, %s.", len(done), "all with votes" if thorough else "all with other counts")

    async def _pages(self, posts: list[tuple[str, str, Post]]) -> AsyncIterator[list[Shown]]:
        """Yield all posts, with the messages as the histories of their channels tell them.

        Each page begins with the newest post that is left, so that talk between posts costs nothing.
        """
        left = posts
        while left:
            channel, newest = left[0][2].channel, int(left[0][2].message)
            history = self._bot.get_partial_messageable(int(channel)).history(
                limit=PAGE, before=discord.Object(newest + 1)
            )
            at, messages, lowest = time.time(), dict[str, discord.Message](), 0
            try:
                messages = {str(message.id): message async for message in history}
            except FAILURES as error:
                await self._out_of_reach(channel, error)
            else:
                if len(messages) == PAGE:
                    lowest = min(map(int, messages))
                yield [
                    Shown(art_id, guild, post, messages.get(post.message), at)
                    for art_id, guild, post in left
                    if post.channel == channel and int(post.message) >= lowest
                ]
            left = [found for found in left if found[2].channel != channel or int(found[2].message) < lowest]

    async def _out_of_reach(self, channel: str, error: Exception) -> None:
        if isinstance(error, discord.Forbidden):
            if guild := getattr(self._bot.get_channel(int(channel)), "guild", None):
                self._unread.setdefault(guild.id, set()).add(channel)
        elif isinstance(error, discord.NotFound) and error.code == GONE:
            await self._bot.studio.gallery.channel_deleted(PLATFORM, channel)
        else:
            log.info("The votes in the channel %s stay as they are for now: %s", channel, error)
            self._complete = False

    async def _try(self, shown: Shown) -> None:
        try:
            if shown.message is None:
                await self.one(shown.art_id, shown.post)
            else:
                await self._read(shown.art_id, shown.guild, shown.message, shown.at)
        except FAILURES as error:
            await self._out_of_reach(shown.post.channel, error)

    async def one(self, art_id: str, post: Post) -> None:
        """Bring the ledger to the true state of one message."""
        at = time.time()
        try:
            message = await self._bot.message(int(post.channel), int(post.message)).fetch()
        except discord.NotFound:
            await self._bot.studio.gallery.post_deleted(PLATFORM, [post.message])
            return
        # The work knows its guild; a message fetched by ids alone does not.
        guild = (await self._bot.studio.gallery.get(art_id, viewer=None, moderator=True)).guild
        if guild is not None:  # reactions in direct messages are no votes
            await self._read(art_id, guild, message, at)

    async def _read(self, art_id: str, guild: str, message: discord.Message, at: float) -> None:
        votes = self._bot.studio.votes
        numbers, found = counts(message), dict[tuple[str, bool], list[Voter]]()
        for reaction in message.reactions:
            emoji = emoji_key(reaction.emoji)
            if await votes.value_of(emoji, guild):
                for burst in (False, True):
                    if numbers[emoji, burst]:
                        found[emoji, burst] = await self._people(reaction, burst=burst, guild=guild)
        await votes.reconcile(art_id, message=str(message.id), reactions=found, fetch_began=at)

    async def _people(self, reaction: discord.Reaction, *, burst: bool, guild: str) -> list[Voter]:
        """Return all who reacted; ``Reaction.users()`` ends at the count of its message, which may be old."""
        kind = discord.ReactionType.burst if burst else discord.ReactionType.normal
        emoji = reaction.emoji if isinstance(reaction.emoji, str) else f"{reaction.emoji.name}:{reaction.emoji.id}"
        message, people, after = reaction.message, list[Voter](), None
        while True:
            page = await self._bot.http.get_reaction_users(
                message.channel.id, message.id, emoji, PAGE, after=after, type=kind.value
            )
            for user in page:
                if self._bot.user is None or int(user["id"]) != self._bot.user.id:
                    name = user.get("global_name") or user["username"]
                    born = discord.utils.snowflake_time(int(user["id"])).timestamp()
                    member = Member(PLATFORM, str(user["id"]), name)
                    people.append(Voter(member, guild, bot=user.get("bot", False), account_created=born))
            if len(page) < PAGE:
                return people
            after = page[-1]["id"]
