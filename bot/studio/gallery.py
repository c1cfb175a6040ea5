"""The artworks: who may see which, pages of them, families, files and small copies."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.artwork import COLUMNS, MEDIA_TYPES, Artwork, artwork_from
from bot.studio.engine import Engine
from bot.studio.errors import NotFound, Refused
from bot.studio.events import ArtworkAdded, ArtworkChanged, Event, Events, TombstonesDue
from bot.studio.people import Member
from bot.studio.posts import Posts
from bot.studio.store import Store, bury_posts, drop_job_folder, one, unlink_artwork, write_file
from bot.studio.votes import decide_gallery
from engine.api import MAX_SIDE, FitRequest, Output
from engine.errors import InvalidRequest

THUMBNAIL_SIDES = (320, 640, 1280)
Sort = Literal["new", "top", "hot"]
_KEYS = {"new": "created", "top": "score", "hot": "hot"}
_PERIODS = {"day": 1, "week": 7, "month": 30, "year": 365, "all": None}
GENERATIONS = 4  # how far up a family tree goes


def period(name: str) -> float | None:
    """Return the Unix time at which the last day, week, month or year began; None for "all".

    Raises:
        InvalidRequest: another word.
    """
    if name not in _PERIODS:
        raise InvalidRequest(f"The period is {name!r}; it must be one of {', '.join(_PERIODS)}.")
    days = _PERIODS[name]
    return None if days is None else time.time() - days * 86_400


@dataclass(frozen=True)
class Filter:
    """Which works; None is no restriction."""

    genre: str | None = None
    style: str | None = None
    command: str | None = None
    since: float | None = None
    until: float | None = None
    member: Member | None = None
    guild: str | None = None
    sort: Sort = "new"
    restricted: bool = False  # also works for adults only


@dataclass(frozen=True)
class Page:
    """Some works, and where the next ones begin."""

    items: tuple[Artwork, ...]
    cursor: str | None


@dataclass(frozen=True)
class Facets:
    """What there is to filter by, with how many public works each."""

    genres: dict[str, int]
    styles: dict[str, int]
    commands: dict[str, int]
    members: list[tuple[Member, int]]


@dataclass(frozen=True)
class Lineage:
    """A work's family: what it was made from, and what was made from it."""

    artwork: Artwork
    parents: tuple[Lineage, ...] = ()
    children: tuple[Artwork, ...] = ()


@dataclass(frozen=True)
class File:
    """A file to send."""

    path: Path
    media_type: str
    size: int
    sha256: str


class Gallery(Posts):
    """All artworks, and the messages that show them."""

    def __init__(self, store: Store, events: Events, house: Settings, engine: Engine) -> None:
        super().__init__(store, events, house)
        self._engine = engine
        self._known: dict[str, Artwork] = {}  # all that may be searched, oldest first
        self._making: dict[Path, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Load what autocomplete searches."""
        sql = f"SELECT {COLUMNS} WHERE removed IS NULL ORDER BY created DESC LIMIT 2000"
        rows = await self._store.read(lambda db: list(db.query(sql)))
        self._known = {row["id"]: artwork_from(row) for row in reversed(rows)}

    def took_in(self, artworks: tuple[Artwork, ...]) -> None:
        """Tell everybody about new works."""
        for artwork in artworks:
            self._known[artwork.id] = artwork
            if len(self._known) > 2000:
                del self._known[next(iter(self._known))]
            self._events.publish(ArtworkAdded(artwork.id))

    async def get(self, art_id: str, *, viewer: Member | None, moderator: bool = False) -> Artwork:
        """Return a work this person may see.

        Raises:
            NotFound: there is none, or it is somebody else's private one.
        """
        return await self._store.read(lambda db: _seen(db, art_id, viewer, moderator))

    async def page(self, wanted: Filter, *, viewer: Member | None, cursor: str | None = None, limit: int = 24) -> Page:
        """Return public works that match, and a member's own private ones when they ask for their own.

        Raises:
            InvalidRequest: the cursor is not one of ours, or the sort is unknown.
        """
        if wanted.sort not in _KEYS:
            raise InvalidRequest(f"sort is {wanted.sort!r}; it must be one of {', '.join(_KEYS)}.")
        own = viewer is not None and wanted.member == viewer
        key = _KEYS[wanted.sort]
        # Ties among the best liked go to the earlier work.
        order = f"{key} DESC, created {'ASC' if wanted.sort == 'top' else 'DESC'}, id"
        clauses = ["removed IS NULL", "1" if own else "private = 0"]
        params: dict[str, Any] = {"limit": max(1, min(limit, 100)) + 1}
        if not own and not wanted.restricted:
            clauses.append("age_restricted = 0")
        for name in ("genre", "style", "command", "guild"):
            if (value := getattr(wanted, name)) is not None:
                clauses.append(f"artworks.{name} = :{name}")
                params[name] = value
        if wanted.member is not None:
            clauses.append("artworks.member = :member")
            params["member"] = wanted.member.key
        for name, sign in (("since", ">="), ("until", "<")):
            if (value := getattr(wanted, name)) is not None:
                clauses.append(f"artworks.created {sign} :{name}")
                params[name] = value
        if cursor is not None:
            params |= dict(zip(("k", "c", "i"), _read_cursor(cursor, wanted.sort), strict=True))
            later = ">" if wanted.sort == "top" else "<"
            clauses.append(
                f"({key} < :k OR ({key} = :k AND (artworks.created {later} :c "
                "OR (artworks.created = :c AND artworks.id > :i))))"
            )
        sql = f"SELECT {COLUMNS} WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT :limit"
        sql = sql.replace("ORDER BY " + order, "ORDER BY " + order.replace("created", "artworks.created"))
        rows = await self._store.read(lambda db: list(db.query(sql, params)))
        shown = rows[: params["limit"] - 1]
        following = None
        if len(rows) > len(shown):
            last = shown[-1]
            following = _cursor(wanted.sort, last[key], last["created"], last["id"])
        return Page(tuple(map(artwork_from, shown)), following)

    async def facets(self, *, viewer: Member | None = None) -> Facets:
        """Return what public works can be filtered by, the most frequent first."""
        public = "removed IS NULL AND private = 0 AND age_restricted = 0"

        def work(db: Database) -> Facets:
            def count(column: str) -> dict[str, int]:
                sql = (
                    f"SELECT {column} AS name, count(*) AS n FROM artworks "  # noqa: S608
                    f"WHERE {public} AND {column} IS NOT NULL GROUP BY {column} ORDER BY n DESC, name"
                )
                return {row["name"]: row["n"] for row in db.query(sql)}

            members = db.query(
                "SELECT members.key, members.name, count(*) AS n FROM artworks "  # noqa: S608
                f"JOIN members ON members.key = artworks.member WHERE {public} "
                "GROUP BY members.key ORDER BY n DESC, members.name LIMIT 100"
            )
            people = [(Member.from_key(row["key"], row["name"]), row["n"]) for row in members]
            return Facets(count("genre"), count("style"), count("command"), people)

        return await self._store.read(work)

    async def lineage(self, art_id: str, *, viewer: Member | None) -> Lineage:
        """Return a work's family as far as this person may see it.

        Raises:
            NotFound: see :meth:`get`.
        """
        artwork = await self.get(art_id, viewer=viewer)
        sql = (
            f"SELECT {COLUMNS} JOIN lineage AS line ON line.child = artworks.id "
            "WHERE line.parent = ? AND removed IS NULL GROUP BY artworks.id ORDER BY artworks.created LIMIT 100"
        )
        rows = await self._store.read(lambda db: list(db.query(sql, [artwork.id])))
        children = [artwork_from(row) for row in rows]
        seen = tuple(c for c in children if not c.private or c.member == viewer)
        return Lineage(artwork, await self._ancestors(artwork, viewer, GENERATIONS), seen)

    async def _ancestors(self, artwork: Artwork, viewer: Member | None, generations: int) -> tuple[Lineage, ...]:
        found = []
        for parent_id in artwork.parents if generations else ():
            try:
                parent = await self.get(parent_id, viewer=viewer)
            except NotFound:
                continue  # removed, or another's private work
            found.append(Lineage(parent, await self._ancestors(parent, viewer, generations - 1)))
        return tuple(found)

    async def search(self, prefix: str, *, viewer: Member | None, limit: int = 25) -> list[Artwork]:
        """Return works whose id begins so or whose title contains it, newest first; from RAM, for autocomplete."""
        text = prefix.strip().lstrip("#").lower()
        found = []
        for artwork in reversed(self._known.values()):
            if artwork.private and artwork.member != viewer:
                continue
            if artwork.id.startswith(text) or text in artwork.title.lower():
                found.append(artwork)
                if len(found) == limit:
                    break
        return found

    # Files

    async def file(self, art_id: str, *, viewer: Member | None, moderator: bool = False) -> File:
        """Return the file of a work.

        Raises:
            NotFound: see :meth:`get`.
        """
        artwork = await self.get(art_id, viewer=viewer, moderator=moderator)
        path = self._store.artwork_path(artwork.id, artwork.format)
        return File(path, artwork.media_type, artwork.size, artwork.sha256)

    async def thumbnail(self, art_id: str, side: int = 320, *, viewer: Member | None, moderator: bool = False) -> File:
        """Return a small WebP copy; the engine makes it once.

        Raises:
            NotFound: see :meth:`get`.
            InvalidRequest: a side that is not offered.
        """
        if side not in THUMBNAIL_SIDES:
            raise InvalidRequest(f"side is {side!r}; it must be one of {', '.join(map(str, THUMBNAIL_SIDES))}.")
        artwork = await self.get(art_id, viewer=viewer, moderator=moderator)
        path = self._store.thumbnail_path(artwork.id, side)
        if not await asyncio.to_thread(path.is_file):
            # Whoever asks meanwhile waits for the same copy; it is finished even when all of them leave.
            task = self._making.get(path)
            if task is None:
                task = self._making[path] = asyncio.create_task(self._make_thumbnail(artwork, side, path))
                task.add_done_callback(lambda _: self._making.pop(path, None))
            await asyncio.shield(task)
        size = (await asyncio.to_thread(path.stat)).st_size
        return File(path, "image/webp", size, f"{artwork.sha256}-{side}")

    async def _make_thumbnail(self, artwork: Artwork, side: int, path: Path) -> None:
        data = await asyncio.to_thread(self._store.artwork_path(artwork.id, artwork.format).read_bytes)
        request = FitRequest(
            image=data, max_bytes=max(60_000, side * 700), max_side=side, formats=("webp",), strip=True
        )
        result = await self._engine.run(request)
        await asyncio.to_thread(write_file, path, result.outputs[0].data)

    async def fit(
        self,
        art_id: str,
        *,
        viewer: Member | None,
        max_bytes: int,
        max_side: int = MAX_SIDE,
        formats: tuple[str, ...] = ("png", "webp", "jpeg", "gif", "mp4"),
        strip: bool = False,
        moderator: bool = False,
    ) -> Output:
        """Return a copy that fits a limit; a file that fits already comes back untouched.

        Raises:
            NotFound: see :meth:`get`.
        """

        def look(db: Database) -> tuple[Artwork, bytes]:
            artwork = _seen(db, art_id, viewer, moderator)
            return artwork, self._store.artwork_path(artwork.id, artwork.format).read_bytes()

        artwork, data = await self._store.read(look)
        fits = len(data) <= max_bytes and max(artwork.width, artwork.height) <= max_side and artwork.format in formats
        if fits and not strip:
            return Output(
                data=data, format=artwork.format, width=artwork.width, height=artwork.height, frames=artwork.frames,
                recipe=artwork.recipe,
            )  # fmt: skip
        request = FitRequest(image=data, max_bytes=max_bytes, max_side=max_side, formats=formats, strip=strip)
        result = await self._engine.run(request)
        return result.outputs[0]

    # Changes by their owners

    async def set_private(self, art_id: str, private: bool, *, by: Member) -> Artwork:
        """Hide a work from others, or show it.

        Raises:
            NotFound: see :meth:`get`.
            Refused: it is somebody else's.
        """
        artwork = await self.get(art_id, viewer=by)
        if artwork.member != by:
            raise Refused("Only the member who made a work can hide or show it.")

        def work(db: Database) -> list[Event]:
            db.execute("UPDATE artworks SET private = ? WHERE id = ?", [private, artwork.id])
            return decide_gallery(db, artwork.id, self._house)

        events = await self._store.write(work)
        artwork = await self.get(artwork.id, viewer=by)
        if artwork.id in self._known:
            self._known[artwork.id] = artwork
        for event in (ArtworkChanged(artwork.id), *events):
            self._events.publish(event)
        return artwork

    async def remove(self, art_id: str, *, by: Member, moderator: bool = False, reason: str = "") -> None:
        """Remove a work: its files, all posts of it, and it from any later lesson.

        Raises:
            NotFound: see :meth:`get`.
            Refused: it is somebody else's and ``by`` does not moderate.
        """
        artwork = await self.get(art_id, viewer=by, moderator=moderator)
        if artwork.member != by and not moderator:
            raise Refused("Only the member who made a work, or a moderator, can remove it.")

        def work(db: Database) -> bool:
            db.execute(
                "UPDATE artworks SET removed = ?, removed_by = ?, recipe = '{}' WHERE id = ?",
                [time.time(), f"{by.key} {reason}".strip()[:500], artwork.id],
            )
            bury_posts(db, "artwork = ?", [artwork.id])
            # The tombstone takes the gallery copy down.  A claim under way ends in posted(), which sees the removal.
            sql = "UPDATE gallery SET state = 'none', due = NULL WHERE artwork = ? AND claim IS NULL"
            db.execute(sql, [artwork.id])
            return one(db, "SELECT 1 FROM artworks WHERE job = ? AND removed IS NULL", [artwork.job_id]) is None

        last = await self._store.write(work)
        await asyncio.to_thread(unlink_artwork, self._store, artwork.id, artwork.format)
        if last and artwork.job_id is not None:  # nothing is left that its photo could be used for
            await asyncio.to_thread(drop_job_folder, self._store, artwork.job_id)
        self.forget([artwork.id])
        self._events.publish(TombstonesDue("discord"))

    def forget(self, art_ids: list[str]) -> None:
        """Drop works from RAM and tell everybody that they are gone."""
        for art_id in art_ids:
            self._known.pop(art_id, None)
            self._events.publish(ArtworkChanged(art_id))


def _seen(db: Database, art_id: str, viewer: Member | None, moderator: bool) -> Artwork:
    art_id = art_id.strip().lstrip("#").lower()
    row = one(db, f"SELECT {COLUMNS} WHERE artworks.id = ? AND removed IS NULL", [art_id])
    if row is None or (row["private"] and not moderator and (viewer is None or viewer.key != row["member"])):
        raise NotFound(f"There is no artwork {art_id[:20]!r}.")
    return artwork_from(row)


def _cursor(sort: str, key: float, created: float, art_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, key, created, art_id]).encode()).decode().rstrip("=")


def _read_cursor(text: str, sort: str) -> tuple[float, float, str]:
    try:
        was, key, created, art_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if was != sort:
            raise ValueError(was)
        return float(key), float(created), str(art_id)
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidRequest("This page does not exist any more; start again from the first one.") from error


__all__ = ["MEDIA_TYPES", "Facets", "File", "Filter", "Gallery", "Lineage", "Page", "period"]
