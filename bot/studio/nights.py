"""What the learning needs of the ledger: one frozen snapshot a night, and the diary of nights."""

from __future__ import annotations

import builtins
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.errors import NotFound
from bot.studio.people import Member
from bot.studio.settings import guild_settings
from bot.studio.store import Store, one, pseudonym, to_json

VOTER_CAP = 200  # votes one person brings into a night, the newest
REQUESTER_CAP = 200  # votes on works of one person, the newest
RING = 5  # votes each way from which two people who vote for each other are looked at
RING_SHARE = 0.5  # of all votes of one of them; above it their votes for each other do not count
DAY = 86_400.0


@dataclass(frozen=True)
class VoteRow:
    """One vote that may teach.  People are pseudonyms, the same in every night."""

    artwork: str
    voter: str
    requester: str
    value: str  # "up" or "down"
    at: float
    command: str
    genre: str | None
    model: str | None  # None: the painter in office; the recipe says which that was
    sha256: str  # of the file
    file: str  # relative to the data folder
    recipe: dict[str, Any]


@dataclass(frozen=True)
class DuelRow:
    """One choice between two works that may teach."""

    voter: str
    winner: dict[str, Any]  # recipes
    loser: dict[str, Any]
    artworks: tuple[str, str]  # winner's and loser's
    requesters: tuple[str, str]
    at: float


@dataclass(frozen=True)
class Snapshot:
    """All votes that may teach, as they stood at the cut-off."""

    cutoff: float
    votes: tuple[VoteRow, ...]
    sha256: str  # of :meth:`jsonl`
    duels: tuple[DuelRow, ...] = ()

    def jsonl(self) -> str:
        """Return one JSON object a line, in a fixed order: votes, then duels."""
        rows: tuple[VoteRow | DuelRow, ...] = (*self.votes, *self.duels)
        return "".join(to_json(asdict(row)) + "\n" for row in rows)


@dataclass(frozen=True)
class Trial:
    """What people said of works that two painters made while both were tried; a duel is an up and a down."""

    votes: tuple[tuple[str, bool, bool], ...]  # voter, of the candidate?, up?
    answers: dict[bool, int]  # works made, by the candidate and by the other
    wins: int  # duels of the candidate against the other
    losses: int


@dataclass(frozen=True)
class Night:
    """One run of learning, as the diary tells it."""

    id: str
    state: str  # "learning", then "rested", "refused", "failed", or "canary" and then "promoted" or "rolled back"
    started: float
    finished: float | None = None
    base: str | None = None  # sha256 of the painter in office
    candidate: str | None = None
    cutoff: float | None = None
    snapshot: str | None = None  # its sha256
    withdrawn: int = 0  # votes it learnt from that were deleted since, by wish of a member
    diary: dict[str, Any] = field(default_factory=dict)


def capped(votes: Iterable[VoteRow]) -> list[VoteRow]:
    """Return the votes without those of rings, and at most so many by one voter or for one requester."""
    votes = sorted(votes, key=lambda vote: (-vote.at, vote.artwork, vote.voter))
    pairs = Counter((vote.voter, vote.requester) for vote in votes)
    totals = Counter(vote.voter for vote in votes)

    def in_ring(a: str, b: str) -> bool:
        there, back = pairs[a, b], pairs[b, a]
        return min(there, back) >= RING and max(there / totals[a], back / totals[b]) > RING_SHARE

    by_voter: dict[str, int] = defaultdict(int)
    by_requester: dict[str, int] = defaultdict(int)
    kept = []
    for vote in votes:
        full = by_voter[vote.voter] >= VOTER_CAP or by_requester[vote.requester] >= REQUESTER_CAP
        if full or in_ring(vote.voter, vote.requester):
            continue
        by_voter[vote.voter] += 1
        by_requester[vote.requester] += 1
        kept.append(vote)
    return sorted(kept, key=lambda vote: (vote.artwork, vote.voter))


class Nights:
    """Snapshots and the diary."""

    def __init__(self, store: Store, house: Settings) -> None:
        self._store = store
        self._house = house

    @property
    def folder(self) -> Path:
        """Where each night has a folder of its own."""
        return self._store.folder / "nights"

    async def snapshot(self, cutoff: float) -> Snapshot:
        """Return the votes that may teach, from one read transaction.

        Left out: votes after the cut-off, on own works, of young accounts, of banned people and of whoever opted out;
        works that are removed, private or of somebody who opted out; rings; what exceeds the caps.
        """
        return await self._store.read(lambda db: self._snapshot(db, cutoff))

    def _snapshot(self, db: Database, cutoff: float) -> Snapshot:
        votes, duels = tuple(capped(self._votes(db, cutoff))), tuple(_capped_duels(self._duels(db, cutoff)))
        text = Snapshot(cutoff, votes, "", duels).jsonl()
        return Snapshot(cutoff, votes, hashlib.sha256(text.encode()).hexdigest(), duels)

    async def trial(self, since: float, candidate: str, other: str) -> Trial:
        """Return what counts of the votes on works that the two painters made since then, for jobs that named neither.

        The same votes are left out as from a snapshot.
        """

        def work(db: Database) -> Trial:
            params = {"since": since, "one": candidate, "two": other}
            made = {row["id"]: row["model"] == candidate for row in db.query(_TRIED, params)}
            chosen = capped(self._votes(db, time.time(), _OF_TRIAL, params))
            said = [(vote.voter, made[vote.artwork], vote.value == "up") for vote in chosen]
            outcomes: Counter[bool] = Counter()
            for duel in _capped_duels(self._duels(db, time.time())):
                winner, loser = (made.get(art) for art in duel.artworks)
                if winner is not None and loser is not None and winner != loser:
                    outcomes[winner] += 1
                    said += [(duel.voter, winner, True), (duel.voter, loser, False)]
            answers = Counter(made.values())
            return Trial(tuple(said), {True: answers[True], False: answers[False]}, outcomes[True], outcomes[False])

        return await self._store.read(work)

    def _votes(
        self, db: Database, cutoff: float, further: str = "", params: dict[str, Any] | None = None
    ) -> Iterator[VoteRow]:
        """Yield the votes that may teach; ``further`` is our own SQL."""
        rows = db.query(
            f"""SELECT votes.artwork, votes.member AS voter, artworks.member AS requester, votes.value,
                   votes.updated_at, votes.account_created, artworks.guild, command, genre, model, sha256, format,
                   recipe, photo_owner
               FROM votes JOIN artworks ON artworks.id = votes.artwork
                   LEFT JOIN members AS v ON v.key = votes.member JOIN members AS r ON r.key = artworks.member
               WHERE votes.updated_at < :cutoff AND removed IS NULL AND private = 0 AND votes.member != artworks.member
                   AND votes.member IS NOT photo_owner
                   AND coalesce(json_extract(v.preferences, '$.training'), 1)
                   AND coalesce(json_extract(r.preferences, '$.training'), 1)
                   AND NOT EXISTS (SELECT 1 FROM bans WHERE bans.member IN (votes.member, artworks.member)
                       AND bans.guild IN ('*', coalesce(artworks.guild, '*'))) {further}""",  # noqa: S608
            {"cutoff": cutoff} | (params or {}),
        )
        youngest: dict[str | None, float] = {}
        names: dict[str, str] = {}
        for row in rows:
            guild = row["guild"]
            if guild not in youngest:
                youngest[guild] = guild_settings(db, guild, self._house).min_account_days * DAY
            created = row["account_created"]
            if created is not None and row["updated_at"] - created < youngest[guild]:
                continue
            for person in (row["voter"], row["requester"]):
                if person not in names:
                    names[person] = pseudonym(db, person)
            path = self._store.artwork_path(row["artwork"], row["format"]).relative_to(self._store.folder)
            yield VoteRow(
                artwork=row["artwork"],
                voter=names[row["voter"]],
                requester=names[row["requester"]],
                value=row["value"],
                at=row["updated_at"],
                command=row["command"],
                genre=row["genre"],
                model=row["model"],
                sha256=row["sha256"],
                file=path.as_posix(),
                recipe=json.loads(row["recipe"]),
            )

    def _duels(self, db: Database, cutoff: float) -> Iterator[DuelRow]:
        """Yield the choices that may teach, by the same rules."""
        rows = db.query(
            """SELECT duels.*, a.recipe AS a_recipe, b.recipe AS b_recipe, a.member AS a_member, b.member AS b_member,
                   v.account_created
               FROM duels JOIN artworks AS a ON a.id = duels.first JOIN artworks AS b ON b.id = duels.second
                   JOIN members AS v ON v.key = duels.member
                   JOIN members AS r ON r.key = a.member JOIN members AS s ON s.key = b.member
               WHERE choice IN ('first', 'second') AND decided < :cutoff AND a.removed IS NULL AND b.removed IS NULL
                   AND a.private = 0 AND b.private = 0 AND duels.member NOT IN (a.member, b.member)
                   AND coalesce(json_extract(v.preferences, '$.training'), 1)
                   AND coalesce(json_extract(r.preferences, '$.training'), 1)
                   AND coalesce(json_extract(s.preferences, '$.training'), 1)
                   AND NOT EXISTS (SELECT 1 FROM bans WHERE bans.member IN (duels.member, a.member, b.member)
                       AND bans.guild IN ('*', coalesce(duels.guild, '*')))""",
            {"cutoff": cutoff},
        )
        for row in rows:
            least = guild_settings(db, row["guild"], self._house).min_account_days * DAY
            if row["account_created"] is not None and row["decided"] - row["account_created"] < least:
                continue
            won, lost = ("a", "b") if row["choice"] == "first" else ("b", "a")
            arts = {"a": row["first"], "b": row["second"]}
            yield DuelRow(
                voter=pseudonym(db, row["member"]),
                winner=json.loads(row[f"{won}_recipe"]),
                loser=json.loads(row[f"{lost}_recipe"]),
                artworks=(arts[won], arts[lost]),
                requesters=(pseudonym(db, row[f"{won}_member"]), pseudonym(db, row[f"{lost}_member"])),
                at=row["decided"],
            )

    async def record(self, night: Night, snapshot: Snapshot | None = None) -> None:
        """Write a night into the diary; with its snapshot the first time, so that it knows whose votes it used."""

        def work(db: Database) -> None:
            save_night(db, night, snapshot)
            used: list[tuple[str, str, str]] = []
            if snapshot is not None:
                used += [(vote.artwork, vote.voter, vote.requester) for vote in snapshot.votes]
                used += [
                    (artwork, duel.voter, requester)
                    for duel in snapshot.duels
                    for artwork, requester in zip(duel.artworks, duel.requesters, strict=True)
                ]
            for use in used:
                db.execute("INSERT OR IGNORE INTO night_uses VALUES (?, ?, ?, ?)", [night.id, *use])

        await self._store.write(work)

    async def list(self, limit: int = 30) -> builtins.list[Night]:
        """Return the newest nights first."""
        sql = "SELECT * FROM nights ORDER BY started DESC LIMIT ?"
        rows = await self._store.read(lambda db: [*db.query(sql, [limit])])
        return [_night(row) for row in rows]

    async def get(self, night_id: str) -> Night:
        """Return one night.

        Raises:
            NotFound: there is none.
        """
        row = await self._store.read(lambda db: one(db, "SELECT * FROM nights WHERE id = ?", [night_id]))
        if row is None:
            raise NotFound(f"There is no night {night_id[:40]!r}.")
        return _night(row)

    async def pseudonym(self, member: Member) -> str:
        """Return the name a member has in snapshots."""
        return await self._store.read(lambda db: pseudonym(db, member.key))


def save_night(db: Database, night: Night, snapshot: Snapshot | None = None) -> None:
    """Write a night's row, inside somebody's transaction."""
    values = asdict(night) | {"diary": to_json(night.diary)}
    if snapshot is not None:
        values |= {"cutoff": snapshot.cutoff, "snapshot": snapshot.sha256}
    # What members withdrew since is counted here alone.
    updates = ", ".join(
        f"{name} = coalesce(excluded.{name}, {name})" for name in values if name not in ("id", "withdrawn")
    )
    db.execute(
        f"INSERT INTO nights ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) "  # noqa: S608
        f"ON CONFLICT (id) DO UPDATE SET {updates}",
        list(values.values()),
    )


def _capped_duels(duels: Iterable[DuelRow]) -> builtins.list[DuelRow]:
    """Return the newest duels of each voter, at most so many, in a fixed order."""
    mine: Counter[str] = Counter()
    kept = []
    for duel in sorted(duels, key=lambda duel: (-duel.at, duel.artworks, duel.voter)):
        mine[duel.voter] += 1
        if mine[duel.voter] <= VOTER_CAP:
            kept.append(duel)
    return sorted(kept, key=lambda duel: (duel.artworks, duel.voter, duel.at))


# A job that named no painter, and yet its work names one: it was assigned for a trial.
_TRIED = """SELECT artworks.id, artworks.model FROM artworks JOIN jobs ON jobs.id = artworks.job
    WHERE artworks.model IN (:one, :two) AND artworks.created >= :since AND artworks.command = 'paint'
        AND json_extract(jobs.options, '$.model') IS NULL"""
_OF_TRIAL = f"AND artworks.id IN (SELECT id FROM ({_TRIED}))"  # noqa: S608


def _night(row: dict[str, Any]) -> Night:
    return Night(**(row | {"diary": json.loads(row["diary"])}))
