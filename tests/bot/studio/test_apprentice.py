"""Nights from end to end with an engine whose lessons end as the test wants: nothing worse ever stays in office."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from house import ANN, BEN, CAT, GUILD, FakeEngine, painted, voter

from bot.config import Settings
from bot.studio import (
    HOST,
    Event,
    Member,
    Night,
    NightEnded,
    NotFound,
    PainterChanged,
    Studio,
    WrongMoment,
    open_studio,
)
from bot.studio.apprentice import ATTEMPTS, MISFIRE
from bot.studio.canary import assigned
from engine.api import MorphRequest, PaintRequest, Stop, StylizeRequest
from engine.errors import BrokenModel, EngineUnavailable, UnknownName

BASE = "painter-64"
GATE = [{"name": "KID", "value": 0.01, "limit": "at most 0.02", "passed": True}]


@contextmanager
def heard(studio: Studio, *kinds: type[Event]) -> Iterator[Callable[[], list[Any]]]:
    """Collect events; the function given returns those so far."""
    with studio.events.subscribe(*kinds) as stream:
        yield lambda: list(stream._events)


async def night(studio: Studio, engine: FakeEngine, state: str, **told: Any) -> Night:
    """Hold a night that ends so."""
    night_id = await studio.apprentice.run_now(HOST)
    engine.end_with(state, **told)
    await studio.apprentice.look()
    return await studio.nights.get(night_id)


async def out_of_time(studio: Studio) -> None:
    """Let the trial have begun long ago."""
    await studio.apprentice._keep(tried_since=time.time() - 30 * 86_400)
    await studio.apprentice.look()


async def promoted(studio: Studio, engine: FakeEngine) -> str:
    """Hold a night whose candidate comes into office when the time of its trial is out; its name."""
    await night(studio, engine, "candidate")
    await out_of_time(studio)
    return engine.in_office["painter"]


def somebody(night_id: str, tried: bool) -> Member:
    """Return a member who is, or is not, answered by the candidate."""
    members = (Member("discord", str(n), f"M{n}") for n in range(100, 10_000))
    return next(member for member in members if assigned(member.key, night_id, 0.2) == tried)


# A lesson


async def test_at_rest(studio: Studio) -> None:
    state = await studio.apprentice.state()
    assert (state.painter, state.base, state.phase, state.paused) == (BASE, BASE, "resting", False)
    assert state.next_night and datetime.fromtimestamp(state.next_night, UTC).hour == 3
    assert state.canary is state.last_night is state.progress is None


async def test_a_lesson_gets_the_frozen_votes_and_later_ones_do_not_enter(
    studio: Studio, engine: FakeEngine, settings: Settings
) -> None:
    art = await painted(studio)
    await studio.votes.cast(art, voter(BEN), "up")
    night_id = await studio.apprentice.run_now(HOST)
    await studio.votes.cast(art, voter(CAT), "down")
    frozen = (settings.data / "nights" / night_id / "votes.jsonl").read_text()
    found = await studio.nights.get(night_id)
    assert found.state == "learning" and found.diary["asked_by"] == "The host"
    assert hashlib.sha256(frozen.encode()).hexdigest() == found.snapshot
    (plan, sent), *_ = engine.plans
    assert (plan.name, plan.painter) == (f"{BASE}-{night_id}", BASE)
    assert [json.loads(line)["value"] for line in sent.splitlines()] == ["up"]
    assert Path(json.loads(sent.splitlines()[0])["file"]).is_file(), "an engine of our own finds the works"
    state = await studio.apprentice.state()
    assert (state.phase, state.progress, state.painter) == ("learning", 0.0, BASE)


async def test_a_member_who_opted_out_teaches_nothing(studio: Studio, engine: FakeEngine) -> None:
    art = await painted(studio)
    await studio.votes.cast(art, voter(BEN), "up")
    await studio.policy.prefer(BEN, training=False)
    await studio.apprentice.run_now(HOST)
    assert engine.plans[0][1] == ""


async def test_duels_teach_too_and_a_deletion_marks_the_night(studio: Studio, engine: FakeEngine) -> None:
    first, second = await painted(studio), await painted(studio, BEN)
    duel = await studio.duels.draw(CAT, GUILD)
    await studio.duels.choose(duel.id, voter(CAT), "first")
    night_id = await studio.apprentice.run_now(HOST)
    (line,) = map(json.loads, engine.plans[0][1].splitlines())
    assert line["artworks"] == [duel.first.id, duel.second.id] and line["winner"] and line["voter"] != CAT.key
    assert {first, second} == set(line["artworks"])
    assert (await studio.policy.delete(CAT)).nights == (night_id,)


@pytest.mark.parametrize("state", ["rested", "refused", "failed"])
async def test_without_a_candidate_the_painter_stays_and_the_diary_says_why(
    studio: Studio, engine: FakeEngine, settings: Settings, state: str
) -> None:
    with heard(studio, NightEnded) as ended:
        found = await night(studio, engine, state, why="It was no better.", gate=GATE)
    assert (found.state, found.diary["why"], found.diary["gate"]) == (state, "It was no better.", GATE)
    assert found.finished and [event.night.state for event in ended()] == [state]
    assert (settings.data / "nights" / found.id / found.diary["before"]).read_bytes().endswith(b"before.webp")
    status = await studio.apprentice.state()
    assert (status.phase, status.painter) == ("resting", BASE)
    assert status.last_night == found
    for member in (ANN, BEN, CAT):
        assert await studio.apprentice.painter_for(member, PaintRequest(genre="marina", seed=1)) is None


async def test_an_interrupted_lesson_begins_again_with_the_same_votes_and_in_the_end_fails_honestly(
    studio: Studio, engine: FakeEngine
) -> None:
    night_id = await studio.apprentice.run_now(HOST)
    for life in range(2, ATTEMPTS + 1):
        engine.lessons.clear()
        await studio.apprentice.look()
        assert len(engine.plans) == life and engine.plans[-1] == engine.plans[0]
    engine.lessons.clear()
    await studio.apprentice.look()
    found = await studio.nights.get(night_id)
    assert found.state == "failed" and "interrupted 3 times" in found.diary["why"]
    assert (await studio.apprentice.state()).phase == "resting"


async def test_an_engine_that_is_away_for_a_while_costs_nothing(studio: Studio, engine: FakeEngine) -> None:
    engine.away = True
    with pytest.raises(EngineUnavailable):
        await studio.apprentice.run_now(HOST)
    assert (await studio.apprentice.state()).phase == "resting"
    engine.away = False
    night_id = await studio.apprentice.run_now(HOST)
    engine.away = True
    with pytest.raises(EngineUnavailable):
        await studio.apprentice.look()
    assert (await studio.apprentice.state()).phase == "learning"
    engine.away = False
    engine.end_with("refused")
    await studio.apprentice.look()
    assert (await studio.nights.get(night_id)).state == "refused"


# The calendar


async def test_the_calendar_begins_a_night_and_never_two(settings: Settings, engine: FakeEngine) -> None:
    async with open_studio(settings, engine) as studio:
        (job,) = studio.apprentice._scheduler.get_jobs()
        assert job.coalesce and job.max_instances == 1
        job.modify(next_run_time=datetime.now(UTC))
        while not engine.plans:
            await asyncio.sleep(0.01)
        with pytest.raises(WrongMoment, match="under way already"):
            await studio.apprentice.run_now(HOST)
        await studio.apprentice._on_time()
        await studio.apprentice.look()
        assert len(engine.plans) == 1
        engine.end_with("candidate")
        await studio.apprentice.look()
        with pytest.raises(WrongMoment, match="being tried"):
            await studio.apprentice.run_now(HOST)
        await studio.apprentice._on_time()
        await studio.apprentice.look()
        assert len(engine.plans) == 1


@pytest.mark.parametrize(("late", "held"), [(3600.0, True), (MISFIRE + 60, False)])
async def test_a_night_missed_while_the_house_was_down_is_held_late_but_not_too_late(
    settings: Settings, engine: FakeEngine, late: float, held: bool
) -> None:
    async with open_studio(settings, engine):
        pass
    with closing(sqlite3.connect(settings.data / "ganvas.db")) as db, db:
        db.execute(
            "UPDATE facts SET value = json_set(value, '$.due', ?) WHERE name = 'apprentice'", [time.time() - late]
        )
    async with open_studio(settings, engine) as studio:
        await studio.apprentice.look()
        assert bool(engine.plans) == held


async def test_a_pause_survives_a_restart_and_holds_the_lesson(settings: Settings, engine: FakeEngine) -> None:
    async with open_studio(settings, engine) as studio:
        await studio.apprentice.run_now(HOST)
        await studio.apprentice.pause(HOST)
        with pytest.raises(WrongMoment):
            await studio.apprentice.pause(HOST)
        await studio.apprentice.look()
        (name,) = engine.lessons
        assert engine.held == {name: True}
    async with open_studio(settings, engine) as studio:
        state = await studio.apprentice.state()
        assert (state.paused, state.phase, state.waiting, state.next_night) == (True, "learning", True, None)
        engine.lessons.clear()
        await studio.apprentice.look()
        assert engine.plans[-1][0].held, "also a lesson that begins anew"
        await studio.apprentice.resume(HOST)
        await studio.apprentice.look()
        assert engine.held == {name: False}
        engine.end_with("rested")
        await studio.apprentice.look()
        await studio.apprentice.pause(HOST)
        with pytest.raises(WrongMoment, match="paused"):
            await studio.apprentice.run_now(HOST)


async def test_nights_that_are_off_stay_off(settings: Settings, engine: FakeEngine) -> None:
    off = settings.model_copy(update={"nights": False})
    async with open_studio(off, engine) as studio:
        state = await studio.apprentice.state()
        assert (state.phase, state.next_night) == ("off", None)
        with pytest.raises(WrongMoment, match="switched off"):
            await studio.apprentice.run_now(HOST)


# The trial


async def test_the_trial_is_blind_sticky_and_survives_a_restart(settings: Settings, engine: FakeEngine) -> None:
    request = PaintRequest(genre="landscape", seed=1)
    async with open_studio(settings, engine) as studio:
        found = await night(studio, engine, "candidate")
        assert found.state == "canary" and engine.in_office["painter"] == BASE
        candidate = found.diary["candidate"]
        tried, spared = somebody(found.id, True), somebody(found.id, False)
        for _ in range(3):
            assert await studio.apprentice.painter_for(tried, request) == candidate
            assert await studio.apprentice.painter_for(spared, request) == BASE
        stops = (Stop("marina", 1), Stop("marina", 2))
        assert await studio.apprentice.painter_for(tried, MorphRequest(stops=stops)) == candidate
        for other in (StylizeRequest(photo=b""), PaintRequest(genre="landscape", seed=1, model=BASE)):
            assert await studio.apprentice.painter_for(tried, other) is None
    async with open_studio(settings, engine) as studio:
        assert await studio.apprentice.painter_for(tried, request) == candidate
        art = await studio.gallery.get(await painted(studio, tried), viewer=None)
        assert engine.requests[-1][1].model == candidate == art.model  # type: ignore[attr-defined]
        job = await studio.queue.get(art.job_id or "")
        assert job.options["model"] is None, "what the member sees of the job tells nothing"
        state = await studio.apprentice.state()
        assert state.phase == "canary" and state.canary and (state.canary.candidate, state.canary.answers) == (
            candidate, 1,
        )  # fmt: skip


async def voted(studio: Studio, night_id: str, *, likes_candidate: bool, voters: int = 12) -> None:
    """Let people vote on one work of each side."""
    works = {tried: await painted(studio, somebody(night_id, tried)) for tried in (True, False)}
    for n in range(voters):
        person = Member("discord", str(n + 20_000))
        for tried, art in works.items():
            value = "up" if tried == likes_candidate else "down"
            assert (await studio.votes.cast(art, voter(person), value)).accepted  # type: ignore[arg-type]


async def test_a_better_candidate_is_promoted_by_one_swap(settings: Settings, engine: FakeEngine) -> None:
    few = settings.model_copy(update={"canary_votes": 10})
    async with open_studio(few, engine) as studio:
        found = await night(studio, engine, "candidate")
        await voted(studio, found.id, likes_candidate=True)
        with heard(studio, NightEnded, PainterChanged) as events:
            await studio.apprentice.look()
        candidate = found.diary["candidate"]
        assert engine.in_office["painter"] == candidate
        ended = await studio.nights.get(found.id)
        assert ended.state == "promoted" and ended.diary["canary"]["probability_better"] > 0.95
        assert [type(event) for event in events()] == [PainterChanged, NightEnded]
        state = await studio.apprentice.state()
        assert (state.painter, state.base, state.phase) == (candidate, BASE, "resting")
        assert [(v.name, v.night) for v in state.versions] == [(candidate, found.id), (BASE, None)]
        assert state.versions[1].until and state.versions[1].why


async def test_a_worse_candidate_is_let_go_by_itself(settings: Settings, engine: FakeEngine) -> None:
    few = settings.model_copy(update={"canary_votes": 10})
    async with open_studio(few, engine) as studio:
        found = await night(studio, engine, "candidate")
        await voted(studio, found.id, likes_candidate=False)
        await studio.apprentice.look()
        ended = await studio.nights.get(found.id)
        assert ended.state == "rolled back" and "lost its trial" in ended.diary["why"]
        assert (engine.in_office["painter"], list(engine.cards)) == (BASE, [BASE]), "and its model is gone"
        tried = somebody(found.id, True)
        assert await studio.apprentice.painter_for(tried, PaintRequest(genre="marina", seed=1)) is None


async def test_duels_between_the_two_count_and_votes_of_those_who_opted_out_do_not(
    studio: Studio, engine: FakeEngine
) -> None:
    found = await night(studio, engine, "candidate")
    await voted(studio, found.id, likes_candidate=True, voters=2)
    shy = Member("discord", "20000")
    await studio.policy.prefer(shy, training=False)
    duel = await studio.duels.draw(CAT, GUILD)
    chosen = "first" if duel.first.model == found.diary["candidate"] else "second"
    await studio.duels.choose(duel.id, voter(CAT), chosen)  # type: ignore[arg-type]
    canary = (await studio.apprentice.state()).canary
    assert canary and (canary.trial.up, canary.trial.down, canary.office.up, canary.office.down) == (2, 0, 0, 2)
    assert (canary.wins, canary.losses) == (1, 0)


async def test_when_the_time_is_out_without_votes_the_gate_has_the_word(studio: Studio, engine: FakeEngine) -> None:
    assert await promoted(studio, engine) != BASE
    (found,) = await studio.nights.list()
    assert found.state == "promoted" and "when the time of its trial was out" in found.diary["why"]


async def test_a_candidate_that_cannot_paint_spoils_no_job_and_is_not_promoted(
    studio: Studio, engine: FakeEngine
) -> None:
    found = await night(studio, engine, "candidate")
    engine.failures.append(BrokenModel("Its weights are damaged."))
    art = await studio.gallery.get(await painted(studio, somebody(found.id, True)), viewer=None)
    assert art.model is None
    engine.faults[found.diary["candidate"]] = "Its weights are damaged."
    await out_of_time(studio)
    ended = await studio.nights.get(found.id)
    assert ended.state == "rolled back" and "damaged" in ended.diary["why"] and engine.in_office["painter"] == BASE


async def test_a_kill_between_the_swap_and_the_book_ends_in_a_promotion(settings: Settings, engine: FakeEngine) -> None:
    async with open_studio(settings, engine) as studio:
        found = await night(studio, engine, "candidate")
    engine.in_office["painter"] = found.diary["candidate"]
    async with open_studio(settings, engine) as studio:
        await studio.apprentice.look()
        assert (await studio.nights.get(found.id)).state == "promoted"
        state = await studio.apprentice.state()
        assert state.versions[0].night == found.id and state.phase == "resting"


# Back again


async def test_two_refused_nights_in_a_row_return_to_the_base_and_say_so(studio: Studio, engine: FakeEngine) -> None:
    name = await promoted(studio, engine)
    await night(studio, engine, "refused")
    await night(studio, engine, "rested")
    assert engine.in_office["painter"] == name
    with heard(studio, NightEnded, PainterChanged) as events:
        found = await night(studio, engine, "refused")
    assert engine.in_office["painter"] == BASE and found.diary["returned_to"] == BASE
    assert [type(event) for event in events()] == [PainterChanged, NightEnded]
    assert "2 nights in a row" in events()[0].why
    await night(studio, engine, "refused")
    assert engine.in_office["painter"] == BASE


async def test_rolling_back_and_forth(studio: Studio, engine: FakeEngine) -> None:
    with pytest.raises(WrongMoment, match="no earlier painter"):
        await studio.apprentice.rollback(HOST)
    name = await promoted(studio, engine)
    assert (await studio.apprentice.rollback(ANN)).name == BASE == engine.in_office["painter"]
    state = await studio.apprentice.state()
    assert [version.name for version in state.versions] == [BASE, name]
    assert state.versions[1].why == f"The host went back to {BASE}."
    with pytest.raises(WrongMoment, match="in office already"):
        await studio.apprentice.rollback(HOST, BASE)
    with pytest.raises(NotFound, match="there are"):
        await studio.apprentice.rollback(HOST, "nobody")
    assert (await studio.apprentice.rollback(HOST, name)).name == name
    del engine.cards[BASE]
    with pytest.raises(NotFound, match="is gone"):
        await studio.apprentice.rollback(HOST)


async def test_a_rollback_lets_a_candidate_go_and_ends_a_lesson(studio: Studio, engine: FakeEngine) -> None:
    name = await promoted(studio, engine)
    found = await night(studio, engine, "candidate")
    assert (await studio.apprentice.rollback(ANN)).name == name, "the painter in office stays"
    assert (await studio.nights.get(found.id)).diary["why"] == "The host let the candidate go."
    night_id = await studio.apprentice.run_now(HOST)
    await studio.apprentice.rollback(ANN)
    ended = await studio.nights.get(night_id)
    assert (ended.state, engine.in_office["painter"]) == ("failed", BASE)
    assert engine.lessons[ended.diary["candidate"]].state == "cancelled"


async def test_any_model_can_be_put_in_office(studio: Studio, engine: FakeEngine) -> None:
    engine.cards["other"] = {"name": "other", "kind": "stylizer"}
    with heard(studio, PainterChanged) as events:
        await studio.apprentice.switch("stylizer", "other", HOST)
    assert engine.in_office["stylizer"] == "other" and [event.kind for event in events()] == ["stylizer"]
    for kind, name, error in (
        ("stylizer", "other", WrongMoment), ("painter", "other", UnknownName), ("painter", BASE, WrongMoment),
    ):  # fmt: skip
        with pytest.raises(error):
            await studio.apprentice.switch(kind, name, HOST)
    engine.cards["painter-128"] = {"name": "painter-128", "kind": "painter"}
    await studio.apprentice.switch("painter", "painter-128", HOST)
    state = await studio.apprentice.state()
    assert (state.painter, state.base, state.versions[1].why) == (
        "painter-128", "painter-128", "The host put painter-128 in office.",
    )  # fmt: skip


async def test_a_damaged_painter_gives_way_to_the_one_before(studio: Studio, engine: FakeEngine) -> None:
    name = await promoted(studio, engine)
    engine.faults[name] = "Its weights are damaged."
    await studio.apprentice.look()
    state = await studio.apprentice.state()
    assert engine.in_office["painter"] == state.painter == BASE
    assert state.versions[1].why == "Its weights are damaged."


async def test_six_older_versions_and_the_base_are_kept(studio: Studio, engine: FakeEngine) -> None:
    names = [await promoted(studio, engine) for _ in range(9)]
    assert sorted(engine.cards) == sorted([BASE, *names[-7:]])
    versions = [version.name for version in (await studio.apprentice.state()).versions]
    assert versions == [*names[:-8:-1], BASE]


async def test_a_night_that_was_only_written_down_when_the_house_died_is_closed(
    settings: Settings, engine: FakeEngine
) -> None:
    async with open_studio(settings, engine) as studio:
        await studio.nights.record(Night("2026-01-01", "learning", time.time()))
    async with open_studio(settings, engine) as studio:
        found = await studio.nights.get("2026-01-01")
        assert found.state == "failed" and found.diary["why"]
