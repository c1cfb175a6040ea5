"""Where a job's result goes: the place and the means, as JSON in the job itself, so that it survives a restart."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import discord

from bot.discord.platform import may_speak

MARGIN = 30.0  # s before the token's end from which the interaction is no longer trusted with an upload


@dataclass(frozen=True, kw_only=True)
class Address:
    """One interaction's place."""

    channel: int
    message: int  # the status message, which becomes the result
    token: str  # of the interaction; worth nothing after `expires`
    expires: float  # Unix seconds
    limit: int  # bytes a file may have in an answer to this interaction
    user: int
    guild: int | None
    reachable: bool  # whether the bot can also write there without the interaction
    ephemeral: bool
    language: str

    @classmethod
    def of(cls, interaction: discord.Interaction, message: int, *, ephemeral: bool, language: str) -> Address:
        """Read everything off an interaction that has just been answered with the message ``message``."""
        return cls(
            channel=interaction.channel_id or 0,
            message=message,
            token=interaction.token,
            expires=interaction.expires_at.timestamp(),
            limit=interaction.filesize_limit,
            user=interaction.user.id,
            guild=interaction.guild_id,
            reachable=not ephemeral and may_speak(interaction),
            ephemeral=ephemeral,
            language=language,
        )

    @property
    def token_lives(self) -> bool:
        """Whether the interaction may still be used."""
        return time.time() < self.expires - MARGIN

    def to_json(self) -> dict[str, Any]:
        """Return the form that a job stores."""
        return asdict(self)
