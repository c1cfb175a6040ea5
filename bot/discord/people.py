"""Discord's people and places, as the studio knows them."""

from __future__ import annotations

from collections.abc import Iterable

import discord

from bot.studio import Member, Voter

PLATFORM = "discord"


def member_of(user: discord.abc.User) -> Member:
    """Return who this is."""
    return Member(PLATFORM, str(user.id), user.display_name)


def guild_key(guild_id: int | None) -> str | None:
    """Return the studio's name of a guild; None in direct messages."""
    return f"{PLATFORM}:{guild_id}" if guild_id else None


def voter_of(user: discord.abc.User, guild_id: int | None) -> Voter:
    """Return what eligibility asks about somebody, from what the event itself carried."""
    known = isinstance(user, discord.Member)
    return Voter(
        member_of(user),
        guild=guild_key(guild_id),
        bot=user.bot,
        account_created=discord.utils.snowflake_time(user.id).timestamp(),
        pending=isinstance(user, discord.Member) and user.pending,
        roles=frozenset(_role_ids(user)) if known else None,
    )


def _role_ids(member: discord.abc.User) -> Iterable[str]:
    # The member's own list of ids: roles may be missing from a guild that has just become available.
    return (str(role) for role in getattr(member, "_roles", ()))


def is_moderator(interaction: discord.Interaction) -> bool:
    """Whether this person may manage the server, by Discord's word on the interaction itself."""
    return interaction.guild_id is not None and interaction.permissions.manage_guild


def age_restricted(channel: object) -> bool:
    """Whether the channel, or the parent of the thread, is marked for adults."""
    check = getattr(channel, "is_nsfw", None)
    return bool(check and check())
