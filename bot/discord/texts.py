"""What the bot says, in each language.  The English sentence in the code is the key; ``texts/<language>.toml`` answers.

A sentence that a language lacks is said in English; a test sees to it that none is lacking.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import discord
from discord import app_commands

LANGUAGES = {"en": "English", "de": "Deutsch", "es": "Español", "ja": "日本語"}
_LOCALES = {"de": [discord.Locale.german], "es": [discord.Locale.spain_spanish, discord.Locale.latin_american_spanish],
            "ja": [discord.Locale.japanese]}  # fmt: skip


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return English -> ``language``; empty for English itself."""
    file = Path(__file__).parent / "texts" / f"{language}.toml"
    tables = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {english: said for table in tables.values() for english, said in table.items()}


class Voice:
    """Says sentences in one language: ``say("Seed {seed}", seed=7)``."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else "en"

    def __call__(self, sentence: str, /, **values: object) -> str:
        return catalogue(self.language).get(sentence, sentence).format(**values)


def language_of(locale: discord.Locale | None) -> str:
    """Return our language for one of Discord's locales; English where we have none."""
    return next((language for language, locales in _LOCALES.items() if locale in locales), "en")


class Translator(app_commands.Translator):
    """Names and descriptions of commands, for people whose Discord is in another language."""

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: app_commands.TranslationContextTypes
    ) -> str | None:
        """Return the translation, or None to stay with English."""
        return catalogue(language_of(locale)).get(string.message)
