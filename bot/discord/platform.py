"""Where Discord is.  The one place that knows its addresses, so that tests may put a stand-in there."""

from __future__ import annotations

import discord
import yarl


def point_at(address: str) -> None:
    """Make the client library talk to ``address`` (http://host:port) instead of discord.com, for this whole process."""
    base = yarl.URL(address)
    discord.http.Route.BASE = str(base.with_path("/api/v10"))
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = base.with_scheme("ws").with_path("/gateway")
    discord.asset.Asset.BASE = str(base.with_path("/cdn"))


def may_speak(interaction: discord.Interaction) -> bool:
    """Whether the bot can write here by itself: it is in the guild and allowed to, or it is its own direct channel."""
    if interaction.guild_id is None:
        return interaction.context.dm_channel
    allowed = interaction.app_permissions
    here = interaction.client.get_guild(interaction.guild_id) is not None and interaction.is_guild_integration()
    thread = isinstance(interaction.channel, discord.Thread)
    speak = allowed.send_messages_in_threads if thread else allowed.send_messages
    return here and allowed.view_channel and speak and allowed.attach_files
