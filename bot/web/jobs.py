"""Work in hand: a job's page, its progress as server-sent events (or plain JSON to poll), and the queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from bot.studio import Artwork, Job, JobStatus, NotFound, Studio
from bot.web import catalogue
from bot.web.keys import PAGES, PHOTOS, STUDIO, VISITOR
from bot.web.render import duration, plain
from engine.errors import GanvasError

FINAL = ("delivered", "failed", "cancelled")
STREAMS: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("streams", set)
HEARTBEAT = 15  # seconds between comments that keep proxies from closing the stream
VERBS = {
    "stylize": "Painting over your photo", "paint": "Painting", "morph": "Gliding from one to the next",
    "enhance": "Drawing it larger", "chain": "Passing it from brush to brush",
}  # fmt: skip


async def own_job(request: web.Request) -> Job:
    """The job in the address, if this visitor may see it."""
    job = await request.app[STUDIO].queue.get(request.match_info["id"])
    if job.member != request[VISITOR].member and not request[VISITOR].is_host:
        raise NotFound(f"There is no job {job.id}.")
    return job


async def job_page(request: web.Request) -> web.Response:
    studio = request.app[STUDIO]
    status = await studio.queue.status(request.match_info["id"])
    job = await own_job(request)  # read after its status: a finished job has its works
    works = await _works(studio, job, request)
    if status.state == "delivered" and len(works) == 1 and "replay" not in job.address:
        raise web.HTTPSeeOther(f"/art/{works[0].id}")
    original = None
    if "replay" in job.address:
        with contextlib.suppress(NotFound):
            original = await studio.gallery.get(job.address["replay"], viewer=request[VISITOR].member)
    photo = None
    if status.state != "delivered" and "photo" in job.address:
        with contextlib.suppress(GanvasError):
            photo = await request.app[PHOTOS].get(job.address["photo"], request[VISITOR].member)
    title = job_title(job, await catalogue.titles(studio))
    return await request.app[PAGES].page(
        request, "job", job=job, view=describe(job, status), works=works, original=original, title=title, photo=photo
    )


async def job_json(request: web.Request) -> web.Response:
    job = await own_job(request)
    return web.json_response(describe(job, await request.app[STUDIO].queue.status(job.id)))


async def job_events(request: web.Request) -> web.StreamResponse:
    """The job's story as server-sent events; ends with its final state."""
    studio = request.app[STUDIO]
    job = await own_job(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    me = asyncio.current_task()
    assert me is not None
    request.app[STREAMS].add(me)
    me.add_done_callback(request.app[STREAMS].discard)
    with contextlib.suppress(ConnectionResetError):
        async for status in _with_heartbeat(studio.queue.watch(job.id)):
            if status is None:
                await response.write(b": still here\n\n")
            else:
                await response.write(f"data: {json.dumps(describe(job, status))}\n\n".encode())
    return response


async def end_streams(app: web.Application) -> None:
    """Hang up on pages that follow a job, so that stopping does not wait for them; they come back by themselves."""
    streams = app[STREAMS]
    for task in list(streams):
        task.cancel()


async def _with_heartbeat(source: AsyncIterator[JobStatus]) -> AsyncIterator[JobStatus | None]:
    """What ``source`` says, and None whenever it has been silent for a while."""
    upcoming = asyncio.ensure_future(anext(source))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=HEARTBEAT)
            if not done:
                yield None
                continue
            try:
                yield upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = asyncio.ensure_future(anext(source))
    finally:
        upcoming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
            await upcoming


async def cancel(request: web.Request) -> web.Response:
    job = await own_job(request)
    await request.app[STUDIO].queue.cancel(job.id, by=request[VISITOR].member, moderator=request[VISITOR].is_host)
    raise web.HTTPSeeOther(f"/jobs/{job.id}")


async def queue_page(request: web.Request) -> web.Response:
    studio, member = request.app[STUDIO], request[VISITOR].member
    active = [
        (job, describe(job, await studio.queue.status(job.id))) for job in await studio.queue.jobs(member, active=True)
    ]
    recent = await studio.queue.jobs(member, active=False, limit=20)
    done = [(job, await _works(studio, job, request)) for job in recent if job.state in FINAL]
    return await request.app[PAGES].page(
        request,
        "queue",
        active=active,
        done=done,
        overview=await studio.queue.overview(),
        title_of=job_title,
        titles=await catalogue.titles(studio),
    )


async def _works(studio: Studio, job: Job, request: web.Request) -> list[Artwork]:
    works = []
    for art_id in job.artworks:
        with contextlib.suppress(NotFound):  # deleted since
            works.append(await studio.gallery.get(art_id, viewer=request[VISITOR].member))
    return works


def job_title(job: Job, titles: dict[str, str]) -> str:
    """What the job makes, in words."""
    options: dict[str, Any] = job.options
    if job.command == "stylize":
        name = options.get("style") or options.get("model")
        return f"A photo as {titles.get(name, plain(name))}" if name else "A photo in your own style"
    if job.command == "paint":
        count = options.get("count", 1)
        return plain(options.get("genre")) + (f", {count} paintings" if count > 1 else "")
    if job.command == "morph":
        return "A morph through " + " and ".join(plain(stop["genre"]).lower() for stop in options.get("stops", ()))
    return plain(job.command)


def describe(job: Job, status: JobStatus) -> dict[str, Any]:
    """The state of a job as the page shows it: a headline, one line below, a share for the bar."""
    headline, detail = {
        "queued": (
            "Next in line" if not status.place else f"{status.place} before you",
            "Your picture waits for the brush.",
        ),
        "running": (VERBS.get(job.command, "At work"), ""),
        "rendered": ("Letting it dry", ""),
        "delivered": ("Finished", ""),
        "failed": ("It did not work out", status.error or "The studio could not finish this job."),
        "cancelled": ("Cancelled", "Nothing was made."),
    }[status.state]
    if status.state in ("queued", "running") and status.eta is not None:
        detail = f"About {duration(status.eta)} to go."
    return {
        "id": job.id, "state": status.state, "headline": headline, "detail": detail,
        "share": 1.0 if status.state in ("rendered", "delivered") else round(status.share, 3),
        "final": status.state in FINAL, "href": f"/jobs/{job.id}",
    }  # fmt: skip
