"""Lessons inside the service and who is in office, over real sockets, with real processes that are really killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from puppets import PUPPET, Puppet

from engine import checkpoints, lessons
from engine.api import LessonPlan, LessonStatus, StylizeRequest
from engine.client import Engine, connect
from engine.errors import BrokenModel, Busy, InvalidRequest, UnknownName
from engine.server import Service, listening

PUPIL = (sys.executable, str(Path(__file__).with_name("pupil.py")))
PLAN = LessonPlan(name="tiny-painter-1", painter="tiny-painter")


def votes(order: str) -> str:
    return json.dumps({"voter": order}) + "\n"


@pytest.fixture
def home(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where lessons put what they make; the released models lie elsewhere and stay as they are."""
    home = tmp_path / "home"
    monkeypatch.setenv("GANVAS_MODELS", os.pathsep.join((str(home), str(tiny_folder))))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return home


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Engine]:
    service = Service(Puppet, Puppet, lesson=PUPIL)
    async with listening(service, host="127.0.0.1") as url, connect(url) as engine:
        yield engine


async def until(engine: Engine, name: str, found: Callable[[LessonStatus], Any]) -> LessonStatus:
    while not found(status := await engine.lesson(name)):
        await asyncio.sleep(0.02)
    return status


async def over(engine: Engine, name: str = PLAN.name) -> LessonStatus:
    return await until(engine, name, lambda status: status.state != "learning")


async def painter(engine: Engine) -> str:
    return next(each.name for each in await engine.office() if each.kind == "painter")


async def test_a_lesson_ends_with_a_candidate_among_the_models_and_nobody_else_in_office(engine: Engine) -> None:
    begun = await engine.begin_lesson(PLAN, votes("candidate"))
    assert begun.state == "learning"
    status = await over(engine)
    assert (status.state, status.why, status.pictures) == (
        "candidate", "It passed the gate.", ("after.webp", "before.webp"),
    )  # fmt: skip
    assert status.night["gate"][0]["passed"]
    assert await engine.lesson_picture(PLAN.name, "before.webp") == b"before"
    names = {card["name"]: card["in_office"] for card in await engine.models() if card["kind"] == "painter"}
    assert names == {"tiny-painter": True, "tiny-painter-1": False}
    assert (await engine.begin_lesson(PLAN, votes("refused"))).state == "candidate", "the same lesson is held once"


@pytest.mark.parametrize("state", ["rested", "refused"])
async def test_without_a_candidate_there_is_a_reason(engine: Engine, state: str) -> None:
    await engine.begin_lesson(PLAN, votes(state))
    status = await over(engine)
    assert (status.state, status.why) == (state, f"The pupil {state}.")
    assert [card["name"] for card in await engine.models() if card["kind"] == "painter"] == ["tiny-painter"]


async def test_a_mistake_is_told_in_its_own_words(engine: Engine) -> None:
    await engine.begin_lesson(PLAN, votes("mistake"))
    status = await over(engine)
    assert (status.state, status.why) == ("failed", "The weights of EfficientNet-Lite1 are not installed.")


async def test_a_killed_lesson_fails_honestly_and_leaves_the_painter(engine: Engine) -> None:
    await engine.begin_lesson(PLAN, votes("die"))
    status = await over(engine)
    assert status.state == "failed" and "killed by signal 9" in status.why
    assert await painter(engine) == "tiny-painter"


async def test_a_damaged_candidate_never_becomes_a_model(engine: Engine) -> None:
    await engine.begin_lesson(PLAN, votes("damaged"))
    status = await over(engine)
    assert status.state == "failed" and "cannot be used" in status.why
    with pytest.raises(UnknownName):
        checkpoints.find(PLAN.name)


async def test_one_lesson_at_a_time_and_progress_and_an_end(engine: Engine, tmp_path: Path) -> None:
    await engine.begin_lesson(PLAN, votes(f"wait:{tmp_path / 'go'}"))
    assert (await until(engine, PLAN.name, lambda status: status.share)).share == 0.4
    with pytest.raises(Busy, match="tiny-painter-1 is under way"):
        await engine.begin_lesson(LessonPlan(name="another", painter="tiny-painter"), votes("candidate"))
    status = await engine.end_lesson(PLAN.name)
    assert (status.state, status.why) == ("cancelled", "It was ended before it was over.")
    assert (await engine.end_lesson(PLAN.name)).state == "cancelled"
    await engine.begin_lesson(LessonPlan(name="another", painter="tiny-painter"), votes("refused"))
    assert (await over(engine, "another")).state == "refused"


async def test_a_lesson_stands_still_while_people_are_served(
    engine: Engine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "QUIET", 0.1)
    ticks = home / ".lessons" / PLAN.name / "ticks"  # p: it saw that it should wait, w: it worked

    async def ticked(end: str) -> None:
        while not (ticks.exists() and ticks.read_text().endswith(end)):
            await asyncio.sleep(0.02)

    await engine.begin_lesson(PLAN, votes(f"wait:{tmp_path / 'go'}"))
    await ticked("w")
    job = asyncio.create_task(engine.run(StylizeRequest(photo=b"", style=f"wait:{tmp_path / 'served'}")))
    await ticked("p")
    assert (await engine.lesson(PLAN.name)).waiting
    (tmp_path / "served").touch()
    await job
    await ticked("w")
    assert not (await engine.lesson(PLAN.name)).waiting
    (tmp_path / "go").touch()
    assert (await over(engine)).state == "candidate"


async def test_a_lesson_that_is_asked_to_stop_is_interrupted_and_can_be_begun_again(
    engine: Engine, home: Path, tmp_path: Path
) -> None:
    await engine.begin_lesson(PLAN, votes(f"wait:{tmp_path / 'never'}"))
    await until(engine, PLAN.name, lambda status: status.share)
    # A house that stops sends this to all its processes, and the engine may look at the lesson before at its own.
    os.kill(int((home / ".lessons" / PLAN.name / "pid").read_text()), signal.SIGTERM)
    assert (await over(engine)).state == "interrupted"
    await engine.begin_lesson(PLAN, votes("stopped"))
    assert (await over(engine)).state == "interrupted"
    await engine.begin_lesson(PLAN, votes("refused"))
    assert (await over(engine)).state == "refused"


async def test_a_held_lesson_waits_until_it_may_go_on(engine: Engine, tmp_path: Path) -> None:
    held = LessonPlan(name="held", painter="tiny-painter", held=True)
    assert (await engine.begin_lesson(held, votes(f"wait:{tmp_path / 'go'}"))).waiting
    await asyncio.sleep(0.3)
    assert (await engine.lesson("held")).waiting
    await engine.hold_lesson("held", False)
    await until(engine, "held", lambda status: not status.waiting)
    await engine.hold_lesson("held", True)
    await until(engine, "held", lambda status: status.waiting)


async def test_a_lesson_dies_with_its_engine_and_can_be_begun_again(home: Path, tmp_path: Path) -> None:
    arguments = (*PUPPET, "--lesson", "tests.engine.pupil")
    async with connect(arguments=arguments) as engine:
        await engine.begin_lesson(PLAN, votes(f"wait:{tmp_path / 'go'}"))
        await until(engine, PLAN.name, lambda status: status.share)
        pupil = int((home / ".lessons" / PLAN.name / "pid").read_text())
        assert engine.pid
        os.kill(engine.pid, signal.SIGKILL)
        while alive(pupil):
            await asyncio.sleep(0.02)
        status = await patiently(engine)
        assert status.state == "interrupted"
        assert await painter(engine) == "tiny-painter"
        (tmp_path / "go").touch()
        await engine.begin_lesson(PLAN, votes("refused"))
        assert (await over(engine)).state == "refused"


async def patiently(engine: Engine) -> LessonStatus:
    """Ask an engine that is being started again."""
    from engine.errors import EngineUnavailable

    while True:
        try:
            return await engine.lesson(PLAN.name)
        except EngineUnavailable:
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path(f"/proc/{pid}").exists() else False


async def test_hostile_names_plans_and_pictures_are_refused(engine: Engine) -> None:
    for name in ("../tiny-painter", "..", "A", "x" * 100):
        with pytest.raises(InvalidRequest):
            await engine.lesson(name)
    with pytest.raises(InvalidRequest):
        await engine.begin_lesson(LessonPlan(name="x", painter="tiny-painter", minutes="long"), "")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="no model"):
        await engine.begin_lesson(LessonPlan(name="x", painter="nobody"), "")
    await engine.begin_lesson(PLAN, votes("candidate"))
    await over(engine)
    for picture in ("votes.jsonl", "night.json", "../../office.json"):
        with pytest.raises(UnknownName):
            await engine.lesson_picture(PLAN.name, picture)


async def test_only_the_last_lessons_are_kept(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "KEPT", 1)
    for number in range(lessons.KEPT + 3):
        plan = LessonPlan(name=f"lesson-{number}", painter="tiny-painter")
        await engine.begin_lesson(plan, votes("rested"))
        await over(engine, plan.name)
    assert len(list((home / ".lessons").iterdir())) == lessons.KEPT + 1
    with pytest.raises(UnknownName):
        await engine.lesson("lesson-0")


# Who is in office


async def test_an_appointment_is_a_pointer_swap_that_a_rollback_repeats(engine: Engine, home: Path) -> None:
    await engine.begin_lesson(PLAN, votes("candidate"))
    await over(engine)
    await engine.appoint("painter", PLAN.name)
    assert await painter(engine) == PLAN.name
    assert json.loads((home / "office.json").read_text()) == {"painter": PLAN.name}
    await engine.appoint("painter", "tiny-painter")
    assert await painter(engine) == "tiny-painter"
    assert sorted(path.name for path in home.iterdir()) == [".lessons", "office.json", PLAN.name], "no half files"


async def test_what_is_unknown_of_another_kind_or_damaged_is_not_appointed(engine: Engine, home: Path) -> None:
    for kind, name in (("painter", "nobody"), ("painter", "tiny-stylizer"), ("sculptor", "tiny-painter")):
        with pytest.raises(UnknownName):
            await engine.appoint(kind, name)
    await engine.begin_lesson(PLAN, votes("candidate"))
    await over(engine)
    (home / PLAN.name / "model.safetensors").write_bytes(b"half")
    with pytest.raises(BrokenModel, match="not those its card names"):
        await engine.appoint("painter", PLAN.name)
    assert await painter(engine) == "tiny-painter"


async def test_a_damaged_or_vanished_painter_in_office_is_told(engine: Engine, home: Path) -> None:
    await engine.begin_lesson(PLAN, votes("candidate"))
    await over(engine)
    await engine.appoint("painter", PLAN.name)
    assert all(each.fault is None for each in await engine.office())
    (home / PLAN.name / "model.safetensors").write_bytes(b"half")
    assert [(each.name, bool(each.fault)) for each in await engine.office() if each.kind == "painter"] == [
        (PLAN.name, True)
    ]
    shutil.rmtree(home / PLAN.name)
    assert "no model" in next(each.fault or "" for each in await engine.office() if each.kind == "painter")
    assert await engine.models(), "the others still work"


async def test_pruning_spares_the_released_the_kept_and_the_one_in_office(engine: Engine) -> None:
    for number in range(4):
        plan = LessonPlan(name=f"night-{number}", painter="tiny-painter")
        await engine.begin_lesson(plan, votes("candidate"))
        await over(engine, plan.name)
    await engine.appoint("painter", "night-0")
    assert await engine.prune(["night-3"]) == ["night-1", "night-2"]
    painters = [card["name"] for card in await engine.models() if card["kind"] == "painter"]
    assert painters == ["night-0", "night-3", "tiny-painter"]
