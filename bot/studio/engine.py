"""What the studio needs of an engine; ``engine.client`` is one, tests bring a small one of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from engine.api import Progress, Request, Result


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
