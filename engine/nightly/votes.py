"""Votes from anywhere: a jsonl file, as the app writes its snapshots, or the app's database.

One JSON object a line, a vote or a duel; a work is a recipe, or a file that has its recipe inside:

    {"artwork": "K7QX2M", "file": "K7QX2M.png", "recipe": {...}, "value": "up", "voter": "ada", "requester": "bob"}
    {"artwork": "pictures/rose.png", "value": "down", "voter": "ada"}
    {"winner": {recipe} or "file", "loser": {recipe} or "file", "voter": "ada"}

Only paintings teach a painter; votes on other works are counted and left out.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.api import parse_genre
from engine.errors import GanvasError, InvalidRequest

MOST_VOTES = 200  # of one voter, the last ones
YOUNG: Final = 7 * 86_400.0  # seconds; accounts younger than this at their vote do not count
MOST_PAIRS = 400  # of one voter
FAINT = 0.25  # weight of a pair of a work that was voted up and one that was passed over
LOUDEST = 3.0  # a voter weighs at most as much as so many median voters
ECHO = 0.95  # share of equal votes on at least ECHO_WORKS works above which two voters count as one
ECHO_WORKS = 12


@dataclass(frozen=True)
class Work:
    """A painting that was voted on."""

    key: str
    genre: str
    file: Path | None = None
    seed: int | None = None
    psi: float = 1.0
    model: str | None = None  # sha256 of the painter


@dataclass(frozen=True)
class Vote:
    """One voter's last word on a work."""

    voter: str
    work: str
    value: int  # 1 or -1


@dataclass(frozen=True)
class Duel:
    """One voter's choice between two works of a genre."""

    voter: str
    winner: str
    loser: str


@dataclass
class Ballot:
    """All that a night may learn from."""

    works: dict[str, Work] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)
    duels: list[Duel] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # why -> how many

    @property
    def voters(self) -> list[str]:
        """Everybody who voted, by name."""
        return sorted({vote.voter for vote in self.votes} | {duel.voter for duel in self.duels})

    def digest(self) -> str:
        """Return the sha256 of what was learned from."""
        text = json.dumps(
            [[str(v) for v in sorted(self.votes, key=str)], [str(d) for d in sorted(self.duels, key=str)]]
        )
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Pair:
    """``winner`` was liked better than ``loser``."""

    winner: str
    loser: str
    voter: str
    weight: float


# Reading


def read_votes(path: Path) -> Ballot:
    """Return the ballot in ``path``, a jsonl file or the app's database.

    Raises:
        InvalidRequest: it is neither, or a line makes no sense; the message names the line.
    """
    if not path.is_file():
        raise InvalidRequest(f"There is no file of votes at {str(path)!r}.")
    with path.open("rb") as file:
        head = file.read(16)
    lines = _from_database(path) if head.startswith(b"SQLite format 3") else _from_jsonl(path)
    return collect(lines, path.parent)


def collect(lines: Iterable[Mapping[str, Any]], root: Path) -> Ballot:
    """Return the ballot of ``lines``; files are looked for below ``root``.  A voter's last vote on a work counts."""
    ballot = Ballot()
    votes: dict[tuple[str, str], int] = {}
    for line in lines:
        voter = str(line["voter"])
        if "winner" in line:
            pair = [_work(line[side], {}, root, ballot) for side in ("winner", "loser")]
            if all(pair) and pair[0].genre == pair[1].genre and pair[0].key != pair[1].key:  # type: ignore[union-attr]
                ballot.duels.append(Duel(voter, pair[0].key, pair[1].key))  # type: ignore[union-attr]
            continue
        if line.get("requester") == voter:
            ballot.left_out["votes on own works"] += 1
            continue
        work = _work(line.get("recipe") or line.get("file") or line.get("artwork"), line, root, ballot)
        if work is not None:
            votes.pop((voter, work.key), None)  # so that the last comes last
            votes[voter, work.key] = _value(line["value"])
    by_voter: dict[str, list[Vote]] = defaultdict(list)
    for (voter, key), value in votes.items():
        by_voter[voter].append(Vote(voter, key, value))
    for mine in by_voter.values():
        ballot.left_out["votes beyond a voter's cap"] += max(0, len(mine) - MOST_VOTES)
        ballot.votes += mine[-MOST_VOTES:]
    ballot.left_out = +ballot.left_out
    return ballot


def _from_jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        try:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield _checked(text, f"{path}, line {number}")
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"{str(path)!r} holds no votes: it is neither jsonl nor the app's database."
            ) from error


def _checked(text: str, where: str) -> Mapping[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{where}: this is no JSON: {error}.") from error
    if not isinstance(line, dict) or "voter" not in line:
        raise InvalidRequest(f"{where}: a vote needs a voter.")
    if "winner" in line:
        if "loser" not in line:
            raise InvalidRequest(f"{where}: a duel needs a winner and a loser.")
        return line
    if line.get("value") not in _VALUES:
        raise InvalidRequest(f"{where}: the value is {line.get('value')!r}; it must be up or down.")
    if not any(line.get(name) for name in ("recipe", "file", "artwork")):
        raise InvalidRequest(f"{where}: a vote needs a recipe, or a file that has one inside.")
    return line


_VALUES: Final = {"up": 1, "down": -1, 1: 1, -1: -1}


def _value(value: Any) -> int:
    return _VALUES[value]


def _work(what: Any, line: Mapping[str, Any], root: Path, ballot: Ballot) -> Work | None:
    """Return the painting that ``what``, a recipe or a file name, stands for, entered in ``ballot``."""
    file: Path | None = root / str(line["file"]) if line.get("file") else None
    if not isinstance(what, Mapping):
        file = root / str(what)
        what = _recipe_inside(file)
    if what.get("command") != "paint":
        ballot.left_out["votes on works that are no paintings"] += 1
        return None
    options = what.get("options") or {}
    try:
        genre = parse_genre(str(options.get("genre")))
        seed, psi = int(options["seed"]), float(options.get("psi", 1.0))
    except (GanvasError, KeyError, TypeError, ValueError):
        ballot.left_out["votes on works whose recipe is broken"] += 1
        return None
    models = what.get("models") or {}
    model = models.get(options.get("model")) or next(iter(models.values()), None)
    key = hashlib.sha256(json.dumps([genre, seed, psi, model]).encode()).hexdigest()[:16]
    known = ballot.works.get(key)
    if known is None or (known.file is None and file is not None):
        ballot.works[key] = Work(key, genre, file if file and file.is_file() else None, seed, psi, model)
    return ballot.works[key]


def _recipe_inside(file: Path) -> Mapping[str, Any]:
    from engine.media import read_recipe

    try:
        return read_recipe(file.read_bytes()) or {}
    except (OSError, GanvasError):
        return {}


def _from_database(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield votes and duels from one read transaction, without those of opted-out and banned people."""
    artworks = path.parent / "artworks"
    files = {file.stem: file.relative_to(path.parent).as_posix() for file in artworks.rglob("*") if file.is_file()}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            db.execute("BEGIN")
            for row in db.execute(_VOTES, {"young": YOUNG}):
                file = files.get(row["artwork"])
                yield dict(row) | {"recipe": json.loads(row["recipe"]), "file": file}
            for row in db.execute(_DUELS):
                first, second = json.loads(row["first"]), json.loads(row["second"])
                winner, loser = (first, second) if row["choice"] == "first" else (second, first)
                yield {"voter": row["voter"], "winner": winner, "loser": loser}
    except sqlite3.Error as error:
        raise InvalidRequest(f"{str(path)!r} is no database of this app: {error}.") from error


_VOTES = """
SELECT votes.artwork, votes.member AS voter, artworks.member AS requester, votes.value, recipe
FROM votes JOIN artworks ON artworks.id = votes.artwork
    LEFT JOIN members AS v ON v.key = votes.member JOIN members AS r ON r.key = artworks.member
WHERE command = 'paint' AND removed IS NULL AND private = 0 AND votes.member != artworks.member
    AND (votes.account_created IS NULL OR votes.updated_at - votes.account_created >= :young)
    AND coalesce(json_extract(v.preferences, '$.training'), 1)
    AND coalesce(json_extract(r.preferences, '$.training'), 1)
    AND NOT EXISTS (SELECT 1 FROM bans WHERE bans.member IN (votes.member, artworks.member)
        AND bans.guild IN ('*', coalesce(artworks.guild, '*')))
ORDER BY votes.updated_at, votes.artwork, votes.member
"""
_DUELS = """
SELECT duels.member AS voter, choice, a.recipe AS first, b.recipe AS second
FROM duels JOIN artworks AS a ON a.id = duels.first JOIN artworks AS b ON b.id = duels.second
    LEFT JOIN members AS v ON v.key = duels.member
WHERE choice IN ('first', 'second') AND a.removed IS NULL AND b.removed IS NULL
    AND coalesce(json_extract(v.preferences, '$.training'), 1)
ORDER BY decided, duels.id
"""


# From votes to pairs


def weights(ballot: Ballot) -> dict[str, float]:
    """Return what each voter weighs: n / (1 + n / 50) for n votes, shared by echoes, nobody far above the others."""
    counts = Counter(vote.voter for vote in ballot.votes) + Counter(duel.voter for duel in ballot.duels)
    groups = _echoes(ballot)
    sizes = Counter(groups.get(voter, voter) for voter in counts)
    loud = {voter: n / (1 + n / 50) for voter, n in counts.items()}
    # One value for each group, or a crowd of puppets would say what is usual.
    usual = [loud[voter] for voter in loud if groups.get(voter, voter) == voter]
    cap = LOUDEST * float(np.median(usual)) if usual else 0.0
    return {voter: min(weight, cap) / sizes[groups.get(voter, voter)] for voter, weight in loud.items()}


def _echoes(ballot: Ballot) -> dict[str, str]:
    """Return {voter: who leads those that vote as one with them}: sock puppets vote alike, people do not."""
    by_voter: dict[str, dict[str, int]] = defaultdict(dict)
    for vote in ballot.votes:
        by_voter[vote.voter][vote.work] = vote.value
    leader = {voter: voter for voter in by_voter}

    def find(voter: str) -> str:
        while leader[voter] != voter:
            voter = leader[voter]
        return voter

    for a, b in itertools.combinations(sorted(by_voter), 2):
        common = by_voter[a].keys() & by_voter[b].keys()
        if len(common) >= ECHO_WORKS:
            equal = sum(by_voter[a][work] == by_voter[b][work] for work in common)
            # Two who only ever vote up agree always and are no puppets for that, unless they chose the same works.
            differs = len({by_voter[a][work] for work in common}) > 1
            same_choice = len(common) >= ECHO * max(len(by_voter[a]), len(by_voter[b]))
            if equal >= ECHO * len(common) and (differs or same_choice):
                leader[find(b)] = find(a)
    return {voter: find(voter) for voter in leader}


def pairs(ballot: Ballot, seed: int = 0) -> list[Pair]:
    """Return what was liked better than what, always one voter's view of two works of one genre.

    A voter's weight is spread over their pairs, so that many votes tell more but do not shout.  Where a voter only
    voted up (or down) in a genre, works of it that they passed over stand on the other side, faintly.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
    for duel in ballot.duels:
        found[duel.voter].append((duel.winner, duel.loser, 1.0))
    of_genre: dict[str, list[str]] = defaultdict(list)
    for key in sorted({vote.work for vote in ballot.votes}):
        of_genre[ballot.works[key].genre].append(key)
    mine: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for vote in ballot.votes:
        mine[vote.voter, ballot.works[vote.work].genre][vote.work] = vote.value
    for (voter, genre), values in sorted(mine.items()):
        up = [work for work, value in values.items() if value > 0]
        down = [work for work, value in values.items() if value < 0]
        if up and down:
            found[voter] += [(a, b, 1.0) for a in up for b in down]
            continue
        passed = [work for work in of_genre[genre] if work not in values]
        for work in values:
            for other in rng.permutation(passed)[:2].tolist():
                found[voter].append((work, other, FAINT) if up else (other, work, FAINT))
    total = weights(ballot)
    made = []
    for voter, chosen in sorted(found.items()):
        if len(chosen) > MOST_PAIRS:
            chosen = [chosen[i] for i in rng.permutation(len(chosen))[:MOST_PAIRS]]
        share = total[voter] / len(chosen)
        made += [Pair(a, b, voter, share * strength) for a, b, strength in chosen]
    return made
