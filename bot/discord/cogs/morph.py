"""/morph, and "Morph with..." on any two works."""

from __future__ import annotations

from typing import Literal

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.acts import choose_for_morph, shown_in
from bot.discord.client import Ganvas
from bot.discord.options import complete_stop, read_stop
from bot.discord.people import member_of
from bot.discord.wish import Wish
from engine.api import MorphRequest
from engine.errors import InvalidRequest

FPS = 24
GIF_SECONDS = 4  # longer animations are smaller and finer as MP4


class Morph(commands.Cog):
    """Glides through latent space."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot
        self.menu = app_commands.ContextMenu(name="Morph with...", callback=self.from_message)

    async def cog_load(self) -> None:
        """Context menus cannot be declared inside a class."""
        self.bot.tree.add_command(self.menu)

    async def cog_unload(self) -> None:
        """Take it away again."""
        self.bot.tree.remove_command(self.menu.name, type=self.menu.type)

    @app_commands.command(description="Let one painting glide into another.")
    @app_commands.rename(start="from", end="to")
    @app_commands.describe(
        start="Where it begins: an artwork's id, a genre, or genre:seed",
        end="Where it ends: the same",
        via="A stop between the two",
        seconds="How long it takes",
        format="File format; auto chooses by length",
        private="Only you see the result",
    )
    @app_commands.autocomplete(start=complete_stop, end=complete_stop, via=complete_stop)
    async def morph(
        self,
        interaction: discord.Interaction[Ganvas],
        start: app_commands.Range[str, 1, 100],
        end: app_commands.Range[str, 1, 100],
        via: app_commands.Range[str, 1, 100] | None = None,
        seconds: app_commands.Range[int, 1, 10] = 3,
        format: Literal["auto", "gif", "webp", "mp4"] = "auto",
        private: bool | None = None,
    ) -> None:
        """Morph."""
        wish = await Wish.begin(interaction, private)
        viewer = member_of(interaction.user)
        first, begun = await read_stop(self.bot, start, viewer, last=True)
        words = [via, end] if via else [end]
        rest = [await read_stop(self.bot, word, viewer, last=False, genre=first.genre) for word in words]
        works = [art for art in (begun, *(art for _, art in rest)) if art is not None]
        if not wish.private and any(art.private for art in works):
            raise InvalidRequest("One of these works is private; a morph of it must be private too.")
        kind = ("gif" if seconds <= GIF_SECONDS else "mp4") if format == "auto" else format
        request = MorphRequest(stops=(first, *(stop for stop, _ in rest)), frames=seconds * FPS, fps=FPS, format=kind)
        parents = tuple(dict.fromkeys(art.id for art in works))
        await wish.submit(request, parents=parents)

    async def from_message(self, interaction: discord.Interaction[Ganvas], message: discord.Message) -> None:
        """Take the work of a message as a stop."""
        await choose_for_morph(interaction, shown_in(self.bot, message))


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Morph(bot))
