"""The same service on Ray Serve, for many processors, GPUs or machines.

This process is the service of :mod:`engine.server` as it is: its HTTP, its one line, its batches.  Only what paints is
elsewhere: every worker's thread hands its batch to a replica, a process that holds the pipelines.  Serve chooses the
machine, finds the replica that is free, and starts another when one dies; a job that was at work there is sent again.

A night's lesson is a Ray task with processors of its own.  Front, replicas and lessons look into the same models
folders: several machines share them, at the same path.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Annotated, Any

import typer

from engine import checkpoints, manners
from engine.api import Progress, Request
from engine.client import DEATHS
from engine.errors import EngineDied, EngineUnavailable, GanvasError, InvalidRequest, JobCancelled
from engine.jobs import QUEUE, STUCK, Outcome
from engine.lessons import COMMAND
from engine.server import Encoder, Service, make_painter, serve_until_told

log = logging.getLogger(__name__)

NAME = "ganvas"  # of the application, and of its one deployment
POLL = 0.1  # seconds between looks whether a batch at work is still wanted


class Replica:
    """Paints batches, one at a time, in a process that Serve keeps alive."""

    def __init__(self, stand_in: str | None = None) -> None:
        manners.behave()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="painter")
        self._tidier = manners.Tidier(self._thread)
        self._painter = self._thread.submit(make_painter, stand_in).result()

    async def paint(self, requests: Sequence[Request]) -> AsyncIterator[Progress | list[Outcome]]:
        """Yield progress, then one outcome for each of ``requests``."""
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        unwanted = threading.Event()

        def tell(progress: Progress) -> None:
            loop.call_soon_threadsafe(news.put_nowait, progress)

        work = loop.run_in_executor(self._thread, self._painter.run, requests, tell, unwanted.is_set)
        work.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while progress := await news.get():
                yield progress
            yield work.result()
        finally:
            unwanted.set()
            alarm = loop.call_later(STUCK, os._exit, 70)  # a thread cannot be stopped; Serve starts another replica
            await asyncio.wait([work])
            alarm.cancel()
            self._tidier.after_work()


class Remote:
    """Paints by a replica: what a worker's thread here calls instead of the pipelines."""

    def __init__(self, replicas: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._replicas = replicas
        self._loop = loop

    def run(
        self, requests: Sequence[Request], progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """Return one outcome for each of ``requests``.

        Raises:
            EngineDied: three replicas died on this very job.
            RayActorError: a replica died on this batch; each of its jobs should have a try of its own.
        """
        from ray.exceptions import RayActorError

        for death in range(1, DEATHS + 1):
            try:
                return self._try(requests, progress, cancelled)
            except RayActorError:
                if len(requests) > 1:
                    raise
                log.warning("a replica was lost with a job (%s) at work, time %d", requests[0].command, death)
        raise EngineDied(f"The engine's process died {DEATHS} times on this job, so it was given up.")

    def _try(
        self, requests: Sequence[Request], progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        work = asyncio.run_coroutine_threadsafe(self._ask(requests, progress), self._loop)
        while not wait([work], POLL).done:
            if cancelled():
                work.cancel()
                raise JobCancelled("The job was cancelled.")
        return work.result()

    async def _ask(self, requests: Sequence[Request], progress: Callable[[Progress], None]) -> list[Outcome]:
        from ray.exceptions import RayTaskError

        answer = self._replicas.paint.remote(list(requests))
        try:
            async for news in answer:
                if not isinstance(news, Progress):
                    return list(news)
                progress(news)
        except RayTaskError as error:
            raise error.cause from None  # as it was raised over there
        finally:
            answer.cancel()
        raise GanvasError("A replica ended its work without an outcome.")


class Front(Service):
    """The service, whose workers' threads wait for replicas."""

    async def _state(self) -> str:
        states = await asyncio.to_thread(_replica_states)
        if "RUNNING" in states:
            return await super()._state()
        return "warming-up" if "STARTING" in states else "broken"


def _replica_states() -> set[str]:
    from ray import serve

    application = serve.status().applications[NAME]
    return {state for state, count in application.deployments[NAME].replica_states.items() if count}


# The process


def cluster(
    host: Annotated[str, typer.Option(help="Listen on this address; needs GANVAS_ENGINE_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port at that address; 0 takes a free one.")] = 8765,
    ray: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster that runs, such as auto; by default one starts here."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that paint.")] = 1,
    cpus: Annotated[float, typer.Option(min=0, help="Processors of each; its networks run on so many threads.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs reserved for each.")] = 0.0,
    lesson_cpus: Annotated[int, typer.Option(min=0, help="Processors of a night's lesson; 0 takes idle ones.")] = 1,
    lesson_gpus: Annotated[float, typer.Option(min=0, help="GPUs reserved for a night's lesson.")] = 0.0,
    queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait before the engine says it is busy.")] = QUEUE,
    pipelines: Annotated[str | None, typer.Option(hidden=True, help="module:factory of a stand-in.")] = None,
    lesson: Annotated[str | None, typer.Option(hidden=True, help="Module that stands in for finetune.")] = None,
) -> None:
    """Run the engine as an HTTP service whose painters are spread over a Ray cluster."""
    token = os.environ.pop("GANVAS_ENGINE_TOKEN", None)  # no replica needs it
    if not token:
        raise InvalidRequest("An engine on a port needs a shared token: set GANVAS_ENGINE_TOKEN, here and there.")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    os.environ["GANVAS_MODELS"] = os.pathsep.join(str(folder.resolve()) for folder in checkpoints.folders())
    manners.behave()
    _join(ray)
    from ray import serve, shutdown

    try:
        if ray is None:
            _check_room(replicas * cpus + lesson_cpus, replicas * gpus + lesson_gpus)
        handle = _deploy(replicas, cpus, gpus, pipelines)
        finetune = COMMAND[1:] if lesson is None else ("-m", lesson)
        command = (sys.executable, "-m", __name__, str(lesson_cpus), str(lesson_gpus), *finetune)

        async def run() -> None:
            loop = asyncio.get_running_loop()
            front = Front(
                partial(Remote, handle, loop), partial(make_painter, pipelines) if pipelines else Encoder,
                token=token, queue=queue, lesson=command, painters=replicas, stand_aside=lesson_cpus == 0,
            )  # fmt: skip
            await serve_until_told(front, host, port)

        asyncio.run(run())
    finally:
        if ray is not None:
            serve.delete(NAME)
        shutdown()  # and what runs in a cluster of our own


def _join(address: str | None) -> None:
    """Join the Ray cluster at ``address``, or start one on this machine; lessons find it by RAY_ADDRESS."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let everything else go before people's pictures
    os.environ.setdefault("RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S", "1")  # a machine that paints answers late
    try:
        import ray
        from ray import serve  # noqa: F401
    except ImportError as error:
        raise InvalidRequest("A cluster needs Ray, which is not installed: pip install 'ganvas[cluster]'.") from error
    try:
        ray.init(address=address or "local", include_dashboard=None if address else False)
    except Exception as error:  # Ray raises that very class when a machine is too busy to start it within 30 s
        what = f"There is no Ray cluster at {address!r}" if address else "Ray did not start"
        raise EngineUnavailable(f"{what}: {error}") from error
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address


def _check_room(cpus: float, gpus: float) -> None:
    """Raise InvalidRequest if replicas and lesson do not fit into this machine: they would wait for ever."""
    import ray

    there = ray.cluster_resources()
    for unit, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > there.get(unit, 0):
            raise InvalidRequest(
                f"Replicas and a lesson need {needed:g} {unit}s, and this machine has {there.get(unit, 0):g}; "
                "take fewer, or join a larger cluster with --ray."
            )


def _deploy(replicas: int, cpus: float, gpus: float, pipelines: str | None) -> Any:
    """Start the replicas and return the handle that finds one of them.

    Raises:
        EngineUnavailable: they do not start.
    """
    from ray import serve
    from ray.serve.schema import LoggingConfig

    deployment = serve.deployment(
        Replica,
        name=NAME,
        num_replicas=replicas,
        max_ongoing_requests=1,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus, "runtime_env": _settings()},
        health_check_period_s=1,  # after a death, too
        graceful_shutdown_wait_loop_s=0.1,
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    serve.start(proxy_location="Disabled")
    try:
        handle = serve.run(deployment.bind(pipelines), name=NAME, route_prefix=None)
    except RuntimeError as error:
        raise EngineUnavailable(f"The replicas did not start: {str(error).strip().splitlines()[-1]}") from error
    return handle.options(stream=True)


def _settings() -> dict[str, Any]:
    """Return Ray's description of an environment with our settings, for processes on other machines."""
    return {"env_vars": {name: value for name, value in os.environ.items() if name.startswith("GANVAS_")}}


# Lessons


def hold_lesson(cpus: str, gpus: str, *command: str) -> int:
    """Run ``python COMMAND`` as a Ray task, wherever the resources are; returns its exit status.

    Stands in for `python -m engine finetune` here: what the lesson says on stderr is said here, and it ends with us.
    """
    import ray
    from ray.exceptions import RayError

    threading.Thread(target=_leave_at_eof, daemon=True).start()
    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    task = ray.remote(_study).options(
        num_cpus=float(cpus), num_gpus=float(gpus), num_returns="streaming", max_retries=0, runtime_env=_settings()
    )
    threads = ("--threads", cpus) if int(cpus) else ()
    try:
        for item in task.remote((*command, *threads)):
            said = ray.get(item)
            if isinstance(said, int):
                return said
            sys.stderr.buffer.write(said)
            sys.stderr.flush()
    except RayError as error:
        sys.stderr.write(f"The lesson was lost with its machine: {str(error).strip().splitlines()[-1]}\n")
    return 1


def _study(command: Sequence[str]) -> Iterator[bytes | int]:
    """Yield the lines that ``python COMMAND`` says on stderr, then its exit status.  Runs anywhere in the cluster."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        (sys.executable, *command),
        stdin=subprocess.PIPE,  # its end tells the lesson that this process is gone
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stderr
        while line := process.stderr.readline():
            yield line
    yield process.returncode


def _leave_at_eof() -> None:
    """Leave when the service is gone; Ray ends the task of a driver that left."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(hold_lesson(*sys.argv[1:]))
