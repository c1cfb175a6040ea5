"""What commands share: reading and writing files, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from engine import api
from engine.api import Output, Request, Result
from engine.checkpoints import write_atomic
from engine.errors import GanvasError, InvalidRequest

Out = Annotated[
    Path, typer.Option("--out", "-o", help="The file to write; its suffix is the format.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]

SUFFIXES = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".mp4": "mp4"}
MAX_FILE = 512 * 2**20  # bytes
LINE_EVERY = 2.0  # seconds between lines of progress in a pipe


def read_file(path: Path) -> bytes:
    """Return the bytes of ``path``.

    Raises:
        InvalidRequest: it is no file, or far too large for a picture.
    """
    if not path.is_file():
        raise InvalidRequest(f"There is no file {str(path)!r}.")
    if path.stat().st_size > MAX_FILE:
        raise InvalidRequest(
            f"{str(path)!r} has {path.stat().st_size / 2**20:.0f} MB; at most {MAX_FILE >> 20} MB are read."
        )
    return path.read_bytes()


def format_of(out: Path, allowed: Sequence[str]) -> str:
    """Return the format that the suffix of ``out`` stands for, and see that ``out`` can be written, before any work.

    Raises:
        InvalidRequest: another suffix, or no such folder.
    """
    found = SUFFIXES.get(out.suffix.lower(), "")
    if found not in allowed:
        suffixes = ", ".join(suffix for suffix, name in SUFFIXES.items() if name in allowed)
        raise InvalidRequest(f"{str(out)!r} ends in {out.suffix!r}; the output must end in one of {suffixes}.")
    if out.is_dir() or not out.parent.is_dir():
        raise InvalidRequest(
            f"{str(out)!r} cannot be written: {'it is' if out.is_dir() else 'there is no such'} folder."
        )
    if not os.access(out.parent, os.W_OK):
        raise InvalidRequest(f"{str(out)!r} cannot be written: the folder is read-only.")
    return found


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of "1920x1080", "512" (square) or "wall".

    Raises:
        InvalidRequest: it is none of these.
    """
    if text.lower() == "wall":
        return api.WALL
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise InvalidRequest(
            f"The size is {text!r}; it must be WIDTHxHEIGHT such as 1920x1080, one number of px, or wall."
        )
    return int(parts[0]), int(parts[-1])


@contextmanager
def progress(label: str) -> Iterator[Any]:
    """Yield a function that is told the share done: a bar on a terminal, a plain line now and then in a pipe."""
    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def line(share: float) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_EVERY:
                last = time.monotonic()
                say(f"{label}: {share:.0%}")

        yield line
        return
    columns = (TextColumn(label), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def say(line: str) -> None:
    """Print a line for people, on stderr."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def tell(line: str) -> None:
    """Print a line of results, on stdout."""
    print(line, flush=True)  # noqa: T201


def tell_json(value: Any) -> None:
    """Print the one JSON object of a command."""
    tell(json.dumps(value, ensure_ascii=False, indent=2))


def work(requests: Sequence[Request], *, label: str, dtype: str | None = None) -> list[Result]:
    """Run ``requests`` with progress on stderr; the first mistake is raised."""
    from engine.pipelines import Pipelines

    with progress(label) as show, Pipelines(dtype=dtype) as pipelines:
        outcomes = pipelines.run(requests, lambda done: show(done.share))
    for outcome in outcomes:
        if isinstance(outcome, GanvasError):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Result)]


def deliver(result: Result, out: Path, *, as_json: bool) -> None:
    """Write the outputs of ``result`` to ``out`` (numbered if there are several) and say so."""
    paths = numbered(out, len(result.outputs))
    for path, output in zip(paths, result.outputs, strict=True):
        write_atomic(path, output.data)
    if as_json:
        described = [describe(path, output) for path, output in zip(paths, result.outputs, strict=True)]
        tell_json({"outputs": described, "notes": list(result.notes), "seconds": result.seconds})
        return
    for note in result.notes:
        say(note)
    for path, output in zip(paths, result.outputs, strict=True):
        tell(summary(path, output))
    say(f"{result.seconds.get('total', 0):.1f} s")


def numbered(out: Path, count: int) -> list[Path]:
    """Return ``count`` paths: ``out`` itself, or out-1, out-2 ... with its suffix."""
    return [out] if count == 1 else [out.with_stem(f"{out.stem}-{index}") for index in range(1, count + 1)]


def describe(path: Path, output: Output) -> dict[str, Any]:
    """Return what `--json` says about an output."""
    return {
        "path": str(path), "format": output.format, "width": output.width, "height": output.height,
        "frames": output.frames, "bytes": len(output.data), "sha256": output.sha256, "recipe": output.recipe,
    }  # fmt: skip


def summary(path: Path, output: Output) -> str:
    """Return the line that people read about an output."""
    frames = f", {output.frames} frames" if output.frames > 1 else ""
    return f"{path}: {output.width} x {output.height} px{frames}, {len(output.data) / 1e6:.2f} MB"
