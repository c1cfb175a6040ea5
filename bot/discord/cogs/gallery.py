"""/gallery, /mine, /artwork, and "Recipe" on a message."""

from __future__ import annotations

from typing import Literal

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord import listing
from bot.discord.acts import named, show_card, shown_in
from bot.discord.client import Ganvas
from bot.discord.options import complete_work, genre_choices


class Gallery(commands.Cog):
    """Looking at what was made."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot
        self.menu = app_commands.ContextMenu(name="Recipe", callback=self.from_message)

    async def cog_load(self) -> None:
        """Context menus cannot be declared inside a class."""
        self.bot.tree.add_command(self.menu)

    async def cog_unload(self) -> None:
        """Take it away again."""
        self.bot.tree.remove_command(self.menu.name, type=self.menu.type)

    @app_commands.command(description="Leaf through the best liked works.")
    @app_commands.describe(period="How far back", genre="Only this genre", member="Only works of this member")
    async def gallery(
        self,
        interaction: discord.Interaction[Ganvas],
        period: Literal["day", "week", "month", "year", "all"] = "month",
        genre: str | None = None,
        member: discord.User | None = None,
    ) -> None:
        """Show the gallery."""
        await self.bot.begin(interaction, private=True)
        await listing.show(interaction, listing.Question(period, genre, member.id if member else None))

    @app_commands.command(description="Leaf through your own works, private ones too.")
    async def mine(self, interaction: discord.Interaction[Ganvas]) -> None:
        """Show one's own works."""
        await self.bot.begin(interaction, private=True)
        await listing.show(interaction, listing.Question(member=interaction.user.id))

    @app_commands.command(description="Look at one work: recipe, family, votes.")
    @app_commands.describe(id="The artwork's id")
    @app_commands.autocomplete(id=complete_work)
    async def artwork(self, interaction: discord.Interaction[Ganvas], id: app_commands.Range[str, 1, 20]) -> None:
        """Show one work."""
        await show_card(interaction, named(id))

    async def from_message(self, interaction: discord.Interaction[Ganvas], message: discord.Message) -> None:
        """Show the recipe of the work in a message."""
        await show_card(interaction, shown_in(self.bot, message))


async def setup(bot: Ganvas) -> None:
    """Add the feature, with the genres this host allows."""
    cog = Gallery(bot)
    app_commands.choices(genre=genre_choices(nudes=bot.settings.nudes))(cog.gallery)
    await bot.add_cog(cog)
