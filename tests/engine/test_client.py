"""The client against engines elsewhere: real processes and sockets, a token, a version, and lines that go dead."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from puppets import PUPPET

from engine.api import PROTOCOL, PaintRequest, Progress, StylizeRequest
from engine.client import connect
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

TOKEN = "a shared secret"
QUICK = StylizeRequest(photo=b"photo")


@contextmanager
def _running() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A `python -m engine serve` on a port, as a host runs it elsewhere, and its URL."""
    process = subprocess.Popen(
        (sys.executable, "-m", "engine", "serve", "--host", "127.0.0.1", "--port", "0", "--queue", "2", *PUPPET),
        stdout=subprocess.PIPE,
        env=os.environ | {"GANVAS_ENGINE_TOKEN": TOKEN},
    )
    with process:
        assert process.stdout
        yield process, process.stdout.readline().decode().split(" listens at ")[1].strip()
        process.kill()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of an engine that all tests of this module share and leave idle."""
    with _running() as (_, url):
        yield url


@pytest.fixture
def own_engine() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An engine to be ill-treated."""
    with _running() as engine:
        yield engine


async def test_an_engine_elsewhere_does_the_work(url: str) -> None:
    steps: list[Progress] = []
    async with connect(url, TOKEN) as engine:
        result = await engine.run(StylizeRequest(photo=b"photo", style="sleep:0.1"), on_progress=steps.append)
        assert result.outputs[0].data == b"photo"
        assert result.seconds["total"] == 0.002
        assert [step.stage for step in steps][:2] == ["queued", "working"]
        assert steps[-1] == Progress(stage="done", share=1.0)
        assert (await engine.health())["worker"] == "idle"
        assert (await engine.hello())["protocol"] == PROTOCOL
        assert isinstance(await engine.models(), list)
        assert b'ganvas_requests_total{command="stylize",outcome="done"} 1.0' in await engine.metrics()


async def test_a_big_result_arrives_whole(url: str) -> None:
    async with connect(url, TOKEN) as engine:
        result = await engine.run(StylizeRequest(photo=b"", style="big:20000000"))
        assert result.outputs[0].data == bytes(20_000_000)


async def test_each_picture_of_a_result_arrives_as_it_is(url: str) -> None:
    async with connect(url, TOKEN) as engine:
        result = await engine.run(StylizeRequest(photo=b"", style="several:"))
        assert [output.data for output in result.outputs] == [b"{}\n", b"", bytes(range(256)), b"last"]


@pytest.mark.parametrize("token", ["wrong", None])
async def test_a_wrong_token_is_told_at_once(url: str, token: str | None) -> None:
    with pytest.raises(WrongToken, match="GANVAS_ENGINE_TOKEN"):
        async with connect(url, token):
            pass


async def test_a_wrong_version_is_told_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.client.PROTOCOL", 99)
    with pytest.raises(VersionMismatch, match="protocol 2, the client 99"):
        async with connect(url, TOKEN):
            pass


async def test_errors_of_the_engine_arrive_as_themselves(url: str) -> None:
    async with connect(url, TOKEN) as engine:
        with pytest.raises(UnknownName, match="There is no style"):
            await engine.run(StylizeRequest(photo=b"", style="unknown:x"))
        with pytest.raises(GanvasError, match="ZeroDivisionError"):
            await engine.run(StylizeRequest(photo=b"", style="crash"))


async def test_a_deadline_is_kept(url: str) -> None:
    async with connect(url, TOKEN) as engine:
        with pytest.raises(DeadlineExceeded, match=r"0\.2 seconds"):
            await engine.run(StylizeRequest(photo=b"", style="sleep:30"), deadline=0.2)
        assert await engine.run(QUICK)


async def test_a_full_queue_is_the_callers_to_handle(url: str, tmp_path: Path) -> None:
    hold = StylizeRequest(photo=b"", style=f"wait:{tmp_path / 'gate'}")
    async with connect(url, TOKEN) as engine:
        at_work = asyncio.Event()
        jobs = [asyncio.create_task(engine.run(hold, on_progress=_when_working(at_work)))]
        await at_work.wait()
        for place in (1, 2):
            in_line = asyncio.Event()
            jobs.append(asyncio.create_task(engine.run(hold, on_progress=_when_at(place, in_line))))
            await in_line.wait()
        with pytest.raises(Busy, match="2 jobs"):
            await engine.run(QUICK)
        (tmp_path / "gate").touch()
        assert len(await asyncio.gather(*jobs)) == 3


async def test_a_job_is_cancelled_by_its_name(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with connect(url, TOKEN) as engine, connect(url, TOKEN) as other:
        for canceller in (engine, other):
            at_work = asyncio.Event()
            job = asyncio.create_task(
                engine.run(
                    StylizeRequest(photo=b"", style=f"wait:{gate}"), job="mine/1", on_progress=_when_working(at_work)
                )
            )
            await at_work.wait()
            with pytest.raises(InvalidRequest, match="on its way"):
                await engine.run(QUICK, job="mine/1")
            await canceller.cancel("mine/1")
            with pytest.raises(JobCancelled):
                await job
        with pytest.raises(UnknownName, match="mine/1"):
            await engine.cancel("mine/1")
        assert await engine.run(QUICK)


async def test_a_caller_who_goes_away_takes_the_job_along(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with connect(url, TOKEN) as engine:
        at_work = asyncio.Event()
        request = StylizeRequest(photo=b"", style=f"wait:{gate}")
        job = asyncio.create_task(engine.run(request, on_progress=_when_working(at_work)))
        await at_work.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        while not Path(f"{gate}.cancelled").exists():
            await asyncio.sleep(0.01)


async def test_closing_tells_waiting_jobs_that_it_was_not_a_person(url: str) -> None:
    async with connect(url, TOKEN) as engine:
        at_work = asyncio.Event()
        request = StylizeRequest(photo=b"", style="sleep:30")
        job = asyncio.create_task(engine.run(request, on_progress=_when_working(at_work)))
        await at_work.wait()
    with pytest.raises(EngineUnavailable, match="closed"):
        await job


async def test_twenty_jobs_at_once(url: str) -> None:
    async with connect(url, TOKEN) as engine:

        async def until_done(seed: int) -> int:
            while True:
                try:
                    return len((await engine.run(PaintRequest(genre="sea", seed=seed))).outputs)
                except Busy:
                    await asyncio.sleep(0.02)

        assert await asyncio.gather(*map(until_done, range(20))) == [1] * 20


async def test_an_engine_that_dies_elsewhere_is_unavailable(
    own_engine: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, url = own_engine
    async with connect(url, TOKEN) as engine:
        at_work = asyncio.Event()
        request = StylizeRequest(photo=b"", style="sleep:30")
        job = asyncio.create_task(engine.run(request, on_progress=_when_working(at_work)))
        await at_work.wait()
        process.kill()
        with pytest.raises(EngineUnavailable, match="lost"):
            await job
        with pytest.raises(EngineUnavailable):
            await engine.run(QUICK)
        with pytest.raises(EngineUnavailable, match="does not answer"):
            await engine.health()


async def test_a_line_that_goes_dead_is_noticed(
    own_engine: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, url = own_engine
    monkeypatch.setattr("engine.client.SILENCE", 0.5)
    async with connect(url, TOKEN) as engine:
        at_work = asyncio.Event()
        request = StylizeRequest(photo=b"", style="sleep:30")
        job = asyncio.create_task(engine.run(request, on_progress=_when_working(at_work)))
        await at_work.wait()
        process.send_signal(signal.SIGSTOP)  # the socket stays open and says nothing
        with pytest.raises(EngineUnavailable):
            await job


async def test_sigterm_lets_the_engine_finish_its_jobs(own_engine: tuple[subprocess.Popen[bytes], str]) -> None:
    process, url = own_engine
    async with connect(url, TOKEN) as engine:
        at_work = asyncio.Event()
        request = StylizeRequest(photo=b"photo", style="sleep:0.5")
        job = asyncio.create_task(engine.run(request, on_progress=_when_working(at_work)))
        await at_work.wait()
        process.terminate()
        assert (await job).outputs[0].data == b"photo"
        assert await asyncio.to_thread(process.wait) == 0


async def test_no_engine_yet_is_no_reason_not_to_start() -> None:
    async with connect("http://127.0.0.1:9", TOKEN) as engine:
        with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9"):
            await engine.run(QUICK)


async def test_some_other_service_is_not_taken_for_an_engine() -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with connect(f"http://127.0.0.1:{runner.addresses[0][1]}", TOKEN) as engine:
            for asked in (engine.run(QUICK), engine.hello(), engine.models()):
                with pytest.raises(EngineUnavailable):
                    await asked
    finally:
        await runner.cleanup()


_PICTURE = b'{"result": {"outputs": [{"data": {"bytes": %s}, "format": "png", "width": 1, "height": 1}]}}\n'


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the answer broke off"),
        (b'{"progress": {"stage": "work', "Unterminated string"),
        (_PICTURE % b"9" + b"only eig", "8 bytes read on a total of 9 expected bytes"),
        (_PICTURE % b"-1", "a picture of -1 bytes"),
        (_PICTURE % b"1e3", r"a picture of 1000\.0 bytes"),
        (_PICTURE % b"1073741825", "a picture of 1073741825 bytes; it must have 0 to 1073741824"),
        (b'{"result": {"outputs": [{"data": {"base64": "cGhvdG8="}}]}}\n', "the result lacks 'bytes'"),
        (bytes(3_000_000), "Got more than"),
    ],
)
async def test_an_answer_that_is_broken_is_a_lost_engine(answer: bytes, why: str) -> None:
    async def answers(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=answer)

    app = web.Application()
    app.router.add_post("/v1/jobs", answers)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with connect(f"http://127.0.0.1:{runner.addresses[0][1]}", TOKEN) as engine:
            with pytest.raises(EngineUnavailable, match=f"(?s)was lost: .*{why}"):
                await engine.run(QUICK)
    finally:
        await runner.cleanup()


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="<html>Welcome to nginx!</html>", content_type="text/html")


@pytest.mark.parametrize("arguments", [[], ["--host", "0.0.0.0"], ["--host", "::1", "--unix", "x"]])
async def test_serving_refuses_what_is_not_safe(arguments: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GANVAS_ENGINE_TOKEN"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine", "serve", *arguments), env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1


async def test_importing_the_client_imports_no_torch() -> None:
    code = "import sys, engine.client; sys.exit('torch' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


def _when_working(event: asyncio.Event) -> Callable[[Progress], None]:
    return lambda progress: event.set() if progress.stage == "working" else None


def _when_at(place: int, event: asyncio.Event) -> Callable[[Progress], None]:
    return lambda progress: event.set() if progress.place == place else None
