"""What people type into options, understood: styles, stops of a morph, sizes, uploaded photos."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from bot.discord.captions import GENRE_NAMES, title_of
from bot.discord.people import member_of
from bot.discord.remix import fresh_seed
from bot.studio import Artwork, Member, NotFound
from engine.api import ALIASES, GENRES, WALL, Stop, parse_genre, parse_seed
from engine.errors import InvalidRequest, UnknownName, UnreadableImage

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

SIZES = {"square": (512, 512), "wide": (896, 512), "tall": (512, 896), "wall": WALL}
OFFERED = 25  # choices Discord shows
UNNAMED = "application/octet-stream"


def genre_choices(*, nudes: bool) -> list[app_commands.Choice[str]]:
    """Return the genres as choices; the nude one only where the host allows it at all."""
    names = {genre: name for genre, name in GENRE_NAMES.items() if nudes or genre != "nude-painting"}
    return [app_commands.Choice(name=app_commands.locale_str(name), value=genre) for genre, name in names.items()]


async def complete_style(interaction: discord.Interaction[Ganvas], current: str) -> list[app_commands.Choice[str]]:
    """Offer styles whose name contains what was typed."""
    return _offered(interaction.client.styles, current)


async def complete_art_style(interaction: discord.Interaction[Ganvas], current: str) -> list[app_commands.Choice[str]]:
    """Offer the art styles that the painter learned, then styles to finish a painting in."""
    return _offered(interaction.client.art_styles, current)


def _offered(names: Sequence[str], current: str) -> list[app_commands.Choice[str]]:
    wanted = current.lower().replace(" ", "-").strip("-")
    found = [name for name in names if wanted in name]
    return [app_commands.Choice(name=title_of(name)[:100], value=name[:100]) for name in found[:OFFERED]]


def read_style(text: str | None, known: tuple[str, ...]) -> str | None:
    """Return the style that was meant; "The Starry Night" and "the-starry-night" are the same."""
    if text is None or not text.strip():
        return None
    name = text.strip().lower().replace(" ", "-")
    if known and name not in known:
        raise UnknownName(f"There is no style {text!r}; choose one from the list that appears while you type.")
    return name


async def complete_stop(interaction: discord.Interaction[Ganvas], current: str) -> list[app_commands.Choice[str]]:
    """Offer works that can be a stop, then genres."""
    say = interaction.client.private_voice(interaction)
    works = await interaction.client.studio.gallery.search(current, viewer=member_of(interaction.user), limit=100)
    stops = [art for art in works if art.command in ("paint", "morph")]
    choices = [app_commands.Choice(name=f"{art.id} · {art.title}"[:100], value=art.id) for art in stops[:15]]
    wanted = current.lower().strip()
    for genre, name in GENRE_NAMES.items():
        if (wanted in genre or wanted in say(name).lower()) and len(choices) < OFFERED:
            choices.append(app_commands.Choice(name=say(name), value=genre))
    return choices


async def complete_work(interaction: discord.Interaction[Ganvas], current: str) -> list[app_commands.Choice[str]]:
    """Offer works by id or title."""
    works = await interaction.client.studio.gallery.search(current, viewer=member_of(interaction.user), limit=OFFERED)
    return [app_commands.Choice(name=f"{art.id} · {art.title}"[:100], value=art.id) for art in works]


def stop_of(art: Artwork, *, last: bool) -> Stop:
    """Return the point in latent space that a work is, or where a morph ends (``last``) or begins.

    Raises:
        InvalidRequest: it is neither a painting nor a morph.
    """
    options = art.recipe.get("options", {})
    if art.command == "paint":
        return Stop(options["genre"], options["seed"], options.get("art_style"))
    if art.command == "morph" and options.get("stops"):
        return Stop(**options["stops"][-1 if last else 0])
    raise InvalidRequest(f"`{art.id}` cannot be a stop of a morph: only paintings and other morphs can.")


async def read_stop(
    bot: Ganvas, text: str, viewer: Member, *, last: bool, genre: str | None = None
) -> tuple[Stop, Artwork | None]:
    """Return the stop that a person named: an artwork's id, ``genre:seed``, a genre, or a seed of the other's genre.

    Raises:
        InvalidRequest: it is none of these.
    """
    text = text.strip().lstrip("#")
    name, colon, seed = text.partition(":")
    if colon:
        return Stop(parse_genre(name), parse_seed(seed)), None
    if text.lower().replace(" ", "-") in GENRES or text.lower() in ALIASES:
        return Stop(parse_genre(text), fresh_seed(random.Random())), None
    try:
        art = await bot.studio.gallery.get(text, viewer=viewer)
        return stop_of(art, last=last), art
    except NotFound as error:
        if genre is None:
            raise InvalidRequest(f"{text!r} is no artwork, genre or genre:seed; an example is flowers:7.") from error
        return Stop(genre, parse_seed(text)), None


def check_photo(attachment: discord.Attachment | None, most: int) -> None:
    """Refuse at once what cannot be a picture; what Discord cannot name may be one (a HEIC of a telephone).

    Raises:
        UnreadableImage: it is plainly of another kind, or larger than ``most`` bytes.
    """
    if attachment is None:
        return
    kind = (attachment.content_type or UNNAMED).split(";")[0].strip().lower()
    if kind != UNNAMED and (not kind.startswith("image/") or kind == "image/svg+xml"):
        raise UnreadableImage(f"{attachment.filename} is no picture but {kind}; please attach a photo.")
    if attachment.size > most:
        raise UnreadableImage(
            f"{attachment.filename} has {attachment.size / 2**20:.1f} MiB; at most {most / 2**20:.0f} MiB are allowed."
        )


async def read_photo(attachment: discord.Attachment) -> bytes:
    """Return the bytes of an uploaded picture; whether they are one, the engine finds out, in its own process.

    Raises:
        UnreadableImage: it is gone.
    """
    try:
        return await attachment.read()
    except discord.HTTPException as error:
        raise UnreadableImage(
            f"{attachment.filename} could not be fetched from Discord; please attach it again."
        ) from error
