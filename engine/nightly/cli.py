"""`python -m engine finetune` and `python -m engine simulate`."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine import checkpoints
from engine.cli.console import Json, progress, say, tell, tell_json
from engine.errors import UnknownName

if TYPE_CHECKING:  # it costs torch
    from engine.nightly.night import Judges

HOME = Path(__file__).resolve().parents[2] / "data" / "var"

Base = Annotated[str | None, typer.Option(help="The painter to start from; the one in office by default.")]
Minutes = Annotated[float, typer.Option(min=0, help="Budget of a lesson.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of a lesson, at most.")]
Paintings = Annotated[Path, typer.Option(help="Your own paintings, DIR/<genre>/; may be missing.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; all by default.")]
Plain = Annotated[bool, typer.Option("--plain", help="Where votes say nothing, train on paintings alone.")]


def finetune(
    votes: Annotated[Path, typer.Option(help="A jsonl file of votes, or the app's database.", show_default=False)],
    base: Base = None,
    minutes: Minutes = 60.0,
    steps: Steps = 60,
    paintings: Paintings = HOME / "paintings",
    out: Annotated[Path | None, typer.Option(help="A new folder for diary and candidate.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the candidate.")] = None,
    plain: Plain = False,
    pause_file: Annotated[Path | None, typer.Option(help="While this file exists, the lesson waits.")] = None,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the lesson.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at the votes and stop.")] = False,
    until_eof: Annotated[bool, typer.Option(hidden=True, help="Die when stdin ends.")] = False,
    as_json: Json = False,
) -> None:
    """Let a painter learn from votes: a candidate that passed the gate, or the reason why there is none."""
    from engine.nightly.votes import read_votes

    ballot = read_votes(votes)
    card = checkpoints.find_kind("painter", base) if base else checkpoints.in_office("painter")
    if not dry_run:
        _prepare(threads)
    if until_eof:
        threading.Thread(target=_die_at_eof, daemon=True).start()
    from engine.nightly.lesson import LessonConfig
    from engine.nightly.night import NightConfig, hold_night

    name = name or f"{card.get('base') or card.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    config = NightConfig(lesson=LessonConfig(steps=steps, minutes=minutes, seed=seed), plain=plain, seed=seed)
    champion = checkpoints.load(card.name, discriminator=True)
    with progress("lesson") as show:
        night = hold_night(
            ballot, champion, out or HOME / "nights" / name, lambda: judges(dry_run), config, name=name,
            paintings=paintings, cache=HOME / "cache", dry_run=dry_run, paused=pause_file, tell=show,
        )  # fmt: skip
    if as_json:
        tell_json(night.to_json())
        return
    for check in night.checks:
        tell(f"{'  ' if check.passed else 'x '}{check}")
    tell(f"{night.state}: {night.why}")
    if night.candidate:
        tell(f"The candidate is in {night.candidate}.")


def simulate(
    taste: Annotated[str, typer.Option(help="warm, blue, bright, random, or a picture's file.", show_default=False)],
    voters: Annotated[int, typer.Option(min=1, max=1000, help="How many people vote.")] = 30,
    nights: Annotated[int, typer.Option(min=1, max=365, help="How many nights are held.")] = 7,
    attack: Annotated[
        str, typer.Option(help="none, sockpuppets, one-voter, single-image, all-down or random.")
    ] = "none",
    base: Base = None,
    minutes: Minutes = 15.0,
    steps: Steps = 60,
    paintings: Paintings = HOME / "paintings",
    out: Annotated[Path, typer.Option(help="A new folder for report and chart.")] = Path("runs/simulation"),
    plain: Plain = False,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the community.")] = 0,
    as_json: Json = False,
) -> None:
    """Play many nights of learning with made-up voters, and report where the painter went."""
    from engine.nightly.simulation import ATTACKS, Community, find_taste
    from engine.nightly.simulation import simulate as play

    if attack not in ATTACKS:
        raise UnknownName(f"There is no attack {attack!r}; there are {', '.join(ATTACKS)}.")
    community = Community(voters, find_taste(taste), attack, seed)
    card = checkpoints.find_kind("painter", base) if base else checkpoints.in_office("painter")
    _prepare(threads)
    from engine.nightly.lesson import LessonConfig
    from engine.nightly.night import NightConfig

    config = NightConfig(lesson=LessonConfig(steps=steps, minutes=minutes), plain=plain)
    painter = checkpoints.load(card.name, discriminator=True)
    with progress("simulation") as show:
        report = play(
            painter, community, nights, out, judges(), config, paintings=paintings, cache=HOME / "cache", tell=show
        )
    if as_json:
        tell_json({"taste": taste} | report)
        return
    for row in report["nights"]:
        tell(
            f"night {row['night']:3}  {row['state']:9}  "
            f"wins {row['win_rate']:.1%} of the same seeds, {row['win_rate_of_any']:.1%} of any  "
            f"KID {row['kid']:.4f} (base {row['kid_of_base']:.4f})  diversity {row['diversity_of_base']:.1%}"
        )
    tell(f"Report and chart are in {out}.")


def judges(dry_run: bool = False) -> Judges:
    """Return who looks; a dry run needs only the taste's features."""
    from engine.evaluate.spaces import judges as spaces
    from engine.nightly.looks import load_looks
    from engine.nightly.night import Judges

    return Judges(load_looks(), () if dry_run else spaces())


def _prepare(threads: int | None) -> None:
    """Be a quiet neighbour: last in line for the processor, and no more threads than allowed."""
    from engine.train.cli import keep_pages

    keep_pages()
    os.nice(19)
    if threads:
        import torch

        torch.set_num_threads(threads)
    say(f"Learning on {threads or os.cpu_count()} threads, niced.")


def _die_at_eof() -> None:
    """Leave when the engine that began this lesson is gone, however it went: its end of our stdin closes then."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)
