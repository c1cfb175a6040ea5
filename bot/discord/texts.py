"""What the bot says, in each language.  The English sentence in the code is the key; ``texts/<language>.toml`` answers.

A sentence that a language lacks is said in English; a test sees to it that none is lacking.  What the studio and the
engine say arrives as a finished English sentence; the table ``[retold]`` knows those by their looks.
"""

from __future__ import annotations

import re
import string
import tomllib
from functools import cache
from pathlib import Path

import discord
from discord import app_commands

from engine.errors import GanvasError

LANGUAGES = {"en": "English", "de": "Deutsch", "es": "Español", "ja": "日本語"}
_LOCALES = {"de": [discord.Locale.german], "es": [discord.Locale.spain_spanish, discord.Locale.latin_american_spanish],
            "ja": [discord.Locale.japanese]}  # fmt: skip


# A mistake whose sentence has no translation is named by its kind, with the English sentence behind.
KINDS = {
    "error": "It failed: {english}",
    "invalid_request": "That was not understood: {english}",
    "unreadable_image": "That picture cannot be read: {english}",
    "unknown_name": "Nobody here knows that name: {english}",
    "not_found": "That does not exist (any more): {english}",
    "refused": "That is not allowed: {english}",
    "limit_reached": "That is too much at once: {english}",
    "source_gone": "The photo is gone: {english}",
    "wrong_moment": "Not now: {english}",
    "busy": "There is too much to do right now: {english}",
    "deadline_exceeded": "It took too long: {english}",
    "cancelled": "It was cancelled: {english}",
    "broken_model": "A model is damaged: {english}",
    "engine_died": "The painter broke down over this: {english}",
    "engine_unavailable": "The painter cannot be reached: {english}",
    "wrong_token": "The bot may not speak to the painter: {english}",
    "version_mismatch": "Bot and painter are of different versions: {english}",
    "data_in_use": "The bot runs twice: {english}",
}


@cache
def _tables(language: str) -> dict[str, dict[str, str]]:
    file = Path(__file__).parent / "texts" / f"{language}.toml"
    return tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return English -> ``language``; empty for English itself."""
    return {english: said for table in _tables(language).values() for english, said in table.items()}


@cache
def retold(language: str) -> list[tuple[re.Pattern[str], str]]:
    """Return (what an English sentence looks like, its translation), the most particular first."""
    table = _tables(language).get("retold", {})
    return [(_pattern(english), said) for english, said in sorted(table.items(), key=lambda item: -len(item[0]))]


def _pattern(template: str) -> re.Pattern[str]:
    parts = string.Formatter().parse(template)
    return re.compile("".join(re.escape(text) + (f"(?P<{gap}>.+)" if gap else "") for text, gap, _, _ in parts), re.S)


class Voice:
    """Says sentences in one language: ``say("Seed {seed}", seed=7)``."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else "en"

    def __call__(self, sentence: str, /, **values: object) -> str:
        return catalogue(self.language).get(sentence, sentence).format(**values)

    def retell(self, told: GanvasError | str) -> str:
        """Say a finished English sentence with its values; of an error nobody translated at least what kind it is."""
        english = str(told)
        for pattern, said in retold(self.language):
            if found := pattern.fullmatch(english):
                return said.format(**found.groupdict())
        if self.language == "en" or isinstance(told, str):
            return english
        return self(KINDS.get(told.code, KINDS["error"]), english=english)


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
