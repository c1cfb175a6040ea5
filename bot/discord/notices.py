"""What only managers of a server can mend, told once: in the channel they chose, in their own one, or to the owner."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot.discord.people import guild_key
from bot.discord.texts import Voice

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

log = logging.getLogger(__name__)

LACKS = {
    "history": "I may not read the messages in {channels}, so reactions there may be missed; the buttons still vote. "
    "What I lack is View Channel and Read Message History.",
    "gallery": "I cannot show liked works in {channels}. What I need there is View Channel, Send Messages and Attach "
    "Files.",
}


async def tell_managers(bot: Ganvas, guild_id: int, lack: str, channels: Iterable[str]) -> None:
    """Say that something is lacking in channels of a server, unless that was said before."""
    key = guild_key(guild_id)
    assert key is not None
    settings = await bot.studio.policy.settings(key)
    fresh = [channel for channel in channels if f"{lack}:{channel}" not in settings.told]
    if not fresh:
        return
    say = Voice(settings.language)
    text = say(LACKS[lack], channels=", ".join(f"<#{channel}>" for channel in fresh))
    if await _send(bot, guild_id, settings.notices_channel, text):
        await bot.studio.policy.change(key, told=(*settings.told, *(f"{lack}:{channel}" for channel in fresh)))


async def _send(bot: Ganvas, guild_id: int, chosen: str | None, text: str) -> bool:
    guild = bot.get_guild(guild_id)
    community = guild.public_updates_channel if guild else None
    for channel in (int(chosen) if chosen else None, community.id if community else None):
        if channel is not None:
            try:
                await bot.get_partial_messageable(channel).send(text[:2000])
                return True
            except (discord.HTTPException, aiohttp.ClientError) as error:
                log.info("The managers of %s cannot be told in %s: %s", guild_id, channel, error)
    if guild is not None and guild.owner_id is not None:
        try:
            await (await bot.create_dm(discord.Object(guild.owner_id))).send(f"**{guild.name}**: {text}"[:2000])
            return True
        except (discord.HTTPException, aiohttp.ClientError) as error:
            log.warning("Nobody who manages %s can be told: %s (%s)", guild_id, text, error)
    return False
