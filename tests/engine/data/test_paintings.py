"""The cache of decoded pictures: several runs may want the same one at the same moment."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[3]


def test_runs_that_begin_together_share_one_cache(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "landscape").mkdir(parents=True)
    for number in range(200):
        picture = Image.fromarray(rng.integers(0, 256, (256, 256, 3), np.uint8))
        picture.save(tmp_path / "data" / "landscape" / f"{number}.png")
    script = f"""
from pathlib import Path
from engine.data.paintings import load_pictures
print("ready", flush=True)
input()
pictures = load_pictures(Path({str(tmp_path / "data")!r}), 32, Path({str(tmp_path / "cache")!r}))
print(len(pictures), int(pictures.pixels.astype(int).sum()))
"""
    pipe = subprocess.PIPE
    runs = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(4)
    ]
    for run in runs:
        assert run.stdout is not None and run.stdin is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
        time.sleep(0.1)  # the first is done while the last still writes
    told = [run.communicate()[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert told[0][0] == "200" and all(each == told[0] for each in told)
