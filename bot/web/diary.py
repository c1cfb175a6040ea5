"""The diary: what the painter learnt, night by night, and what this house is."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from bot.web import catalogue
from bot.web.keys import PAGES, SETTINGS, STUDIO

PICTURES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg"}
NIGHTS = 30


async def diary_page(request: web.Request) -> web.Response:
    studio = request.app[STUDIO]
    nights = await studio.nights.list(NIGHTS)
    sheets = {night.id: await asyncio.to_thread(_sheets, studio.nights.folder / night.id) for night in nights}
    return await request.app[PAGES].page(
        request, "diary", nights=nights, sheets=sheets, painter=await catalogue.painter_card(studio),
        styles=len(await catalogue.styles(studio, request.app[SETTINGS].models)),
    )  # fmt: skip


async def sheet(request: web.Request) -> web.StreamResponse:
    """A picture of a night, such as before and after; only names that lie in the night's folder."""
    studio = request.app[STUDIO]
    night = await studio.nights.get(request.match_info["id"])
    found = await asyncio.to_thread(_sheets, studio.nights.folder / night.id)
    path = next((path for path in found if path.name == request.match_info["name"]), None)
    if path is None:
        raise web.HTTPNotFound
    return web.FileResponse(
        path, headers={"Content-Type": PICTURES[path.suffix], "Cache-Control": "private, max-age=3600"}
    )


def _sheets(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in PICTURES and path.is_file())
