"""An artwork as people see it, and how it is read from its row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from bot.studio.errors import NotFound
from bot.studio.people import Member
from bot.studio.store import one
from engine.api import ChainRequest, EnhanceRequest, MorphRequest, PaintRequest, Request, StylizeRequest

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg", "gif": "image/gif", "mp4": "video/mp4"}


@dataclass(frozen=True)
class Tally:
    """The count of votes; ``score`` is the Wilson lower bound of the share of ups."""

    up: int = 0
    down: int = 0
    score: float = 0.0


@dataclass(frozen=True)
class Artwork:
    """One picture or animation made here."""

    id: str
    job_id: str | None
    member: Member
    guild: str | None
    command: str
    genre: str | None
    style: str | None
    art_style: str | None
    model: str | None
    format: str
    width: int
    height: int
    frames: int
    size: int  # bytes
    sha256: str
    recipe: dict[str, Any]
    parents: tuple[str, ...]
    private: bool
    age_restricted: bool
    created: float
    tally: Tally
    gallery: str  # "none", "posting", "posted", "removing" or "hidden"
    title: str

    @property
    def media_type(self) -> str:
        """For HTTP and attachments."""
        return MEDIA_TYPES[self.format]

    @property
    def filename(self) -> str:
        """A name to save it under."""
        return f"ganvas-{self.id}.{'jpg' if self.format == 'jpeg' else self.format}"


COLUMNS = """
    artworks.*, members.name, coalesce(gallery.state, 'none') AS gallery,
    (SELECT json_group_array(parent) FROM (SELECT parent FROM lineage WHERE child = artworks.id ORDER BY position))
        AS parents
FROM artworks JOIN members ON members.key = artworks.member LEFT JOIN gallery ON gallery.artwork = artworks.id
"""


def artwork_from(row: Mapping[str, Any]) -> Artwork:
    """Build an artwork from a row of ``SELECT`` :data:`COLUMNS`."""
    return Artwork(
        id=row["id"],
        job_id=row["job"],
        member=Member.from_key(row["member"], row["name"]),
        guild=row["guild"],
        command=row["command"],
        genre=row["genre"],
        style=row["style"],
        art_style=row["art_style"],
        model=row["model"],
        format=row["format"],
        width=row["width"],
        height=row["height"],
        frames=row["frames"],
        size=row["size"],
        sha256=row["sha256"],
        recipe=json.loads(row["recipe"]),
        parents=tuple(json.loads(row["parents"])),
        private=bool(row["private"]),
        age_restricted=bool(row["age_restricted"]),
        created=row["created"],
        tally=Tally(row["up"], row["down"], row["score"]),
        gallery=row["gallery"],
        title=row["title"],
    )


def load_artwork(db: Database, art_id: str) -> Artwork:
    """Return a work whoever asks, also a removed one.

    Raises:
        NotFound: there is none of this id.
    """
    row = one(db, f"SELECT {COLUMNS} WHERE artworks.id = ?", [art_id])
    if row is None:
        raise NotFound(f"There is no artwork {art_id!r}.")
    return artwork_from(row)


HYPHENATED = ("neo-impressionism", "post-impressionism", "shin-hanga", "ukiyo-e")


def spoken(name: str) -> str:
    """Return a name like ``flower-painting`` as a person writes it."""
    return name if name in HYPHENATED else name.replace("-", " ").replace("_", " ")


def describe(request: Request, number: int) -> dict[str, Any]:
    """Return genre, style, art style, model and title of output ``number`` of a request."""
    facts: dict[str, Any] = {"genre": None, "style": None, "art_style": None, "model": None}
    match request:
        case PaintRequest():
            facts |= {"genre": request.genre, "art_style": request.art_style, "style": request.finish}
            facts["model"] = request.model
            title = f"{spoken(request.genre).capitalize()}, seed {request.seed + number}"
        case StylizeRequest():
            facts |= {"style": request.style or request.model, "model": request.model}
            name = request.style or request.model
            title = f"Photo in the manner of {spoken(name).title()}" if name else "Photo in the manner of a picture"
        case MorphRequest():
            facts |= {"genre": request.stops[0].genre, "style": request.finish, "model": request.model}
            stops = [spoken(stop.genre) for stop in request.stops]
            title = f"Morph from {stops[0]} to {stops[-1]}"
        case EnhanceRequest():
            title = "Enlarged picture"
        case ChainRequest():
            facts |= {"style": request.models[-1], "model": request.models[-1]}
            title = "Picture through " + ", ".join(map(spoken, request.models))
        case _:
            raise TypeError(f"{request.command} makes no artwork.")
    return facts | {"title": title[:200]}
