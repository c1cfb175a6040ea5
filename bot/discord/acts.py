"""What the buttons and lists do.  Each act answers Discord first and thinks afterwards."""

from __future__ import annotations

import io
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import discord

from bot.discord import dueling, learning, listing
from bot.discord.buttons import SEEDED, card_view, choice_view, confirm_view, work_view
from bot.discord.captions import alt_text, caption, card
from bot.discord.options import stop_of
from bot.discord.people import PLATFORM, age_restricted, is_moderator, member_of, voter_of
from bot.discord.remix import reroll, vary
from bot.discord.wish import Wish
from bot.studio import Artwork, Refused, SourceGone
from engine.api import EnhanceRequest, MorphRequest, Request, request_from_wire
from engine.errors import InvalidRequest

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

ENHANCE_BY = 2


@dataclass(frozen=True)
class Press:
    """A pressed button: who, where, on what; ``chosen`` is the value picked in a list."""

    interaction: discord.Interaction[Ganvas]
    subject: str
    chosen: str | None = None

    @property
    def bot(self) -> Ganvas:
        """The bot."""
        return self.interaction.client

    async def art(self) -> Artwork:
        """Return the work it is about, if this person may see it."""
        return await self.bot.studio.gallery.get(self.subject, viewer=member_of(self.interaction.user))


async def perform(interaction: discord.Interaction[Ganvas], verb: str, subject: str, chosen: str | None = None) -> None:
    """Do what a button says; tell the person alone what went wrong."""
    try:
        await _ACTS[verb](Press(interaction, subject, chosen))
    except Exception as error:
        await interaction.client.tell_mistake(interaction, error)
    else:
        await interaction.client.thinking.ends(interaction)


def named(art_id: str) -> Callable[[], Awaitable[str]]:
    """Return a way to find a work whose id is known."""

    async def find() -> str:
        return art_id

    return find


def shown_in(bot: Ganvas, message: discord.Message) -> Callable[[], Awaitable[str]]:
    """Return a way to find the work that a message shows; it raises InvalidRequest if there is none."""

    async def find() -> str:
        art_id = await bot.art_shown(message.id, message.author.id)
        if art_id is None:
            raise InvalidRequest("That message shows no artwork of mine.")
        return art_id

    return find


# Votes


async def _vote(press: Press, value: Literal["up", "down"]) -> None:
    interaction, bot = press.interaction, press.bot
    await interaction.response.defer()
    voter = voter_of(interaction.user, interaction.guild_id)
    ballot = await bot.studio.votes.toggle(press.subject, voter, value)
    say = bot.private_voice(interaction)
    if not ballot.accepted:
        await interaction.followup.send(say.retell(ballot.reason or "That vote does not count."), ephemeral=True)
        return
    view = _recounted(interaction.message, press.subject, ballot.tally.up, ballot.tally.down)
    if view is not None and interaction.message is not None:
        bot.counts.shows(interaction.message.id, ballot.tally)
        await interaction.edit_original_response(view=view)


def _recounted(message: discord.Message | None, art_id: str, up: int, down: int) -> discord.ui.View | None:
    """Return the message's own buttons with the new counts on the votes; None in a batch, where rows are numbered."""
    if message is None or len(message.attachments) > 1:
        return None
    view = discord.ui.View.from_message(message, timeout=None)
    counts = {f"gan:1:up:{art_id}": up, f"gan:1:down:{art_id}": down}
    for item in view.children:
        custom_id = getattr(item, "custom_id", None)
        if isinstance(item, discord.ui.Button) and custom_id in counts:
            item.label = str(counts[custom_id]) if counts[custom_id] else None
    return view


async def _up(press: Press) -> None:
    await _vote(press, "up")


async def _down(press: Press) -> None:
    await _vote(press, "down")


# More of the same


def _as_the_message(interaction: discord.Interaction[Ganvas]) -> bool | None:
    """Return True below a message that only one person sees; else nothing is said about privacy."""
    return True if interaction.message and interaction.message.flags.ephemeral else None


async def _again(press: Press, change: Callable[[Request], Request]) -> None:
    bot, interaction = press.bot, press.interaction
    wish = await Wish.begin(interaction, _as_the_message(interaction))
    art, me = await press.art(), member_of(interaction.user)
    if art.job_id is None:
        raise InvalidRequest(f"`{art.id}` was not made by a job here, so it cannot be made again.")
    try:
        request = await bot.studio.queue.request(art.job_id, by=me)
    except SourceGone:
        if art.member == me:
            raise
        request = await _from_result(bot, art)  # a photo is its sender's; others go on from the finished work
    await wish.submit(change(request), private=art.private, parents=(art.id,))


async def _from_result(bot: Ganvas, art: Artwork) -> Request:
    """Return the request that made a work, with the work itself in place of the photo."""
    job = await bot.studio.queue.get(art.job_id or "")
    output = await bot.studio.gallery.fit(art.id, viewer=art.member, max_bytes=bot.settings.max_upload_bytes)
    photos = [name for name, value in job.options.items() if isinstance(value, dict)]
    options = {name: value for name, value in job.options.items() if name not in photos}
    return request_from_wire(options | {name: output.data for name in photos if name != "style_image"})


async def _roll(press: Press) -> None:
    await _again(press, lambda request: reroll(request, random.Random(), press.bot.styles))


async def _vary(press: Press) -> None:
    await _again(press, lambda request: vary(request, random.Random()))


async def _enhance(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    wish = await Wish.begin(interaction, _as_the_message(interaction))
    art = await press.art()
    output = await bot.studio.gallery.fit(
        art.id, viewer=member_of(interaction.user), max_bytes=bot.settings.max_upload_bytes
    )
    request = EnhanceRequest(image=output.data, scale=ENHANCE_BY)
    await wish.submit(request, private=art.private, parents=(art.id,))


# Morphs: choose one work, then another


async def choose_for_morph(interaction: discord.Interaction[Ganvas], find: Callable[[], Awaitable[str]]) -> None:
    """Take a work as the second stop if this person chose a first one just now; else as the first, and ask."""
    bot = interaction.client
    first = bot.morphing.pop(interaction.user.id, None)
    wish = await Wish.begin(interaction, True if first is None or first.private else None)
    say = wish.say
    viewer = member_of(interaction.user)
    art = await bot.studio.gallery.get(await find(), viewer=viewer)
    stop_of(art, last=True)
    if first is not None:
        if art.private and not wish.private:
            raise InvalidRequest(f"`{art.id}` is private; choose it first, so that the morph is private too.")
        await _morph_pair(wish, first, art)
        return
    bot.morphing[interaction.user.id] = art
    works = await bot.studio.gallery.search("", viewer=viewer, limit=100)
    others = [other for other in works if other.command in SEEDED and other.id != art.id][:25]
    options = [discord.SelectOption(label=f"{a.id} · {caption(a, say)}"[:100], value=a.id) for a in others]
    # The list carries the first work in its id, so that it still works after a restart.
    view = choice_view("with", art.id, options, say("Morph with...")) if options else None
    text = say("`{first}` is the first. Choose the second here, or use Morph on another work.", first=art.id)
    await interaction.edit_original_response(content=text, view=view)


async def _morph(press: Press) -> None:
    await choose_for_morph(press.interaction, named(press.subject))


async def _with(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    bot.morphing.pop(interaction.user.id, None)
    viewer = member_of(interaction.user)
    pair = press.subject, press.chosen or ""
    known = [art for art_id in pair for art in await bot.studio.gallery.search(art_id, viewer=viewer, limit=1)]  # RAM
    wish = await Wish.begin(interaction, True if any(art.private for art in known) else None)
    first, second = [await bot.studio.gallery.get(art_id, viewer=viewer) for art_id in pair]
    await _morph_pair(wish, first, second)


async def _morph_pair(wish: Wish, first: Artwork, second: Artwork) -> None:
    request = MorphRequest(stops=(stop_of(first, last=True), stop_of(second, last=False)))
    parents = tuple(dict.fromkeys((first.id, second.id)))
    await wish.submit(request, private=first.private or second.private, parents=parents)


# Looking at a work


async def show_card(interaction: discord.Interaction[Ganvas], find: Callable[[], Awaitable[str]]) -> None:
    """Show the card of a work to the person alone."""
    bot = interaction.client
    message, say = await bot.begin(interaction, private=True)
    viewer = member_of(interaction.user)
    lineage = await bot.studio.gallery.lineage(await find(), viewer=viewer)
    art = lineage.artwork
    if art.age_restricted and not age_restricted(interaction.channel) and art.member != viewer:
        raise Refused("This work may only be shown in an age-restricted channel.")
    small = await bot.studio.gallery.thumbnail(art.id, 640, viewer=viewer)
    file = discord.File(small.path, f"{art.id}.webp", description=alt_text(art, say))
    embed = card(art, say, lineage).set_image(url=f"attachment://{art.id}.webp")
    view = card_view(art, say, own=art.member == viewer or is_moderator(interaction))
    await bot.webhook(interaction.token).edit_message(message, embed=embed, attachments=[file], view=view)


async def _info(press: Press) -> None:
    await show_card(press.interaction, named(press.subject))


async def _file(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    message, say = await bot.begin(interaction, private=True)
    viewer = member_of(interaction.user)
    art = await press.art()
    output = await bot.studio.gallery.fit(art.id, viewer=viewer, max_bytes=interaction.filesize_limit)
    name = f"ganvas-{art.id}.{'jpg' if output.format == 'jpeg' else output.format}"
    file = discord.File(io.BytesIO(output.data), name, description=alt_text(art, say))
    await bot.webhook(interaction.token).edit_message(message, content=caption(art, say), attachments=[file])


async def _share(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    message, say = await bot.begin(interaction, private=False)
    art = await press.art()
    if art.private or (art.age_restricted and not age_restricted(interaction.channel)):
        raise Refused("A private or age-restricted work cannot be shown here.")
    output = await bot.studio.gallery.fit(art.id, viewer=art.member, max_bytes=interaction.filesize_limit)
    name = f"ganvas-{art.id}.{'jpg' if output.format == 'jpeg' else output.format}"
    file = discord.File(io.BytesIO(output.data), name, description=alt_text(art, say))
    content = f"{caption(art, say)} · `{art.id}` · <@{art.member.id}>"
    hook = bot.webhook(interaction.token)
    await hook.edit_message(message, content=content, attachments=[file], view=work_view(art, say))
    channel = str(interaction.channel_id)
    await bot.studio.gallery.add_post(art.id, platform=PLATFORM, channel=channel, message=str(message), role="share")


async def _delete(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    await bot.begin(interaction, private=True)
    say = bot.private_voice(interaction)
    art = await press.art()
    if art.member != member_of(interaction.user) and not is_moderator(interaction):
        raise Refused("Only the member who made a work, or a moderator, can remove it.")
    view = confirm_view("remove", art.id, say("Delete"))
    question = say("Delete `{id}` for good, here and in the gallery?", id=art.id)
    await interaction.edit_original_response(content=question, view=view)


async def _remove(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    await interaction.response.defer()
    say = bot.private_voice(interaction)
    by, moderator = member_of(interaction.user), is_moderator(interaction)
    await bot.studio.gallery.remove(press.subject, by=by, moderator=moderator)
    await interaction.edit_original_response(content=say("`{id}` is deleted.", id=press.subject), view=None)


# Everything else


async def _cancel(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    await interaction.response.defer()
    by = member_of(interaction.user)
    job = await bot.studio.queue.cancel(press.subject, by=by, moderator=is_moderator(interaction))
    say = bot.private_voice(interaction)
    text = say("Cancelled.") if job.state == "cancelled" else say("It was done already.")
    await interaction.followup.send(text, ephemeral=True)


async def _page(press: Press) -> None:
    await press.interaction.response.defer()
    await listing.show(press.interaction, listing.Question.read(press.subject))


async def _open(press: Press) -> None:
    await show_card(press.interaction, named(press.chosen or ""))


async def _duel(press: Press) -> None:
    await press.interaction.response.defer()
    await dueling.show(press.interaction, None if press.subject == "any" else press.subject)


async def _choose(press: Press, choice: dueling.Choice) -> None:
    await press.interaction.response.defer()
    await dueling.choose(press.interaction, press.subject, choice)


async def _first(press: Press) -> None:
    await _choose(press, "first")


async def _second(press: Press) -> None:
    await _choose(press, "second")


async def _neither(press: Press) -> None:
    await _choose(press, "neither")


async def _night(press: Press) -> None:
    await press.interaction.response.defer()
    await learning.act(press.interaction, press.subject)


async def _office(press: Press) -> None:
    await press.interaction.response.defer()
    await learning.roll_back(press.interaction, press.chosen)


async def _forget(press: Press) -> None:
    bot, interaction = press.bot, press.interaction
    await interaction.response.defer()
    say = bot.private_voice(interaction)
    if press.subject != str(interaction.user.id):
        raise Refused("That button is somebody else's.")
    me = member_of(interaction.user)
    gone = await bot.studio.policy.delete(me)
    bot.private_members.discard(me.key)
    text = say(
        "Deleted: {artworks} works, {votes} votes, {jobs} jobs, {posts} posts.",
        artworks=gone.artworks, votes=gone.votes, jobs=gone.jobs, posts=gone.posts,
    )  # fmt: skip
    if gone.nights:
        text += " " + say("Lessons that had used some of it: {nights}.", nights=", ".join(gone.nights))
    await interaction.edit_original_response(content=text, view=None)


_ACTS: dict[str, Callable[[Press], Awaitable[None]]] = {
    "up": _up, "down": _down, "roll": _roll, "vary": _vary, "enhance": _enhance, "morph": _morph, "with": _with,
    "info": _info, "file": _file, "share": _share, "delete": _delete, "remove": _remove, "cancel": _cancel,
    "page": _page, "open": _open, "forget": _forget, "duel": _duel, "first": _first, "second": _second,
    "neither": _neither, "night": _night, "office": _office,
}  # fmt: skip
