"""The diary: who paints now, what the apprentice learnt night by night, and the host's word in it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aiohttp import web

from bot.studio import Night
from bot.web import catalogue, chart
from bot.web.host import only_host
from bot.web.keys import PAGES, STUDIO, VISITOR
from engine.errors import InvalidRequest

PICTURES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg"}
NIGHTS = 30
SAID = {
    "run": "The night has begun.",
    "pause": "Paused: no night begins until you let it go on.",
    "resume": "It goes on as planned.",
    "rollback": "Done: see below who paints now.",
}


async def diary_page(request: web.Request) -> web.Response:
    studio = request.app[STUDIO]
    state, nights = await asyncio.gather(studio.apprentice.state(), studio.nights.list(NIGHTS))
    sheets = {night.id: await asyncio.to_thread(_sheets, studio.nights.folder / night.id) for night in nights}
    pairs = {night.id: _pair(night, sheets[night.id]) for night in nights}
    painter = next((card for card in await catalogue.cards(studio) if card["name"] == state.painter), None)
    return await request.app[PAGES].page(
        request, "diary", state=state, nights=nights, sheets=sheets, pairs=pairs,
        chart=chart.draw(nights), words=chart.WORDS, tones=chart.TONES, now=time.time(), painter=painter,
        preview=catalogue.preview(studio, painter) if painter else None,
        styles=len(await catalogue.styles(studio)), said=SAID.get(request.query.get("said", "")),
    )  # fmt: skip


async def act(request: web.Request) -> web.Response:
    """What the host may do: hold a night now, pause and resume, bring an earlier painter back."""
    only_host(request)
    apprentice, host = request.app[STUDIO].apprentice, request[VISITOR].member
    wish = request.match_info["wish"]
    if wish == "run":
        await apprentice.run_now(host)
    elif wish == "pause":
        await apprentice.pause(host)
    elif wish == "resume":
        await apprentice.resume(host)
    elif wish == "rollback":
        await apprentice.rollback(host, str((await request.post()).get("to", "")) or None)
    else:
        raise InvalidRequest(f"The wish is {wish!r}; it must be one of {', '.join(SAID)}.")
    raise web.HTTPSeeOther(f"/diary?said={wish}")


async def sheet(request: web.Request) -> web.StreamResponse:
    """A picture of a night, such as before and after; only names that lie in the night's folder."""
    studio = request.app[STUDIO]
    night = await studio.nights.get(request.match_info["id"])
    folder, name = studio.nights.folder / night.id, request.match_info["name"]
    if name not in await asyncio.to_thread(_sheets, folder):
        raise web.HTTPNotFound
    headers = {"Content-Type": PICTURES[Path(name).suffix], "Cache-Control": "private, max-age=3600"}
    return web.FileResponse(folder / name, headers=headers)


def _sheets(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.suffix in PICTURES and path.is_file())


def _pair(night: Night, sheets: list[str]) -> tuple[str, str] | None:
    """The same seeds as they were painted before the lesson and after it."""
    before, after = str(night.diary.get("before", "before.webp")), str(night.diary.get("after", "after.webp"))
    return (before, after) if before in sheets and after in sheets else None
