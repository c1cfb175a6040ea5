"""docs/command-line.md holds every command and option of the engine; it is written by this file.

python tests/test_command_line_docs.py > docs/command-line.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from engine import cli

PAGE = Path(__file__).parent.parent / "docs" / "command-line.md"
INTRODUCTION = """# The command line of the engine

`python -m engine COMMAND ...`. Progress goes to stderr, a mistake is one line there and exit code 2, `--json` prints
one JSON object on stdout and nothing else, and the suffix of `-o` decides the format.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command and sub-command by its full name."""
    for entry in cli.COMMANDS:
        group: Any = typer.main.get_command(cli.build([entry.name]))
        yield from _walk(entry.name, group.commands[entry.name])


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):  # a group
        for child, sub in command.commands.items():
            yield from _walk(f"{name} {child}", sub)
        if not command.invoke_without_command:
            return
    yield name, command


def page() -> str:
    """Return the page as it should be."""
    lines = [INTRODUCTION]
    for name, command in commands():
        lines += [f"## {name}\n", f"{(command.help or '').strip().splitlines()[0]}\n"]
        rows = [
            (f"`{' '.join(p.opts)}`" if p.param_type_name == "option" else f"`{p.metavar or p.name.upper()}`",
             " ".join((getattr(p, "help", "") or "").split()))
            for p in command.params if "--help" not in p.opts
        ]  # fmt: skip
        if rows:
            lines += ["| option | what it is |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def test_every_command_and_option_stands_in_the_docs() -> None:
    assert PAGE.read_text() == page(), "run: python tests/test_command_line_docs.py > docs/command-line.md"


def test_every_command_says_what_it_is() -> None:
    for name, command in commands():
        assert command.help, name


if __name__ == "__main__":
    sys.stdout.write(page())
