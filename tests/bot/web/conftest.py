"""The web studio over real sockets; its engine draws true pictures, at the test's command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from PIL import Image
from pydantic import SecretStr
from visits import CARDS, Browser, draw

from bot.config import Settings
from bot.studio import Studio
from bot.web.app import create_app


@pytest.fixture
async def engine(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def cards() -> list[dict[str, Any]]:
        return CARDS

    async def metrics() -> bytes:
        return b'ganvas_requests_total{command="paint",outcome="done"} 3.0\n'

    monkeypatch.setattr(engine, "_output", draw)
    monkeypatch.setattr(engine, "metrics", metrics, raising=False)
    monkeypatch.setattr(engine, "models", cards)
    return engine


Serve = Callable[..., Awaitable[Callable[[], Browser]]]


@pytest.fixture
async def serve(studio: Studio, settings: Settings) -> AsyncIterator[Serve]:
    """Open the studio's door with some settings changed; returns what makes browsers in front of it."""
    servers: list[TestServer] = []
    browsers: list[Browser] = []

    async def start(**changes: Any) -> Callable[[], Browser]:
        if "web_token" in changes:
            changes["web_token"] = SecretStr(changes["web_token"])
        app = create_app(studio, settings.model_copy(update=changes))
        server = TestServer(app)
        await server.start_server()
        servers.append(server)

        def browser() -> Browser:
            browsers.append(Browser(server))
            return browsers[-1]

        return browser

    yield start
    for browser in browsers:
        await browser.session.close()
    for server in servers:
        await server.close()


@pytest.fixture
async def host(serve: Serve) -> Browser:
    """The person at the keyboard."""
    return (await serve())()


@pytest.fixture
def style_pictures(settings: Settings) -> Path:
    """A models folder with a picture of one style."""
    folder = settings.models / "atelier" / "samples"
    folder.mkdir(parents=True)
    Image.new("RGB", (16, 16), (0, 0, 200)).save(folder / "waves.webp")
    return folder
