"""/settings: what a server decides for itself."""

from __future__ import annotations

from typing import Any, Literal

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.client import Ganvas
from bot.discord.options import complete_style, read_style
from bot.discord.people import age_restricted, guild_key
from bot.discord.texts import LANGUAGES, Voice
from bot.studio import GuildSettings
from engine.errors import InvalidRequest

EMOJI = discord.PartialEmoji


def read_emojis(text: str) -> tuple[str, ...]:
    """Return emojis that stand in a text, custom ones by their id.

    Raises:
        InvalidRequest: there is something else among them.
    """
    found = []
    for word in text.replace(",", " ").split():
        emoji = EMOJI.from_str(word)
        if emoji.id:
            found.append(str(emoji.id))
        elif not word.isascii():
            found.append(word)
        else:
            raise InvalidRequest(f"{word!r} is no emoji; write them with spaces between, for example ❤ 👍.")
    return tuple(found)


class Settings(commands.Cog):
    """The settings of a server."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot

    @app_commands.command(description="See or change how Ganvas works in this server.")
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.checks.has_permissions(manage_guild=True)
    @app_commands.describe(
        gallery_channel="Where liked works are shown",
        gallery_off="Stop showing works in the gallery channel",
        threshold="Votes that lead into the gallery",
        remove_below="A work leaves the gallery below this",
        up="Emojis that are a vote for a work, with spaces between",
        down="Emojis that are a vote against a work",
        voting="Whether anybody votes here",
        voters="Only members with this role vote; @everyone lifts it",
        account_days="Days an account must be old to vote",
        member_limit="Jobs a member may have waiting",
        server_limit="Jobs this server may have waiting",
        nudes="Allow nude paintings in age-restricted channels",
        default_style="The style of /stylize when none is named",
        language="What the bot speaks in public here",
        night_posts="Tell of the painter's nights in the gallery channel",
        notices="Where I tell you what I lack in this server",
    )
    @app_commands.choices(
        language=[app_commands.Choice(name=name, value=code) for code, name in LANGUAGES.items()],
    )
    @app_commands.autocomplete(default_style=complete_style)
    async def settings(
        self,
        interaction: discord.Interaction[Ganvas],
        gallery_channel: discord.TextChannel | None = None,
        gallery_off: bool = False,
        threshold: app_commands.Range[int, 1, 1000] | None = None,
        remove_below: app_commands.Range[int, -1000, 1000] | None = None,
        up: app_commands.Range[str, 1, 100] | None = None,
        down: app_commands.Range[str, 1, 100] | None = None,
        voting: bool | None = None,
        voters: discord.Role | None = None,
        account_days: app_commands.Range[int, 0, 3650] | None = None,
        member_limit: app_commands.Range[int, 1, 1000] | None = None,
        server_limit: app_commands.Range[int, 1, 10000] | None = None,
        nudes: bool | None = None,
        default_style: str | None = None,
        language: str | None = None,
        night_posts: bool | None = None,
        notices: discord.TextChannel | None = None,
    ) -> None:
        """Change what is named, show everything."""
        _, say = await self.bot.begin(interaction, private=True)
        guild = guild_key(interaction.guild_id) or ""
        changes: dict[str, Any] = {
            "gallery_threshold": threshold,
            "gallery_remove_below": remove_below,
            "up": read_emojis(up) if up else None,
            "down": read_emojis(down) if down else None,
            "voting": voting,
            "min_account_days": account_days,
            "member_waiting": member_limit,
            "guild_waiting": server_limit,
            "nudes": nudes,
            "default_style": read_style(default_style, self.bot.styles),
            "language": language,
            "night_posts": night_posts,
            "notices_channel": str(notices.id) if notices else None,
        }
        changes = {key: value for key, value in changes.items() if value is not None}
        if threshold is not None and remove_below is None:
            present = await self.bot.studio.policy.settings(guild)
            changes["gallery_remove_below"] = min(present.gallery_remove_below, max(threshold - 1, 0))
        if gallery_channel is not None:
            restricted = age_restricted(gallery_channel)
            changes |= {"gallery_channel": str(gallery_channel.id), "gallery_age_restricted": restricted}
        if gallery_off:
            changes["gallery_channel"] = None
        if voters is not None:
            changes["voter_role"] = None if voters.is_default() else str(voters.id)
        if changes:
            new = await self.bot.studio.policy.change(guild, **changes)
        else:
            new = await self.bot.studio.policy.settings(guild)
        await interaction.edit_original_response(embed=_overview(new, say))

    @commands.Cog.listener()
    async def on_guild_channel_update(self, _: discord.abc.GuildChannel, after: discord.abc.GuildChannel) -> None:
        """Notice when a gallery channel becomes age-restricted, or no longer is."""
        settings = await self.bot.studio.policy.settings(guild_key(after.guild.id))
        restricted = age_restricted(after)
        if settings.gallery_channel == str(after.id) and settings.gallery_age_restricted != restricted:
            await self.bot.studio.policy.change(f"discord:{after.guild.id}", gallery_age_restricted=restricted)


def _overview(settings: GuildSettings, say: Voice) -> discord.Embed:
    embed = discord.Embed(title=say("Settings of this server"))
    on, off = say("on"), say("off")

    def emojis(keys: tuple[str, ...]) -> str:
        return " ".join(f"<:emoji:{key}>" if key.isdecimal() else key for key in keys) or "–"

    rows: dict[Literal["gallery_channel"] | str, str] = {
        "gallery_channel": f"<#{settings.gallery_channel}>" if settings.gallery_channel else off,
        "threshold": str(settings.gallery_threshold),
        "remove_below": str(settings.gallery_remove_below),
        "up": emojis(settings.up),
        "down": emojis(settings.down),
        "voting": on if settings.voting else off,
        "voters": f"<@&{settings.voter_role}>" if settings.voter_role else "@everyone",
        "account_days": str(settings.min_account_days),
        "member_limit": str(settings.member_waiting),
        "server_limit": str(settings.guild_waiting),
        "nudes": on if settings.nudes else off,
        "default_style": settings.default_style or "–",
        "language": LANGUAGES[settings.language],
        "night_posts": on if settings.night_posts else off,
        "notices": f"<#{settings.notices_channel}>" if settings.notices_channel else "–",
    }
    for name, value in rows.items():
        embed.add_field(name=say(name), value=value)
    return embed


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Settings(bot))
