"""The application: which address leads where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CollectorRegistry

from bot.config import Settings
from bot.studio import Studio
from bot.web import artwork, catalogue, create, diary, duel, gallery, health, host, jobs, me
from bot.web.errors import explain
from bot.web.keys import LOGS, PAGES, PHOTOS, SESSIONS, SETTINGS, STUDIO
from bot.web.logs import RecentLogs
from bot.web.photos import Photos
from bot.web.render import STATIC, Pages
from bot.web.security import add_headers, guard
from bot.web.session import Sessions

FORM_SLACK = 64 * 1024  # bytes of a form beside its picture
ART = "/art/{id:[a-zA-Z0-9]{1,16}}"
JOB = "/jobs/{id:[a-zA-Z0-9_-]{1,64}}"
PHOTO = "/photos/{id:[a-zA-Z0-9_-]{22}}"


def create_app(studio: Studio, settings: Settings) -> web.Application:
    """Build the web studio over an open studio; whoever runs it owns the socket.

    Two pictures may come in one form (a photo and a style), each up to ``settings.max_upload_bytes``.
    """
    registry = CollectorRegistry()
    app = web.Application(
        middlewares=[health.measure(registry), explain, guard()],
        client_max_size=2 * settings.max_upload_bytes + FORM_SLACK,
    )
    pages = Pages()
    token = settings.web_token.get_secret_value() if settings.web_token else None
    app[STUDIO], app[SETTINGS], app[PAGES] = studio, settings, pages
    app[SESSIONS] = Sessions(settings.data, token, secure=str(settings.public_url or "").startswith("https:"))
    app[PHOTOS] = Photos(settings.data / "bench", studio.engine, settings.photo_hours)
    app[LOGS] = RecentLogs(settings)
    app[health.REGISTRY] = registry
    app[jobs.STREAMS] = set()
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(jobs.end_streams)
    app.cleanup_ctx.append(_log_catcher)
    app.cleanup_ctx.append(_bench)
    app.add_routes(
        [
            web.get("/", create.home),
            web.get("/stylize", create.home),
            web.post("/stylize", create.stylize),
            web.get("/paint", create.paint_page),
            web.post("/paint", create.paint),
            web.get("/morph", create.morph_page),
            web.post("/morph", create.morph),
            web.post("/photos", create.upload),
            web.get(PHOTO + ".webp", create.photo_copy),
            web.get(PHOTO + "/{kind:style|model}/{name:[a-zA-Z0-9._-]+}.webp", create.preview),
            web.get("/styles/{model:[a-zA-Z0-9._-]+}/{name:[a-zA-Z0-9._-]+}.webp", catalogue.picture),
            web.get(JOB, jobs.job_page),
            web.get(JOB + ".json", jobs.job_json),
            web.get(JOB + "/events", jobs.job_events),
            web.post(JOB + "/cancel", jobs.cancel),
            web.get("/queue", jobs.queue_page),
            web.get("/gallery", gallery.gallery_page),
            web.get("/gallery.atom", gallery.feed),
            web.get(ART, artwork.artwork_page),
            web.get(ART + "/picture", artwork.picture),
            web.get(ART + "/download", artwork.picture),
            web.get(ART + "/recipe.json", artwork.recipe),
            web.get(ART + r"/thumb/{side:\d{1,4}}.webp", artwork.thumbnail),
            web.post(ART + "/vote", artwork.vote),
            web.post(ART + "/make/{way:wall|enlarge|vary|replay}", artwork.remake),
            web.post(ART + "/private", artwork.set_private),
            web.post(ART + "/delete", artwork.remove),
            web.get("/duel", duel.duel_page),
            web.post("/duel/{id:[a-z0-9]{1,32}}", duel.choose),
            web.get("/diary", diary.diary_page),
            web.post("/diary/{wish}", diary.act),
            web.get("/diary/{id}/{name}", diary.sheet),
            web.get("/me", me.page),
            web.post("/me", me.prefer),
            web.post("/me/export", me.export),
            web.post("/me/forget", me.forget),
            web.get("/login", me.login_page),
            web.post("/login", me.login),
            web.post("/logout", me.logout),
            web.get("/host", host.status_page),
            web.get("/host/settings", host.settings_page),
            web.post("/host/settings", host.change_settings),
            web.get("/host/bans", host.bans_page),
            web.post("/host/bans", host.change_ban),
            web.get("/host/models", host.models_page),
            web.post("/host/models", host.switch_model),
            web.get("/host/logs", host.logs_page),
            web.get("/healthz", health.healthz),
            web.get("/metrics", health.metrics),
            web.get("/favicon.ico", _favicon),
            web.get("/robots.txt", _robots),
            web.static(pages.static_prefix, STATIC),
        ]
    )
    return app


async def _favicon(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC / "mark.svg", headers={"Cache-Control": "public, max-age=86400"})


async def _robots(request: web.Request) -> web.Response:
    """Search engines may list the gallery and the diary where the host opened them, and nothing else."""
    allowed = "Allow: /gallery\nAllow: /art/\nAllow: /diary\n" if request.app[SETTINGS].web_public else ""
    return web.Response(text=f"User-agent: *\n{allowed}Disallow: /\n")


async def _log_catcher(app: web.Application) -> AsyncIterator[None]:
    root = logging.getLogger()
    root.addHandler(app[LOGS])
    yield
    root.removeHandler(app[LOGS])


async def _bench(app: web.Application) -> AsyncIterator[None]:
    tidying = asyncio.create_task(app[PHOTOS].tidy())
    yield
    tidying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await tidying
    await app[PHOTOS].close()
