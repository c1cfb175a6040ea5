"""Kill -9 at any moment: nothing acknowledged is lost, nothing is delivered twice."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


async def one_life(tmp_path: Path, number: int, jobs: int, killed_after: float | None) -> list[list[str]]:
    """Run a studio; kill it so many seconds after it began to work.  Returns what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "mortal.py"), str(tmp_path / "var"), str(number), str(jobs),
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE.parent}"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    said = [await process.stdout.readline()]
    if killed_after is not None:
        await asyncio.sleep(killed_after)
        process.kill()
    said += (await process.stdout.read()).splitlines()
    code = await process.wait()
    assert code == (0 if killed_after is None else -9)
    return [line.decode().split() for line in said if line.strip()]


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_nothing_is_lost_and_nothing_delivered_twice(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    said = []
    for number in range(kills):
        said += await one_life(tmp_path, number, 10, chance.uniform(0, 0.6))
    said += await one_life(tmp_path, kills, 0, None)

    acknowledged = {words[1] for words in said if words[0] == "job"}
    posted = Counter((tmp_path / "wall.txt").read_text().split())
    assert acknowledged, "it never worked"
    assert [nonce for nonce, times in posted.items() if times > 1] == []
    assert acknowledged - {nonce.removeprefix("ganvas-") for nonce in posted} == set()

    # A vote on its way when the kill came may or may not stand; one that was acknowledged does.
    db = sqlite3.connect(tmp_path / "var" / "ganvas.db")
    votes = {
        (art, member.removeprefix("discord:")): value
        for art, member, value in db.execute("SELECT artwork, member, value FROM votes")
    }
    integrity = db.execute("PRAGMA integrity_check").fetchone()
    files = {row[0] for row in db.execute("SELECT id FROM artworks")}
    db.close()
    possible: dict[tuple[str, str], set[str]] = {}
    for words in said:
        if words[0] == "voted":
            possible[words[1], words[2]] = {words[3]}
        elif words[0] == "voting":
            possible.setdefault((words[1], words[2]), {""}).add(words[3])
    assert {key for key, values in possible.items() if votes.get(key, "") not in values} == set()
    assert integrity == ("ok",)
    assert files - {path.stem for path in (tmp_path / "var" / "artworks").rglob("*.png")} == set()
    assert [path for path in (tmp_path / "var" / "jobs").rglob("*") if path.is_file()] == []
