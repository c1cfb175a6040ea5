"""The only way to an engine: a supervised child process by default, or the URL of one elsewhere.  Imports no torch.

    async with connect() as engine:
        result = await engine.run(PaintRequest(genre="flowers", seed=7), on_progress=print, deadline=60)

If the child dies it is started again and its unfinished jobs are sent again.  The jobs that were at work when it died
are suspects from then on, and run in no batch with others; after three deaths on the same job that job fails.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp.http import HttpProcessingError

from engine.api import PROTOCOL, Appointment, FitRequest, LessonPlan, LessonStatus, Progress, Request, Result
from engine.errors import (
    DeadlineExceeded,
    EngineDied,
    EngineUnavailable,
    GanvasError,
    InvalidRequest,
    JobCancelled,
    UnknownName,
    VersionMismatch,
    from_wire,
)
from engine.supervisor import Supervisor

log = logging.getLogger(__name__)

DEATHS = 3  # of the engine on the same job, until that job is given up
SILENCE = 60.0  # seconds; a working engine says something every 5
CONNECT = 10.0  # seconds to reach it
SLOW = 60.0  # seconds for answers that read or write whole models


class _Lost(Exception):
    """The connection ended before the answer did."""


@dataclass(eq=False)
class _Flight:
    """A job on its way."""

    job: str
    request: Request
    on_progress: Callable[[Progress], None]
    task: asyncio.Task[Result] | None = None
    at_work: bool = False  # when we last heard of it
    deaths: int = 0  # of the engine while this job was at work
    stopped: GanvasError | None = None  # why, when it was stopped from outside

    def stop(self, why: GanvasError) -> None:
        """Hang up, which cancels the job over there too."""
        self.stopped = why
        assert self.task
        self.task.cancel()


@asynccontextmanager
async def connect(
    url: str | None = None,
    token: str | None = None,
    models: Sequence[Path] = (),
    *,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Engine]:
    """Open an engine: the one at ``url``, else a child process of our own with the models in ``models``.

    The first folder of ``models`` takes what lessons make and who is in office; none means the engine's own defaults.
    ``arguments`` are further options of `python -m engine serve` for the child.  An engine at a URL that is not there
    yet is no error here: jobs are refused until it is.

    Raises:
        WrongToken: the engine at the URL has another token.
        VersionMismatch: it is of a release we cannot talk to.
    """
    engine = Engine(url, token, models, arguments)
    try:
        if url is not None:
            try:
                await engine.hello()
            except EngineUnavailable as error:
                log.warning("%s", error)
        yield engine
    finally:
        await engine.close()


class Engine:
    """An engine to send requests to; made by :func:`connect`."""

    def __init__(
        self, url: str | None, token: str | None = None, models: Sequence[Path] = (), arguments: Sequence[str] = ()
    ) -> None:
        self._supervisor = None if url else Supervisor(arguments=arguments, token=token, models=models)
        self._base = (url or "http://engine").rstrip("/")
        self._name = f"at {self._base}" if url else "of our own"
        headers = {"X-Ganvas-Protocol": str(PROTOCOL)} | ({"Authorization": f"Bearer {token}"} if token else {})
        # A connection a job: no pool that could hold one to an engine that has died since.
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE),
            read_bufsize=2**19,  # pictures come by the megabyte
            connector=(
                aiohttp.UnixConnector(str(self._supervisor.socket), limit=0, force_close=True)
                if self._supervisor
                else aiohttp.TCPConnector(limit=0, force_close=True)
            ),
        )
        self._flights: dict[str, _Flight] = {}

    @property
    def pid(self) -> int | None:
        """Process id of the child that runs now; None between two lives and for an engine at a URL."""
        return self._supervisor.pid if self._supervisor else None

    async def run(
        self,
        request: Request,
        *,
        job: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        deadline: float | None = None,
    ) -> Result:
        """Return the result of ``request``.

        Args:
            request: What to make.
            job: A name to cancel it by; one of ours is made up if None.
            on_progress: Called whenever the place in line or the share of the work that is done changes.
            deadline: Seconds it may take, restarts of the engine and waiting included.

        Raises:
            Busy: the queue is full; try again later.
            DeadlineExceeded: it took longer.
            JobCancelled: somebody called :meth:`cancel`.
            EngineDied: the engine's process died three times on this job.
            EngineUnavailable: there is no engine, or it was lost on the way.
            GanvasError: what else the engine answers.
        """
        flight = _Flight(job or uuid.uuid4().hex, request, on_progress or (lambda _: None))
        if flight.job in self._flights:
            raise InvalidRequest(f"The job {flight.job!r} is on its way already.")
        flight.task = asyncio.create_task(self._fly(flight, deadline))
        self._flights[flight.job] = flight
        try:
            return await flight.task
        except asyncio.CancelledError:
            if flight.stopped:
                raise flight.stopped from None
            raise
        finally:
            del self._flights[flight.job]

    async def cancel(self, job: str) -> None:
        """Cancel a job, whether it waits or is at work.

        Raises:
            UnknownName: there is no such job, or it is over.
        """
        if flight := self._flights.get(job):
            flight.stop(JobCancelled("The job was cancelled."))
        elif self._supervisor:
            raise UnknownName(f"There is no job {job!r} waiting or at work.")
        else:
            await self._ask("DELETE", f"/v1/jobs/{quote(job, safe='')}")

    async def hello(self) -> dict[str, Any]:
        """Shake hands: the engine's release and protocol.

        Raises:
            WrongToken, VersionMismatch, EngineUnavailable
        """
        answer = dict(await self._ask("GET", "/v1"))
        if answer.get("protocol") != PROTOCOL:
            raise VersionMismatch(
                f"The engine {self._name} speaks protocol {answer.get('protocol')}, this client {PROTOCOL}; "
                "install the same Ganvas release on both sides."
            )
        return answer

    async def models(self) -> list[dict[str, Any]]:
        """Return the cards of all models the engine has."""
        return list(await self._ask("GET", "/v1/models"))

    async def office(self) -> list[Appointment]:
        """Return who works when nobody is named, of every kind, and what is wrong with them, if anything."""
        return [Appointment(**each) for each in await self._ask("GET", "/v1/office", patience=SLOW)]

    async def appoint(self, kind: str, name: str) -> None:
        """Put a model in office for its kind, by one atomic pointer swap; jobs under way end with the old one.

        Raises:
            UnknownName: there is no such model of that kind.
            BrokenModel: its weights are damaged.
        """
        await self._ask("PUT", f"/v1/office/{quote(kind, safe='')}", json={"name": name}, patience=SLOW)

    async def prune(self, keep: Sequence[str]) -> list[str]:
        """Delete the painters that lessons made, all but ``keep`` and the one in office; returns their names."""
        return list(await self._ask("POST", "/v1/prune", json={"keep": list(keep)}, patience=SLOW))

    async def begin_lesson(self, plan: LessonPlan, votes: str) -> LessonStatus:
        """Begin a lesson from ``votes`` (jsonl).

        A lesson that has the name already is not begun again: its status is returned.  One that was interrupted is.

        Raises:
            Busy: another lesson is under way.
            UnknownName: there is no such painter.
        """
        form = aiohttp.FormData()
        form.add_field("plan", json.dumps(plan.to_wire()))
        form.add_field("votes", votes.encode(), filename="votes.jsonl", content_type="application/octet-stream")
        return await self._lesson("POST", plan.name, data=form)

    async def lesson(self, name: str) -> LessonStatus:
        """Return how a lesson stands; the candidate of one that ended so is among the models then.

        Raises:
            UnknownName: there never was one of this name.
        """
        return await self._lesson("GET", name)

    async def hold_lesson(self, name: str, held: bool) -> LessonStatus:
        """Let a lesson stand still, or go on."""
        return await self._lesson("PUT", name, "/held", json=held)

    async def end_lesson(self, name: str) -> LessonStatus:
        """End a lesson without a candidate; one that is over stays as it is."""
        return await self._lesson("DELETE", name)

    async def lesson_picture(self, name: str, picture: str) -> bytes:
        """Return a picture that a lesson left, as WebP.

        Raises:
            UnknownName: it left none of this name.
        """
        path = f"/v1/lessons/{quote(name, safe='')}/{quote(picture, safe='')}"
        return bytes(await self._ask("GET", path, patience=SLOW, read=True))

    async def _lesson(self, method: str, name: str, what: str = "", **body: Any) -> LessonStatus:
        path = f"/v1/lessons/{quote(name, safe='')}{what}"
        return LessonStatus.from_wire(await self._ask(method, path, patience=SLOW, **body))

    async def health(self) -> dict[str, Any]:
        """Return how the engine is: its worker ("warming-up", "idle", "working", "stuck", "broken") and its queue."""
        return dict(await self._ask("GET", "/healthz", statuses=(200, 503)))

    async def metrics(self) -> bytes:
        """Return what the engine counts, as Prometheus reads it."""
        return bytes(await self._ask("GET", "/metrics", read=True))

    async def close(self) -> None:
        """Cancel what is on its way and stop the child."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.stop(EngineUnavailable("The engine was closed before the job was done."))
        await asyncio.gather(*(flight.task for flight in flights if flight.task), return_exceptions=True)
        await self._session.close()
        if self._supervisor:
            await self._supervisor.close()

    async def _fly(self, flight: _Flight, deadline: float | None) -> Result:
        """Send the job until it is settled."""
        loop = asyncio.get_running_loop()
        end = None if deadline is None else loop.time() + deadline
        try:
            async with asyncio.timeout_at(end):
                while True:
                    pid = await self._supervisor.ready() if self._supervisor else 0
                    try:
                        result = await self._send(flight, end and end - loop.time())
                    except _Lost as error:
                        await self._after_loss(flight, pid, error)
                        continue
                    if self._supervisor:
                        self._supervisor.well()
                    return result
        except TimeoutError as error:
            if isinstance(error, GanvasError):
                raise
            raise DeadlineExceeded(f"The job was not done within {deadline:g} seconds.") from error

    async def _after_loss(self, flight: _Flight, pid: int, error: Exception) -> None:
        if self._supervisor is None:
            raise EngineUnavailable(f"The engine {self._name} was lost: {error}.") from error
        if flight.at_work:
            flight.at_work = False
            flight.deaths += 1
            log.warning("the engine was lost with job %s at work, time %d", flight.job, flight.deaths)
        await self._supervisor.lost(pid)
        if flight.deaths:
            self._supervisor.well()  # a new process is as good as the last one was before this job
        if flight.deaths >= DEATHS:
            raise EngineDied(f"The engine's process died {DEATHS} times on this job, so it was given up.") from error

    async def _send(self, flight: _Flight, seconds: float | None) -> Result:
        query = {"job": flight.job}
        if seconds is not None:
            query["deadline"] = f"{max(seconds, 0.001):.3f}"
        if flight.deaths:
            query["alone"] = "1"
        async with aclosing(self._events(flight.request, query)) as events:
            async for event in events:
                if "progress" in event:
                    progress = Progress(**event["progress"])
                    # Fitting happens in a process of its own and can't be what kills the engine.
                    flight.at_work = progress.stage == "working" and not isinstance(flight.request, FitRequest)
                    flight.on_progress(progress)
                elif "error" in event:
                    raise from_wire(event["error"])
                else:
                    result: Result = event["result"]
                    return result
        raise _Lost("the answer broke off")

    async def _events(self, request: Request, query: dict[str, str]) -> AsyncGenerator[dict[str, Any], None]:
        """Send ``request`` and yield the lines of JSON that answer it, the result as a :class:`Result` with pictures.

        Raises:
            _Lost: the connection failed or broke.
            GanvasError: the engine does not take the request.
        """
        try:
            async with self._session.post(f"{self._base}/v1/jobs", params=query, data=_form(request)) as answer:
                await self._check(answer)
                async for line in answer.content:
                    event = json.loads(line)
                    if "result" in event:
                        wire = event["result"]
                        pictures = [await answer.content.readexactly(size) for size in Result.sizes(wire)]
                        event["result"] = Result.from_wire(wire, pictures)
                    yield event
        except GanvasError:
            raise
        except (aiohttp.ClientError, HttpProcessingError, EOFError, OSError, ValueError) as error:
            raise _Lost(str(error) or type(error).__name__) from error

    async def _ask(
        self,
        method: str,
        path: str,
        statuses: Sequence[int] = (200,),
        *,
        patience: float = CONNECT,
        read: bool = False,
        **body: Any,
    ) -> Any:
        try:
            async with asyncio.timeout(patience):
                if self._supervisor:
                    await self._supervisor.ready()
                async with self._session.request(method, self._base + path, **body) as answer:
                    if answer.status not in statuses:
                        await self._check(answer)
                    return await (answer.read() if read else answer.json())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, GanvasError):
                raise
            why = str(error) or f"no answer within {patience:g} seconds"
            raise EngineUnavailable(f"The engine {self._name} does not answer: {why}.") from error

    async def _check(self, answer: aiohttp.ClientResponse) -> None:
        """Raise what the engine answers instead of a result."""
        if answer.status == 200:
            return
        try:
            error = (await answer.json())["error"]
        except (aiohttp.ContentTypeError, ValueError, KeyError, TypeError):
            raise EngineUnavailable(
                f"There is no Ganvas engine {self._name}: it answers {answer.status} {answer.reason}."
            ) from None
        raise from_wire(error)


def _form(request: Request) -> aiohttp.FormData:
    """Return ``request`` as a form, its pictures as plain bytes."""
    pictures = {name: value for name, value in vars(request).items() if isinstance(value, bytes)}
    wire = replace(request, **dict.fromkeys(pictures, b"")).to_wire()
    form = aiohttp.FormData()
    form.add_field(
        "request",
        json.dumps({name: value for name, value in wire.items() if name not in pictures}),
        content_type="application/json",
    )
    for name, data in pictures.items():
        form.add_field(name, io.BytesIO(data), filename=name, content_type="application/octet-stream")
    return form
