"""Blind pairs: two paintings of one genre, one choice each.  What the learning trusts most."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.artwork import Artwork, load_artwork
from bot.studio.errors import NotFound, Refused
from bot.studio.people import Member
from bot.studio.settings import know
from bot.studio.store import Store, new_id, one
from bot.studio.votes import Voter, vote_objection

Choice = Literal["first", "second", "neither"]
RECENT = 500  # works a pair is drawn from


@dataclass(frozen=True)
class Duel:
    """Two works to choose between; show neither maker nor votes before the choice."""

    id: str
    genre: str
    first: Artwork
    second: Artwork
    choice: Choice | None = None


class Duels:
    """Draw pairs and take choices."""

    def __init__(self, store: Store, house: Settings) -> None:
        self._store = store
        self._house = house

    async def draw(self, member: Member, guild: str | None, *, genre: str | None = None) -> Duel:
        """Return two public paintings of one genre, neither of them the member's own, not yet compared by them.

        Two works of different painters are drawn first, because that is what the house wants to know.  Without a
        guild they come from everywhere.

        Raises:
            NotFound: there are no two such works yet.
        """

        def work(db: Database) -> Duel:
            pair = one(
                db,
                """WITH works AS (SELECT id, genre, json_extract(recipe, '$.models') AS painter FROM artworks
                       WHERE command = 'paint' AND removed IS NULL AND private = 0 AND age_restricted = 0
                           AND member != :me AND (:guild IS NULL OR guild = :guild)
                           AND (:genre IS NULL OR genre = :genre)
                       ORDER BY created DESC LIMIT :recent)
                   SELECT a.genre, a.id AS first, b.id AS second FROM works AS a
                       JOIN works AS b ON a.genre = b.genre AND a.id != b.id
                   WHERE NOT EXISTS (SELECT 1 FROM duels WHERE member = :me AND decided IS NOT NULL
                       AND ((first = a.id AND second = b.id) OR (first = b.id AND second = a.id)))
                   ORDER BY a.painter IS b.painter, random() LIMIT 1""",
                {"me": member.key, "guild": guild, "genre": genre, "recent": RECENT},
            )
            if pair is None:
                of_genre = f" of the genre {genre}" if genre else ""
                raise NotFound(
                    f"There are no two new paintings{of_genre} by others to compare yet; paint some more first."
                )
            know(db, member)
            duel_id = new_id(10)
            db.execute(
                "INSERT INTO duels (id, member, guild, genre, first, second, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [duel_id, member.key, guild, pair["genre"], pair["first"], pair["second"], time.time()],
            )
            return _duel(db, duel_id)

        return await self._store.write(work)

    async def choose(self, duel_id: str, voter: Voter, choice: Choice) -> Duel:
        """Take a choice; the first one stands.

        Raises:
            NotFound: there is no such duel (any more).
            Refused: it is somebody else's, or this person may not vote; the reason is told.
        """

        def work(db: Database) -> Duel:
            duel = _duel(db, duel_id)
            row = one(db, "SELECT member FROM duels WHERE id = ?", [duel_id])
            if row is None or row["member"] != voter.member.key:
                raise Refused("This duel was drawn for somebody else; ask for one of your own.")
            if duel.choice is not None:
                return duel
            for art in (duel.first, duel.second):
                if reason := vote_objection(db, art.id, voter, self._house):
                    raise Refused(reason)
            sql = "UPDATE duels SET choice = ?, decided = ? WHERE id = ?"
            db.execute(sql, [choice, time.time(), duel_id])
            return replace(duel, choice=choice)

        return await self._store.write(work)


def _duel(db: Database, duel_id: str) -> Duel:
    row = one(db, "SELECT * FROM duels WHERE id = ?", [duel_id])
    if row is None:
        raise NotFound("This duel is over; ask for a new one.")
    return Duel(row["id"], row["genre"], load_artwork(db, row["first"]), load_artwork(db, row["second"]), row["choice"])
