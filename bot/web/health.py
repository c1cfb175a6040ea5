"""``/healthz``, which really tests, and ``/metrics`` for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bot.web.keys import SESSIONS, STUDIO
from engine.errors import GanvasError

REGISTRY: web.AppKey[CollectorRegistry] = web.AppKey("registry", CollectorRegistry)
ENGINE_SECONDS = 5.0  # the engine has to tell its own figures; Prometheus itself waits ten
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def healthz(request: web.Request) -> web.Response:
    """200 where the database and the engine answer, else 503; no details for strangers."""
    status = await request.app[STUDIO].status()
    parts = {"database": status.database_ok, "engine": status.engine is not None}
    healthy = all(parts.values())
    return web.json_response(
        {"ok": healthy, **parts}, status=200 if healthy else 503, headers={"Cache-Control": "no-store"}
    )


def measure(registry: CollectorRegistry) -> Middleware:
    """Build the middleware that counts and times requests by route."""
    requests = Counter("ganvas_web_requests", "Answers of the web studio", ["route", "status"], registry=registry)
    seconds = Histogram("ganvas_web_seconds", "Time to answer", ["route"], registry=registry)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource else "none"
            requests.labels(route, str(status)).inc()
            if not route.endswith("/events"):  # these last as long as the job
                seconds.labels(route).observe(time.perf_counter() - began)

    return middleware


async def metrics(request: web.Request) -> web.Response:
    """Prometheus's text format; beyond loopback with ``Authorization: Bearer <token>`` or a host's login."""
    sessions = request.app[SESSIONS]
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    visitor = sessions.read(request)
    is_host = (visitor is not None and visitor.is_host) or (scheme == "Bearer" and sessions.role_of(token) == "host")
    if sessions.token and not is_host:
        raise web.HTTPUnauthorized(text="Metrics need the login token as a bearer token.")
    status = await request.app[STUDIO].status()
    now = CollectorRegistry()
    for name, value, meaning in (
        ("ganvas_jobs_running", status.queue.running, "Jobs at work"),
        ("ganvas_jobs_waiting", status.queue.waiting, "Jobs in line"),
        ("ganvas_work_waiting_seconds", status.queue.seconds, "Seconds of work in line"),
        ("ganvas_disk_free_bytes", status.disk_free, "Free space where the data lie"),
        ("ganvas_database_ok", status.database_ok, "Whether the database took a write just now"),
        ("ganvas_engine_up", status.engine is not None, "Whether the engine answers"),
    ):
        Gauge(name, meaning, registry=now).set(float(value))
    body = generate_latest(request.app[REGISTRY]) + generate_latest(now)
    if status.engine is not None:
        with contextlib.suppress(GanvasError, TimeoutError):
            async with asyncio.timeout(ENGINE_SECONDS):
                body += await request.app[STUDIO].engine.metrics()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
