"""The command line of the engine: `python -m engine stylize | paint | morph | ...`.

Only the module of the command that was asked for is imported, so `recipe` starts without torch.
"""

from __future__ import annotations

import importlib
import itertools
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import typer

from engine.errors import GanvasError, UnknownName

MISTAKE, INTERRUPTED = 2, 130  # exit codes


@dataclass(frozen=True)
class Command:
    """Where a command lives; ``attribute`` of ``module`` is a function, or a typer app of subcommands."""

    name: str
    module: str
    attribute: str
    help: str


COMMANDS = (
    Command("stylize", "engine.cli.pictures", "stylize", "Paint over a photo: a named style, any picture, a brush."),
    Command("paint", "engine.cli.pictures", "paint", "Sample paintings of a genre."),
    Command("morph", "engine.cli.pictures", "morph", "Glide from painting to painting, as an animation."),
    Command("enhance", "engine.cli.pictures", "enhance", "Enlarge a picture with drawn-in detail."),
    Command("chain", "engine.cli.pictures", "chain", "Let one model's output feed the next."),
    Command("recipe", "engine.cli.recipes", "recipe", "Print the recipe inside a picture."),
    Command("replay", "engine.cli.recipes", "replay", "Make a picture again from its recipe."),
    Command("sheet", "engine.cli.sheets", "app", "Contact sheets of styles, genres, brushes and samples."),
    Command("models", "engine.cli.models", "app", "List, show, import and export models."),
    Command("dataset", "engine.data.cli", "app", "Prepare folders of paintings for training."),
    Command("train", "engine.train.cli", "train", "Train a model of your own."),
    Command("gatys", "engine.train.gatys", "command", "Paint over a photo by optimisation, slowly and well."),
    Command("evaluate", "engine.evaluate.cli", "evaluate", "Measure a model against a folder of paintings."),
    Command("finetune", "engine.nightly.cli", "finetune", "Let the painter learn from votes."),
    Command("simulate", "engine.nightly.cli", "simulate", "Play many nights of learning with made-up voters."),
    Command("serve", "engine.server", "serve", "Serve the engine over HTTP."),
    Command("cluster", "engine.cluster", "cluster", "Serve the engine over HTTP, on many processors or machines."),
    Command("bench", "engine.cli.bench", "bench", "Measure how fast every model runs on this machine."),
)


def build(arguments: Sequence[str]) -> typer.Typer:
    """Return the command line, with the code of the one command that ``arguments`` ask for."""
    app = typer.Typer(
        name="engine",
        help="The painter of Ganvas: photos in, paintings out; paintings by genre; morphs; training.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)  # keeps the names of commands even if there were only one
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    known = [command.name for command in COMMANDS]
    if asked is not None and asked not in known:
        raise UnknownName(f"There is no command {asked!r}; there are {', '.join(known)}.")
    for command in COMMANDS:
        if command.name == asked:
            _attach(app, command)
        else:
            app.command(command.name, help=command.help)(_elsewhere)
    return app


def _attach(app: typer.Typer, command: Command) -> None:
    code: Any = getattr(importlib.import_module(command.module), command.attribute)
    if isinstance(code, typer.Typer):
        app.add_typer(code, name=command.name, help=command.help)
    else:
        app.command(command.name)(code)


def _elsewhere() -> None:
    """Stand for a command that was not asked for: it appears in the help and is never called."""


def run(arguments: Sequence[str], *, make: Callable[[Sequence[str]], typer.Typer] = build) -> int:
    """Run the command line and return its exit code; mistakes end here, as one line on stderr."""
    try:
        code = make(arguments)(args=list(arguments), prog_name="python -m engine", standalone_mode=False)
    except GanvasError as error:
        return _complain(str(error))
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stdout = sys.stderr
        return 0
    except OSError as error:
        return _complain(f"{error.filename or 'The system'}: {error.strerror or error}.")
    except Exception as error:
        # typer's usage errors share no public class, but all of them can say what is wrong
        if not hasattr(error, "format_message"):
            raise
        return _complain(error.format_message().rstrip(".") + _culprit(error, arguments) + ".")
    return code if isinstance(code, int) else 0


def _culprit(error: Exception, arguments: Sequence[str]) -> str:
    """Return the value that an option was given, which typer leaves out of some of its messages."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for name, value in itertools.pairwise(arguments):
        if name in names and value not in str(error):
            return f"; it was given {value!r}"
    return ""


def _complain(sentence: str) -> int:
    print(" ".join(sentence.split()), file=sys.stderr)  # noqa: T201
    return MISTAKE


def main() -> NoReturn:
    """Run ``sys.argv`` and exit; a termination signal cleans up like Ctrl+C, also where a shell ignores Ctrl+C."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    sys.exit(run(sys.argv[1:]))
