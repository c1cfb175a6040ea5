"""One artwork: its page, its files, its votes, and what can be made of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import Any

from aiohttp import web

from bot.studio import WEB, Artwork, Lineage, SourceGone, Voter
from bot.web import catalogue
from bot.web.create import stop_of, submit
from bot.web.keys import PAGES, PHOTOS, STUDIO, VISITOR
from bot.web.photos import NoSuchPhoto
from engine.api import WALL, EnhanceRequest, PaintRequest, Request, StylizeRequest, request_from_wire
from engine.errors import GanvasError, InvalidRequest

THUMBNAILS = (320, 640, 1280)  # px
ENLARGE = 2


async def visible(request: web.Request) -> Artwork:
    """The artwork in the address, if this visitor may see it; else it does not exist."""
    return await request.app[STUDIO].gallery.get(
        request.match_info["id"], viewer=request[VISITOR].member, moderator=request[VISITOR].is_host
    )


async def artwork_page(request: web.Request) -> web.Response:
    studio, visitor = request.app[STUDIO], request[VISITOR]
    work = await visible(request)
    ballot = await studio.votes.tally(work.id, member=visitor.member)
    # A moderator sees the family of a private work as its maker does.
    lineage = await studio.gallery.lineage(work.id, viewer=work.member if work.private else visitor.member)
    return await request.app[PAGES].page(
        request, "artwork", work=work, ballot=ballot, lineage=lineage, family=_generations(lineage),
        recipe=json.dumps(work.recipe, indent=2, ensure_ascii=False), photo=await _photo(request, work),
        is_own=work.member == visitor.member, can_morph=_can_morph(work), is_still=work.frames == 1,
        titles=await catalogue.titles(studio),
    )  # fmt: skip


async def picture(request: web.Request) -> web.StreamResponse:
    """The file as it was made; with ``download`` in the address, to be saved."""
    work = await visible(request)
    file = await request.app[STUDIO].gallery.file(
        work.id, viewer=request[VISITOR].member, moderator=request[VISITOR].is_host
    )
    headers = {"Content-Type": file.media_type}
    if request.path.endswith("/download"):
        name = f"ganvas-{work.id}.{'jpg' if work.format == 'jpeg' else work.format}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return web.FileResponse(file.path, headers=headers)


async def thumbnail(request: web.Request) -> web.StreamResponse:
    side = int(request.match_info["side"])
    if side not in THUMBNAILS:
        raise web.HTTPNotFound
    work = await visible(request)
    file = await request.app[STUDIO].gallery.thumbnail(
        work.id, side, viewer=request[VISITOR].member, moderator=request[VISITOR].is_host
    )
    return web.FileResponse(
        file.path, headers={"Content-Type": file.media_type, "Cache-Control": "private, max-age=3600"}
    )


async def vote(request: web.Request) -> web.Response:
    """A heart given or taken back."""
    work = await visible(request)
    form = await request.post()
    value = form.get("value", "up")
    if value not in ("up", "down"):
        raise InvalidRequest(f"The vote is {value!r}; it must be up or down.")
    voter = Voter(request[VISITOR].member, WEB)
    ballot = await request.app[STUDIO].votes.toggle(work.id, voter, "up" if value == "up" else "down", source="web")
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response(
            {"up": ballot.tally.up, "down": ballot.tally.down, "mine": ballot.mine, "reason": ballot.reason}
        )
    raise web.HTTPSeeOther(f"/art/{work.id}")


async def remake(request: web.Request) -> web.Response:
    """Make something of this work: a larger one, one for the wall, the same again, or a sister from the next seed."""
    work = await visible(request)
    way = request.match_info["way"]
    if way in ("wall", "enlarge"):
        if work.frames > 1:
            raise InvalidRequest("Only still pictures can be made larger; morphs are made at their size.")
        width, height = _wall_of(work) if way == "wall" else (None, None)
        wanted: Request = EnhanceRequest(
            image=await _bytes(request, work), scale=None if width else ENLARGE, width=width, height=height
        )
        return await submit(request, wanted, parents=(work.id,), private=work.private)
    again = await _request_of(request, work)
    if way == "vary" and isinstance(again, PaintRequest):
        return await submit(request, replace(again, seed=again.seed + 1), private=work.private)
    if way == "replay":
        return await submit(request, again, address={"replay": work.id}, private=True)
    raise web.HTTPNotFound


async def set_private(request: web.Request) -> web.Response:
    form = await request.post()
    await request.app[STUDIO].gallery.set_private(
        request.match_info["id"], form.get("private") == "yes", by=request[VISITOR].member
    )
    raise web.HTTPSeeOther(f"/art/{request.match_info['id']}")


async def remove(request: web.Request) -> web.Response:
    await request.app[STUDIO].gallery.remove(
        request.match_info["id"], by=request[VISITOR].member, moderator=request[VISITOR].is_host
    )
    raise web.HTTPSeeOther("/gallery?member=me")


async def recipe(request: web.Request) -> web.Response:
    work = await visible(request)
    return web.json_response(
        work.recipe, dumps=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        headers={"Content-Disposition": f'attachment; filename="ganvas-{work.id}.json"'},
    )  # fmt: skip


async def _bytes(request: web.Request, work: Artwork) -> bytes:
    file = await request.app[STUDIO].gallery.file(
        work.id, viewer=request[VISITOR].member, moderator=request[VISITOR].is_host
    )
    return await asyncio.to_thread(file.path.read_bytes)


async def _photo(request: web.Request, work: Artwork) -> Any:
    """The photo that the work was painted over, as long as it lies on this visitor's bench."""
    if work.command != "stylize" or not work.job_id:
        return None
    with contextlib.suppress(GanvasError):
        job = await request.app[STUDIO].queue.get(work.job_id)
        return await request.app[PHOTOS].get(job.address.get("photo", ""), request[VISITOR].member)
    return None


async def _request_of(request: web.Request, work: Artwork) -> Request:
    """The request that makes exactly this work again."""
    options = dict(work.recipe.get("options", {})) | {"command": work.command}
    if not work.recipe.get("sources"):
        return request_from_wire(options)
    if work.command == "enhance" and work.parents:
        parent = await request.app[STUDIO].gallery.get(work.parents[0], viewer=request[VISITOR].member)
        return request_from_wire(options | {"image": await _bytes(request, parent)})
    photo = await _photo(request, work)
    if photo is not None and set(work.recipe["sources"]) == {"photo"}:
        with contextlib.suppress(OSError, NoSuchPhoto):
            again = request_from_wire(options | {"photo": await request.app[PHOTOS].original(photo)})
            if isinstance(again, StylizeRequest):
                return again
    if work.job_id is None:
        raise SourceGone("The photo that this was painted over has been deleted, so it cannot be made again.")
    return await request.app[STUDIO].queue.request(work.job_id, by=request[VISITOR].member)


def _wall_of(work: Artwork) -> tuple[int, int]:
    return WALL if work.width >= work.height else (WALL[1], WALL[0])


def _can_morph(work: Artwork) -> bool:
    try:
        stop_of(work)
    except GanvasError:
        return False
    return True


def _generations(lineage: Lineage) -> list[list[Artwork]]:
    """Ancestors, eldest generation first, each work once."""
    rows: list[list[Artwork]] = []
    seen: set[str] = set()
    level = list(lineage.parents)
    while level:
        row = [node.artwork for node in level if node.artwork.id not in seen]
        seen |= {work.id for work in row}
        if row:
            rows.insert(0, row)
        level = [parent for node in level for parent in node.parents]
    return rows
