"""Lessons inside the service: the nightly learning as a process of its own, and who is in office.

    POST   /v1/lessons/{name}          a form: "plan" (`LessonPlan.to_wire`) and "votes" (jsonl); begins the lesson.
                                       The same name again tells how it stands, and begins anew what was interrupted.
    GET    /v1/lessons/{name}          how it stands
    PUT    /v1/lessons/{name}/held     true or false: stand still, go on
    DELETE /v1/lessons/{name}          end it; there will be no candidate
    GET    /v1/lessons/{name}/{file}   a picture it left
    GET    /v1/office                  who works, of every kind, and what is wrong with their weights, if anything
    PUT    /v1/office/{kind}           {"name": ...}: put a model in office, one atomic pointer swap
    POST   /v1/prune                   {"keep": [...]}: delete other painters that lessons made

A lesson never touches the painter in office: it writes below `.lessons/NAME` in the models folder, and its candidate
becomes a model like any other when it has passed the gate.  Its process is niced, stands still while people are served,
and ends with the engine, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from engine import checkpoints
from engine.api import LessonPlan, LessonStatus
from engine.errors import Busy, GanvasError, InvalidRequest, UnknownName

log = logging.getLogger(__name__)

HOME = ".lessons"  # in the first models folder
KEPT = 8  # folders of lessons that ended
QUIET = 5.0  # seconds without a job until a lesson goes on
GRACE = 5.0  # seconds from SIGTERM to SIGKILL
STOPPED = (-signal.SIGTERM, 130)  # a process asked to stop; our command line leaves with 130
DIARY, OUTCOME, PLAN, VOTES, PAUSE = "night.json", "outcome.json", "plan.json", "votes.jsonl", "pause"
COMMAND = (sys.executable, "-m", "engine", "finetune")

_PICTURE = re.compile(r"[a-z0-9-]{1,40}\.webp")
_SHARE = re.compile(rb"lesson: (\d+)%")


class Lessons:
    """Holds one lesson at a time.

    Args:
        busy: whether people are being served at this moment.
        command: what `python -m engine finetune` is; tests bring a pupil of their own.
    """

    def __init__(self, busy: Callable[[], bool], command: Sequence[str] = COMMAND) -> None:
        self._busy = busy
        self._command = command
        self._task: asyncio.Task[None] | None = None
        self._name: str | None = None  # of the lesson under way
        self._held = False
        self._share = 0.0
        self._last_words = ""
        self._office = asyncio.Lock()
        self._publishing = asyncio.Lock()

    def add_to(self, app: web.Application) -> None:
        """Serve the routes above; a lesson under way ends with the application, to be taken up again."""
        app.router.add_post("/v1/lessons/{name}", self._begin)
        app.router.add_get("/v1/lessons/{name}", self._tell)
        app.router.add_put("/v1/lessons/{name}/held", self._hold)
        app.router.add_delete("/v1/lessons/{name}", self._end)
        app.router.add_get("/v1/lessons/{name}/{file}", self._file)
        app.router.add_get("/v1/office", self._who)
        app.router.add_put("/v1/office/{kind}", self._appoint)
        app.router.add_post("/v1/prune", self._prune)
        app.on_cleanup.append(self._close)

    async def begin(self, plan: LessonPlan, votes: bytes) -> LessonStatus:
        """Begin a lesson, or tell how the one of this name stands.

        Raises:
            Busy: another is under way.
            UnknownName: the painter it should begin from is not here.
        """
        with suppress(UnknownName):
            status = await self.status(plan.name)
            if status.state != "interrupted":
                return status
        await asyncio.to_thread(checkpoints.find_kind, "painter", plan.painter)
        if self._task is not None:
            raise Busy(f"The lesson {self._name} is under way; one is held at a time.")
        self._name, self._held, self._share, self._last_words = plan.name, plan.held, 0.0, ""
        self._task = asyncio.create_task(self._run(plan, votes))
        self._task.add_done_callback(self._over)
        return await self.status(plan.name)

    async def status(self, name: str) -> LessonStatus:
        """Return how a lesson stands.

        Raises:
            UnknownName: there never was one of this name, or it was tidied away.
        """
        if name == self._name:
            waiting = (_folder(name) / PAUSE).exists() or self._held
            return LessonStatus(name=name, state="learning", share=self._share, waiting=waiting)
        async with self._publishing:
            return await asyncio.to_thread(_past, name)

    async def end(self, name: str) -> LessonStatus:
        """End a lesson without a candidate; one that is over stays as it is.

        Raises:
            UnknownName: see :meth:`status`.
        """
        if name == self._name and self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            await asyncio.to_thread(_conclude, _folder(name), "cancelled", "It was ended before it was over.")
        return await self.status(name)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._task = self._name = None
        if not task.cancelled() and (error := task.exception()):
            log.error("the lesson could not be held", exc_info=error)

    async def _run(self, plan: LessonPlan, votes: bytes) -> None:
        folder = _folder(plan.name)
        await asyncio.to_thread(_prepare, folder, plan, votes)
        sitter = asyncio.create_task(self._stand_aside(folder / PAUSE))
        process = await asyncio.create_subprocess_exec(
            *self._command, *_arguments(plan, folder),
            stdin=asyncio.subprocess.PIPE,  # its end tells the lesson that we are gone
            stdout=asyncio.subprocess.DEVNULL,  # night.json says the same, and is still there afterwards
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        log.info("the lesson %s begins, process %d", plan.name, process.pid)
        try:
            await self._listen(process)
            status = await process.wait()
            if status in STOPPED:  # no fault of its own: interrupted, to be begun anew
                log.info("the lesson %s was stopped", plan.name)
                return
            if not (folder / DIARY).exists():
                words = self._last_words or "it left no last words"
                died = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                why = words if status == 2 else f"The lesson's process {died}: {words}"
                await asyncio.to_thread(_conclude, folder, "failed", why)
            log.info("the lesson %s is over", plan.name)
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
            raise
        finally:
            sitter.cancel()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Log what the lesson says and read its progress from it."""
        assert process.stderr
        rest = b""
        while chunk := await process.stderr.read(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-(2**16) :]
            for line in lines:
                if found := _SHARE.fullmatch(line.strip()):
                    self._share = int(found[1]) / 100
                elif text := line.decode(errors="replace").strip():
                    self._last_words = text[-300:]
                    log.info("lesson: %s", text)

    async def _stand_aside(self, pause: Path) -> None:
        """Keep the file that makes the lesson wait while people are served, or while it is held."""
        served = -QUIET
        while True:
            now = time.monotonic()
            served = now if self._busy() else served
            _mark(pause, self._held or now - served < QUIET)
            await asyncio.sleep(0.2)

    async def _close(self, _: web.Application) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    # Over HTTP

    async def _begin(self, request: web.Request) -> web.Response:
        try:
            form = await request.post()
            plan, votes = json.loads(str(form["plan"])), form["votes"]
            data = votes.file.read() if isinstance(votes, web.FileField) else str(votes).encode()
        except (ValueError, KeyError, AssertionError) as error:
            raise InvalidRequest(f"A lesson needs a form with a plan (JSON) and votes (jsonl): {error}.") from error
        wanted = LessonPlan.from_wire(plan)
        if wanted.name != request.match_info["name"]:
            raise InvalidRequest(f"The plan is of the lesson {wanted.name!r}, the address of another.")
        return web.json_response((await self.begin(wanted, data)).to_wire())

    async def _tell(self, request: web.Request) -> web.Response:
        return web.json_response((await self.status(request.match_info["name"])).to_wire())

    async def _hold(self, request: web.Request) -> web.Response:
        held = await request.json()
        if not isinstance(held, bool):
            raise InvalidRequest(f"held is {held!r}; it must be true or false.")
        name = request.match_info["name"]
        if name == self._name:
            self._held = held
        return web.json_response((await self.status(name)).to_wire())

    async def _end(self, request: web.Request) -> web.Response:
        return web.json_response((await self.end(request.match_info["name"])).to_wire())

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name, file = request.match_info["name"], request.match_info["file"]
        path = _folder(name) / file
        if not _PICTURE.fullmatch(file) or not path.is_file():
            raise UnknownName(f"The lesson {name!r} left no picture {file!r}.")
        return web.FileResponse(path)

    async def _who(self, _: web.Request) -> web.Response:
        async with self._office:
            found = await asyncio.to_thread(checkpoints.appointments)
        return web.json_response([appointment.to_wire() for appointment in found])

    async def _appoint(self, request: web.Request) -> web.Response:
        kind, name = request.match_info["kind"], (await request.json())["name"]

        def swap() -> None:
            card = checkpoints.find_kind(kind, str(name))
            checkpoints.verify(card)
            checkpoints.appoint(card.name)

        async with self._office:
            await asyncio.to_thread(swap)
        log.info("%s is the %s in office now", name, kind)
        return web.json_response({"kind": kind, "name": name})

    async def _prune(self, request: web.Request) -> web.Response:
        keep = (await request.json())["keep"]
        async with self._office:
            return web.json_response(await asyncio.to_thread(checkpoints.prune, frozenset(map(str, keep))))


def _folder(name: str) -> Path:
    if not checkpoints.is_name(name):
        raise UnknownName(f"There was no lesson {name[:64]!r}.")
    return checkpoints.folders()[0] / HOME / name


def _arguments(plan: LessonPlan, folder: Path) -> list[str]:
    threads = plan.threads or max(1, (os.cpu_count() or 2) // 2)
    options = {
        "--votes": folder / VOTES, "--base": plan.painter, "--name": plan.name, "--out": folder,
        "--pause-file": folder / PAUSE, "--minutes": plan.minutes, "--steps": plan.steps, "--seed": plan.seed,
        "--threads": threads,
    }  # fmt: skip
    if plan.paintings:
        options["--paintings"] = plan.paintings
    return [text for option, value in options.items() for text in (option, str(value))] + ["--json", "--until-eof"]


def _prepare(folder: Path, plan: LessonPlan, votes: bytes) -> None:
    """Make an empty folder with the votes; what an interrupted lesson left goes, and the oldest ones go."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    others = sorted((path for path in folder.parent.iterdir() if path != folder), key=lambda path: path.stat().st_mtime)
    for old in others[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    checkpoints.write_atomic(folder / VOTES, votes)
    checkpoints.write_atomic(folder / PLAN, json.dumps(plan.to_wire()).encode())


def _mark(file: Path, present: bool) -> None:
    if present:
        file.touch()
    else:
        file.unlink(missing_ok=True)


def _conclude(folder: Path, state: str, why: str) -> None:
    checkpoints.write_atomic(folder / OUTCOME, json.dumps({"state": state, "why": why}).encode())


def _past(name: str) -> LessonStatus:
    """Return how a lesson ended; its candidate is among the models when this returns."""
    folder = _folder(name)
    if not folder.is_dir():
        raise UnknownName(f"There was no lesson {name!r}.")
    if (folder / OUTCOME).exists():
        told = json.loads((folder / OUTCOME).read_bytes())
    elif (folder / DIARY).exists():
        told = json.loads((folder / DIARY).read_bytes())
    else:
        return LessonStatus(name=name, state="interrupted", why="Engine and lesson ended before it was over.")
    if told["state"] == "candidate" and (folder / name).is_dir():
        try:
            checkpoints.import_model(folder / name, replace=True)
        except GanvasError as error:
            _conclude(folder, "failed", f"The candidate cannot be used: {error}")
            return _past(name)
        shutil.rmtree(folder / name)
    pictures = tuple(sorted(path.name for path in folder.glob("*.webp")))
    return LessonStatus(
        name=name, state=told["state"], share=1.0, why=told["why"], night=told, pictures=pictures
    )  # fmt: skip
