"""/apprentice: who paints now and what the last night taught; and each night is told in the gallery channels."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import discord
from discord import app_commands
from discord.ext import commands

from bot.discord import learning
from bot.discord.captions import COLOUR
from bot.discord.client import Ganvas
from bot.discord.people import guild_key
from bot.discord.texts import Voice
from bot.studio import Night, NightEnded

log = logging.getLogger(__name__)


class Apprentice(commands.Cog):
    """The learning, in the open."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot

    async def cog_load(self) -> None:
        """Begin to tell of nights."""
        self.bot.background(self._tell_nights(), "nights")

    @app_commands.command(description="Who paints now, what the last night taught, and what comes next.")
    async def apprentice(self, interaction: discord.Interaction[Ganvas]) -> None:
        """Show the card; hosts find their buttons below."""
        await self.bot.begin(interaction, private=True)
        await learning.show(interaction)

    async def _tell_nights(self) -> None:
        with self.bot.studio.events.subscribe(NightEnded) as stream:
            async for event in stream:
                assert isinstance(event, NightEnded)
                if event.night.state != "rested":  # nothing happened, and that every night would be noise
                    await self._tell(event.night)

    async def _tell(self, night: Night) -> None:
        pictures = await asyncio.to_thread(learning.before_and_after, self.bot.studio.nights.folder, night)
        for guild in self.bot.guilds:
            settings = await self.bot.studio.policy.settings(guild_key(guild.id))
            if not settings.night_posts or settings.gallery_channel is None:
                continue
            say = Voice(settings.language)
            embed = discord.Embed(
                title=say("The painter's night"), description=learning.told(night, say), colour=COLOUR
            )
            if checks := night.diary.get("gate"):
                passed = sum(bool(check.get("passed")) for check in checks)
                text = say("{passed} of {all} checks passed", passed=passed, all=len(checks))
                embed.add_field(name=say("The gate"), value=text)
            files = learning.attached(pictures, say, guild.filesize_limit)
            channel = self.bot.get_partial_messageable(int(settings.gallery_channel))
            try:
                await channel.send(embed=embed, files=files)
            except (discord.HTTPException, aiohttp.ClientError) as error:
                log.warning("The night %s could not be told in %s: %s", night.id, guild.id, error)


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Apprentice(bot))
