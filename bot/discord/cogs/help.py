"""/help: what it can do, and what it lacks in this channel."""

from __future__ import annotations

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.captions import COLOUR
from bot.discord.client import Ganvas
from bot.discord.texts import Voice

NEEDED = {
    "view_channel": "see this channel",
    "send_messages": "send messages",
    "send_messages_in_threads": "send messages in threads",
    "attach_files": "attach files",
    "embed_links": "embed links",
    "read_message_history": "read the message history, to count reactions after a restart",
}


def lacking(interaction: discord.Interaction[Ganvas], say: Voice) -> list[str]:
    """Return in words what the bot may not do in the channel of an interaction."""
    allowed = interaction.app_permissions
    return [say(words) for name, words in NEEDED.items() if not getattr(allowed, name)]


class Help(commands.Cog):
    """Help."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot

    @app_commands.command(description="What Ganvas can do, and whether it may do it here.")
    async def help(self, interaction: discord.Interaction[Ganvas]) -> None:
        """Show all commands and check this channel."""
        _, say = await self.bot.begin(interaction, private=True)
        lines = [
            f"**/{command.name}** {say(command.description)}"
            for command in self.bot.tree.get_commands(type=discord.AppCommandType.chat_input)
            if isinstance(command, app_commands.Command | app_commands.Group)
        ]
        embed = discord.Embed(title="Ganvas", description="\n".join(lines), colour=COLOUR)
        menus = self.bot.tree.get_commands(type=discord.AppCommandType.message)
        embed.add_field(
            name=say("On any message, under Apps"), value=", ".join(menu.name for menu in menus), inline=False
        )
        embed.add_field(
            name=say("Votes"),
            value=say("Reactions with a vote emoji are votes that everybody sees; the buttons vote without a trace."),
            inline=False,
        )
        embed.add_field(name=say("In this channel"), value=self._check(interaction, say), inline=False)
        await interaction.edit_original_response(embed=embed)

    @staticmethod
    def _check(interaction: discord.Interaction[Ganvas], say: Voice) -> str:
        if interaction.guild_id is not None and not interaction.is_guild_integration():
            return say("I am your own app here, not a member of this server: votes work by button only.")
        lacks = lacking(interaction, say)
        if not lacks:
            return "✓ " + say("I may do everything I need.")
        return "✗ " + say("I may not: {list}. Ask somebody who manages the server.", list="; ".join(lacks))


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Help(bot))
