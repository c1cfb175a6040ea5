"""Fetching from museums, against a local stand-in for both of their interfaces."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pictures import drawn
from PIL import Image

from engine.data import museums
from engine.data.museums import MuseumUnavailable, fetch


class Museums:
    """Two museums in one server.  Met work n is a painting unless n ends in 9; Chicago has two pages of three."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.agents: set[str] = set()
        self.troubles: list[web.Response] = []  # given before anything else
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application(middlewares=[self.watch])
        app.router.add_get("/met/search", self.met_search)
        app.router.add_get("/met/objects/{id}", self.met_object)
        app.router.add_get("/aic/artworks/search", self.aic_search)
        app.router.add_get("/image/{name}", self.image)
        app.router.add_get("/iiif/{id}/full/843,/0/default.jpg", self.image)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return runner

    @web.middleware
    async def watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.path)
        self.agents.add(request.headers["User-Agent"])
        if self.troubles:
            return self.troubles.pop(0)
        return await handler(request)

    async def met_search(self, request: web.Request) -> web.Response:
        assert request.query["medium"] == "Paintings" and request.query["hasImages"] == "true"
        found = [7, 8, 9, 10, 11] if request.query["q"] == "landscape" else None
        return web.json_response({"total": 5, "objectIDs": found})

    async def met_object(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        if number == "8":
            return web.json_response({"message": "gone"}, status=404)
        return web.json_response({
            "objectID": int(number), "isPublicDomain": number != "10", "title": f"Hill  no. {number}",
            "primaryImageSmall": f"{self.url}/image/{number}.jpg", "artistDisplayName": "A. Painter",
            "objectDate": "1880", "classification": "Textiles" if number == "9" else "Paintings",
            "objectURL": f"https://met.example/{number}",
        })  # fmt: skip

    async def aic_search(self, request: web.Request) -> web.Response:
        page = int(request.query["page"])
        works = [
            {"id": 100 * page + i, "title": "Sea", "artist_title": None, "date_display": "1900",
             "image_id": f"i{page}{i}", "is_public_domain": True, "artwork_type_title": "Painting"}
            for i in range(3)
        ]  # fmt: skip
        works[0]["artwork_type_title"] = "Print"
        pages = 2 if request.query["q"] == "landscape" else 0
        return web.json_response({
            "pagination": {"total_pages": pages}, "data": works if page <= pages else [],
            "config": {"iiif_url": f"{self.url}/iiif", "website_url": "https://aic.example"},
        })  # fmt: skip

    async def image(self, request: web.Request) -> web.Response:
        file = io.BytesIO()
        Image.fromarray(drawn(len(self.asked), 300, 200)).save(file, "JPEG")
        data = file.getvalue()
        return web.Response(body=data[:50] if "11" in request.path else data, content_type="image/jpeg")

    @property
    def urls(self) -> dict[str, str]:
        return {"met": f"{self.url}/met", "aic": f"{self.url}/aic"}


@pytest.fixture
async def house() -> AsyncIterator[Museums]:
    house = Museums()
    runner = await house.start()
    yield house
    await runner.cleanup()


def credits(root: Path) -> list[dict[str, str]]:
    with open(root / "credits.csv", newline="") as file:
        return list(csv.DictReader(file))


async def test_paintings_come_with_their_credits(house: Museums, tmp_path: Path) -> None:
    report = await fetch(tmp_path, genres=["landscape"], pause=0, max_side=128, urls=house.urls)
    assert report.written == 4 and len(report.broken) == 2  # met 7, aic 101, 102, 201, 202; 11 are torn
    rows = credits(tmp_path)
    assert {row["museum"] for row in rows} == {"met", "aic"}
    first = rows[0]
    assert (first["title"], first["artist"], first["page"]) == ("Hill no. 7", "A. Painter", "https://met.example/7")
    assert all(row["licence"].startswith("CC0") for row in rows)
    for row in rows:
        with Image.open(tmp_path / row["path"]) as picture:
            assert picture.size == (128, 85)
    assert all("Ganvas" in agent for agent in house.agents)


async def test_a_second_run_goes_on_and_asks_for_nothing_twice(house: Museums, tmp_path: Path) -> None:
    await fetch(tmp_path, genres=["landscape"], pause=0, per_genre=1, urls=house.urls)
    assert len(credits(tmp_path)) == 1
    house.asked.clear()
    report = await fetch(tmp_path, genres=["landscape"], pause=0, per_genre=3, urls=house.urls)
    assert (report.skipped, report.written) == (1, 2)
    assert "/met/objects/7" not in house.asked and "/image/7.jpg" not in house.asked
    await fetch(tmp_path, genres=["landscape"], pause=0, urls=house.urls)
    house.asked.clear()
    assert (await fetch(tmp_path, genres=["landscape"], pause=0, urls=house.urls)).written == 0
    assert all("search" in path for path in house.asked)


async def test_a_museum_that_stumbles_is_asked_again(house: Museums, tmp_path: Path) -> None:
    house.troubles = [web.Response(status=502), web.Response(status=429, headers={"Retry-After": "1"})]
    report = await fetch(tmp_path, genres=["landscape"], museums=["met"], pause=0, urls=house.urls)
    assert report.written == 1


async def test_a_museum_that_is_shut_leaves_what_came_before(
    house: Museums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fetch(tmp_path, genres=["landscape"], pause=0, per_genre=1, urls=house.urls)
    house.troubles = [web.Response(status=500) for _ in range(museums.TRIES)]
    with pytest.raises(MuseumUnavailable, match="answers 500; run the command again later"):
        await fetch(tmp_path, genres=["landscape"], pause=0, urls=house.urls)
    assert len(credits(tmp_path)) == 1
    house.troubles = [web.Response(status=429, headers={"Retry-After": "86400"})]
    with pytest.raises(MuseumUnavailable, match="wait 86400 s"):
        await fetch(tmp_path, genres=["landscape"], pause=0, urls=house.urls)


async def test_nudes_are_fetched_only_by_name(house: Museums, tmp_path: Path) -> None:
    import asyncio
    import json
    import sys

    command = (sys.executable, "-m", "engine", "dataset", "fetch", str(tmp_path), "--pause", "0", "--per-genre", "1",
               "--met-url", house.urls["met"], "--aic-url", house.urls["aic"], "--json")  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0 and json.loads(out)["written"] == 1
    assert {row["genre"] for row in credits(tmp_path)} == {"landscape"}
