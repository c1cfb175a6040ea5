"""Every mistake becomes a page (or JSON for scripts) with one sentence that says what to do."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from bot.web.keys import PAGES, SETTINGS
from bot.web.render import json_error, size, wants_json
from engine.errors import GanvasError, VersionMismatch, WrongToken

log = logging.getLogger(__name__)

SENTENCES = {
    404: "There is nothing here. It may have been deleted, or it is somebody's private work.",
    405: "This address is not meant to be used like that.",
}


@web.middleware
async def explain(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Catch what handlers raise; let redirects pass."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        limit = size(request.app[SETTINGS].max_upload_bytes)
        return await _answer(request, 413, f"The upload is too large; at most {limit} are taken. Try a smaller photo.")
    except web.HTTPException as error:
        if error.status < 400:
            raise
        own = error.text or ""
        sentence = SENTENCES.get(error.status, own) if own.startswith(str(error.status)) else own
        response = await _answer(request, error.status, sentence)
        response.headers.update({k: v for k, v in error.headers.items() if k in ("Retry-After", "Allow")})
        return response
    except GanvasError as error:
        # A quarrel between us and the engine is no fault of the visitor's login.
        status = 503 if isinstance(error, WrongToken | VersionMismatch) else error.status
        if status >= 500:
            log.warning("%s %s: %s", request.method, request.path, error)
        return await _answer(request, status, str(error))
    except ConnectionResetError:
        raise
    except Exception:
        mark = secrets.token_hex(3)
        log.exception("Error %s at %s %s", mark, request.method, request.path)
        return await _answer(request, 500, f"Something broke here. The host finds the reason in the log under {mark}.")


async def _answer(request: web.Request, status: int, sentence: str) -> web.Response:
    if wants_json(request):
        return json_error(status, sentence)
    if "text/html" in request.headers.get("Accept", ""):
        return await request.app[PAGES].page(request, "error", http_status=status, code=status, sentence=sentence)
    return web.Response(text=f"{sentence}\n", status=status)
