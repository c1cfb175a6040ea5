"""What the engine counts, in Prometheus' format: requests, seconds, queue length, batch sizes, memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from engine.api import Request, Result
from engine.errors import GanvasError

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 180, 600)


class Metrics:
    """Counters of one engine, in a registry of their own.  ``process_resident_memory_bytes`` tells the memory."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "ganvas_requests", "Jobs by command and outcome.", ("command", "outcome"), registry=self._registry
        )
        self._seconds = Histogram(
            "ganvas_stage_seconds",
            "Seconds a job spent waiting and in each stage of the work.",
            ("stage",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "ganvas_batch_jobs", "Jobs merged into a batch.", buckets=range(1, 9), registry=self._registry
        )
        Gauge("ganvas_queue_jobs", "Jobs that wait.", registry=self._registry).set_function(waiting)

    def batch(self, size: int, *, waited: Sequence[float]) -> None:
        """Count a batch of ``size`` jobs that ``waited`` so many seconds each."""
        self._batches.observe(size)
        for seconds in waited:
            self._seconds.labels("queued").observe(seconds)

    def outcome(self, request: Request, outcome: Result | GanvasError) -> None:
        """Count how ``request`` ended: "done" or the error's code."""
        if isinstance(outcome, Result):
            for stage, seconds in outcome.seconds.items():
                self._seconds.labels(stage).observe(seconds)
        code = "done" if isinstance(outcome, Result) else outcome.code
        self._requests.labels(request.command, code).inc()

    def page(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self._registry)
