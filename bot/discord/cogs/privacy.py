"""/privacy: take your data with you, have it deleted, decide what it may teach."""

from __future__ import annotations

import asyncio

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.buttons import confirm_view
from bot.discord.client import Ganvas
from bot.discord.people import member_of
from engine.errors import InvalidRequest


class Privacy(
    commands.GroupCog, name="privacy", description="What Ganvas knows about you, and what it may do with it."
):
    """Everybody's own data."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot
        super().__init__()

    @app_commands.command(description="Get everything that is stored about you.")
    async def export(self, interaction: discord.Interaction[Ganvas]) -> None:
        """Send a zip with data and files."""
        _, say = await self.bot.begin(interaction, private=True)
        archive = await self.bot.studio.policy.export(member_of(interaction.user))
        try:
            size = (await asyncio.to_thread(archive.stat)).st_size
            if size > interaction.filesize_limit:
                raise InvalidRequest(
                    f"Your archive has {size / 2**20:.0f} MiB, more than Discord takes here "
                    f"({interaction.filesize_limit / 2**20:.0f} MiB); ask the host for it."
                )
            text = say("Everything stored about you")
            file = discord.File(archive, "ganvas-export.zip", description=text)
            await interaction.edit_original_response(content=text, attachments=[file])
        finally:
            await asyncio.to_thread(archive.unlink, missing_ok=True)

    @app_commands.command(description="Delete your works, votes and posts for good.")
    async def delete(self, interaction: discord.Interaction[Ganvas]) -> None:
        """Ask once more."""
        _, say = await self.bot.begin(interaction, private=True)
        view = confirm_view("forget", str(interaction.user.id), say("Delete everything of mine"))
        text = say("This deletes all your works, votes, jobs and posts, everywhere, for good. Nobody can undo it.")
        await interaction.edit_original_response(content=text, view=view)

    @app_commands.command(description="Whether your works and votes may teach the painter.")
    @app_commands.describe(on="True: they may")
    async def training(self, interaction: discord.Interaction[Ganvas], on: bool) -> None:
        """Opt in or out."""
        _, say = await self.bot.begin(interaction, private=True)
        await self.bot.studio.policy.prefer(member_of(interaction.user), training=on)
        yes, no = say("Your works and votes may teach the painter."), say("Nothing of yours will teach the painter.")
        await interaction.edit_original_response(content=yes if on else no)

    @app_commands.command(description="Whether your works are private unless you say otherwise.")
    @app_commands.describe(on="True: only you see them")
    async def private(self, interaction: discord.Interaction[Ganvas], on: bool) -> None:
        """Choose what the option private is where it is not named."""
        _, say = await self.bot.begin(interaction, private=True)
        me = member_of(interaction.user)
        await self.bot.studio.policy.prefer(me, private=on)
        (self.bot.private_members.add if on else self.bot.private_members.discard)(me.key)
        yes, no = say("Only you see your new works, unless you say otherwise."), say("Your new works are public.")
        await interaction.edit_original_response(content=yes if on else no)

    @app_commands.command(description="Whether others may stylize pictures you post.")
    @app_commands.describe(on="True: others may")
    async def photos(self, interaction: discord.Interaction[Ganvas], on: bool) -> None:
        """Consent to Apps > Stylize on one's own messages."""
        _, say = await self.bot.begin(interaction, private=True)
        await self.bot.studio.policy.prefer(member_of(interaction.user), others_may_stylize=on)
        yes, no = say("Others may stylize pictures you post."), say("Nobody else may stylize pictures you post.")
        await interaction.edit_original_response(content=yes if on else no)

    @app_commands.command(description="Whether your reactions count as votes.")
    @app_commands.describe(on="True: they count")
    async def reactions(self, interaction: discord.Interaction[Ganvas], on: bool) -> None:
        """Keep reactions and votes apart; buttons always vote."""
        _, say = await self.bot.begin(interaction, private=True)
        await self.bot.studio.policy.prefer(member_of(interaction.user), votes=on)
        yes, no = say("Your reactions count as votes."), say("Your reactions are no votes; the buttons still are.")
        await interaction.edit_original_response(content=yes if on else no)


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Privacy(bot))
