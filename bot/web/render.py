"""Templates in, pages out; and the few words of formatting that pages share."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bot.studio import HOST, Artwork, Member, spoken
from bot.web.keys import SESSIONS, SETTINGS, STUDIO, VISITOR

HERE = Path(__file__).parent
STATIC = HERE / "static"


class Pages:
    """Renders templates with what every page needs: the visitor, the CSRF token, addresses of static files."""

    def __init__(self) -> None:
        # Static files live under a digest of all of them, so that browsers keep them for ever and modules import
        # each other by plain relative names.
        digest = hashlib.sha256()
        for path in sorted(STATIC.rglob("*")):
            if path.is_file():
                digest.update(path.read_bytes())
        self.static_prefix = f"/static/{digest.hexdigest()[:12]}"
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._environment.globals |= {"static": self.static, "time_tag": time_tag}
        self._environment.filters |= {
            "plain": plain, "date": date, "duration": duration, "size": size, "name": member_name, "kind": kind
        }  # fmt: skip

    def static(self, path: str) -> str:
        return f"{self.static_prefix}/{path}"

    async def page(
        self, request: web.Request, template: str, /, *, http_status: int = 200, **context: Any
    ) -> web.Response:
        """Answer with ``templates/<template>.html``."""
        visitor = request.get(VISITOR)
        waiting = 0
        if visitor is not None and not visitor.is_stranger and http_status < 500:
            waiting = len(await request.app[STUDIO].queue.jobs(visitor.member, active=True))
        shared = {
            "request": request,
            "visitor": visitor,
            "csrf": request.app[SESSIONS].csrf(visitor) if visitor else "",
            "has_login": bool(request.app[SESSIONS].token),
            "site": site(request),
            "jobs_waiting": waiting,
        }
        html = self._environment.get_template(f"{template}.html").render(shared | context)
        return web.Response(text=html, status=http_status, content_type="text/html")

    def fragment(self, template: str, /, **context: Any) -> str:
        """What ``templates/<template>`` makes of ``context`` alone."""
        return self._environment.get_template(template).render(context)


def site(request: web.Request) -> str:
    """Scheme and host that outsiders know this studio by, for links that leave it."""
    public = request.app[SETTINGS].public_url
    return str(public).rstrip("/") if public else str(request.url.origin())


def plain(name: str | None) -> str:
    """``flower-painting`` as a person writes it."""
    return spoken(name or "").capitalize()


def date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B %Y")


def time_tag(seconds: float, *, precise: bool = False) -> Markup:
    """A ``<time>`` that says how long ago, or the minute itself."""
    moment = datetime.fromtimestamp(seconds, UTC)
    text = moment.strftime("%-d %B %Y, %H:%M UTC") if precise else ago(time.time() - seconds)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(timespec="seconds"), moment.strftime("%-d %B %Y, %H:%M UTC"), text
    )


def ago(seconds: float) -> str:
    if seconds < 60:
        return "just now"
    for unit, length in (("year", 365 * 86400), ("month", 30 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"


def duration(seconds: float) -> str:
    seconds = max(1, round(seconds))
    if seconds < 90:
        return f"{seconds} second{'s' * (seconds > 1)}"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 90 else f"{round(minutes / 60)} hours"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def member_name(member: Member) -> str:
    if member == HOST:
        return "The host"
    return member.name or f"member {member.id[-4:]}"


def kind(artwork: Artwork) -> str:
    """What was done, in a word or two."""
    return {
        "stylize": "Photo", "paint": "Painting", "morph": "Morph", "enhance": "Enlargement", "chain": "Chain"
    }.get(artwork.command, artwork.command.capitalize())  # fmt: skip


def wants_json(request: web.Request) -> bool:
    return "application/json" in request.headers.get("Accept", "")


def json_error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=headers)
