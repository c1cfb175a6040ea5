"""The gallery: a wall of works with instant filters, and its Atom feed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Literal, cast
from urllib.parse import urlencode

from aiohttp import web

from bot.studio import Filter, Member, period
from bot.web import catalogue
from bot.web.keys import PAGES, STUDIO, VISITOR
from bot.web.render import site
from engine.api import parse_genre
from engine.errors import InvalidRequest

A_PAGE = 36
PERIODS = {"all": "All time", "day": "Today", "week": "This week", "month": "This month", "year": "This year"}
SORTS: dict[str, str] = {"new": "Newest", "top": "Best liked", "hot": "Liked lately"}
KINDS = {"stylize": "Photos", "paint": "Paintings", "morph": "Morphs", "enhance": "Enlargements"}
FEED_LENGTH = 30
Sort = Literal["new", "top", "hot"]


def read_filter(request: web.Request) -> tuple[Filter, dict[str, str]]:
    """The filter that the address asks for, and its words as the form shows them."""
    words = {name: request.query.get(name, "") for name in ("genre", "style", "kind", "period", "member", "sort")}
    words["period"] = words["period"] or "all"
    words["sort"] = words["sort"] or "new"
    for name, allowed in (("period", PERIODS), ("sort", SORTS), ("kind", {"": "", **KINDS})):
        if words[name] not in allowed:
            raise InvalidRequest(
                f"The {name} is {words[name]!r}; it must be one of {', '.join(filter(None, allowed))}."
            )
    member = None
    if words["member"] == "me":
        member = request[VISITOR].member
    elif words["member"]:
        member = Member.from_key(words["member"])
    return Filter(
        genre=parse_genre(words["genre"]) if words["genre"] else None,
        style=words["style"] or None,
        command=words["kind"] or None,
        since=period(words["period"]),
        member=member,
        sort=cast(Sort, words["sort"]),
    ), words


async def gallery_page(request: web.Request) -> web.Response:
    """The wall; with ``part=1`` only its next pieces, for the script that fills it while one scrolls."""
    studio, pages, viewer = request.app[STUDIO], request.app[PAGES], request[VISITOR].member
    wanted, words = read_filter(request)
    page = await studio.gallery.page(wanted, viewer=viewer, cursor=request.query.get("cursor") or None, limit=A_PAGE)
    following = None
    if page.cursor:
        following = "/gallery?" + urlencode({k: v for k, v in words.items() if v} | {"cursor": page.cursor})
    ballots = await asyncio.gather(*(studio.votes.tally(work.id, member=viewer) for work in page.items))
    mine = {work.id for work, ballot in zip(page.items, ballots, strict=True) if ballot.mine == "up"}
    shown: dict[str, Any] = {"works": page.items, "following": following, "voted": mine}
    if request.query.get("part"):
        return web.Response(text=pages.fragment("wall.html", **shown), content_type="text/html")
    query = urlencode({k: v for k, v in words.items() if v and v != "me"})
    return await pages.page(
        request, "gallery", words=words, facets=await studio.gallery.facets(viewer=viewer),
        titles=await catalogue.titles(studio),
        periods=PERIODS, sorts=SORTS, kinds=KINDS, feed=f"/gallery.atom?{query}", **shown,
    )  # fmt: skip


async def feed(request: web.Request) -> web.Response:
    """The newest public works of a filter, as Atom."""
    wanted, words = read_filter(request)
    page = await request.app[STUDIO].gallery.page(wanted, viewer=None, limit=FEED_LENGTH)
    works = [work for work in page.items if not work.age_restricted and not work.private]
    xml = request.app[PAGES].fragment(
        "feed.xml", works=works, site=site(request), query=urlencode({k: v for k, v in words.items() if v}),
        updated=_stamp(works[0].created) if works else _stamp(0), stamp=_stamp,
    )  # fmt: skip
    return web.Response(text=xml, content_type="application/atom+xml")


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
