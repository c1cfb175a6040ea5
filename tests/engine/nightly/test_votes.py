"""Votes come in from files and from the app's database, and nobody is louder than allowed."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from town import GENRES, recipe, vote

from engine.errors import InvalidRequest
from engine.nightly.votes import Ballot, collect, pairs, read_votes, weights


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def ballot(lines: list[dict[str, Any]]) -> Ballot:
    return collect(lines, Path())


def test_a_file_of_votes_is_read_and_the_last_word_counts(tmp_path: Path) -> None:
    lines = [vote("ada", 1, "up"), vote("ada", 2, "down"), "", vote("bob", 1, 1), vote("ada", 1, -1)]
    found = read_votes(write(tmp_path / "votes.jsonl", lines))
    assert len(found.works) == 2 and found.voters == ["ada", "bob"]
    values = {(each.voter, found.works[each.work].seed): each.value for each in found.votes}
    assert values == {("ada", 1): -1, ("ada", 2): -1, ("bob", 1): 1}


def test_a_file_with_its_recipe_inside_is_a_work(tmp_path: Path) -> None:
    import numpy as np

    from engine import media

    made = media.encode_still(np.zeros((32, 32, 3), np.uint8), "png", recipe(7))
    (tmp_path / "rose.png").write_bytes(made.data)
    lines = [
        {"artwork": "rose.png", "value": "up", "voter": "ada"},
        {"artwork": "gone.png", "value": "up", "voter": "ada"},
    ]
    found = read_votes(write(tmp_path / "votes.jsonl", lines))
    (work,) = found.works.values()
    assert work.seed == 7 and work.file == tmp_path / "rose.png"
    assert found.left_out == {"votes on works that are no paintings": 1}


def test_what_teaches_nothing_is_left_out_and_counted() -> None:
    lines = [
        vote("ada", 1, "up", requester="ada"),
        {"recipe": recipe(1, command="stylize"), "value": "up", "voter": "ada"},
        {"recipe": recipe(1, "dreams"), "value": "up", "voter": "ada"},
        *[vote("eve", seed, "up") for seed in range(250)],
    ]
    found = ballot(lines)
    assert found.left_out == {
        "votes on own works": 1, "votes on works that are no paintings": 1,
        "votes on works whose recipe is broken": 1, "votes beyond a voter's cap": 50,
    }  # fmt: skip
    assert len(found.votes) == 200 and min(found.works[each.work].seed or 0 for each in found.votes) == 50


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: this is no JSON"),
        ({"value": "up"}, "line 2: a vote needs a voter"),
        ({"voter": "a", "value": "maybe", "recipe": {}}, "'maybe'; it must be up or down"),
        ({"voter": "a", "value": "up"}, "a vote needs a recipe"),
        ({"voter": "a", "winner": {}}, "a duel needs a winner and a loser"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, line: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said.replace("(", r"\(")):
        read_votes(write(tmp_path / "votes.jsonl", [vote("ada", 1, "up"), line]))


def test_files_that_are_no_votes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no file of votes"):
        read_votes(tmp_path / "none.jsonl")
    (tmp_path / "noise").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InvalidRequest, match="neither jsonl nor"):
        read_votes(tmp_path / "noise")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE x (y)").connection.commit()
    with pytest.raises(InvalidRequest, match="no database of this app"):
        read_votes(tmp_path / "other.db")


def test_the_apps_own_database_is_read_without_those_who_opted_out(tmp_path: Path) -> None:
    from bot.studio.store import _SCHEMA

    db = sqlite3.connect(tmp_path / "ganvas.db")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    for member, preferences in (("a", "{}"), ("b", "{}"), ("shy", '{"training": false}'), ("banned", "{}")):
        db.execute("INSERT INTO members VALUES (?, 'web', ?, 'x', 0, NULL, ?)", [member, member, preferences])
    db.execute("INSERT INTO bans VALUES ('*', 'banned', 'x', 'host', '', 0)")

    def artwork(
        name: str, member: str, seed: int, command: str = "paint", private: int = 0, removed: int | None = None
    ) -> None:
        db.execute(
            "INSERT INTO artworks (id, number, member, command, format, width, height, frames, size, sha256, recipe,"
            " title, private, age_restricted, removed, created)"
            " VALUES (?, 0, ?, ?, 'png', 1, 1, 1, 1, ?, ?, '', ?, 0, ?, 0)",
            [name, member, command, name, json.dumps(recipe(seed, command=command)), private, removed],
        )

    artwork("W1", "a", 1)
    artwork("W2", "a", 2)
    artwork("SHY", "shy", 3)
    artwork("PRIVATE", "a", 4, private=1)
    artwork("GONE", "a", 5, removed=1)
    artwork("PHOTO", "a", 6, command="stylize")
    day = 86400.0
    for work in ("W1", "W2", "SHY", "PRIVATE", "GONE", "PHOTO"):
        for member in ("a", "b", "shy", "banned"):
            db.execute("INSERT INTO votes VALUES (?, ?, 'up', 1, NULL, 0, 0)", [work, member])
    db.execute("INSERT INTO votes VALUES ('W1', 'newcomer', 'up', 1, ?, 0, ?)", [99 * day, 100 * day])
    db.execute("INSERT INTO duels VALUES ('D1', 'b', NULL, 'x', 'W1', 'W2', 'second', 0, 1)")
    db.execute("INSERT INTO duels VALUES ('D2', 'shy', NULL, 'x', 'W1', 'W2', 'second', 0, 1)")
    db.commit()
    db.close()
    found = read_votes(tmp_path / "ganvas.db")
    assert [(each.voter, found.works[each.work].seed) for each in found.votes] == [("b", 1), ("b", 2)]
    (duel,) = found.duels
    assert (found.works[duel.winner].seed, found.works[duel.loser].seed) == (2, 1)


def test_many_votes_do_not_shout() -> None:
    lines = [vote(f"voter-{v}", seed, "up" if (seed + v) % 2 else "down") for v in range(9) for seed in range(8)]
    lines += [vote("mallory", seed, "up" if seed % 3 else "down") for seed in range(1000)]
    found = weights(ballot(lines))
    others = found["voter-0"]
    assert found["mallory"] <= 3 * others + 1e-9
    total: Counter[str] = Counter()
    for pair in pairs(ballot(lines)):
        total[pair.voter] += pair.weight  # type: ignore[assignment]
    assert total["mallory"] == pytest.approx(found["mallory"]) and total["voter-0"] == pytest.approx(others)


def test_sock_puppets_count_as_one() -> None:
    people = [
        vote(f"voter-{v}", seed, "up" if (seed * (v + 3)) % 7 < 4 else "down") for v in range(6) for seed in range(20)
    ]
    puppets = [vote(f"puppet-{p}", seed, "up" if seed % 2 else "down") for p in range(10) for seed in range(20)]
    found = weights(ballot(people + puppets))
    assert sum(found[f"puppet-{p}"] for p in range(10)) == pytest.approx(found["voter-0"])
    assert found["voter-0"] == pytest.approx(20 / 1.4)


def test_pairs_are_one_voters_view_of_one_genre() -> None:
    lines = [
        vote("ada", 1, "up"),
        vote("ada", 2, "down"),
        vote("ada", 3, "down", GENRES[1]),
        vote("bob", 4, "up", GENRES[1]),
    ]
    found = ballot(lines)
    told = {(found.works[p.winner].seed, found.works[p.loser].seed, p.voter) for p in pairs(found)}
    # ada's up over her down; her down in landscape below bob's, and bob's up above hers, both faintly
    assert told == {(1, 2, "ada"), (4, 3, "ada"), (4, 3, "bob")}
    duels = ballot([{"winner": recipe(1), "loser": recipe(2), "voter": "ada"},
                    {"winner": recipe(1), "loser": recipe(2, GENRES[1]), "voter": "ada"}])  # fmt: skip
    assert len(pairs(duels)) == 1


def test_nothing_follows_from_votes_on_a_single_work() -> None:
    assert pairs(ballot([vote(f"voter-{v}", 1, "up") for v in range(50)])) == []
    assert pairs(ballot([])) == [] and weights(ballot([])) == {}
