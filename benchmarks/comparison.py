"""`painter` against `gangogh` and `dcgan`: the same paintings, the same processor minutes, the same measures.

    python benchmarks/comparison.py --data SPLIT [--cpu-minutes 12] [--runs runs/comparison]

SPLIT is what `dataset split` made of paintings by genre; its held-out part judges.  Trains the three, one after another
on one thread each (a run that is finished already is taken as it is), evaluates them and writes docs/comparison.md with
a sheet of each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
SYSTEMS = ("painter", "gangogh", "dcgan")
GENRES = "abstract,animal-painting,cityscape,flower-painting,genre-painting,landscape,marina,portrait,still-life"


def settings(minutes: float) -> dict[str, list[str]]:
    """Return what each system is told beside its preset.

    The painter's first phase is as long a share as in the released run (12,000 of 52,000 images), and gangogh's critic
    is alone for as long a share as in its preset; both would otherwise fill the whole of a short run.
    """
    images = int(1400 * minutes)  # what one core shows a painter of 64 px
    return {
        "painter": ["--preset", "64", "--images", str(images), "--set", f"memory={int(0.23 * images)}"],
        "gangogh": ["--preset", "evening", "--set", f"pretrain={int(165 * minutes)}"],
        "dcgan": ["--preset", "64"],
    }


def engine(*arguments: str, models: Path | None = None) -> str:
    """Return what `python -m engine ...` prints."""
    shelf = {"GANVAS_MODELS": str(models)} if models else {}
    command = [sys.executable, "-m", "engine", *arguments]
    return subprocess.run(command, env=os.environ | shelf, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(system: str, data: Path, runs: Path, minutes: float, count: int) -> dict[str, Any]:
    """Train and measure one system; return its row of the table."""
    run = runs / system
    train = ["train", system, *settings(minutes)[system], "--set", f"genres={GENRES}", "--threads", "1",
             "--cpu-minutes", f"{minutes:g}"]  # fmt: skip
    if not (run / "release").is_dir():
        engine(*train, "--data", str(data / "train"), "--run", str(run))
    shelf = runs / "models"
    if not (shelf / system).is_dir():
        engine("models", "import", str(run / "release"), models=shelf)
    evaluate = ["evaluate", system, "--count", str(count)]
    cache = ["--cache", str(runs / "cache"), "--json"]
    figures = json.loads(engine(*evaluate, "--data", str(data), *cache, models=shelf))
    card = json.loads((run / "release" / "card.json").read_text())
    with Image.open(run / "release" / "preview.webp") as picture:  # what it made, and nothing it was shown
        picture.thumbnail((768, 768), Image.Resampling.LANCZOS)
        picture.convert("RGB").save(DOCS / "pictures" / f"comparison-{system}.webp", quality=82)
    return {
        "system": system, "figures": figures, "card": card, "minutes": 60 * card["cpu_hours"],
        "train": " ".join(["python -m engine", *train, "--data SPLIT/train"]),
        "evaluate": " ".join(["python -m engine", *evaluate, "--data SPLIT"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cpu-minutes", type=float, default=12)
    parser.add_argument("--count", type=int, default=1000, help="samples that are measured")
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison"))
    arguments = parser.parse_args()
    rows = [
        compare(system, arguments.data, arguments.runs, arguments.cpu_minutes, arguments.count) for system in SYSTEMS
    ]
    pages = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=False)
    page = pages.get_template("comparison.md.j2").render(
        rows=rows, minutes=arguments.cpu_minutes, count=arguments.count
    )
    (DOCS / "comparison.md").write_text(page + "\n")
    print(page)


if __name__ == "__main__":
    main()
