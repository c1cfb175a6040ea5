"""The door: host names, logins, CSRF, rate limits and the headers that every answer carries."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from bot.web.keys import SESSIONS, SETTINGS, VISITOR
from bot.web.session import is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CSP = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "font-src 'self'", "connect-src 'self'",
        "img-src 'self' blob:", "media-src 'self'", "manifest-src 'self'", "form-action 'self'", "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)  # fmt: skip

OPEN = ("/healthz", "/metrics", "/static/", "/robots.txt", "/favicon.ico")  # these need no cookie and no login
PUBLIC = (
    "/gallery",
    "/art/",
    "/diary",
    "/styles/",
    "/login",
)  # open to strangers where the host made the gallery public

RATES = {  # path prefix of a POST (or of live previews): how many a minute
    "/login": 10,
    "/photos": 30,
    "/": 120,
}
PREVIEWS_A_MINUTE = 600
LOGIN_BYTES = 16_384  # strangers are listened to no longer


class Bucket:
    """Leaky buckets by key: ``wait`` says how many seconds a caller must wait, 0 when it may go on."""

    def __init__(self) -> None:
        self._full_at: dict[tuple[str, int], float] = {}

    def wait(self, key: str, per_minute: int) -> float:
        now = time.monotonic()
        if len(self._full_at) > 10_000:
            self._full_at = {k: level for k, level in self._full_at.items() if level > now}
        level = max(self._full_at.get((key, per_minute), now), now)
        if level - now > 60 * (1 - 1 / per_minute):
            return level - now - 60 * (1 - 1 / per_minute)
        self._full_at[(key, per_minute)] = level + 60 / per_minute
        return 0.0


def safe_next(path: str) -> str:
    """``path`` if it leads to a page of this house, else the front page."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and not any(ord(c) < 32 for c in path)
    return path if inside else "/"


def is_open(path: str) -> bool:
    return any(path == prefix or (prefix.endswith("/") and path.startswith(prefix)) for prefix in OPEN)


def guard() -> Middleware:
    """Build the middleware that lets a request in, or says in one sentence why not."""
    bucket = Bucket()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        _check_host(request)
        if is_open(request.path):
            return await handler(request)
        sessions = request.app[SESSIONS]
        known = sessions.read(request)
        visitor = known or sessions.fresh()
        request[VISITOR] = visitor
        _limit(request, bucket)
        if visitor.is_stranger and not _may_look(request):
            if request.method != "GET" or "text/html" not in request.headers.get("Accept", ""):
                raise web.HTTPUnauthorized(text="Log in first.")
            headers = {"Location": f"/login?next={quote(request.path_qs)}"}
            response: web.StreamResponse = web.Response(status=303, headers=headers)
        else:
            if request.method not in ("GET", "HEAD"):
                await _check_origin(request, is_known=known is not None)
            response = await handler(request)
        if known is None and not response.prepared and not _sets_cookie(response):
            sessions.write(request, response, visitor)
        return response

    return middleware


def _sets_cookie(response: web.StreamResponse) -> bool:
    return bool(response.cookies)


def _may_look(request: web.Request) -> bool:
    if request.path == "/login":
        return True
    return request.app[SETTINGS].web_public and request.method in ("GET", "HEAD") and request.path.startswith(PUBLIC)


def _check_host(request: web.Request) -> None:
    """Without a token only this machine itself is answered: no foreign site that rebinds its name to us, no proxy."""
    if request.app[SESSIONS].token:
        return
    name = urlsplit(f"//{request.host}").hostname or ""
    if not is_loopback(name) or "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        raise web.HTTPMisdirectedRequest(
            text="This studio answers only to this machine's own name; to open it to others the host sets web_token."
        )


async def _check_origin(request: web.Request, *, is_known: bool) -> None:
    """A form must come from our own page: same origin where the browser says so, and with the session's CSRF token."""
    if request.path == "/login" and (request.content_length is None or request.content_length > LOGIN_BYTES):
        raise web.HTTPRequestEntityTooLarge(LOGIN_BYTES, request.content_length or 0)
    origin = request.headers.get("Origin")
    ours = (request.host, urlsplit(request.app[SETTINGS].public_url or "").netloc)
    foreign = origin is not None and urlsplit(origin).netloc not in ours
    token = request.headers.get("X-CSRF-Token") or str((await request.post()).get("csrf", ""))
    if foreign or not is_known or not request.app[SESSIONS].csrf_ok(request[VISITOR], token):
        raise web.HTTPForbidden(text="This form has grown stale; reload the page and send it again.")


def _limit(request: web.Request, bucket: Bucket) -> None:
    if request.method == "POST":
        prefix, per_minute = next(item for item in RATES.items() if request.path.startswith(item[0]))
    elif request.path.startswith("/photos/"):
        prefix, per_minute = "previews", PREVIEWS_A_MINUTE
    else:
        return
    visitor = request[VISITOR]
    wait = bucket.wait(f"{prefix} {request.remote if visitor.is_stranger else visitor.id}", per_minute)
    if wait:
        raise web.HTTPTooManyRequests(
            headers={"Retry-After": str(int(wait) + 1)},
            text=f"That was too fast; try again in {int(wait) + 1} seconds.",
        )


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: what every answer carries."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CSP)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["X-Frame-Options"] = "DENY"
    headers["Permissions-Policy"] = "geolocation=(), microphone=(), payment=()"
    if request.path.startswith("/static/") and response.status < 400:
        headers["Cache-Control"] = "public, max-age=31536000, immutable"
    else:
        headers.setdefault(
            "Cache-Control", "private, no-store" if response.content_type == "text/html" else "private, no-cache"
        )
