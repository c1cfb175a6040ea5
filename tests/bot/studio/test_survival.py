"""Kill -9 at any moment: nothing acknowledged is lost, nothing is delivered twice."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
async def test_nothing_is_lost_and_nothing_delivered_twice(tmp_path: Path, kills: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "mortal.py"), str(tmp_path / "var"), str(kills), stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE.parent}"},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    said = [line.split() for line in out.decode().splitlines()]

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
