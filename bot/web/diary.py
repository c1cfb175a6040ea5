"""The diary: what the painter learnt, night by night, and what this house is."""

from __future__ import annotations

from aiohttp import web

from bot.web import catalogue
from bot.web.keys import PAGES, SETTINGS, STUDIO


async def diary_page(request: web.Request) -> web.Response:
    studio = request.app[STUDIO]
    return await request.app[PAGES].page(
        request, "diary", nights=await studio.nights.list(limit=30), painter=await catalogue.painter_card(studio),
        styles=len(await catalogue.styles(studio, request.app[SETTINGS].models)),
    )  # fmt: skip
