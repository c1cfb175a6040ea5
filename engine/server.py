"""The engine as an HTTP service, on a Unix socket or on a port with a shared token.

    GET    /v1             the handshake: engine version and protocol
    POST   /v1/jobs        a request as JSON (`Request.to_wire`), or as a form: the part "request" is that JSON and
                           each further part is the option of its name, as plain bytes.  In the query: `job`, an id of
                           the client's choice; `deadline`, seconds; `alone=1`, never in a batch with other jobs.
                           Answers lines of JSON: {"progress": ...} whenever it changes and at least every HEARTBEAT,
                           then {"error": ...} or {"result": ...}.  A result says how many bytes each of its outputs
                           has, {"data": {"bytes": N}}, and behind its line follow just these bytes, one picture after
                           the other: `| sed '1,/^{"result"/d' > picture.png` keeps them.
    DELETE /v1/jobs/{id}   cancel it; so does hanging up
    GET    /v1/models      the cards of all models
    ...    /v1/lessons     the nightly learning, and /v1/office, who works: see :mod:`engine.lessons`
    GET    /healthz        whether the worker's thread answers
    GET    /metrics        for Prometheus

Everything under /v1 wants the token in `Authorization: Bearer` where there is one, and refuses another protocol
version in `X-Ganvas-Protocol`.  The event loop never paints: see :mod:`engine.jobs`.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import BodyPartReader, web

from engine import __version__, checkpoints, manners
from engine.api import PROTOCOL, FitRequest, Progress, Request, Result, request_from_wire
from engine.errors import (
    Busy,
    DeadlineExceeded,
    EngineUnavailable,
    GanvasError,
    InvalidRequest,
    JobCancelled,
    UnknownName,
    VersionMismatch,
    WrongToken,
)
from engine.jobs import QUEUE, Job, Line, Outcome, Painter, Worker
from engine.lessons import COMMAND, Lessons
from engine.metrics import Metrics

log = logging.getLogger(__name__)

MAX_BODY = 256 * 2**20  # bytes of one request; a photo of 50 megapixels may have so many
MAX_HELD = 1024 * 2**20  # bytes of all requests at hand
HEARTBEAT = 5.0  # seconds; a client that hears nothing for several of them knows that the engine is gone
DRAIN = 30.0  # seconds that jobs at hand may take when the engine is told to stop
LONGEST = 24 * 3600.0  # seconds, of a deadline
STATES = ("idle", "working", "warming-up", "stuck", "broken")  # of a worker, the best one first

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """Workers and the jobs at hand, behind HTTP.

    ``painter`` makes what paints, in one thread, or in ``painters`` threads that share one line.  ``encoder`` makes
    what serves `FitRequest`: it decodes in processes of its own, and a finished picture that somebody waits for shall
    not wait for a long morph to end.  ``stand_aside`` lets lessons wait while people are served.
    """

    def __init__(
        self,
        painter: Callable[[], Painter],
        encoder: Callable[[], Painter],
        *,
        token: str | None = None,
        queue: int = QUEUE,
        max_body: int = MAX_BODY,
        lesson: Sequence[str] = COMMAND,
        painters: int = 1,
        stand_aside: bool = True,
    ) -> None:
        self._token = token
        self._max_body = max_body
        self._jobs: dict[str, Job] = {}
        self._metrics = Metrics(waiting=self._waiting)
        self._painting, self._encoding = Line(queue), Line(queue)
        self._painters = [Worker(painter, self._metrics, _leave_stuck, self._painting) for _ in range(painters)]
        self._workers = (*self._painters, Worker(encoder, self._metrics, _leave_stuck, self._encoding))
        self._lessons = Lessons(lambda: stand_aside and bool(self._jobs), lesson)
        self._held = 0  # bytes of requests
        self._draining = False
        self._empty = asyncio.Event()

    def app(self) -> web.Application:
        """Return the application that serves this engine; the worker lives as long as it does."""
        app = web.Application(middlewares=[_answer_errors, self._guard], client_max_size=self._max_body)
        app.router.add_get("/v1", self.hello)
        app.router.add_post("/v1/jobs", self.submit)
        app.router.add_delete("/v1/jobs/{job}", self.cancel)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/healthz", self.health)
        app.router.add_get("/metrics", self.metrics)
        self._lessons.add_to(app)
        app.cleanup_ctx.append(self._run_workers)
        return app

    async def _run_workers(self, _: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self, seconds: float = DRAIN) -> None:
        """Take no more jobs and finish those at hand; what is not done after ``seconds`` fails with a clear error."""
        self._draining = True
        if self._jobs:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        for job in list(self._jobs.values()):
            self._give_up(job, EngineUnavailable("The engine was stopped before this job was done."))

    @property
    def busy(self) -> bool:
        """Whether a worker's thread is still at work."""
        return any(worker.busy for worker in self._workers)

    def _waiting(self) -> int:
        return len(self._painting) + len(self._encoding)

    def _give_up(self, job: Job, why: GanvasError) -> None:
        for worker in self._workers:
            worker.give_up(job, why)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/healthz":
            return await handler(request)
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            raise WrongToken("The engine's token is missing or wrong; set the same GANVAS_ENGINE_TOKEN on both sides.")
        protocol = request.headers.get("X-Ganvas-Protocol", str(PROTOCOL))
        if protocol != str(PROTOCOL):
            raise VersionMismatch(
                f"The engine ({__version__}) speaks protocol {PROTOCOL}, the client {protocol[:20]}; "
                "install the same Ganvas release on both sides."
            )
        return await handler(request)

    async def hello(self, _: web.Request) -> web.Response:
        """GET /v1."""
        return web.json_response({"engine": __version__, "protocol": PROTOCOL})

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/jobs."""
        if self._draining:
            raise EngineUnavailable("The engine is being stopped and takes no more jobs.")
        name = request.query.get("job") or uuid.uuid4().hex
        seconds = _seconds(request.query.get("deadline"))
        with self._hold(request):
            wanted = await self._read(request)
            job = Job(name, wanted, alone=request.query.get("alone") == "1")
            (self._encoding if isinstance(wanted, FitRequest) else self._painting).add(job)
            if older := self._jobs.get(name):  # a client that lost its connection sends its job again
                self._give_up(older, JobCancelled("The job was sent again; the newer one goes on."))
            self._jobs[name] = job
            too_late = DeadlineExceeded(f"The job was not done within {seconds:g} seconds.")
            timer = asyncio.get_running_loop().call_later(seconds, self._give_up, job, too_late)
            try:
                return await self._tell(request, job)
            finally:
                timer.cancel()
                self._give_up(job, JobCancelled("The client hung up."))
                self._forget(job)

    @contextmanager
    def _hold(self, request: web.Request) -> Iterator[None]:
        """Reserve memory for the body of ``request`` before a byte of it is read.

        Raises:
            Busy: there is no place in line, or other requests hold what memory there is.
        """
        self._painting.check()
        size = request.content_length or self._max_body
        if self._held and self._held + size > MAX_HELD:
            raise Busy(f"The engine is busy: the pictures of {len(self._jobs)} jobs fill its memory. Try again later.")
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    def _forget(self, job: Job) -> None:
        assert job.outcome is not None
        self._metrics.outcome(job.request, job.outcome)
        if self._jobs.get(job.name) is job:
            del self._jobs[job.name]
        if not self._jobs:
            self._empty.set()
            self._empty.clear()

    async def _read(self, request: web.Request) -> Request:
        if request.content_type == "multipart/form-data":
            try:
                parts = await _read_form(request, self._max_body)
            except (ValueError, AssertionError) as error:  # what aiohttp raises on a broken form
                raise InvalidRequest(f"The form is broken: {error}.") from error
        else:
            parts = {"request": await request.read()}
        return await asyncio.to_thread(_understand, parts)

    async def _tell(self, request: web.Request, job: Job) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "X-Ganvas-Job": job.name})
        with suppress(ConnectionError):  # the client hung up
            await response.prepare(request)
            while True:
                job.changed.clear()
                progress = job.progress
                await response.write(_line({"progress": asdict(progress)}))
                if progress is job.progress:
                    job.announced.set()
                if job.outcome is not None:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(job.changed.wait(), HEARTBEAT)
            if isinstance(job.outcome, Result):
                await response.write(_line({"result": job.outcome.to_wire()}))
                for output in job.outcome.outputs:
                    await response.write(output.data)
            else:
                await response.write(_line({"error": job.outcome.to_wire()}))
            await response.write_eof()
        return response

    async def cancel(self, request: web.Request) -> web.Response:
        """DELETE /v1/jobs/{job}."""
        name = request.match_info["job"]
        job = self._jobs.get(name)
        if job is None or job.outcome is not None:
            raise UnknownName(f"There is no job {name!r} waiting or at work.")
        self._give_up(job, JobCancelled("The job was cancelled."))
        return web.json_response({"cancelled": name})

    async def models(self, _: web.Request) -> web.Response:
        """GET /v1/models."""
        return web.json_response(await asyncio.to_thread(checkpoints.described))

    async def health(self, _: web.Request) -> web.Response:
        """GET /healthz."""
        worker = await self._state()
        well = worker in ("warming-up", "idle", "working")
        report = {"worker": worker, "waiting": self._waiting(), "engine": __version__, "protocol": PROTOCOL}
        return web.json_response(report, status=200 if well else 503)

    async def _state(self) -> str:
        return min(await asyncio.gather(*(painter.answers() for painter in self._painters)), key=STATES.index)

    async def metrics(self, _: web.Request) -> web.Response:
        """GET /metrics."""
        return web.Response(body=self._metrics.page(), headers={"Content-Type": "text/plain; version=0.0.4"})


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every mistake into its status and one line of JSON: {"error": ...}."""
    try:
        return await handler(request)
    except GanvasError as error:
        return _refusal(error, error.status)
    except web.HTTPRequestEntityTooLarge:
        return _refusal(InvalidRequest("The request is too large for this engine."), 413)
    except web.HTTPException as answer:
        return _refusal(InvalidRequest(f"{request.method} {request.path[:100]}: {answer.reason}."), answer.status)


def _refusal(error: GanvasError, status: int) -> web.Response:
    return web.json_response({"error": error.to_wire()}, status=status)


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _seconds(text: str | None) -> float:
    """Return the seconds until the deadline that the query names."""
    try:
        seconds = float(text) if text else LONGEST
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= LONGEST:
        raise InvalidRequest(f"deadline is {text!r}; it must be seconds, up to {LONGEST:g}.")
    return seconds


async def _read_form(request: web.Request, limit: int) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise ValueError("a form within the form")
        data = bytearray()
        while chunk := await part.read_chunk(2**16):
            data += chunk
            if len(data) > limit:
                raise web.HTTPRequestEntityTooLarge(limit, len(data))
        limit -= len(data)
        parts[part.name or ""] = bytes(data)
    return parts


def _understand(parts: dict[str, bytes]) -> Request:
    """Build the request from the parts of a form."""
    try:
        wire = json.loads(parts.pop("request", b""))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The request is not JSON: {error}.") from error
    if not isinstance(wire, dict):
        raise InvalidRequest(f"The request is a {type(wire).__name__}; it must be a JSON object.")
    return request_from_wire(wire | parts)


def _leave_stuck() -> None:
    """End the process: its jobs were given up long ago, and only a new process gets the thread back."""
    log.critical("the worker's thread does not come back from a job that was given up; leaving")
    os._exit(70)


# What works


def make_painter(stand_in: str | None = None) -> Painter:
    """Return the pipelines, or what "module:factory" makes.  Called in the worker's thread, where torch is imported."""
    if stand_in is not None:
        module, _, name = stand_in.partition(":")
        painter: Painter = getattr(importlib.import_module(module), name)()
        return painter
    from engine.pipelines import Pipelines

    pipelines = Pipelines()
    gc.freeze()  # torch's half a million objects live as long as we do; collecting the rest takes microseconds
    return pipelines


class Encoder:
    """Serves `FitRequest` in a process with limits; needs no torch."""

    def __init__(self) -> None:
        from engine.data.intake import Decoder

        self._decoder = Decoder()

    def run(
        self, requests: Sequence[Request], progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """Re-encode pictures and animations."""
        return [self._fit(request) for request in requests if isinstance(request, FitRequest)]

    def _fit(self, request: FitRequest) -> Result:
        begun = time.perf_counter()
        output, notes = self._decoder.fit(request)
        seconds = time.perf_counter() - begun
        return Result(outputs=(output,), notes=notes, seconds={"encode": seconds, "total": seconds})


# The process


def serve(
    host: Annotated[str | None, typer.Option(help="Listen on this address; needs GANVAS_ENGINE_TOKEN.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port at that address; 0 takes a free one.")] = 8765,
    unix: Annotated[Path | None, typer.Option(help="Listen on this Unix socket.")] = None,
    queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait before the engine says it is busy.")] = QUEUE,
    pipelines: Annotated[str | None, typer.Option(hidden=True, help="module:factory of a stand-in.")] = None,
    lesson: Annotated[str | None, typer.Option(hidden=True, help="Module that stands in for finetune.")] = None,
    until_eof: Annotated[bool, typer.Option(hidden=True, help="Die when stdin ends.")] = False,
) -> None:
    """Run the engine as an HTTP service, on a Unix socket or on HOST:PORT."""
    token = os.environ.get("GANVAS_ENGINE_TOKEN")
    if (host is None) == (unix is None):
        raise InvalidRequest("Say where to listen: either --unix PATH, or --host ADDRESS and --port NUMBER.")
    if host is not None and not token:
        raise InvalidRequest("An engine on a port needs a shared token: set GANVAS_ENGINE_TOKEN, here and there.")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if until_eof:
        threading.Thread(target=_die_at_eof, args=(unix,), daemon=True).start()
    manners.behave()
    painter = partial(make_painter, pipelines)
    command = COMMAND if lesson is None else (sys.executable, "-m", lesson)
    service = Service(painter, painter if pipelines else Encoder, token=token, queue=queue, lesson=command)
    asyncio.run(serve_until_told(service, host, port, unix))
    if service.busy:  # a thread cannot be stopped, and a polite exit would wait for it
        os._exit(0)


async def serve_until_told(service: Service, host: str | None, port: int, unix: Path | None = None) -> None:
    """Serve until a signal says stop, and finish the jobs at hand."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening(service, host=host, port=port, unix=unix) as address:
        typer.echo(f"Engine {__version__} listens at {address}")
        sys.stdout.flush()
        await stop.wait()
        log.info("stopping; jobs at hand have %g seconds", DRAIN)
        await service.drain()


@asynccontextmanager
async def listening(
    service: Service, *, host: str | None = None, port: int = 0, unix: Path | None = None
) -> AsyncIterator[str]:
    """Serve ``service`` while the context lasts; yields the address."""
    runner = web.AppRunner(service.app(), handler_cancellation=True, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    try:
        if unix is not None:
            await web.SockSite(runner, _bind(unix)).start()
            yield str(unix)
        else:
            await web.TCPSite(runner, host, port).start()
            yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _bind(path: Path) -> socket.socket:
    """Return a Unix socket at ``path`` that only its owner may use."""
    path.unlink(missing_ok=True)  # left behind by a killed engine
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    return listener


def _die_at_eof(unix: Path | None) -> None:
    """Leave with all our children when the parent is gone, however it went: its end of our stdin closes then."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if unix is not None:
        unix.unlink(missing_ok=True)
    os.killpg(0, signal.SIGKILL)
