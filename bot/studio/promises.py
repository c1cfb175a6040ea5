"""Answers that were promised ("thinking...") and not given yet, so that a sudden end leaves nobody waiting for ever.

A promise is noted before it is made and forgotten once it is kept: by the answer, or by a job of the same key, in the
transaction that takes the job.  What is found at the start of a life was broken by the end of the life before.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from bot.studio.store import Store, to_json


@dataclass(frozen=True)
class Promise:
    """An answer that somebody waits for."""

    key: str
    address: dict[str, Any]  # what its front end needs to give it; may hold a secret, so it is never logged
    expires: float  # Unix seconds after which it can be given no more


class Promises:
    """What is owed to people who wait."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def give(self, promise: Promise) -> None:
        """Note that an answer is about to be promised; it is on disk when this returns."""
        row = [promise.key, to_json(promise.address), promise.expires]

        def work(db: Database) -> None:
            forget_expired(db)
            db.execute("INSERT OR REPLACE INTO promises VALUES (?, ?, ?)", row)

        await self._store.write(work)

    async def keep(self, key: str) -> None:
        """Note that the answer was given."""
        await self._store.write(lambda db: kept(db, key))

    async def owed(self) -> list[Promise]:
        """Return the promises that can still be kept, oldest first."""
        sql = "SELECT * FROM promises WHERE expires > ? ORDER BY expires"
        rows = await self._store.read(lambda db: list(db.query(sql, [time.time()])))
        return [Promise(row["key"], json.loads(row["address"]), row["expires"]) for row in rows]


# Inside transactions of others


def kept(db: Database, key: str) -> None:
    """Forget a promise."""
    db.execute("DELETE FROM promises WHERE key = ?", [key])


def forget_expired(db: Database) -> None:
    """Forget the promises whose time is over, with their secrets."""
    db.execute("DELETE FROM promises WHERE expires <= ?", [time.time()])
