"""The engine as a child process: it may die at any moment, and nobody but the guilty job notices."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from puppets import PUPPET

from engine.api import PaintRequest, Progress, Request, StylizeRequest
from engine.client import Engine, connect
from engine.errors import EngineDied, EngineUnavailable, JobCancelled


def _photo(style: str) -> StylizeRequest:
    return StylizeRequest(photo=b"photo", style=style)


def _when_working(event: asyncio.Event) -> Callable[[Progress], None]:
    return lambda progress: event.set() if progress.stage == "working" else None


async def _start(engine: Engine, request: Request) -> asyncio.Task[bytes]:
    """Send ``request`` and return once it is at work."""
    at_work = asyncio.Event()

    async def run() -> bytes:
        return (await engine.run(request, on_progress=_when_working(at_work))).outputs[0].data

    task = asyncio.create_task(run())
    await at_work.wait()
    return task


async def test_a_job_outlives_the_engine_that_was_killed_in_its_middle(tmp_path: Path) -> None:
    async with connect(arguments=PUPPET) as engine:
        job = await _start(engine, _photo(f"wait:{tmp_path / 'gate'}"))
        others = [asyncio.create_task(engine.run(_photo(""))) for _ in range(3)]
        first = engine.pid
        assert first
        os.kill(first, signal.SIGKILL)
        (tmp_path / "gate").touch()
        assert await job == b"photo"
        assert engine.pid not in (first, None)
        assert [result.outputs[0].data for result in await asyncio.gather(*others)] == [b"photo"] * 3


@pytest.mark.parametrize("style", ["die-once", "die-twice"])
async def test_a_job_may_take_the_engine_down_twice(tmp_path: Path, style: str) -> None:
    async with connect(arguments=PUPPET) as engine:
        assert (await engine.run(_photo(f"{style}:{tmp_path / 'deaths'}"))).outputs[0].data == b"photo"


async def test_a_job_that_always_kills_it_fails_alone(tmp_path: Path) -> None:
    async with connect(arguments=PUPPET) as engine:
        hold = await _start(engine, _photo(f"wait:{tmp_path / 'gate'}"))
        jobs = [asyncio.create_task(engine.run(_photo("die" if i == 4 else "sleep:0.02"))) for i in range(10)]
        (tmp_path / "gate").touch()
        results = await asyncio.gather(hold, *jobs, return_exceptions=True)
        guilty = results.pop(5)
        assert isinstance(guilty, EngineDied)
        assert "3 times" in str(guilty)
        assert not [result for result in results if isinstance(result, BaseException)]


async def test_the_guilty_one_is_found_in_a_batch() -> None:
    async with connect(arguments=PUPPET) as engine:
        requests = [PaintRequest(genre="sea", seed=i, art_style="die" if i == 2 else None) for i in range(8)]
        results = await asyncio.gather(*map(engine.run, requests), return_exceptions=True)
        assert [isinstance(result, EngineDied) for result in results] == [i == 2 for i in range(8)]


async def test_several_killers_do_not_take_others_along() -> None:
    async with connect(arguments=PUPPET) as engine:
        styles = ["die", "", "die", "sleep:0.01", "die", ""]
        results = await asyncio.gather(*(engine.run(_photo(style)) for style in styles), return_exceptions=True)
        assert [isinstance(result, EngineDied) for result in results] == [style == "die" for style in styles]


async def test_a_hanging_engine_is_killed_and_its_jobs_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engine.client.SILENCE", 1.5)
    async with connect(arguments=PUPPET) as engine:
        job = await _start(engine, _photo(f"wait:{tmp_path / 'gate'}"))
        assert engine.pid
        os.kill(engine.pid, signal.SIGSTOP)
        (tmp_path / "gate").touch()
        assert await job == b"photo"


async def test_a_job_is_cancelled_while_the_engine_restarts(tmp_path: Path) -> None:
    async with connect(arguments=PUPPET) as engine:
        await engine.run(_photo(""))
        assert engine.pid
        os.kill(engine.pid, signal.SIGKILL)
        job = asyncio.create_task(engine.run(_photo(f"wait:{tmp_path / 'gate'}"), job="mine"))
        await asyncio.sleep(0)
        await engine.cancel("mine")
        with pytest.raises(JobCancelled):
            await job


async def test_an_engine_that_never_lives_long_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.supervisor.FIRST_PAUSE", 0.01)
    async with connect(arguments=("--pipelines", "tests.engine.puppets:Broken")) as engine:
        with pytest.raises(EngineUnavailable, match=r"5 times in a row \(exit status 3\)"):
            await engine.run(_photo(""))


async def test_an_engine_that_cannot_start_says_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.supervisor.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("engine.supervisor.PATIENCE", 2)
    async with connect(arguments=("--nonsense",)) as engine:
        with pytest.raises(EngineUnavailable, match="--nonsense"):
            await engine.run(_photo(""))


async def test_closing_leaves_no_process_and_no_socket() -> None:
    async with connect(arguments=PUPPET) as engine:
        job = await _start(engine, _photo("sleep:30"))
        pid = engine.pid
        assert pid and engine._supervisor
        folder = engine._supervisor.socket.parent
    with pytest.raises(EngineUnavailable, match="closed"):
        await job
    assert not _alive(pid)
    assert not folder.exists()


async def test_the_engine_dies_with_a_parent_that_is_killed() -> None:
    code = f"""
import asyncio
from engine.api import StylizeRequest
from engine.client import connect

async def main():
    async with connect(arguments={PUPPET!r}) as engine:
        await engine.run(StylizeRequest(photo=b""))
        print(engine.pid, flush=True)
        await engine.run(StylizeRequest(photo=b"", style="sleep:60"))

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout
    pid = int(await parent.stdout.readline())
    assert _alive(pid)
    parent.kill()
    await parent.wait()
    while _alive(pid):
        await asyncio.sleep(0.01)


async def test_the_child_gets_no_secrets_and_its_log_shows_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "discord-secret")
    caplog.set_level(logging.INFO)
    async with connect(token="engine-secret", arguments=PUPPET) as engine:
        await engine.run(_photo(""))
        environment = Path(f"/proc/{engine.pid}/environ").read_bytes()
        command = Path(f"/proc/{engine.pid}/cmdline").read_bytes()
        assert engine._supervisor
        engine._supervisor._log_line("WARNING x: the token is engine-secret")
    assert b"discord-secret" not in environment
    assert b"engine-secret" not in command
    assert "the token is ***" in caplog.text
    assert "engine-secret" not in caplog.text


def _alive(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
