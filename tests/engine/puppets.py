"""Stand-ins for `engine.pipelines.Pipelines`: what a request's genre or style says, that they do.

Tests name one in `--pipelines tests.engine.puppets:Puppet`, so that real engine processes run it.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.api import ChainRequest, Output, PaintRequest, Progress, Request, Result, StylizeRequest
from engine.errors import GanvasError, JobCancelled, UnknownName
from engine.jobs import Painter

PUPPET = ("--pipelines", "tests.engine.puppets:Puppet")


class Puppet:
    """Obeys the style of a stylize request; paints its batch size into every painting."""

    def run(
        self, requests: Sequence[Request], progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> list[Result | GanvasError]:
        return [self._one(request, len(requests), progress, cancelled) for request in requests]

    def _one(
        self, request: Request, mates: int, progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> Result | GanvasError:
        words = request.style or "" if isinstance(request, StylizeRequest) else ""
        if isinstance(request, PaintRequest):
            words = request.art_style or ""
        if isinstance(request, ChainRequest):
            words = request.models[0]
        order, _, detail = words.partition(":")
        match order:
            case "sleep":
                for step in range(20):
                    if cancelled():
                        return JobCancelled("The job was cancelled.")
                    progress(Progress(stage="working", share=step / 20))
                    time.sleep(float(detail) / 20)
            case "wait":  # until a file appears
                progress(Progress(stage="working", share=0.5))
                while not Path(detail).exists():
                    if cancelled():
                        Path(detail + ".cancelled").touch()
                        return JobCancelled("The job was cancelled.")
                    time.sleep(0.005)
            case "stuck":  # until a file appears, deaf to cancellation
                while not Path(detail).exists():
                    time.sleep(0.005)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die-once" | "die-twice":  # counted in a file that outlives the process
                with Path(detail).open("a") as deaths:
                    deaths.write("x")
                if Path(detail).stat().st_size <= (1 if order == "die-once" else 2):
                    os.kill(os.getpid(), signal.SIGKILL)
            case "crash":
                raise ZeroDivisionError("a bug")
            case "unknown":
                return UnknownName(f"There is no style {words!r}.")
            case "pid":
                return _result(str(os.getpid()).encode(), mates)
            case "big":
                return _result(bytes(int(detail)), mates)
            case "several":
                return _result(b"{}\n", mates, b"", bytes(range(256)), b"last")
        return _result(getattr(request, "photo", b"") or order.encode(), mates)


class Broken:
    """Kills the process while it warms up."""

    def __init__(self) -> None:
        os._exit(3)


class Unmade:
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("no models")


class Understudy(Puppet):
    """A puppet for styles that are orders, such as "pid:"; the pipelines, made when they are needed, for all else."""

    @functools.cached_property
    def _pipelines(self) -> Painter:
        from engine.pipelines import Pipelines

        return Pipelines()

    def run(
        self, requests: Sequence[Request], progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> list[Result | GanvasError]:
        if ":" in (getattr(requests[0], "style", None) or ""):
            return super().run(requests, progress, cancelled)
        return self._pipelines.run(requests, progress, cancelled)


def _result(data: bytes, mates: int, *more: bytes) -> Result:
    outputs = [Output(data=each, format="png", width=1, height=1, recipe={"mates": mates}) for each in (data, *more)]
    return Result(outputs=tuple(outputs), seconds={"network": 0.001, "total": 0.002})
