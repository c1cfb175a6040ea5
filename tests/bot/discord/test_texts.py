"""Every sentence of the bot exists in every language, with the same gaps to fill."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import discord
import pytest
from discord import app_commands
from offlinebot import offline

from bot.discord.captions import GENRE_NAMES
from bot.discord.cogs.help import NEEDED
from bot.discord.texts import LANGUAGES, Translator, Voice, catalogue, language_of

BOT = Path(__file__).resolve().parents[3] / "bot" / "discord"
OTHERS = [language for language in LANGUAGES if language != "en"]


def spoken() -> set[str]:
    """Return every sentence that the code says: ``say("...")``."""
    found = {*GENRE_NAMES.values(), *NEEDED.values()}
    for file in BOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="say"), args=[ast.Constant(value=str(sentence)), *_]):
                    found.add(sentence)
    return found


def gaps(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_everything_the_code_says_is_translated(language: str) -> None:
    missing = spoken() - catalogue(language).keys()
    assert not missing


@pytest.mark.parametrize("language", OTHERS)
def test_translations_have_the_same_gaps(language: str) -> None:
    for english, said in catalogue(language).items():
        assert gaps(english) == gaps(said), english


@pytest.mark.parametrize("locale", [discord.Locale.german, discord.Locale.japanese, discord.Locale.spain_spanish])
async def test_all_commands_and_options_are_translated(locale: discord.Locale) -> None:
    missing = []

    class Asks(Translator):
        async def translate(
            self, string: app_commands.locale_str, wanted: discord.Locale, context: app_commands.TranslationContextTypes
        ) -> str | None:
            answer = await super().translate(string, wanted, context)
            if wanted is locale and answer is None:
                missing.append(string.message)
            return answer

    async with offline(nudes=True) as bot:
        for command in bot.tree.get_commands() + bot.tree.get_commands(type=discord.AppCommandType.message):
            await command.get_translated_payload(bot.tree, Asks())
    assert missing == []


def test_an_unknown_language_is_answered_in_english() -> None:
    assert Voice("tlh")("Seed {seed}", seed=7) == "Seed 7"
    assert language_of(discord.Locale.french) == "en"
    assert language_of(discord.Locale.latin_american_spanish) == "es"
    assert Voice("de")("{genre}, seed {seed}", genre="Blumen", seed=7) == "Blumen, Startwert 7"
