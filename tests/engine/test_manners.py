"""Freed memory goes back to the system, in a process of its own: the tests' own heap has other holes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_goes_back_though_there_is_some_in_use_between() -> None:
    script = """
import re
from pathlib import Path
from engine.manners import give_back

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024  # MiB

pictures = [bytes(60_000) for _ in range(4_000)]
kept = pictures[1::2]
del pictures
before = resident()
give_back()
give_back()  # does no harm when nothing is left
print(before - resident())
"""
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(told.stdout) > 50
