"""A wish for a work: an interaction that was answered with "thinking", and whose answer will become the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import discord

from bot.discord.address import Address
from bot.discord.people import age_restricted, guild_key, member_of
from bot.discord.texts import Voice
from bot.discord.thinking import key_of
from bot.studio import Job, Member
from engine.api import Request

if TYPE_CHECKING:
    from bot.discord.client import Ganvas


@dataclass(frozen=True)
class Wish:
    """Who wished, and the message that answers; ``say`` is the language to go on in."""

    interaction: discord.Interaction[Ganvas]
    message: int
    say: Voice
    private: bool

    @classmethod
    async def begin(cls, interaction: discord.Interaction[Ganvas], private: bool | None) -> Wish:
        """Answer at once; without a word about ``private`` the member's own preference holds."""
        bot = interaction.client
        if private is None:
            private = member_of(interaction.user).key in bot.private_members
        message, say = await bot.begin(interaction, private=private)
        return cls(interaction, message, say, private)

    async def submit(
        self, request: Request, *, parents: Sequence[str] = (), photo_owner: Member | None = None, private: bool = False
    ) -> Job:
        """Put it into the queue; ``private`` makes it so although the answer is public."""
        interaction, bot = self.interaction, self.interaction.client
        address = Address.of(interaction, self.message, ephemeral=self.private, language=self.say.language)
        job = await bot.studio.queue.submit(
            request,
            member=member_of(interaction.user),
            guild=guild_key(interaction.guild_id),
            private=self.private or private,
            kind="discord",
            address=address.to_json(),
            parents=parents,
            photo_owner=photo_owner,
            age_restricted=age_restricted(interaction.channel),
            key=key_of(interaction),
        )
        bot.thinking.passed_on(interaction)
        bot.progress.follow(job)
        return job
