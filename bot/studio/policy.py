"""The rules of the house: guild settings, bans, and what people may have exported or deleted."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import tempfile
import time
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.errors import Refused
from bot.studio.events import Event, Events, TombstonesDue
from bot.studio.gallery import Gallery
from bot.studio.people import Member
from bot.studio.settings import (
    EVERYWHERE,
    GuildSettings,
    Preferences,
    changed,
    guild_settings,
    know,
    preferences,
    typed,
)
from bot.studio.store import Store, bury_posts, drop_job_folder, one, pseudonym, to_json, unlink_artwork
from bot.studio.votes import strike_votes


@dataclass(frozen=True)
class Ban:
    """Somebody who may neither make nor vote here."""

    guild: str | None  # None is everywhere
    member: Member
    by: str
    reason: str
    at: float


@dataclass(frozen=True)
class Tombstone:
    """A post of a removed work, which a front end still has to delete."""

    id: int
    channel: str
    message: str


@dataclass(frozen=True)
class Deletion:
    """What a member's wish to be forgotten reached."""

    artworks: int
    votes: int
    jobs: int
    posts: int
    nights: tuple[str, ...] = field(default=())  # nights whose lessons had used some of it; their diary says so


class Policy:
    """Guild settings, bans, preferences, privacy."""

    def __init__(self, store: Store, events: Events, house: Settings, gallery: Gallery) -> None:
        self._store = store
        self._events = events
        self._house = house
        self._gallery = gallery
        self._settings: dict[str | None, GuildSettings] = {}
        self._changes = 0

    async def settings(self, guild: str | None) -> GuildSettings:
        """Return the settings of a guild; from RAM, for nobody else has this database."""
        known, changes = self._settings.get(guild), self._changes
        if known is None:
            known = await self._store.read(lambda db: guild_settings(db, guild, self._house))
            if changes == self._changes:  # else it may be what stood there before
                self._settings[guild] = known
        return known

    async def change(self, guild: str, **changes: Any) -> GuildSettings:
        """Change some settings of a guild and return all.

        Raises:
            UnknownName, InvalidRequest: see :func:`changed`.
        """

        def work(db: Database) -> GuildSettings:
            new = changed(guild_settings(db, guild, self._house), changes)
            row = one(db, "SELECT settings FROM guilds WHERE guild = ?", [guild])
            # Only what the guild itself decided is stored, so that the house's defaults may still change.
            stored = (json.loads(row["settings"]) if row else {}) | {key: getattr(new, key) for key in changes}
            db.execute(
                "INSERT INTO guilds VALUES (?, ?) ON CONFLICT (guild) DO UPDATE SET settings = excluded.settings",
                [guild, to_json(stored)],
            )
            return new

        async def change() -> GuildSettings:
            new = await self._store.write(work)
            self._changes += 1
            self._settings.pop(guild, None)
            return new

        return await asyncio.shield(asyncio.create_task(change()))  # what is in RAM stays true when the caller leaves

    async def ban(self, guild: str | None, member: Member, *, by: Member, reason: str = "") -> None:
        """Forbid somebody to make and to vote; their votes here no longer count."""

        def work(db: Database) -> list[Event]:
            db.execute(
                "INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?, ?, ?)",
                [guild or EVERYWHERE, member.key, member.name, by.key, reason, time.time()],
            )
            return strike_votes(db, member.key, guild, "ban", self._house)

        for event in await self._store.write(work):
            self._events.publish(event)

    async def unban(self, guild: str | None, member: Member) -> bool:
        """Lift a ban; whether there was one."""
        sql = "DELETE FROM bans WHERE guild = ? AND member = ?"
        lifted = await self._store.write(lambda db: db.execute(sql, [guild or EVERYWHERE, member.key]).rowcount)
        return lifted > 0

    async def bans(self, guild: str | None) -> list[Ban]:
        """Return the bans of one guild, or those that hold everywhere; newest first."""
        sql = "SELECT * FROM bans WHERE guild = ? ORDER BY at DESC"
        rows = await self._store.read(lambda db: list(db.query(sql, [guild or EVERYWHERE])))
        return [Ban(guild, Member.from_key(r["member"], r["name"]), r["by"], r["reason"], r["at"]) for r in rows]

    async def preferences(self, member: Member) -> Preferences:
        """Return what a member decided."""
        return await self._store.read(lambda db: preferences(db, member.key))

    async def private_members(self) -> set[str]:
        """Return the keys of all who want their works private unless they say otherwise."""
        sql = "SELECT key FROM members WHERE json_extract(preferences, '$.private')"
        return await self._store.read(lambda db: {key for (key,) in db.execute(sql)})

    async def prefer(self, member: Member, **changes: Any) -> Preferences:
        """Change some preferences and return all.

        Raises:
            UnknownName, InvalidRequest: no such preference, or a wrong type.
        """
        checked = typed(Preferences, changes)

        def work(db: Database) -> Preferences:
            know(db, member)
            new = replace(preferences(db, member.key), **checked)
            values = [to_json(dataclasses.asdict(new)), member.key]
            db.execute("UPDATE members SET preferences = ? WHERE key = ?", values)
            return new

        return await self._store.write(work)

    async def export(self, member: Member) -> Path:
        """Write a zip of everything kept about a member: ``data.json`` and every file.  Delete it after sending."""

        def collect(db: Database) -> dict[str, list[dict[str, Any]]]:
            tables = {
                "members": "SELECT * FROM members WHERE key = :me",
                "artworks": "SELECT * FROM artworks WHERE member = :me",
                "jobs": "SELECT id, guild, command, options, private, state, error, created, started, finished "
                "FROM jobs WHERE member = :me",
                "votes": "SELECT * FROM votes WHERE member = :me",
                "reactions": "SELECT * FROM marks WHERE member = :me",
                "vote_events": "SELECT * FROM vote_events WHERE member = :me",
                "posts": "SELECT posts.* FROM posts JOIN artworks ON artworks.id = artwork WHERE member = :me",
                "duels": "SELECT * FROM duels WHERE member = :me",
                "bans": "SELECT guild, reason, at FROM bans WHERE member = :me",
            }
            return {name: list(db.query(sql, {"me": member.key})) for name, sql in tables.items()}

        data = await self._store.read(collect)
        for artwork in data["artworks"]:
            artwork["recipe"] = json.loads(artwork["recipe"])
        return await asyncio.to_thread(self._zip, data)

    def _zip(self, data: dict[str, list[dict[str, Any]]]) -> Path:
        with tempfile.NamedTemporaryFile(dir=self._store.folder, prefix="export-", suffix=".zip", delete=False) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("data.json", json.dumps(data, ensure_ascii=False, indent=2))
                for artwork in data["artworks"]:
                    path = self._store.artwork_path(artwork["id"], artwork["format"])
                    if path.is_file():
                        archive.write(path, f"artworks/{path.name}", zipfile.ZIP_STORED)
                for job in data["jobs"]:
                    for path in self._store.job_folder(job["id"]).glob("*"):
                        with contextlib.suppress(FileNotFoundError):  # its time has just ended
                            archive.write(path, f"photos/{job['id']}/{path.name}", zipfile.ZIP_STORED)
            return Path(file.name)

    async def delete(self, member: Member) -> Deletion:
        """Forget a member: works, files, photos, posts, votes, the log of votes, jobs.

        Bans stay, and a no to training stays.  Photos of this member that others had painted over go too.

        Nights that had used any of it are marked, so that their diary can say so.

        Raises:
            Refused: one of their jobs runs at this moment.
        """
        me = member.key

        def work(db: Database) -> tuple[Deletion, list[Event], list[dict[str, Any]], list[str]]:
            if one(db, "SELECT 1 FROM jobs WHERE member = ? AND state IN ('queued', 'running')", [me]):
                raise Refused("One of your jobs is still under way; cancel it or wait for it, then ask again.")
            (votes,) = db.execute("SELECT count(*) FROM votes WHERE member = ?", [me]).fetchone()
            voted = strike_votes(db, me, None, "forgotten", self._house)
            artworks = list(db.query("SELECT id, format FROM artworks WHERE member = ?", [me]))
            posts = bury_posts(db, "artwork IN (SELECT id FROM artworks WHERE member = ?)", [me])
            nights = self._withdraw(db, pseudonym(db, me))
            db.execute("DELETE FROM vote_events WHERE artwork IN (SELECT id FROM artworks WHERE member = ?)", [me])
            db.execute("DELETE FROM lineage WHERE parent IN (SELECT id FROM artworks WHERE member = ?)", [me])
            jobs = [row["id"] for row in db.query("SELECT id FROM jobs WHERE ? IN (member, photo_owner)", [me])]
            for table in ("artworks", "jobs"):  # what others made of this member's pictures
                db.execute(f"UPDATE {table} SET photo_owner = NULL WHERE photo_owner = ?", [me])  # noqa: S608
            (own,) = db.execute("SELECT count(*) FROM jobs WHERE member = ?", [me]).fetchone()
            for table in ("vote_events", "marks", "duels", "artworks", "jobs"):
                db.execute(f"DELETE FROM {table} WHERE member = ?", [me])  # noqa: S608
            if preferences(db, me).training:
                db.execute("DELETE FROM members WHERE key = ?", [me])
            else:
                kept = to_json({"training": False})
                db.execute("UPDATE members SET name = '', preferences = ? WHERE key = ?", [kept, me])
            return Deletion(len(artworks), votes, own, posts, nights), voted, artworks, jobs

        deletion, voted, artworks, jobs = await self._store.write(work)
        await asyncio.to_thread(self._unlink, artworks, jobs)
        self._gallery.forget([artwork["id"] for artwork in artworks])
        for event in voted:
            self._events.publish(event)
        if deletion.posts:
            self._events.publish(TombstonesDue("discord"))
        return deletion

    @staticmethod
    def _withdraw(db: Database, somebody: str) -> tuple[str, ...]:
        sql = "SELECT night, count(*) AS uses FROM night_uses WHERE voter = :p OR requester = :p GROUP BY night"
        uses = list(db.query(sql, {"p": somebody}))
        for row in uses:
            db.execute("UPDATE nights SET withdrawn = withdrawn + ? WHERE id = ?", [row["uses"], row["night"]])
        db.execute("DELETE FROM night_uses WHERE voter = :p OR requester = :p", {"p": somebody})
        return tuple(row["night"] for row in uses)

    def _unlink(self, artworks: list[dict[str, Any]], jobs: list[str]) -> None:
        for artwork in artworks:
            unlink_artwork(self._store, artwork["id"], artwork["format"])
        for job_id in jobs:
            drop_job_folder(self._store, job_id)

    async def tombstones(self, platform: str) -> list[Tombstone]:
        """Return the posts a front end still has to delete."""
        sql = "SELECT id, channel, message FROM tombstones WHERE platform = ? ORDER BY id LIMIT 500"
        rows = await self._store.read(lambda db: list(db.query(sql, [platform])))
        return [Tombstone(**row) for row in rows]

    async def buried(self, tombstone_id: int) -> None:
        """Note that a post is gone."""
        await self._store.write(lambda db: db.execute("DELETE FROM tombstones WHERE id = ?", [tombstone_id]))
