"""A duel: two blind works, one choice.  Makers and votes are told only afterwards."""

from __future__ import annotations

from typing import Literal, cast

from aiohttp import web

from bot.studio import WEB, NotFound, Voter
from bot.web.keys import PAGES, STUDIO, VISITOR
from engine.errors import InvalidRequest

CHOICES = ("first", "second", "neither")


async def duel_page(request: web.Request) -> web.Response:
    """Draw a pair, or say that there is none yet."""
    try:
        duel = await request.app[STUDIO].duels.draw(request[VISITOR].member, WEB)
    except NotFound as error:
        return await request.app[PAGES].page(request, "duel", duel=None, sentence=str(error))
    return await request.app[PAGES].page(request, "duel", duel=duel, sentence="")


async def choose(request: web.Request) -> web.Response:
    choice = str((await request.post()).get("choice", ""))
    if choice not in CHOICES:
        raise InvalidRequest(f"The choice is {choice!r}; it must be one of {', '.join(CHOICES)}.")
    duel = await request.app[STUDIO].duels.choose(
        request.match_info["id"],
        Voter(request[VISITOR].member, WEB),
        cast(Literal["first", "second", "neither"], choice),
    )
    return await request.app[PAGES].page(request, "duel", duel=duel, sentence="")
