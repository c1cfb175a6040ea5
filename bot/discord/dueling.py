"""Duels: two blind works of one genre side by side.  Who made them, and their votes, are told after the choice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import discord

from bot.discord.buttons import duel_view, next_duel_view
from bot.discord.captions import GENRE_NAMES, line, maker
from bot.discord.people import guild_key, member_of, voter_of
from bot.studio import NotFound

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

Choice = Literal["first", "second", "neither"]
SIDE = 640  # px; small copies also carry no recipe that could tell the painter


async def show(interaction: discord.Interaction[Ganvas], genre: str | None) -> None:
    """Put a fresh pair into the (ephemeral) answer of an interaction that has been deferred.

    Where the bot lives in the server the works are those of the server; elsewhere they come from everywhere.
    """
    bot, me = interaction.client, member_of(interaction.user)
    say = await bot.voice(interaction, private=True)
    guild = guild_key(interaction.guild_id) if interaction.is_guild_integration() else None
    try:
        duel = await bot.studio.duels.draw(me, guild, genre=genre)
    except NotFound:
        text = say("There are no two new works by others to compare here; paint some more, or come back later.")
        await interaction.edit_original_response(content=text, attachments=[], view=None)
        return
    gallery = bot.studio.gallery
    pair = await asyncio.gather(*(gallery.thumbnail(art.id, SIDE, viewer=me) for art in (duel.first, duel.second)))
    subject = say(GENRE_NAMES[duel.genre])
    first, second = (discord.File(small.path, f"{n}.webp") for n, small in zip(("first", "second"), pair, strict=True))
    first.description = say("The first of two works: {genre}", genre=subject)
    second.description = say("The second of two works: {genre}", genre=subject)
    text = say("{genre}: which is better? Who made them is told afterwards.", genre=subject)
    view = duel_view(f"{duel.id}.{genre or ''}", say)
    await interaction.edit_original_response(content=f"**{text}**", attachments=[first, second], view=view)


async def choose(interaction: discord.Interaction[Ganvas], subject: str, choice: Choice) -> None:
    """Take the choice, tell whose works they were, and offer the next pair."""
    bot = interaction.client
    duel_id, _, genre = subject.partition(".")
    duel = await bot.studio.duels.choose(duel_id, voter_of(interaction.user, interaction.guild_id), choice)
    say = await bot.voice(interaction, private=True)
    emblems = {"first": "1️⃣", "second": "2️⃣"}
    lines = [
        f"{emblems[name]} {line(art, say)} · {maker(art)}" + (" 🏆" if duel.choice == name else "")
        for name, art in (("first", duel.first), ("second", duel.second))
    ]
    thanks = say("Thank you; the painter listens to this at night.")
    await interaction.edit_original_response(content="\n".join([thanks, *lines]), view=next_duel_view(genre, say))
