"""The engine on Ray Serve: a real cluster on this machine, real processes that are really killed.

Without Ray only the sentence that says so is tested.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.api import LessonPlan, LessonStatus, PaintRequest, Progress, Request, Result, StylizeRequest
from engine.client import Engine, connect
from engine.cluster import Replica
from engine.errors import DeadlineExceeded, EngineDied, GanvasError, JobCancelled, VersionMismatch, WrongToken

ROOT = Path(__file__).parents[2]
TOKEN = "a shared secret"
PAINT = PaintRequest(genre="flowers", seed=7, width=64, height=64)

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install '.[cluster]'")
pytestmark = pytest.mark.timeout(300)  # a replica is a new process that loads torch


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "TOKEN" not in name} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)


def test_without_ray_one_sentence_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['ray'] = None; from engine import cli; sys.exit(cli.run(['cluster']))"
    ended = run("-c", code, GANVAS_ENGINE_TOKEN=TOKEN)
    assert ended.returncode == 2
    assert ended.stderr == "A cluster needs Ray, which is not installed: pip install 'ganvas[cluster]'.\n"


def test_a_cluster_needs_a_token() -> None:
    ended = run("-m", "engine", "cluster")
    assert ended.returncode == 2
    assert "GANVAS_ENGINE_TOKEN" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


async def test_a_replica_whose_thread_never_comes_back_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = asyncio.Event()
    monkeypatch.setattr("engine.cluster.STUCK", 0.05)
    monkeypatch.setattr("os._exit", lambda status: left.set())
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")  # a replica sets it
    painting = asyncio.ensure_future(anext(Replica("puppets:Puppet").paint([order(f"stuck:{tmp_path / 'gate'}")])))
    await asyncio.sleep(0)
    painting.cancel()
    await left.wait()
    (tmp_path / "gate").touch()
    with pytest.raises(asyncio.CancelledError):
        await painting


class Cluster:
    """A `python -m engine cluster` that runs."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        assert process.stdout
        self.url = next(line.split(" listens at ")[1].strip() for line in process.stdout if " listens at " in line)

    def processes(self) -> set[int]:
        """Return the process ids of all that belongs to it."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"GANVAS_TEST_CLUSTER={self.folder}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:  # it ended, or is not ours
                continue
        return found

    def gone(self) -> bool:
        """Wait until none of them is left; pytest's time-out is the limit."""
        while self.processes():
            time.sleep(0.1)
        return True


def start(folder: Path, models: Path, *arguments: str) -> Cluster:
    """Start a cluster whose lessons may write into ``folder`` and whose models are in ``models``."""
    environment = os.environ | {
        "GANVAS_ENGINE_TOKEN": TOKEN, "GANVAS_TEST_CLUSTER": str(folder), "GANVAS_DTYPE": "float32",
        "GANVAS_MODELS": os.pathsep.join((str(folder / "home"), str(models))), "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = (sys.executable, "-m", "engine", "cluster", "--port", "0", *arguments)
    with (folder / "log").open("w") as log_file:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log_file, text=True)
    return Cluster(process, folder)


@with_ray
def test_replicas_that_no_machine_has_room_for_are_refused(tmp_path: Path) -> None:
    ended = run("-m", "engine", "cluster", "--replicas", "999", GANVAS_ENGINE_TOKEN=TOKEN, HOME=str(tmp_path))
    assert ended.returncode == 2
    assert "need 1000 CPUs" in ended.stderr.splitlines()[-1]


@with_ray
def test_nothing_outlives_a_cluster_that_is_killed(tmp_path: Path, tiny_folder: Path) -> None:
    cluster = start(tmp_path, tiny_folder, "--pipelines", "tests.engine.puppets:Puppet")
    with cluster.process:
        assert len(cluster.processes()) > 2
        cluster.process.kill()
    assert cluster.gone()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Cluster]:
    """Two replicas with the tiny models, for all tests of this module; in the end nothing of it is left."""
    options = ("--replicas", "2", "--cpus", "0.5", "--lesson", "tests.engine.pupil")
    stand_in = ("--pipelines", "tests.engine.puppets:Understudy")
    cluster = start(tmp_path_factory.mktemp("cluster"), tiny_folder, *options, *stand_in)
    with cluster.process:
        yield cluster
        cluster.process.terminate()
        assert cluster.process.wait() == 0
    assert cluster.gone()


def order(style: str) -> StylizeRequest:
    return StylizeRequest(photo=b"photo", style=style)


async def begin(engine: Engine, request: Request, name: str | None = None) -> asyncio.Task[Result]:
    """Send ``request`` and return once a replica tells how far it is."""
    seen = asyncio.Event()

    def look(progress: Progress) -> None:
        if progress.stage == "working" and progress.share > 0:
            seen.set()

    job = asyncio.create_task(engine.run(request, on_progress=look, job=name))
    await seen.wait()
    return job


async def pid(engine: Engine) -> int:
    return int((await engine.run(order("pid:"))).outputs[0].data)


def vote(voter: str) -> str:
    return json.dumps({"voter": voter}) + "\n"


async def until(engine: Engine, lesson: str, found: Callable[[LessonStatus], bool]) -> LessonStatus:
    while not found(status := await engine.lesson(lesson)):
        await asyncio.sleep(0.05)
    return status


def over(status: LessonStatus) -> bool:
    return status.state != "learning"


@with_ray
async def test_a_client_does_not_know_it_from_one_engine(cluster: Cluster, tiny_models: Path, photo: bytes) -> None:
    from engine.pipelines import Pipelines

    steps: list[Progress] = []
    stylize = StylizeRequest(photo=photo, style="waves", size=96)
    async with connect(cluster.url, TOKEN) as engine:
        painted = await engine.run(PAINT, on_progress=steps.append)
        styled = await engine.run(stylize)
        assert [step.stage for step in steps][:2] == ["queued", "working"]
        assert steps[-1] == Progress(stage="done", share=1.0)
        assert (await engine.health())["worker"] == "idle"
        assert "tiny-painter" in {card["name"] for card in await engine.models()}
        assert b'ganvas_requests_total{command="paint",outcome="done"} 1.0' in await engine.metrics()
    with Pipelines() as pipelines:
        here = pipelines.run([PAINT, stylize])
    assert [painted.outputs, styled.outputs] == [result.outputs for result in here]  # the same bytes and recipes


@with_ray
async def test_strangers_are_refused_at_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongToken):
        async with connect(cluster.url, "wrong"):
            pass
    monkeypatch.setattr("engine.client.PROTOCOL", 99)
    with pytest.raises(VersionMismatch):
        async with connect(cluster.url, TOKEN):
            pass


@with_ray
async def test_mistakes_arrive_as_themselves(cluster: Cluster) -> None:
    async with connect(cluster.url, TOKEN) as engine:
        with pytest.raises(GanvasError, match="picture"):
            await engine.run(StylizeRequest(photo=b"no picture", style="waves"))
        with pytest.raises(GanvasError, match=r"failed on this job \(ZeroDivisionError\)"):
            await engine.run(order("crash:"))


@with_ray
async def test_replicas_work_side_by_side_and_a_job_is_cancelled_there(cluster: Cluster, tmp_path: Path) -> None:
    async with connect(cluster.url, TOKEN) as engine:
        gates = [tmp_path / "one", tmp_path / "two"]
        jobs = [await begin(engine, order(f"wait:{gate}"), gate.name) for gate in gates]
        for gate, job in zip(gates, jobs, strict=True):
            await engine.cancel(gate.name)
            with pytest.raises(JobCancelled):
                await job
            while not Path(f"{gate}.cancelled").exists():  # the replica was told
                await asyncio.sleep(0.02)
        with pytest.raises(DeadlineExceeded):
            await engine.run(order("sleep:60"), deadline=1)
        assert (await engine.run(order("sleep:0"))).outputs[0].data == b"photo"


@with_ray
async def test_a_job_outlives_its_replica_and_the_replica_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    async with connect(cluster.url, TOKEN) as engine:
        assert (await engine.run(order(f"die-once:{tmp_path / 'deaths'}"))).outputs[0].data == b"photo"
        killed = await pid(engine)
        os.kill(killed, signal.SIGKILL)
        alive: set[int] = set()
        while len(alive) < 2:
            alive |= set(await asyncio.gather(pid(engine), pid(engine))) - {killed}
        assert (await engine.health())["worker"] == "idle"


@with_ray
async def test_a_job_that_always_kills_fails_alone(cluster: Cluster) -> None:
    async with connect(cluster.url, TOKEN) as engine:
        jobs = [engine.run(order(style)) for style in ("die:", "sleep:0.1", "sleep:0.1")]
        guilty, *others = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(guilty, EngineDied)
        assert [other.outputs[0].data for other in others if not isinstance(other, BaseException)] == [b"photo"] * 2


@with_ray
async def test_a_lesson_is_held_on_processors_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    async with connect(cluster.url, TOKEN) as engine:
        gate = tmp_path / "gate"
        await engine.begin_lesson(LessonPlan(name="one", painter="tiny-painter"), vote(f"wait:{gate}"))
        await until(engine, "one", lambda status: status.share == 0.4)
        job = await begin(engine, order(f"wait:{tmp_path / 'another'}"))
        assert not (await engine.lesson("one")).waiting, "it does not stand aside"
        job.cancel()
        gate.touch()
        assert (await until(engine, "one", over)).state == "candidate"
        assert "one" in {card["name"] for card in await engine.models()}


@with_ray
async def test_a_lesson_fails_with_its_last_words_and_ends_when_it_is_told(cluster: Cluster, tmp_path: Path) -> None:
    async with connect(cluster.url, TOKEN) as engine:
        await engine.begin_lesson(LessonPlan(name="two", painter="tiny-painter"), vote("mistake"))
        status = await until(engine, "two", over)
        assert (status.state, status.why) == ("failed", "The weights of EfficientNet-Lite1 are not installed.")
        before = cluster.processes()
        await engine.begin_lesson(LessonPlan(name="three", painter="tiny-painter"), vote(f"wait:{tmp_path / 'gate'}"))
        await until(engine, "three", lambda status: status.share == 0.4)
        pupil = int((cluster.folder / "home" / ".lessons" / "three" / "pid").read_text())
        assert pupil in cluster.processes() - before
        assert (await engine.end_lesson("three")).state == "cancelled"
        while pupil in cluster.processes():
            await asyncio.sleep(0.05)
