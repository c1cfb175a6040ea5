"""Jobs of the engine: a line of waiting jobs, and a worker thread that takes them batch by batch.

Everything here lives on the event loop, except what :class:`Worker` hands to its thread.  There is one queue for each
model and size bucket; the worker takes the queue whose first job has waited longest and merges what waits in that
queue, so nobody is overtaken for more than a batch.  Nothing polls: an idle worker costs no CPU.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from engine import manners
from engine.api import PaintRequest, Progress, Request, Result
from engine.errors import Busy, GanvasError
from engine.metrics import Metrics

log = logging.getLogger(__name__)

QUEUE = 64  # jobs that may wait, over all queues
MERGE = 8  # pictures in a batch: on 2 cores more gain nothing
PATIENCE = 0.010  # seconds an idle worker waits for company for a job that may be merged
STUCK = 60.0  # seconds without a sign of life from the worker's thread
ANSWER = 2.0  # seconds the idle thread gets to answer
STEP = 0.25  # seconds between two words on how far a batch is; each goes to the client of every job in it
ANNOUNCE = 1.0  # seconds a client gets to hear that its job begins or is done

Outcome = Result | GanvasError
Key = tuple[str, str, int]


class Painter(Protocol):
    """What does the work: `engine.pipelines.Pipelines`, or a stand-in for it."""

    def run(
        self, requests: Sequence[Request], progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """Return one outcome for each request; called in the worker's thread only."""


class Job:
    """One request on its way to its outcome."""

    def __init__(self, name: str, request: Request, *, number: int = 0, alone: bool = False) -> None:
        self.name = name
        self.request = request
        self.number = number  # order of arrival
        self.mergeable = isinstance(request, PaintRequest) and not alone
        self.pictures = request.count * max(1, request.best_of) if isinstance(request, PaintRequest) else 1
        self.progress = Progress(stage="queued")
        self.outcome: Outcome | None = None
        self.changed = asyncio.Event()  # progress or outcome: whoever tells the client waits for it
        self.announced = asyncio.Event()  # the client was told the newest progress
        self.arrived = time.monotonic()

    @property
    def key(self) -> Key:
        """Command, model and size bucket (a power of two of pixels): jobs of one key wait in one queue."""
        side = max(getattr(self.request, name, None) or 1 for name in ("size", "width", "height"))
        return self.request.command, getattr(self.request, "model", None) or "", 1 << (side - 1).bit_length()

    def advance(self, progress: Progress) -> None:
        """Take note of ``progress``, unless all is over."""
        if self.outcome is None and progress != self.progress:
            self.progress = progress
            self.announced.clear()
            self.changed.set()

    def finish(self, outcome: Outcome) -> None:
        """Settle the job; only the first outcome counts."""
        if self.outcome is None:
            self.advance(Progress(stage="done", share=1.0))
            self.outcome = outcome


class Line:
    """The waiting jobs: one queue a key, ``limit`` jobs in all."""

    def __init__(self, limit: int = QUEUE) -> None:
        self.limit = limit
        self._grown = asyncio.Event()
        self._at_work = 0  # jobs of the batches that were taken and are not done
        self._queues: dict[Key, deque[Job]] = {}
        self._numbers = 0

    def __iter__(self) -> Iterator[Job]:
        """Yield the waiting jobs in the order of their turn."""
        return iter(sorted((job for queue in self._queues.values() for job in queue), key=lambda job: job.number))

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def check(self) -> None:
        """Raise :class:`Busy` when there is no place."""
        if len(self) >= self.limit:
            raise Busy(f"The engine is busy: {len(self)} jobs are waiting, which is all it takes. Try again later.")

    def add(self, job: Job) -> None:
        """Put ``job`` at the end of its queue.

        Raises:
            Busy: there is no place.
        """
        self.check()
        self._numbers += 1
        job.number = self._numbers
        self._queues.setdefault(job.key, deque()).append(job)
        self._tell_places()
        self._grown.set()

    def remove(self, job: Job) -> None:
        """Take ``job`` out, if it is still waiting."""
        if job in self._queues.get(job.key, ()):
            self._take([job])

    async def next_batch(self, after: Sequence[Job] = ()) -> list[Job]:
        """Wait for work and take it: the job whose turn it is and what can be merged with it.

        The batch ``after`` which it comes is done.
        """
        self._at_work -= len(after)
        self._tell_places()
        while True:
            while not (batch := self._ready()):
                await self._more()
            # A job that may be merged waits for company, but no longer than PATIENCE since it came.
            with suppress(TimeoutError):
                async with asyncio.timeout(batch[0].arrived + PATIENCE - time.monotonic()):
                    while batch and batch[0].mergeable and _pictures(batch) < MERGE:
                        await self._more()
                        batch = self._ready()
            if batch := self._ready():
                self._at_work += len(batch)
                self._take(batch)
                return batch

    async def _more(self) -> None:
        self._grown.clear()
        await self._grown.wait()

    def _ready(self) -> list[Job]:
        first = next(iter(self), None)
        if first is None:
            return []
        batch = [first]
        for job in list(self._queues[first.key])[1:] if first.mergeable else ():
            if job.mergeable and _pictures(batch) + job.pictures <= MERGE:
                batch.append(job)
        return batch

    def _take(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._queues[job.key].remove(job)
            if not self._queues[job.key]:
                del self._queues[job.key]
        self._tell_places()

    def _tell_places(self) -> None:
        for place, job in enumerate(self, start=self._at_work):
            job.advance(Progress(stage="queued", place=place))


async def _announced(batch: Iterable[Job]) -> None:
    """Wait until the clients were told that the work on ``batch`` begins, or that it is done.

    If a job kills the process, its client must know that it was at work, and all others that theirs were not.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(ANNOUNCE):
            for job in batch:
                await job.announced.wait()


def _pictures(batch: Iterable[Job]) -> int:
    return sum(job.pictures for job in batch)


class Worker:
    """Takes batches from a line and runs them in one thread, where alone the painter is made and used.

    ``on_stuck`` is called when all jobs of a batch were given up and the thread still does not come back.
    """

    def __init__(
        self, factory: Callable[[], Painter], metrics: Metrics, on_stuck: Callable[[], None], line: Line
    ) -> None:
        self._factory = factory
        self._on_stuck = on_stuck
        self._alarm: asyncio.TimerHandle | None = None
        self.line = line
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="painter")
        self._painter: Painter | None = None
        self._running: list[Job] = []
        self._sign = time.monotonic()  # of life, from the thread
        self._tidier = manners.Tidier(self._thread)
        self.warm: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a batch is at work, be it given up or not."""
        return bool(self._running)

    async def run(self) -> None:
        """Warm up, then work for ever."""
        self.warm = asyncio.get_running_loop().run_in_executor(self._thread, self._warm_up)
        with suppress(Exception):  # logged in the thread, and told to every job that tries again
            await self.warm
        batch: list[Job] = []
        while True:
            batch = await self.line.next_batch(after=batch)
            for job in batch:
                job.advance(Progress(stage="working"))
            await _announced(batch)
            if wanted := [job for job in batch if job.outcome is None]:
                await self._work(wanted)
                await _announced(wanted)

    async def _work(self, batch: list[Job]) -> None:
        loop = asyncio.get_running_loop()
        self._metrics.batch(len(batch), waited=[time.monotonic() - job.arrived for job in batch])
        self._running = batch
        outcomes = await loop.run_in_executor(self._thread, self._call, batch, loop)
        self._tidier.after_work()
        self._running = []
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for job, outcome in zip(batch, outcomes, strict=True):
            job.finish(outcome)

    def give_up(self, job: Job, why: GanvasError) -> None:
        """Settle ``job`` before its time; when a whole batch was given up, the thread is expected back soon."""
        self.line.remove(job)
        job.finish(why)
        job.announced.set()
        if self._running and self._alarm is None and all(job.outcome is not None for job in self._running):
            self._alarm = asyncio.get_running_loop().call_later(STUCK, self._on_stuck)

    async def answers(self) -> str:
        """Ask the thread for a sign of life.

        Returns:
            "warming-up", "idle", "working", "stuck" when a busy thread gave no sign for :data:`STUCK` seconds, or
            "broken" when the painter could not be made.
        """
        if self.warm is None or not self.warm.done():
            return "warming-up"
        if self._painter is None:
            return "broken"
        if not self.busy:
            loop = asyncio.get_running_loop()
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER):
                    await loop.run_in_executor(self._thread, self._warm_up)
                    return "idle"
        return "working" if time.monotonic() - self._sign < STUCK else "stuck"

    # In the thread.

    def _warm_up(self) -> None:
        if self._painter is None:
            try:
                self._painter = self._factory()
            except Exception:
                log.exception("the painter could not be made")
                raise
        self._sign = time.monotonic()

    def _call(self, batch: list[Job], loop: asyncio.AbstractEventLoop) -> list[Outcome]:
        told = float("-inf")  # the first word goes out at once: it may be the only one for long

        def progress(progress: Progress) -> None:
            nonlocal told
            self._sign = time.monotonic()
            if self._sign - told >= STEP:
                told = self._sign
                for job in batch:
                    loop.call_soon_threadsafe(job.advance, Progress(stage="working", share=progress.share))

        def cancelled() -> bool:
            self._sign = time.monotonic()
            return all(job.outcome is not None for job in batch)

        self._sign = time.monotonic()
        try:
            self._warm_up()
            assert self._painter is not None
            outcomes = self._painter.run([job.request for job in batch], progress, cancelled)
            if len(outcomes) != len(batch):
                raise RuntimeError(f"{len(batch)} requests had {len(outcomes)} outcomes")
            return outcomes
        except GanvasError as error:
            if len(batch) == 1 or cancelled():
                return [error] * len(batch)
        except Exception as error:
            if len(batch) == 1:
                log.exception("job %s (%s) failed", batch[0].name, batch[0].request.command)
                return [GanvasError(f"The engine failed on this job ({type(error).__name__}); its log says more.")]
        # One bad request must not spoil its mates: each gets a try of its own.
        return [outcome for job in batch for outcome in self._call([job], loop)]
