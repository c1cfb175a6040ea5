"""Freed memory is kept for a while and goes back then, in processes of its own: the tests' own heap has other holes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESIDENT = """
import re
from pathlib import Path

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024  # MiB
"""
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def told_by(script: str) -> list[int]:
    """Return the numbers that ``script``, which may ask for ``resident()``, prints in a process of its own."""
    command = [sys.executable, "-c", RESIDENT + script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_freed_memory_goes_back_though_there_is_some_in_use_between() -> None:
    script = """
from engine.manners import give_back

pictures = [bytes(60_000) for _ in range(4_000)]
kept = pictures[1::2]
del pictures
before = resident()
give_back()
give_back()  # does no harm when nothing is left
print(before - resident())
"""
    assert told_by(script)[0] > 50


def test_a_freed_picture_is_kept_for_the_next_one_until_the_work_is_over() -> None:
    script = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
from engine import manners

manners.behave()
manners.TIDY = 0.2

def work():
    picture = bytearray(b"x") * 200_000_000
    del picture
    return resident()

async def main():
    thread = ThreadPoolExecutor(1)
    tidier = manners.Tidier(thread)
    before = resident()
    for _ in range(3):
        kept = thread.submit(work).result() - before
        tidier.after_work()
    await asyncio.sleep(1)
    print(kept, resident() - before)

asyncio.run(main())
"""
    kept, left = told_by(script)
    assert kept > 150 and left < 50
