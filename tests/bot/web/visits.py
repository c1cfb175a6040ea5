"""What tests of the web studio visit it with: pictures drawn here, and a browser without scripts."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
from typing import Any

import aiohttp
import yarl
from aiohttp.test_utils import TestServer
from PIL import Image, UnidentifiedImageError

from engine.api import EnhanceRequest, FitRequest, MorphRequest, Output, PaintRequest, Request
from engine.errors import UnreadableImage

TOKEN = "a-long-secret-for-the-host"
CARDS: list[dict[str, Any]] = [
    {"name": "atelier", "kind": "stylizer", "sha256": "ab" * 32, "styles": [
        {"name": "waves", "title": "The <Great> Wave", "artist": "Hokusai", "movement": "ukiyo-e"},
        {"name": "dots", "title": "Dots"},
    ]},
    {"name": "painter-1", "kind": "painter", "genres": ["flower-painting", "landscape", "nude-painting"],
     "art_styles": ["baroque"]},
    {"name": "old-brush", "kind": "brush"},
]  # fmt: skip


def draw(request: Request, number: int) -> Output:
    """A picture whose colour tells the request apart from others."""
    source = getattr(request, "image", None) or getattr(request, "photo", None)
    wire = json.dumps(request.to_wire(), sort_keys=True).encode() + bytes([number])
    colour: Any = tuple(hashlib.sha256(wire).digest()[:3])
    width, height = 64, 48
    if source:
        try:
            image = Image.open(io.BytesIO(source)).convert("RGB")
        except UnidentifiedImageError:
            raise UnreadableImage("This file is no picture; send a JPEG, PNG, WebP, HEIC or AVIF.") from None
        width, height = image.size
    if isinstance(request, EnhanceRequest):
        width, height = request.width or 2 * width, request.height or 2 * height
    image = Image.new("RGB", (width, height), colour)
    if isinstance(request, FitRequest):
        image.thumbnail((request.max_side, request.max_side))
    kind = "webp" if isinstance(request, FitRequest) else getattr(request, "format", "png")
    file = io.BytesIO()
    image.save(file, "GIF" if isinstance(request, MorphRequest) else kind.upper())
    options = {k: v for k, v in request.to_wire().items() if k not in ("command", "photo", "image", "style_image")}
    if isinstance(request, PaintRequest):
        options |= {"seed": request.seed + number, "count": 1}
    recipe = {"ganvas": 1, "command": request.command, "options": {k: v for k, v in options.items() if v is not None}}
    recipe |= {"sources": {"photo": hashlib.sha256(source).hexdigest()}} if source else {}
    frames = request.frames if isinstance(request, MorphRequest) else 1
    return Output(
        data=file.getvalue(), format=kind, width=image.width, height=image.height, frames=frames, recipe=recipe
    )


def photo_bytes(width: int = 80, height: int = 60, colour: tuple[int, int, int] = (200, 80, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "JPEG")
    return file.getvalue()


class Browser:
    """A cookie jar and a reader of forms: what a browser without scripts can do."""

    def __init__(self, server: TestServer) -> None:
        self.server = server
        self.base = server.make_url("/")
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.token = ""

    async def get(self, path: str, **options: Any) -> tuple[aiohttp.ClientResponse, str]:
        """GET a page; remembers the CSRF token it carries."""
        headers = {"Accept": "text/html"} | options.pop("headers", {})
        url = yarl.URL(str(self.base).rstrip("/") + path, encoded=True)
        async with self.session.get(url, headers=headers, **options) as response:
            body = (await response.read()).decode(errors="replace")
        if found := re.search(r'<meta name="csrf" content="(\w*)">', body):
            self.token = found[1]
        return response, body

    async def post(
        self, path: str, fields: dict[str, str | bytes] | None = None, **options: Any
    ) -> tuple[aiohttp.ClientResponse, str]:
        """POST a form, bytes as files, with the CSRF token of the last page."""
        if not self.token:
            await self.get("/login")
        form = aiohttp.FormData()
        form.add_field("csrf", options.pop("csrf", self.token))
        for name, value in (fields or {}).items():
            is_file = isinstance(value, bytes)
            form.add_field(
                name, io.BytesIO(value) if isinstance(value, bytes) else value, filename=name if is_file else None
            )
        headers = {"Accept": "text/html"} | options.pop("headers", {})
        async with self.session.post(self.base / path.lstrip("/"), data=form, headers=headers, **options) as response:
            body = await response.text()
        if found := re.search(r'<meta name="csrf" content="(\w*)">', body):
            self.token = found[1]
        return response, body

    async def ask(self, path: str, fields: dict[str, str | bytes] | None = None) -> tuple[int, Any]:
        """POST as our scripts do; the JSON answer."""
        response, body = await self.post(path, fields, headers={"Accept": "application/json"})
        return response.status, json.loads(body)

    async def make(self, path: str, fields: dict[str, str | bytes]) -> list[str]:
        """Send a form that becomes a job and wait for its works; their ids, in order."""
        status, answer = await self.ask(path, fields)
        assert status == 201, answer
        return await self.works_of(answer["href"])

    async def works_of(self, job: str) -> list[str]:
        for _ in range(500):
            response, page = await self.get(job)
            if response.url.path.startswith("/art/"):
                return [response.url.name]
            if 'data-final="yes"' in page:
                return re.findall(r'<a class="title" href="/art/(\w+)"', page)
            await asyncio.sleep(0.01)
        raise AssertionError(page)
