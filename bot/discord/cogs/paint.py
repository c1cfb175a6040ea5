"""/paint: paintings by genre, out of nothing but a seed."""

from __future__ import annotations

import random
from typing import Literal

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.client import Ganvas
from bot.discord.options import SIZES, complete_art_style, genre_choices, read_style
from bot.discord.remix import fresh_seed
from bot.discord.wish import Wish
from engine.api import PSI, PaintRequest, parse_seed


class Paint(commands.Cog):
    """Paintings by genre."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot

    @app_commands.command(description="Paint a picture of a genre.")
    @app_commands.describe(
        genre="What to paint",
        style="An art style, or a style to finish it in; a list appears while you type",
        count="How many paintings",
        seed="A number or any text; the same seed paints the same picture",
        boldness="0 is calm and typical, 100 bold and strange",
        size="Format of the picture",
        private="Only you see the result",
    )
    @app_commands.autocomplete(style=complete_art_style)
    async def paint(
        self,
        interaction: discord.Interaction[Ganvas],
        genre: str,
        style: str | None = None,
        count: app_commands.Range[int, 1, 4] = 1,
        seed: app_commands.Range[str, 1, 100] | None = None,
        boldness: app_commands.Range[int, 0, 100] = round(100 * PSI),  # noqa: B008 (a plain value)
        size: Literal["square", "wide", "tall", "wall"] = "square",
        private: bool | None = None,
    ) -> None:
        """Paint."""
        wish = await Wish.begin(interaction, private)
        width, height = SIZES[size]
        request = PaintRequest(
            genre=genre,
            art_style=read_style(style, self.bot.art_styles),
            count=count,
            seed=parse_seed(seed) if seed else fresh_seed(random.Random()),
            psi=boldness / 100,
            width=width,
            height=height,
        )
        await wish.submit(request)


async def setup(bot: Ganvas) -> None:
    """Add the feature, with the genres this host allows."""
    cog = Paint(bot)
    app_commands.choices(genre=genre_choices(nudes=bot.settings.nudes))(cog.paint)
    await bot.add_cog(cog)
