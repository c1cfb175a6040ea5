"""What one can choose from: styles, brushes, genres, and the picture that stands for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from bot.studio import Filter, Studio
from bot.studio.vocabulary import Card, art_styles_of, painter_of
from bot.web.keys import STUDIO
from bot.web.render import plain
from engine.api import GENRES
from engine.errors import GanvasError


@dataclass(frozen=True)
class Choice:
    """One tile.  ``value`` is what the form sends, ``picture`` an address on this host or None."""

    value: str
    title: str
    by: str = ""
    picture: str | None = None


async def cards(studio: Studio) -> Sequence[Card]:
    """All models' cards; none while the engine is still waking up."""
    try:
        return await studio.models()
    except GanvasError:
        return []


async def titles(studio: Studio) -> dict[str, str]:
    """Styles by their names, as people know them."""
    return {
        style["name"]: style.get("title") or plain(style["name"])
        for card in await cards(studio)
        for style in card.get("styles", ())
    }


async def styles(studio: Studio) -> list[Choice]:
    """All styles of all stylizers, then the brushes."""
    known = await cards(studio)
    found = [
        Choice(
            f"style:{style['name']}", style.get("title") or plain(style["name"]), style.get("artist", ""),
            _sample(studio, card, style["name"]),
        )
        for card in known if card.get("kind") == "stylizer" for style in card.get("styles", ())
    ]  # fmt: skip
    found += [
        Choice(f"model:{card['name']}", plain(card["name"]), "A brush", preview(studio, card))
        for card in known if card.get("kind") == "brush"
    ]  # fmt: skip
    return list({choice.value: choice for choice in found}.values())


async def genres(studio: Studio, *, nudes: bool) -> list[Choice]:
    """The genres that the painter in office knows, each with the best-liked work of it, or with the model's sample."""
    painter = painter_of(await cards(studio))
    known = (painter or {}).get("genres") or []
    allowed = [genre for genre in GENRES if genre in known and (nudes or genre != "nude-painting")]
    liked = await asyncio.gather(*(_best_of(studio, genre) for genre in allowed))
    return [
        Choice(genre, plain(genre), "", picture or _sample(studio, painter or {}, genre))
        for genre, picture in zip(allowed, liked, strict=True)
    ]


async def art_styles(studio: Studio) -> Sequence[str]:
    """The painter's second vocabulary, and the movements that a stylizer can finish a painting in."""
    return sorted(art_styles_of(await cards(studio)))


async def _best_of(studio: Studio, genre: str) -> str | None:
    page = await studio.gallery.page(Filter(genre=genre, command="paint", sort="top"), viewer=None, limit=1)
    return f"/art/{page.items[0].id}/thumb/320.webp" if page.items and not page.items[0].age_restricted else None


def names(card: Card) -> list[str]:
    """What a model can be asked for by name: its styles, or its genres."""
    return [*(style["name"] for style in card.get("styles", ())), *card.get("genres", ())]


def preview(studio: Studio, card: Card) -> str | None:
    """The address of a model's preview, None where it brought none."""
    return f"/styles/{card['name']}/preview.webp" if _find(studio, card, "preview.webp") else None


def samples(studio: Studio, card: Card) -> list[Choice]:
    """What a model shows of itself: one small picture for each style or genre."""
    titles = {style["name"]: style.get("title") for style in card.get("styles", ())}
    found = [Choice(name, titles.get(name) or plain(name), "", _sample(studio, card, name)) for name in names(card)]
    return [choice for choice in found if choice.picture]


def _sample(studio: Studio, card: Card, name: str) -> str | None:
    known = card and _find(studio, card, "samples", f"{name}.webp")
    return f"/styles/{card['name']}/{name}.webp" if known else None


def _find(studio: Studio, card: Card, *parts: str) -> Path | None:
    """A file of a model, made here or released; a painter of last night has no samples yet and shows its base's."""
    folders = (studio.house.data / "models", studio.house.models)
    named = [card["name"], *([card["base"]] if card.get("base") else [])]
    places = (folder.joinpath(name, *parts) for name in named for folder in folders)
    return next((path for path in places if path.is_file()), None)


async def picture(request: web.Request) -> web.StreamResponse:
    """``/styles/{model}/{name}.webp``: only names that a card holds ever become a path."""
    studio, name = request.app[STUDIO], request.match_info["name"]
    card = next((card for card in await cards(studio) if card.get("name") == request.match_info["model"]), None)
    path = None
    if card is not None and name == "preview":
        path = _find(studio, card, "preview.webp")
    elif card is not None and name in names(card):
        path = _find(studio, card, "samples", f"{name}.webp")
    if path is None:
        raise web.HTTPNotFound
    return web.FileResponse(path, headers={"Content-Type": "image/webp", "Cache-Control": "private, max-age=3600"})
