"""A small engine, some members, and the steps that many tests of the studio begin with."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from bot.studio import JobStatus, Member, Studio, Voter
from engine.api import (
    Appointment,
    FitRequest,
    LessonPlan,
    LessonStatus,
    Output,
    PaintRequest,
    Progress,
    Request,
    Result,
)
from engine.errors import BrokenModel, EngineUnavailable, JobCancelled, UnknownName

GUILD = "discord:1"
ANN, BEN, CAT, DAN = (Member("discord", str(number), name) for number, name in enumerate(("Ann", "Ben", "Cat", "Dan")))
LONG_AGO = time.time() - 400 * 86_400

# A true PNG of one pixel, with the recipe behind its end, so that different requests give different files.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe0def46b8"
    "0000000049454e44ae426082"
)


class FakeSchool:
    """The engine's lessons and offices, as a test wants them to go."""

    def __init__(self) -> None:
        self.cards: dict[str, dict[str, Any]] = {"painter-64": {"name": "painter-64", "kind": "painter", "sha256": "0"}}
        self.in_office = {"painter": "painter-64"}
        self.faults: dict[str, str] = {}
        self.lessons: dict[str, LessonStatus] = {}
        self.plans: list[tuple[LessonPlan, str]] = []
        self.held: dict[str, bool] = {}
        self.away = False

    def _reach(self) -> None:
        if self.away:
            raise EngineUnavailable("The engine is away.")

    def end_with(self, state: str, why: str = "So it was.", **night: Any) -> None:
        """Let the lesson under way end."""
        (name,) = [name for name, lesson in self.lessons.items() if lesson.state == "learning"]
        plan = next(plan for plan, _ in self.plans if plan.name == name)
        if state == "candidate":
            base = self.cards[plan.painter].get("base", plan.painter)
            self.cards[name] = {"name": name, "kind": "painter", "sha256": name[::-1], "base": base, "night": {}}
        pictures = ("after.webp", "before.webp")
        self.lessons[name] = LessonStatus(name=name, state=state, why=why, night=night, pictures=pictures)

    async def office(self) -> list[Appointment]:
        self._reach()
        return [Appointment(kind=kind, name=n, fault=self.faults.get(n)) for kind, n in self.in_office.items()]

    async def appoint(self, kind: str, name: str) -> None:
        self._reach()
        if self.cards.get(name, {}).get("kind") != kind:
            raise UnknownName(f"There is no {kind} {name!r}.")
        if name in self.faults:
            raise BrokenModel(self.faults[name])
        self.in_office[kind] = name

    async def prune(self, keep: Sequence[str]) -> list[str]:
        spared = {*keep, *self.in_office.values()}
        gone = [name for name, card in self.cards.items() if "night" in card and name not in spared]
        for name in gone:
            del self.cards[name]
        return gone

    async def begin_lesson(self, plan: LessonPlan, votes: str) -> LessonStatus:
        self._reach()
        self.plans.append((plan, votes))
        self.lessons[plan.name] = LessonStatus(name=plan.name, state="learning")
        return self.lessons[plan.name]

    async def lesson(self, name: str) -> LessonStatus:
        self._reach()
        if name not in self.lessons:
            raise UnknownName(f"There was no lesson {name!r}.")
        return self.lessons[name]

    async def hold_lesson(self, name: str, held: bool) -> LessonStatus:
        self._reach()
        self.held[name] = held
        return self.lessons[name]

    async def end_lesson(self, name: str) -> LessonStatus:
        self.lessons[name] = LessonStatus(name=name, state="cancelled")
        return self.lessons[name]

    async def lesson_picture(self, name: str, picture: str) -> bytes:
        return f"{name} {picture}".encode()

    async def models(self) -> list[dict[str, Any]]:
        self._reach()
        chosen = self.in_office.values()
        return [card | {"in_office": name in chosen} for name, card in self.cards.items()]


class FakeEngine(FakeSchool):
    """Answers at once, unless held; fails with whatever stands in ``failures``."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str | None, Request]] = []
        self.cancelled: list[str] = []
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.running: dict[str, asyncio.Future[None]] = {}
        self.finished: list[str] = []

    async def run(
        self,
        request: Request,
        *,
        job: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        deadline: float | None = None,
    ) -> Result:
        self.requests.append((job, request))
        if self.failures:
            raise self.failures.pop(0)
        if on_progress:
            on_progress(Progress(stage="working", share=0.5))
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gate = asyncio.ensure_future(self.gate.wait())
        name = job or str(id(stopped))
        self.running[name] = stopped
        try:
            await asyncio.wait([gate, stopped], return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                raise JobCancelled("The job was cancelled.")
        finally:
            gate.cancel()
            del self.running[name]
        self.finished.append(name)
        count = request.count if isinstance(request, PaintRequest) else 1
        return Result(outputs=tuple(self._output(request, number) for number in range(count)), notes=("by a fake",))

    @staticmethod
    def _output(request: Request, number: int) -> Output:
        recipe = {"command": request.command, "number": number}
        wire = json.dumps(request.to_wire(), sort_keys=True).encode()
        data = PIXEL + hashlib.sha256(wire).digest() + bytes([number])
        kind = "webp" if isinstance(request, FitRequest) else "gif" if request.command == "morph" else "png"
        return Output(data=data, format=kind, width=512, height=512, recipe=recipe)

    async def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        if job not in self.running:
            raise UnknownName(f"There is no job {job!r}.")
        with contextlib.suppress(asyncio.InvalidStateError):
            self.running[job].set_result(None)

    async def health(self) -> dict[str, Any]:
        return {"worker": "idle"}


async def ended(studio: Studio, job_id: str) -> JobStatus:
    """Wait for the end of a job."""
    async for status in studio.queue.watch(job_id):
        last = status
    return last


async def painted(studio: Studio, member: Member = ANN, guild: str | None = GUILD, **options: Any) -> str:
    """Let a member paint; return the artwork's id."""
    request = options.pop("request", None) or PaintRequest(genre="landscape", seed=1)
    job = await studio.queue.submit(request, member=member, guild=guild, **options)
    return (await ended(studio, job.id)).artworks[0]


def voter(member: Member, **facts: Any) -> Voter:
    """Return a member of the guild whose account is old enough."""
    return Voter(member, GUILD, **({"account_created": LONG_AGO} | facts))
