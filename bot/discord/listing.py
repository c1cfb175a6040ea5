"""Pages of works.  A page's buttons carry the whole question, so they work for ever and for any page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import discord

from bot.discord.buttons import page_view, with_choice
from bot.discord.captions import COLOUR, alt_text, caption, line
from bot.discord.people import PLATFORM, age_restricted, member_of
from bot.studio import Filter, Member, period
from engine.api import GENRES

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

SHOWN = 4  # works a page
MOST = 100  # works a listing reaches back to
PERIODS = ("day", "week", "month", "year", "all")


@dataclass(frozen=True)
class Question:
    """What somebody wants to see."""

    period: str = "all"
    genre: str | None = None
    member: int | None = None
    number: int = 0  # of the page

    def write(self) -> str:
        """Return the form that fits into a button's id."""
        genre = GENRES.index(self.genre) if self.genre else ""
        return f"{self.period}.{genre}.{self.member or ''}.{self.number}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Invert :meth:`write`."""
        since, genre, member, number = text.split(".")
        return cls(since, GENRES[int(genre)] if genre else None, int(member) if member else None, int(number))


async def show(interaction: discord.Interaction[Ganvas], question: Question) -> None:
    """Put a page into the (ephemeral) answer of an interaction that has been deferred."""
    bot = interaction.client
    say = bot.private_voice(interaction)
    viewer = member_of(interaction.user)
    wanted = Filter(
        genre=question.genre,
        since=period(question.period),
        member=Member(PLATFORM, str(question.member)) if question.member else None,
        sort="new" if question.member == interaction.user.id else "top",
        restricted=age_restricted(interaction.channel),
    )
    works = (await bot.studio.gallery.page(wanted, viewer=viewer, limit=MOST)).items
    begin = question.number * SHOWN
    shown = works[begin : begin + SHOWN]
    if not shown:
        await interaction.edit_original_response(content=say("There is nothing here yet."), attachments=[], view=None)
        return
    files = []
    for art in shown:
        small = await bot.studio.gallery.thumbnail(art.id, 320, viewer=viewer)
        files.append(discord.File(small.path, f"{art.id}.webp", description=alt_text(art, say)))
    embed = discord.Embed(
        title=say("Works {first} to {last} of {all}", first=begin + 1, last=begin + len(shown), all=len(works)),
        description="\n".join(f"{line(art, say)} · <@{art.member.id}>" for art in shown),
        colour=COLOUR,
    )
    first = replace(question, number=0).write() if question.number else None
    following = replace(question, number=question.number + 1).write() if begin + SHOWN < len(works) else None
    options = [discord.SelectOption(label=f"{a.id} · {caption(a, say)}"[:100], value=a.id) for a in shown]
    view = with_choice(page_view(first, following, say), "open", "card", options, say("Look at one"))
    await interaction.edit_original_response(content=None, embed=embed, attachments=files, view=view)
