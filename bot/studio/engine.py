"""What the studio needs of an engine; ``engine.client`` is one, tests bring a small one of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engine.api import Appointment, LessonPlan, LessonStatus, Progress, Request, Result


class Engine(Protocol):
    """The seam between the studio and the painter."""

    async def run(
        self,
        request: Request,
        *,
        job: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        deadline: float | None = None,
    ) -> Result:
        """Return the result; ``deadline`` in seconds.  A job's name, to cancel it by, can be under way only once."""

    async def cancel(self, job: str) -> Any:
        """Stop a job; its :meth:`run` raises ``JobCancelled``."""

    async def models(self) -> list[dict[str, Any]]:
        """Return the cards of all models."""

    async def health(self) -> dict[str, Any]:
        """Return how the engine is."""

    async def metrics(self) -> bytes:
        """Return what the engine counts, as Prometheus reads it."""

    async def office(self) -> list[Appointment]:
        """Return who works when nobody is named."""

    async def appoint(self, kind: str, name: str) -> None:
        """Put a model in office for its kind."""

    async def prune(self, keep: Sequence[str]) -> list[str]:
        """Delete the painters that lessons made, all but these and the one in office."""

    async def begin_lesson(self, plan: LessonPlan, votes: str) -> LessonStatus:
        """Begin a lesson, once for each name; one that was interrupted begins anew."""

    async def lesson(self, name: str) -> LessonStatus:
        """Return how a lesson stands."""

    async def hold_lesson(self, name: str, held: bool) -> LessonStatus:
        """Let a lesson stand still, or go on."""

    async def end_lesson(self, name: str) -> LessonStatus:
        """End a lesson without a candidate."""

    async def lesson_picture(self, name: str, picture: str) -> bytes:
        """Return a picture that a lesson left."""
