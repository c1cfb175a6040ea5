"""Keeps one engine alive as a child process on a Unix socket: started, restarted with back-off, never left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.errors import EngineUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a restart; doubled with every death in a row
PATIENCE = 5  # deaths in a row, without one finished job between them, until waiting jobs are told
LONG_LIFE = 60.0  # seconds; a death after such a life is the first in a row
GRACE = 10.0  # seconds from SIGTERM to SIGKILL
_ROOT = Path(__file__).resolve().parent.parent


class Supervisor:
    """Runs `python -m engine serve` and starts it again whenever it dies.

    The child leads a process group of its own, dies with this process however that ends, and logs into this
    process's logging.  It inherits the environment without other programs' secrets (names that end in TOKEN).
    """

    def __init__(self, *, arguments: Sequence[str] = (), token: str | None = None, models: Sequence[Path] = ()) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ganvas-"))  # 0700
        self.socket = self._folder / "engine.sock"
        self._command = [sys.executable, "-m", "engine", "serve", "--unix", str(self.socket), "--until-eof", *arguments]
        self._environment = _environment(token, models)
        self._token = token
        self._process: asyncio.subprocess.Process | None = None
        self._up: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()  # the engine that ran last was taken note of as dead
        self._deaths = 0  # in a row
        self._last_words = ""
        self._task = asyncio.create_task(self._keep_alive())

    @property
    def pid(self) -> int | None:
        """Process id of the engine that runs now."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def ready(self) -> int:
        """Wait until an engine listens; returns its process id.

        Raises:
            EngineUnavailable: it died several times in a row before anything was done; trying goes on.
        """
        return await asyncio.shield(self._up)

    def well(self) -> None:
        """Take note that the engine finished a job, or that its death is that of one job's doing."""
        self._deaths = 0

    async def lost(self, pid: int, patience: float = 1.0) -> None:
        """Wait until the engine ``pid`` is gone; one that does not answer but lives on is killed."""
        process = self._process
        if process is None or process.pid != pid:
            return
        try:
            await asyncio.wait_for(process.wait(), patience)
        except TimeoutError:
            log.error("the engine (process %d) hangs and is killed", pid)
            _kill_group(pid, signal.SIGKILL)
            await process.wait()
        await self._gone.wait()  # else ready() could still mean the dead one

    async def close(self) -> None:
        """Stop the engine: politely, then by force."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if not self._up.done():
            self._up.set_exception(EngineUnavailable("The engine was closed."))
        self._up.exception()  # so that nobody complains when no job waits for it
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            born = loop.time()
            try:
                status = await self._run_once()
            except OSError as error:
                status, self._last_words = -1, str(error)
            self._deaths = self._deaths + 1 if loop.time() - born < LONG_LIFE else 1
            if self._up.done():
                self._up = loop.create_future()
            if self._deaths >= PATIENCE:
                self._up.set_exception(
                    EngineUnavailable(
                        f"The engine died {self._deaths} times in a row (exit status {status}); "
                        f"its last words: {self._last_words or 'none'}"
                    )
                )
                self._up.exception()  # so that nobody complains when no job waits for it
            self._gone.set()
            pause = min(FIRST_PAUSE * 2 ** (self._deaths - 1), LONGEST_PAUSE)
            log.warning("the engine died (exit status %s); starting it again in %.1f s", status, pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        """Run one engine until it ends; returns its exit status."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # its end tells the child that we are gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )
        assert process.stdout and process.stderr
        self._process = process
        self._gone.clear()
        readers = asyncio.gather(self._log(process.stdout, up=process.pid), self._log(process.stderr))
        try:
            return await process.wait()
        except asyncio.CancelledError:
            _kill_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
            raise
        finally:
            _kill_group(process.pid, signal.SIGKILL)  # and what it started
            await process.wait()
            await readers

    async def _log(self, stream: asyncio.StreamReader, up: int | None = None) -> None:
        """Pass lines on to our logging; on stdout one of them says that the engine ``up`` listens."""
        rest = b""
        while chunk := await stream.read(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > 2**16:  # no line of a log is that long
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._log_line(line.decode(errors="replace").rstrip())
                if up is not None and b" listens at " in line:
                    if self._up.done():  # it holds the news of many deaths
                        self._up = asyncio.get_running_loop().create_future()
                    self._up.set_result(up)

    def _log_line(self, line: str) -> None:
        if self._token:
            line = line.replace(self._token, "***")
        word, _, rest = line.partition(" ")
        level = logging.getLevelNamesMapping().get(word)
        log.log(level or logging.INFO, "%s", rest if level else line)
        self._last_words = line[-300:] or self._last_words


def _environment(token: str | None, models: Sequence[Path]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.upper().endswith("TOKEN")}
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), ours.get("PYTHONPATH"))))
    if token:
        ours["GANVAS_ENGINE_TOKEN"] = token
    if models:
        ours["GANVAS_MODELS"] = os.pathsep.join(map(str, models))
    return ours


def _kill_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
