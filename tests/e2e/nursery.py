"""Starts a program again and again without the seconds that its imports cost: ``python nursery.py bot | engine ...``.

For every line on stdin it forks itself, and the child runs the program as ``python -m`` would; its process id is told
on stdout.  Each life is a process of its own, to be killed like any other.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import runpy
import signal
import sys
from pathlib import Path


def main() -> None:
    """Load the program, then bear it until stdin ends."""
    program = sys.argv.pop(1)
    if program == "bot":
        for module in ("bot.logs", "bot.web.app", "bot.discord.client"):
            importlib.import_module(module)
        cogs = importlib.import_module("bot.discord.cogs")
        for cog in pkgutil.iter_modules(cogs.__path__):
            importlib.import_module(f"bot.discord.cogs.{cog.name}")
    else:
        importlib.import_module("fakeengine")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no funeral
    while os.read(0, 1):
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            if program == "bot":
                runpy.run_module("bot", run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(Path(__file__).with_name("fakeengine.py")), run_name="__main__")
            sys.exit(0)
        os.write(1, f"{child}\n".encode())


if __name__ == "__main__":
    main()
