"""The guide for members names every command, option and menu that the bot really has."""

from __future__ import annotations

import sys
from pathlib import Path

import discord
from discord import app_commands

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "bot" / "discord"))
from offlinebot import offline  # noqa: E402


def commands_of(group: app_commands.Group | app_commands.Command, prefix: str = "/") -> list[tuple[str, list[str]]]:
    """Return (name as typed, options) of a command and what is inside of it."""
    name = prefix + group.name
    if isinstance(group, app_commands.Command):
        return [(name, [parameter.display_name for parameter in group.parameters])]
    return [pair for child in group.commands for pair in commands_of(child, name + " ")]


async def test_the_guide_for_members_names_everything() -> None:
    guide = (ROOT / "docs" / "members.md").read_text("utf-8")
    missing = []
    async with offline(nudes=True) as bot:
        for top in bot.tree.get_commands(type=discord.AppCommandType.chat_input):
            for name, options in commands_of(top):
                if f"## {name}\n" not in guide:
                    missing.append(name)
                    continue
                section = guide.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
                missing += [f"{name} {option}" for option in options if f"`{option}`" not in section]
        for menu in bot.tree.get_commands(type=discord.AppCommandType.message):
            if f"**{menu.name}**" not in guide:
                missing.append(menu.name)
    assert missing == []
