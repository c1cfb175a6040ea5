"""A studio with a small engine of its own: no torch, no child process, every answer under the test's control."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bot.config import Settings
from bot.studio import Studio, open_studio
from engine.api import FitRequest, Output, PaintRequest, Progress, Request, Result
from engine.errors import JobCancelled, UnknownName

# A true PNG of one pixel, with the recipe behind its end, so that different requests give different files.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe0def46b8"
    "0000000049454e44ae426082"
)


class FakeEngine:
    """Answers at once, unless held; fails with whatever stands in ``failures``."""

    def __init__(self) -> None:
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

    async def models(self) -> list[dict[str, Any]]:
        return [{"name": "painter-64", "kind": "painter"}]

    async def health(self) -> dict[str, Any]:
        return {"worker": "idle"}


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "var", models=tmp_path)


@pytest.fixture
async def studio(settings: Settings, engine: FakeEngine) -> AsyncIterator[Studio]:
    async with open_studio(settings, engine) as studio:
        yield studio
