"""The painter's nights in words and pictures: who paints, what the last lesson did, what was measured."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import discord

from bot.discord.buttons import confirm_view, nights_view, with_choice
from bot.discord.captions import COLOUR, cut
from bot.discord.people import member_of
from bot.discord.progress import bar
from bot.discord.texts import Voice
from bot.studio import ApprenticeState, Night, Refused, Side

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

NIGHTS = 30  # in the line of votes
LISTED = 6  # nights and painters told one by one
FIELD = 1024  # characters of a field
SPARKS = "▁▂▃▄▅▆▇█"
EMBLEMS = {"learning": "📖", "rested": "💤", "refused": "⛔", "failed": "⚠️", "canary": "🧪", "promoted": "👑",
           "rolled back": "↩️"}  # fmt: skip
STATES = {
    "learning": "It is learning",
    "rested": "It rested",
    "refused": "The gate refused the candidate",
    "failed": "The night failed",
    "canary": "The candidate is being tried",
    "promoted": "The candidate paints now",
    "rolled back": "The candidate was let go",
}


async def may_host(interaction: discord.Interaction[Ganvas]) -> bool:
    """Whether this person decides about the painter, which all servers share.

    That are the application's owner or team, those named in the settings, and where the bot lives in one server only,
    whoever may manage it.
    """
    bot = interaction.client
    home = interaction.guild_id is not None and interaction.is_guild_integration() and len(bot.guilds) == 1
    if (home and interaction.permissions.manage_guild) or interaction.user.id in bot.settings.discord_hosts:
        return True
    return await bot.is_owner(interaction.user)


async def show(interaction: discord.Interaction[Ganvas], note: str | None = None) -> None:
    """Put how the learning stands into the (ephemeral) answer of an interaction that has been deferred."""
    bot = interaction.client
    say = await bot.voice(interaction, private=True)
    state, nights = await bot.studio.apprentice.state(), await bot.studio.nights.list(NIGHTS)
    files = []
    if state.last_night is not None:
        pictures = await asyncio.to_thread(before_and_after, bot.studio.nights.folder, state.last_night)
        files = attached(pictures, say, interaction.filesize_limit)
    view = nights_view(say, host=await may_host(interaction), paused=state.paused)
    await interaction.edit_original_response(
        content=note, embed=overview(state, nights, say), attachments=files, view=view
    )


async def act(interaction: discord.Interaction[Ganvas], what: str) -> None:
    """Do what a button below the card says: "look" again, "run" a night now, "pause", "resume", or "rollback"."""
    if what == "look":
        return await show(interaction)
    await _must_host(interaction)
    say = await interaction.client.voice(interaction, private=True)
    me, apprentice = member_of(interaction.user), interaction.client.studio.apprentice
    if what == "rollback":
        return await _ask_for_rollback(interaction, await apprentice.state(), say)
    if what == "run":
        await apprentice.run_now(me)
        note = say("A night begins.")
    elif what == "pause":
        await apprentice.pause(me)
        note = say("No nights are held until you resume them.")
    else:
        await apprentice.resume(me)
        note = say("Nights are held again.")
    await show(interaction, note)


async def roll_back(interaction: discord.Interaction[Ganvas], to: str | None) -> None:
    """Put an earlier painter back: the one named, else the predecessor, or let go a candidate that is being tried."""
    await _must_host(interaction)
    say = await interaction.client.voice(interaction, private=True)
    version = await interaction.client.studio.apprentice.rollback(member_of(interaction.user), to)
    await show(interaction, say("{painter} paints now.", painter=version.name))


async def _must_host(interaction: discord.Interaction[Ganvas]) -> None:
    if not await may_host(interaction):
        raise Refused("Only the host decides about the painter.")


async def _ask_for_rollback(interaction: discord.Interaction[Ganvas], state: ApprenticeState, say: Voice) -> None:
    painter = state.painter
    if state.canary is not None:
        candidate = state.canary.candidate
        text = say("The candidate {name} is let go, and {painter} goes on painting.", name=candidate, painter=painter)
    else:
        text = say("The painter before {painter} comes back, or the one you choose.", painter=painter)
    view = confirm_view("office", "-", say("Roll back"))
    names = dict.fromkeys(version.name for version in state.versions if version.name != painter)
    if names:
        options = [discord.SelectOption(label=name[:100], value=name) for name in names]
        with_choice(view, "office", "-", options, say("Choose an earlier painter"))
    await interaction.edit_original_response(content=text, embed=None, attachments=[], view=view)


def overview(state: ApprenticeState, nights: Sequence[Night], say: Voice) -> discord.Embed:
    """Return everything about the learning on one card."""
    embed = discord.Embed(title=say("The apprentice"), colour=COLOUR)
    embed.add_field(name=say("Who paints"), value=_painter(state, say))
    embed.add_field(name=say("Now"), value=_now(state, say))
    if state.canary is not None:
        embed.add_field(name=say("The trial"), value=_trial(state, say), inline=False)
    if state.last_night is not None:
        embed.add_field(name=say("Last night"), value=cut(told(state.last_night, say), FIELD), inline=False)
        if checks := state.last_night.diary.get("gate"):
            embed.add_field(name=say("The gate"), value=gate_table(checks), inline=False)
    if nights:
        embed.add_field(name=say("Nights"), value=cut(_history(nights, say), FIELD), inline=False)
    if len(state.versions) > 1:
        before = [
            " · ".join(
                [f"**{version.name}**"]
                + ([f"<t:{int(version.since)}:d>"] if version.since else [])  # nobody knows since when a release
                + ([say.retell(version.why)] if version.why else [])
            )
            for version in state.versions[1 : 1 + LISTED]
        ]
        embed.add_field(name=say("Painters before"), value=cut("\n".join(before), FIELD), inline=False)
    return embed


def _painter(state: ApprenticeState, say: Voice) -> str:
    if not state.painter:
        return say("No painter is known yet.")
    since = " " + say("since {when}", when=f"<t:{int(state.painter_since)}:R>") if state.painter_since else ""
    descent = "\n" + say("It descends from {base}.", base=state.base) if state.base != state.painter else ""
    return f"**{state.painter}**{since}{descent}"


def _now(state: ApprenticeState, say: Voice) -> str:
    lines = {
        "off": [say("Nights are switched off.")],
        "resting": [say("It rests.")],
        "learning": [f"{say('It is learning')} {bar(state.progress or 0.0)}"],
        "canary": [say("The candidate is being tried")],
    }[state.phase]
    if state.paused:
        lines.append(say("Paused by the host."))
    elif state.waiting:
        lines.append(say("The lesson waits: people are served first."))
    if state.next_night is not None:
        lines.append(say("Next night {when}.", when=f"<t:{int(state.next_night)}:R>"))
    return "\n".join(lines)


def _trial(state: ApprenticeState, say: Voice) -> str:
    canary = state.canary
    assert canary is not None

    def side(name: str, side: Side) -> str:
        return f"{name}: ❤ {side.up} · 👎 {side.down} · " + say("{count} works", count=side.answers)

    share, sure = f"{canary.share:.0%}", f"{canary.probability_better:.0%}"
    return "\n".join(
        [
            say("{share} of the members get its answers to /paint; nobody knows which.", share=share),
            side(say("Candidate"), canary.trial),
            side(say("In office"), canary.office),
            say("Duels won {wins}, lost {losses}", wins=canary.wins, losses=canary.losses),
            say("Better with a probability of {share}", share=sure),
            say("It ends {when} at the latest.", when=f"<t:{int(canary.until)}:R>"),
        ]
    )


def told(night: Night, say: Voice) -> str:
    """Return what came of a night, why, and from how many votes."""
    votes = night.diary.get("votes") or {}
    lines = [f"{EMBLEMS.get(night.state, '')} **{_state(night, say)}** <t:{int(night.started)}:f>"]
    if why := night.diary.get("why"):
        lines.append(say.retell(str(why)))
    if isinstance(votes.get("counted"), int):
        heard = {name: votes.get(name, 0) for name in ("counted", "voters", "works")}
        lines.append(say("It listened to {counted} votes of {voters} people on {works} works.", **heard))
    if night.withdrawn:
        lines.append(say("{count} of them were withdrawn since.", count=night.withdrawn))
    return "\n".join(lines)


def _state(night: Night, say: Voice) -> str:
    return say(STATES[night.state]) if night.state in STATES else night.state


def gate_table(checks: Sequence[dict[str, Any]]) -> str:
    """Return what the gate measured, a line a check, at most as long as a field may be."""
    lines = []
    for check in checks:
        value = check.get("value")
        shown = f"{value:.4g}" if isinstance(value, int | float) else str(value)
        lines.append(f"{'✓' if check.get('passed') else '✗'} {check.get('name')}: {shown} ({check.get('limit')})")
    return f"```\n{cut(chr(10).join(lines).replace('`', chr(39)), FIELD - 8)}\n```"


def sparkline(values: Sequence[float]) -> str:
    """Return values from 0 up as a line of bars: the greatest is full."""
    most = max([*values, 1e-9])
    return "".join(SPARKS[round(max(value, 0) / most * (len(SPARKS) - 1))] for value in values)


def _history(nights: Sequence[Night], say: Voice) -> str:
    heard = [float((night.diary.get("votes") or {}).get("counted") or 0) for night in reversed(nights)]
    lines = [f"`{sparkline(heard)}` {say('votes heard, night by night')}"]
    for night in nights[:LISTED]:
        lines.append(f"{EMBLEMS.get(night.state, '·')} <t:{int(night.started)}:d> {_state(night, say)}")
    return "\n".join(lines)


def before_and_after(folder: Path, night: Night) -> dict[str, bytes]:
    """Return the pictures of a night, "before" and "after" the lesson; empty where one is missing.  It reads files."""
    found = {}
    for name in ("before", "after"):
        file = folder / night.id / Path(str(night.diary.get(name) or f"{name}.webp")).name
        if not file.is_file():
            return {}
        found[file.name] = file.read_bytes()
    return found


def attached(pictures: dict[str, bytes], say: Voice, most: int) -> list[discord.File]:
    """Return pictures as files to send, none if they are too large together."""
    if sum(map(len, pictures.values())) > most:
        return []
    words = say("Paintings before the lesson"), say("Paintings of the same seeds after the lesson")
    return [
        discord.File(io.BytesIO(data), name, description=text)
        for (name, data), text in zip(pictures.items(), words, strict=bool(pictures))
    ]
