"""From a finished job to messages on Discord: exactly once, past the token's end, past a restart, within any limit.

The status message becomes the result, so delivering twice is an edit that changes nothing.  What needs messages of its
own (the second to fourth painting of a job, or everything when the status message is gone) is looked for by the id of
the work before it is sent, and carries a nonce beside.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import discord

from bot.discord.address import Address
from bot.discord.buttons import batch_view, work_view
from bot.discord.captions import alt_text, caption
from bot.discord.people import PLATFORM
from bot.discord.texts import Voice
from bot.studio import Artwork, Delivery, Job, NotFound, Undeliverable

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

log = logging.getLogger(__name__)

REQUEST_MOST = 24 * 2**20  # bytes of one request with all its files; Discord takes 25 MiB
STEP = 0.7  # how much smaller the next encoding must be when Discord refuses one
STEPS = 6
TOO_LARGE = 40005
TOKEN_DEAD = (50027, 10015, 10062)  # invalid webhook token, unknown webhook, unknown interaction
GONE = (10008, 10003)  # unknown message, unknown channel
SEARCHED = 100  # own messages looked through for one that was sent before a crash

Place = discord.abc.Messageable


class DiscordDeliverer:
    """What the studio's queue calls for jobs of the kind "discord"."""

    def __init__(self, bot: Ganvas) -> None:
        self._bot = bot

    async def find(self, delivery: Delivery) -> str | None:
        """Return the message of an earlier attempt, if all of the job's works were posted already."""
        address = Address(**delivery.job.address)
        places = [await self._posted(address, art) for art in delivery.artworks]
        if not places or not all(places):
            return None
        for art, place in zip(delivery.artworks, places, strict=True):
            await self._remember(art, address, str(place), late=True)
        return str(places[0])

    async def deliver(self, delivery: Delivery) -> str | None:
        """Post a job's works, or say what became of it."""
        job = delivery.job
        address = Address(**job.address)
        say = Voice(address.language)
        await self._bot.progress.stop(job.id)
        if job.error is not None or not delivery.artworks:
            return await self._say(address, say.retell(job.error or "The job ended without a picture."))
        # By itself the bot posts one work a message, so that a reaction means one work; through an interaction alone
        # it has one message for all, which can be edited again without harm.
        if address.reachable:
            places = [await self._first(delivery, address, delivery.artworks[:1], say)]
            for number, art in enumerate(delivery.artworks[1:], start=1):
                places.append(await self._further(delivery, address, art, number, say))
            for art, place in zip(delivery.artworks, places, strict=True):
                await self._remember(art, address, place, late=delivery.attempt > 1)
            return places[0]
        return await self._first(delivery, address, delivery.artworks, say)

    async def _remember(self, art: Artwork, address: Address, place: str, *, late: bool) -> None:
        channel, _, message = place.partition("/")
        if not address.ephemeral:
            with suppress(NotFound):  # removed meanwhile: the studio sends us to delete the post
                await self._bot.studio.gallery.add_post(
                    art.id, platform=PLATFORM, channel=channel, message=message, late=late
                )

    def _content(self, works: Sequence[Artwork], job: Job, say: Voice) -> str:
        lines = [f"{caption(art, say)} · `{art.id}`" for art in works]
        if len(works) > 1:
            lines = [f"{number}. {line}" for number, line in enumerate(lines, start=1)]
        return "\n".join([*lines, *(f"-# {say.retell(note)}" for note in job.notes)])[:2000]

    async def _first(self, delivery: Delivery, address: Address, works: Sequence[Artwork], say: Voice) -> str:
        """Put works into the status message, or where that is impossible, into a new message."""
        job = delivery.job
        view = work_view(works[0], say) if len(works) == 1 else batch_view(tuple(works), say)
        content = self._content(works, job, say)
        here = f"{address.channel}/{address.message}"

        async def through_interaction(files: list[discord.File]) -> str:
            hook = self._bot.webhook(address.token)
            await hook.edit_message(address.message, content=content, attachments=files, view=view)
            return here

        async def through_channel(files: list[discord.File]) -> str:
            message = self._bot.message(address.channel, address.message)
            await message.edit(content=content, attachments=files, view=view)
            return here

        if address.token_lives:
            try:
                return await self._upload(works, job, say, address.limit, through_interaction)
            except discord.HTTPException as error:
                if error.code not in (*TOKEN_DEAD, *GONE):
                    raise
                log.info("Job %s: the interaction is over (%s); using the channel.", job.id, error.code)
        if address.reachable:
            try:
                return await self._upload(works, job, say, self._limit(address), through_channel)
            except discord.HTTPException as error:
                if error.code not in GONE and error.status != 403:
                    raise
                log.info("Job %s: its status message cannot be edited (%s).", job.id, error.code)
        return await self._send(delivery, address, works, content, view, 0, say)

    async def _further(self, delivery: Delivery, address: Address, art: Artwork, number: int, say: Voice) -> str:
        if place := await self._posted(address, art, fresh=delivery.attempt <= 1):
            return place
        content = self._content([art], delivery.job, say)
        return await self._send(delivery, address, [art], content, work_view(art, say), number, say)

    async def _send(
        self, delivery: Delivery, address: Address, works: Sequence[Artwork], content: str, view: discord.ui.View,
        number: int, say: Voice,
    ) -> str:  # fmt: skip
        """Send a message of its own: to the channel, else to the member."""
        credit = f"<@{address.user}> · {content}"[:2000]
        nonce = f"{delivery.nonce[:22]}.{number}"
        for place, limit in await self._places(address):
            if number == 0 and (found := await self._search(place, works[0], address)):
                return found

            async def send(files: list[discord.File], place: Place = place) -> str:
                sent = await place.send(credit, files=files, view=view, nonce=nonce)
                return f"{sent.channel.id}/{sent.id}"

            try:
                return await self._upload(works, delivery.job, say, limit, send)
            except (discord.Forbidden, discord.NotFound) as error:
                log.info("Job %s: %s", delivery.job.id, error)
        raise Undeliverable("The bot may write neither in that channel nor to the member; the work is in /mine.")

    async def _upload(
        self, works: Sequence[Artwork], job: Job, say: Voice, limit: int,
        send: Callable[[list[discord.File]], Awaitable[str]],
    ) -> str:  # fmt: skip
        """Call ``send`` with the works as files; with smaller ones for as long as Discord says they are too large."""
        limit = min(limit, REQUEST_MOST // len(works))
        for _ in range(STEPS):
            files = [await self._file(art, job, say, limit) for art in works]
            try:
                return await send(files)
            except discord.HTTPException as error:
                if error.code != TOO_LARGE and error.status != 413:
                    raise
                largest = max(_length(file) for file in files)
                log.info("Job %s: %d bytes are too many here; trying smaller ones.", job.id, largest)
                limit = int(min(limit, largest) * STEP)
        raise Undeliverable("Even a small copy is too large for Discord here; the work is in /mine.")

    async def _file(self, art: Artwork, job: Job, say: Voice, most: int) -> discord.File:
        output = await self._bot.studio.gallery.fit(art.id, viewer=job.member, max_bytes=most)
        suffix = "jpg" if output.format == "jpeg" else output.format
        return discord.File(
            io.BytesIO(output.data), f"ganvas-{art.id}.{suffix}", spoiler=art.age_restricted,
            description=alt_text(art, say),
        )  # fmt: skip

    async def _places(self, address: Address) -> list[tuple[Place, int]]:
        """Return where the bot may try to write, the best place first, with the limit of a file there."""
        places: list[tuple[Place, int]] = []
        if address.reachable:
            places.append((self._bot.get_partial_messageable(address.channel), self._limit(address)))
        with suppress(discord.HTTPException):
            direct = await self._bot.create_dm(discord.Object(address.user))
            places.append((direct, discord.utils.DEFAULT_FILE_SIZE_LIMIT_BYTES))
        return places

    def _limit(self, address: Address) -> int:
        """Return what the bot may upload to the channel by itself; the interaction's limit is the member's own."""
        guild = self._bot.get_guild(address.guild) if address.guild else None
        return guild.filesize_limit if guild else discord.utils.DEFAULT_FILE_SIZE_LIMIT_BYTES

    async def _say(self, address: Address, sentence: str) -> str | None:
        """Tell how a job ended when there is nothing to show."""
        edit: dict[str, Any] = {"content": sentence[:2000], "attachments": [], "view": None}
        try:
            if address.token_lives:
                await self._bot.webhook(address.token).edit_message(address.message, **edit)
            elif address.reachable:
                await self._bot.message(address.channel, address.message).edit(**edit)
            else:
                await (await self._bot.create_dm(discord.Object(address.user))).send(sentence[:2000])
        except discord.HTTPException as error:
            if error.status < 500 and error.status != 429:
                raise Undeliverable(f"Discord does not take the message: {error.text}") from error
            raise
        return f"{address.channel}/{address.message}"

    async def _posted(self, address: Address, art: Artwork, *, fresh: bool = False) -> str | None:
        """Return where a work stands already; ``fresh`` work needs no search, the database would know."""
        for post in await self._bot.studio.gallery.posts(art.id):
            if post.platform == PLATFORM and post.role == "original" and not post.deleted:
                return f"{post.channel}/{post.message}"
        if fresh:
            return None
        if address.token_lives:
            with suppress(discord.HTTPException):
                shown = await self._bot.webhook(address.token).fetch_message(address.message)
                if _shows(shown, art):
                    return f"{address.channel}/{address.message}"
        for place, _ in await self._places(address):
            if found := await self._search(place, art, address):
                return found
        return None

    async def _search(self, place: Place, art: Artwork, address: Address) -> str | None:
        """Look through the bot's messages since the job began for one that shows the work."""
        since = discord.Object(address.message - 1)
        with suppress(discord.HTTPException):
            async for message in place.history(limit=SEARCHED, after=since, oldest_first=True):
                if self._bot.user and message.author.id == self._bot.user.id and _shows(message, art):
                    return f"{message.channel.id}/{message.id}"
        return None


def _length(file: discord.File) -> int:
    file.fp.seek(0, io.SEEK_END)
    return file.fp.tell()


def _shows(message: discord.Message, art: Artwork) -> bool:
    return any(f"ganvas-{art.id}." in attachment.filename for attachment in message.attachments)
