"""Work in hand: place, ETA, progress as events, cancelling, and what is left after a reload."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bot.studio import Studio
from bot.studio.queue import JobStatus
from engine.errors import EngineDied


async def events(host: Any, job: str) -> list[dict[str, Any]]:
    """Read a job's stream until it ends."""
    async with host.session.get(host.base / f"{job}/events".lstrip("/")) as response:
        assert response.content_type == "text/event-stream"
        lines = [line async for line in response.content]
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


async def test_a_waiting_job_says_its_place_and_what_it_makes(host: Any, engine: Any, studio: Studio) -> None:
    engine.gate.clear()
    await host.get("/paint")
    jobs = [(await host.ask("/paint", {"genre": "landscape", "seed": str(n)}))[1]["href"] for n in range(4)]
    _, body = await host.get(jobs[-1] + ".json")
    view = json.loads(body)
    assert view["state"] == "queued" and ("before you" in view["headline"] or view["headline"] == "Next in line")
    for _ in range(2):  # a reload tells the same
        _, page = await host.get(jobs[-1])
        assert view["headline"] in page and "Landscape" in page and 'data-final="no"' in page
    _, page = await host.get("/queue")
    assert all(job in page for job in jobs) and 'aria-label="4 in hand"' in page
    engine.gate.set()
    for job in jobs:
        assert len(await host.works_of(job)) == 1


async def test_the_stream_tells_the_story_and_ends(host: Any, engine: Any) -> None:
    engine.gate.clear()
    await host.get("/paint")
    _, answer = await host.ask("/paint", {"genre": "landscape", "seed": "1"})
    reading = asyncio.create_task(events(host, answer["href"]))
    while not engine.running:
        await asyncio.sleep(0.01)
    engine.gate.set()
    story = await reading
    assert story[-1]["state"] == "delivered" and story[-1]["final"] and story[-1]["share"] == 1
    assert all(not view["final"] for view in story[:-1])


async def test_a_page_that_is_asked_for_while_the_job_ends_shows_the_work(
    host: Any, engine: Any, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.gate.clear()
    await host.get("/paint")
    _, answer = await host.ask("/paint", {"genre": "landscape", "seed": "1"})
    told = studio.queue.status

    async def late(job_id: str) -> JobStatus:
        engine.gate.set()
        while (status := await told(job_id)).state != "delivered":
            await asyncio.sleep(0.01)
        return status

    monkeypatch.setattr(studio.queue, "status", late)
    response, _ = await host.get(answer["href"])
    assert response.url.path.startswith("/art/")


async def test_a_cancelled_job_says_so_and_makes_nothing(host: Any, engine: Any) -> None:
    engine.gate.clear()
    await host.get("/paint")
    _, answer = await host.ask("/paint", {"genre": "landscape", "seed": "1"})
    response, page = await host.post(answer["href"] + "/cancel")
    assert response.status == 200
    while 'data-final="no"' in page:
        await asyncio.sleep(0.02)
        _, page = await host.get(answer["href"])
    assert "Cancelled" in page and "Try again" in page
    engine.gate.set()


async def test_a_failed_job_says_why_and_what_to_do(host: Any, engine: Any) -> None:
    engine.failures.append(EngineDied("The engine's process died 3 times on this job, so it was given up."))
    await host.get("/paint")
    _, answer = await host.ask("/paint", {"genre": "landscape", "seed": "1"})
    story = await events(host, answer["href"])
    assert story[-1]["state"] == "failed" and "died 3 times" in story[-1]["detail"]
    _, page = await host.get(answer["href"])
    assert "Try again" in page
    _, page = await host.get("/queue")
    assert "died 3 times" in page


async def test_too_many_jobs_are_refused_in_a_sentence(host: Any, engine: Any, studio: Studio) -> None:
    await studio.policy.change("web", member_waiting=1, member_running=1)
    engine.gate.clear()
    await host.get("/paint")
    answers = [await host.ask("/paint", {"genre": "landscape", "seed": str(n)}) for n in range(4)]
    assert answers[-1][0] == 429 and answers[-1][1]["error"].endswith(".")
    engine.gate.set()


async def test_stopping_hangs_up_on_open_streams(serve: Any, engine: Any) -> None:
    host = (await serve())()
    engine.gate.clear()
    await host.get("/paint")
    _, answer = await host.ask("/paint", {"genre": "landscape", "seed": "1"})
    reading = asyncio.create_task(events(host, answer["href"]))
    while not engine.running:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(host.server.close(), 30)
    ended, _ = await asyncio.wait({reading}, timeout=30)
    assert ended
    await asyncio.gather(reading, return_exceptions=True)
    engine.gate.set()
