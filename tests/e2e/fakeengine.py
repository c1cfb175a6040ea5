"""A fast engine for tests: speaks the engine's protocol over HTTP and paints plain colours instead of pictures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import random
import sys
from typing import Any

from aiohttp import web
from discordstandin.rules import read_form
from PIL import Image

from engine import __version__, recipes
from engine.api import (
    PROTOCOL,
    EnhanceRequest,
    FitRequest,
    MorphRequest,
    Output,
    PaintRequest,
    Progress,
    Request,
    Result,
    Stop,
    StylizeRequest,
    request_from_wire,
)
from engine.errors import GanvasError, JobCancelled, UnreadableImage

SIDE = 48  # px of what is really encoded
STYLES = ("the-starry-night", "the-great-wave", "the-scream")
CARDS = [
    {
        "name": "styles",
        "kind": "stylizer",
        "styles": [
            {"name": name, "title": name, "artist": "?", "movement": "ukiyo-e" if "wave" in name else ""}
            for name in STYLES
        ],
    },
    {
        "name": "painter",
        "kind": "painter",
        "genres": ["flower-painting", "landscape"],
        "resolution": 64,
        "art_styles": ["symbolism", "baroque"],
        "in_office": True,
    },
]


class FakeEngine:
    """An engine in this process.  Tests slow it down, hold it, or make its files heavy."""

    def __init__(self) -> None:
        self.open = asyncio.Event()  # jobs wait while it is cleared
        self.open.set()
        self.seconds = 0.0  # a job takes
        self.spread = 0.0  # more seconds at most, by chance
        self.weight = 0  # bytes a picture has at least
        self.ran: list[Request] = []  # finished, without fits
        self.url = ""
        self._jobs: dict[str, asyncio.Event] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeEngine:
        return await self.serve()

    async def serve(self, port: int = 0) -> FakeEngine:
        """Listen, at any free port unless told."""
        app = web.Application(client_max_size=2**28)
        app.router.add_get("/v1", self._hello)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/healthz", self._health)
        app.router.add_post("/v1/jobs", self._submit)
        app.router.add_delete("/v1/jobs/{job}", self._cancel)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _hello(self, _: web.Request) -> web.Response:
        return web.json_response({"engine": __version__, "protocol": PROTOCOL})

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response(CARDS)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"worker": "idle", "waiting": 0, "engine": __version__, "protocol": PROTOCOL})

    async def _cancel(self, request: web.Request) -> web.Response:
        if event := self._jobs.get(request.match_info["job"]):
            event.set()
        return web.json_response({})

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        form = await read_form(request)
        wanted = request_from_wire(json.loads(form.pop("request")) | form)
        answer = web.StreamResponse()
        await answer.prepare(request)
        cancelled = self._jobs[request.query["job"]] = asyncio.Event()

        async def tell(event: dict[str, Any], *pictures: bytes) -> None:
            with contextlib.suppress(ConnectionError):  # the bot has died
                await answer.write(b"".join((json.dumps(event).encode(), b"\n", *pictures)))

        try:
            if not isinstance(wanted, FitRequest):
                await self._work(cancelled, tell)
            result = self._make(wanted)
            if not isinstance(wanted, FitRequest):
                self.ran.append(wanted)
            await tell({"result": result.to_wire()}, *(output.data for output in result.outputs))
        except GanvasError as error:
            await tell({"error": error.to_wire()})
        finally:
            self._jobs.pop(request.query["job"], None)
        return answer

    async def _work(self, cancelled: asyncio.Event, tell: Any) -> None:
        await tell({"progress": vars(Progress(stage="working"))})
        began = asyncio.get_running_loop().time()
        seconds = self.seconds + random.uniform(0, self.spread)
        while not self.open.is_set() or asyncio.get_running_loop().time() - began < seconds:
            if cancelled.is_set():
                raise JobCancelled("The job was cancelled.")
            await asyncio.sleep(0.02)
            if seconds:
                share = min(1.0, (asyncio.get_running_loop().time() - began) / seconds)
                await tell({"progress": vars(Progress(stage="working", share=round(share, 2)))})

    def _make(self, request: Request) -> Result:
        if isinstance(request, FitRequest):
            return Result(outputs=(self._fit(request),))
        if isinstance(request, PaintRequest):
            normal = [
                PaintRequest(**(vars(request) | {"seed": request.seed + i, "count": 1})) for i in range(request.count)
            ]
            outputs = [self._still(one, f"{one.genre}{one.seed}{one.psi}", one.width, one.height) for one in normal]
            return Result(outputs=tuple(outputs))
        if isinstance(request, MorphRequest):
            return Result(outputs=(self._morph(request),))
        photo = request.photo if isinstance(request, StylizeRequest) else request.image  # type: ignore[attr-defined]
        try:
            with Image.open(io.BytesIO(photo)) as picture:
                width, height = picture.size
        except OSError:
            raise UnreadableImage("That is no picture I can read.") from None
        scale = (request.scale or 2) if isinstance(request, EnhanceRequest) else 1
        digest = hashlib.sha256(photo + str(request).encode()).hexdigest()
        return Result(outputs=(self._still(request, digest, width * scale, height * scale),))

    def _still(self, request: Request, text: str, width: int, height: int) -> Output:
        colour = tuple(hashlib.sha256(text.encode()).digest()[:3])
        buffer = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), colour).save(buffer, "PNG")
        data = buffer.getvalue()
        data += bytes(max(0, self.weight - len(data)))  # behind the end of a PNG anything may follow
        recipe = recipes.write(request, {"fake": "0" * 64}, "float32")
        return Output(data=data, format="png", width=width, height=height, recipe=recipe)

    def _morph(self, request: MorphRequest) -> Output:
        frames = [Image.new("P", (SIDE, SIDE), i) for i in range(3)]
        buffer = io.BytesIO()
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=40, loop=0)
        recipe = recipes.write(request, {"fake": "0" * 64}, "float32")
        assert all(isinstance(stop, Stop) for stop in request.stops)
        return Output(
            data=buffer.getvalue(), format="gif", width=request.size, height=request.size, frames=request.frames,
            recipe=recipe,
        )  # fmt: skip

    def _fit(self, request: FitRequest) -> Output:
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(request.image)) as picture:
            picture.convert("RGB").save(buffer, "WEBP", quality=70)
        data = buffer.getvalue()
        heavy = min(request.max_bytes, len(request.image)) * 9 // 10 if self.weight else 0
        data += bytes(max(0, heavy - len(data)))
        return Output(data=data, format="webp", width=SIDE, height=SIDE)


async def _serve(port: int, spread: float) -> None:
    engine = FakeEngine()
    engine.spread = spread
    await engine.serve(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
