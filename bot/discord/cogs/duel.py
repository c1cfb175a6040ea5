"""/duel: two blind works, one choice."""

from __future__ import annotations

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord import dueling
from bot.discord.client import Ganvas
from bot.discord.options import genre_choices


class Duel(commands.Cog):
    """Blind pairs: what the learning trusts most."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot

    @app_commands.command(description="Two works side by side, without names: which is better?")
    @app_commands.describe(genre="Only this genre")
    async def duel(self, interaction: discord.Interaction[Ganvas], genre: str | None = None) -> None:
        """Show a pair."""
        await self.bot.begin(interaction, private=True)
        await dueling.show(interaction, genre)


async def setup(bot: Ganvas) -> None:
    """Add the feature; nudes are never in a duel."""
    cog = Duel(bot)
    app_commands.choices(genre=genre_choices(nudes=False))(cog.duel)
    await bot.add_cog(cog)
