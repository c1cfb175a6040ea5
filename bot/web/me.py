"""What a visitor decides for themselves: name, consent, a copy of everything, and being forgotten.  Also the login."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiohttp import web

from bot.web.keys import PAGES, PHOTOS, SESSIONS, STUDIO, VISITOR
from bot.web.security import safe_next
from engine.errors import InvalidRequest

WISHES = ("training", "others_may_stylize", "private")


async def login_page(request: web.Request) -> web.Response:
    return await request.app[PAGES].page(request, "login", next=safe_next(request.query.get("next", "/")), wrong=False)


async def login(request: web.Request) -> web.Response:
    """Let in who knows the token or the visitors' code; the session is a new one, whoever had the cookie before."""
    sessions, form = request.app[SESSIONS], await request.post()
    role = sessions.role_of(str(form.get("token", "")))
    target = safe_next(str(form.get("next", "/")))
    if role is None:
        return await request.app[PAGES].page(request, "login", http_status=403, next=target, wrong=True)
    name = " ".join(str(form.get("name", "")).split())[:40]
    response = web.HTTPSeeOther(target)
    sessions.write(request, response, sessions.fresh(role, name))
    raise response


async def logout(request: web.Request) -> web.Response:
    sessions = request.app[SESSIONS]
    response = web.HTTPSeeOther("/login" if sessions.token else "/")
    sessions.write(request, response, sessions.fresh())
    raise response


async def page(request: web.Request) -> web.Response:
    wishes = await request.app[STUDIO].policy.preferences(request[VISITOR].member)
    return await request.app[PAGES].page(request, "me", wishes=wishes, saved="saved" in request.query)


async def prefer(request: web.Request) -> web.Response:
    form = await request.post()
    await request.app[STUDIO].policy.prefer(request[VISITOR].member, **{wish: wish in form for wish in WISHES})
    raise web.HTTPSeeOther("/me?saved=1")


async def export(request: web.Request) -> web.StreamResponse:
    """Everything of this member as one zip; the file is gone from here once it is sent."""
    path = await request.app[STUDIO].policy.export(request[VISITOR].member)
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/zip",
            "Content-Length": str(path.stat().st_size),
            "Content-Disposition": 'attachment; filename="ganvas-export.zip"',
        }
    )
    try:
        await response.prepare(request)
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, 2**18):
                await response.write(chunk)
    finally:
        path.unlink(missing_ok=True)
    return response


async def forget(request: web.Request) -> web.Response:
    form = await request.post()
    if str(form.get("sure", "")).strip().lower() != "delete":
        raise InvalidRequest("Nothing was deleted: type the word delete into the field to confirm.")
    visitor = request[VISITOR]
    await request.app[PHOTOS].forget(visitor.member)
    gone = await request.app[STUDIO].policy.delete(visitor.member)
    response = await request.app[PAGES].page(request, "forgotten", gone=gone)
    sessions = request.app[SESSIONS]
    if not visitor.is_host:
        sessions.write(request, response, replace(sessions.fresh(visitor.role), name=visitor.name))
    return response
