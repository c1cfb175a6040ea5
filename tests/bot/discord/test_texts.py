"""Every sentence of the bot exists in every language, with the same gaps to fill."""

from __future__ import annotations

import ast
import re
import string
import tomllib
from pathlib import Path

import discord
import pytest
from discord import app_commands
from offlinebot import offline

from bot.discord.captions import GENRE_NAMES
from bot.discord.cogs.help import NEEDED
from bot.discord.learning import STATES
from bot.discord.notices import LACKS
from bot.discord.texts import KINDS, LANGUAGES, Translator, Voice, catalogue, language_of, retold
from engine.errors import GanvasError, UnreadableImage

ROOT = Path(__file__).resolve().parents[3]
BOT = ROOT / "bot" / "discord"
OTHERS = [language for language in LANGUAGES if language != "en"]


def spoken() -> set[str]:
    """Return every sentence that the code says: ``say("...")``."""
    found = {*GENRE_NAMES.values(), *NEEDED.values(), *KINDS.values(), *LACKS.values(), *STATES.values()}
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


# What the studio and the engine say


def kinds(root: type[GanvasError] = GanvasError) -> list[type[GanvasError]]:
    """Return all named mistakes of the engine and the studio."""
    found = [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]
    return [kind for kind in found if kind.__module__ in ("engine.errors", "bot.studio.errors")]


@pytest.mark.parametrize("language", OTHERS)
def test_every_mistake_is_named_in_the_language_of_the_member(language: str) -> None:
    assert {kind.code for kind in kinds()} == KINDS.keys()
    for kind in kinds():
        told = Voice(language).retell(kind("nobody translated 7 of this."))
        assert told.endswith("nobody translated 7 of this.")
        assert told == catalogue(language)[KINDS[kind.code]].format(english="nobody translated 7 of this.")


def sentences(*folders: str) -> list[tuple[str, str]]:
    """Return (sentence, where) of all mistakes raised in the source, with {} for what is filled in."""
    found = []
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id=kind), args=[sentence])) if kind != "Undeliverable":
                    if isinstance(sentence, ast.Constant | ast.JoinedStr):
                        found.append((_plain(sentence), f"{file.name}:{node.lineno}"))
    return found


def _plain(sentence: ast.Constant | ast.JoinedStr) -> str:
    parts = sentence.values if isinstance(sentence, ast.JoinedStr) else [sentence]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


@pytest.mark.parametrize("language", OTHERS)
def test_every_mistake_of_the_front_end_is_translated_whole(language: str) -> None:
    patterns = [pattern for pattern, _ in retold(language)]
    english = [where for text, where in sentences("bot/discord") if not any(p.fullmatch(text) for p in patterns)]
    known = {"client.py"}  # tells the host, at the start
    assert [where for where in english if where.split(":")[0] not in known] == []


def test_sentences_are_translated_that_the_source_still_says() -> None:
    sources = [file.read_text("utf-8") for folder in ("bot", "engine") for file in (ROOT / folder).rglob("*.py")]
    spoken = "".join(
        _plain(node)
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    )
    for english in tomllib.loads((BOT / "texts" / "de.toml").read_text("utf-8"))["retold"]:
        for text, _, _, _ in string.Formatter().parse(english):
            for clause in re.split(r"[,;:]|\. ", text):
                assert clause.strip() in spoken, f"{clause!r} of {english!r}"


def test_a_translated_sentence_keeps_its_values() -> None:
    error = UnreadableImage("This picture is 3 x 4 px; it must have at least 16 px on each side.")
    assert Voice("de").retell(error) == "Dieses Bild hat 3 x 4 px; jede Seite braucht mindestens 16 px."
    assert Voice("en").retell(error) == str(error)
    assert Voice("es").retell("Nobody says this.") == "Nobody says this.", "the English sentence is the last resort"


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
