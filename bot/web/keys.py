"""What the application carries, by typed key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from bot.config import Settings
from bot.studio import Studio

if TYPE_CHECKING:
    from bot.web.logs import RecentLogs
    from bot.web.photos import Photos
    from bot.web.render import Pages
    from bot.web.session import Sessions, Visitor

STUDIO: web.AppKey[Studio] = web.AppKey("studio", Studio)
SETTINGS: web.AppKey[Settings] = web.AppKey("settings", Settings)
SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions")
PAGES: web.AppKey[Pages] = web.AppKey("pages")
PHOTOS: web.AppKey[Photos] = web.AppKey("photos")
LOGS: web.AppKey[RecentLogs] = web.AppKey("logs")
VISITOR: web.RequestKey[Visitor] = web.RequestKey("visitor")  # of a request
