"""Which message shows which artwork: originals, gallery copies, re-shares.  A vote on any of them is one vote."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.errors import NotFound
from bot.studio.events import Events, PostLate, TombstonesDue
from bot.studio.settings import guild_settings
from bot.studio.store import Store, bury_posts, one

DAY = 86_400.0
REMEMBERED = 50_000  # messages in RAM, ours and others', so that an ordinary reaction costs no query


@dataclass(frozen=True)
class Post:
    """A message that shows an artwork."""

    platform: str
    channel: str
    message: str
    role: str  # "original", "gallery" or "share"
    deleted: bool = False


def add_post(db: Database, art_id: str, platform: str, channel: str, message: str, role: str) -> None:
    """Note that a message shows a work; if the work is gone meanwhile, that the message must go too."""
    art = one(db, "SELECT removed FROM artworks WHERE id = ?", [art_id])
    now = time.time()
    if art is None:
        db.execute(
            "INSERT OR IGNORE INTO tombstones (platform, channel, message, created) VALUES (?, ?, ?, ?)",
            [platform, channel, message, now],
        )
        return
    db.execute(
        """INSERT INTO posts (platform, message, channel, role, artwork, created) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT (platform, message) DO UPDATE SET artwork = excluded.artwork, role = excluded.role""",
        [platform, message, channel, role, art_id, now],
    )
    if art["removed"] is not None:
        bury_posts(db, "platform = ? AND message = ?", [platform, message])


class Posts:
    """Messages and the works they show."""

    def __init__(self, store: Store, events: Events, house: Settings) -> None:
        self._store = store
        self._events = events
        self._house = house
        self._shown: OrderedDict[tuple[str, str], str | None] = OrderedDict()

    async def add_post(
        self, art_id: str, *, platform: str, channel: str, message: str, role: str = "original", late: bool = False
    ) -> None:
        """Note that a message shows a work; doing it again changes nothing.

        Args:
            late: it may have been seen for some time, because an earlier life of the bot sent it.

        Raises:
            NotFound: the work is gone; the message is on the list of tombstones now.
        """

        def work(db: Database) -> bool:
            add_post(db, art_id, platform, channel, message, role)
            return one(db, "SELECT 1 FROM artworks WHERE id = ? AND removed IS NULL", [art_id]) is not None

        alive = await self._store.write(work)
        if not alive:
            self._events.publish(TombstonesDue(platform))
            raise NotFound(f"There is no artwork {art_id!r}.")
        self.noted(art_id, Post(platform, channel, message, role), late=late)

    def noted(self, art_id: str, post: Post, *, late: bool) -> None:
        """Keep a new post in RAM; one that comes late, or was asked for in vain before, is to be read."""
        missed = self._shown.get((post.platform, post.message), art_id) is None
        self.learn(post.platform, post.message, art_id)
        if late or missed:
            self._events.publish(PostLate(art_id, post))

    def learn(self, platform: str, message: str, art_id: str | None) -> None:
        """Keep in RAM which work a message shows."""
        self._shown[platform, message] = art_id
        self._shown.move_to_end((platform, message))
        while len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)

    async def art_of(self, platform: str, message: str) -> str | None:
        """Return which work a message shows; misses are remembered too."""
        if (platform, message) in self._shown:
            return self._shown[platform, message]
        sql = "SELECT artwork FROM posts WHERE platform = ? AND message = ?"
        row = await self._store.read(lambda db: one(db, sql, [platform, message]))
        if (platform, message) not in self._shown:  # learnt meanwhile
            self.learn(platform, message, row["artwork"] if row else None)
        return self._shown[platform, message]

    async def posts(self, art_id: str) -> list[Post]:
        """Return all messages that show a work, oldest first."""
        sql = "SELECT platform, channel, message, role, deleted FROM posts WHERE artwork = ? ORDER BY created"
        rows = await self._store.read(lambda db: list(db.query(sql, [art_id])))
        return [_post(row) for row in rows]

    async def votable(self, platform: str) -> list[tuple[str, str, Post]]:
        """Return ``(artwork id, guild, post)`` of all that stands in guilds and still takes votes there."""

        def work(db: Database) -> list[tuple[str, str, Post]]:
            now = time.time()
            days = {
                row["guild"]: guild_settings(db, row["guild"], self._house).window_days
                for row in db.query("SELECT guild FROM guilds")
            }
            usual = guild_settings(db, None, self._house).window_days
            sql = """SELECT posts.*, guild, artworks.created AS made FROM artworks JOIN posts ON artwork = id
                     WHERE removed IS NULL AND artworks.created >= ? AND guild IS NOT NULL
                     AND platform = ? AND deleted IS NULL"""
            since = now - max(usual, *days.values(), 0) * DAY
            return [
                (row["artwork"], row["guild"], _post(row))
                for row in db.query(sql, [since, platform])
                if row["made"] >= now - days.get(row["guild"], usual) * DAY
            ]

        return await self._store.read(work)

    async def post_deleted(self, platform: str, messages: list[str]) -> None:
        """Note that messages are gone.  A gallery copy deleted by hand hides its work from the gallery; votes stay."""

        def work(db: Database) -> None:
            for message in messages:
                sql = "SELECT artwork, role FROM posts WHERE platform = ? AND message = ? AND deleted IS NULL"
                post = one(db, sql, [platform, message])
                db.execute("DELETE FROM tombstones WHERE platform = ? AND message = ?", [platform, message])
                if post is None:
                    continue
                db.execute(
                    "UPDATE posts SET deleted = ? WHERE platform = ? AND message = ?", [time.time(), platform, message]
                )
                if post["role"] == "gallery":  # one we take down ourselves is in the state "removing"
                    db.execute(
                        "UPDATE gallery SET state = 'hidden', due = NULL, claim = NULL "
                        "WHERE artwork = ? AND message = ? AND state = 'posted'",
                        [post["artwork"], message],
                    )

        await self._store.write(work)

    async def channel_deleted(self, platform: str, channel: str) -> None:
        """Note that all messages of a channel or thread are gone."""
        await self._all_deleted("platform = ? AND channel = ?", [platform, channel])

    async def guild_left(self, guild: str) -> None:
        """Note that nothing in this guild can be reached any more."""
        await self._all_deleted("artwork IN (SELECT id FROM artworks WHERE guild = ?)", [guild])

    async def _all_deleted(self, where: str, params: list[Any]) -> None:
        def work(db: Database) -> None:
            standing = f"SELECT artwork FROM posts WHERE deleted IS NULL AND role = 'gallery' AND {where}"  # noqa: S608
            db.execute(
                "UPDATE gallery SET state = 'none', due = NULL, claim = NULL, message = NULL "  # noqa: S608
                f"WHERE state IN ('posted', 'removing') AND artwork IN ({standing})",
                params,
            )
            db.execute(f"UPDATE posts SET deleted = ? WHERE deleted IS NULL AND {where}", [time.time(), *params])  # noqa: S608

        await self._store.write(work)


def _post(row: dict[str, Any]) -> Post:
    return Post(row["platform"], row["channel"], row["message"], row["role"], row["deleted"] is not None)
