"""Photos on the bench: uploads kept for a day, so that one can try style after style, see them before and after.

A photo belongs to the browser that brought it and is named by 128 random bits.  It is never decoded here: the engine
makes the copy for the page and the live style previews.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from bot.studio import Member
from engine.api import FitRequest, Output, Request, Result, StylizeRequest
from engine.errors import GanvasError

log = logging.getLogger(__name__)

LEAST_KEPT = 3600.0  # seconds; a host who keeps no photos still leaves time to choose a style
PER_MEMBER = 30
SHOWN_SIDE = 1280  # px
PREVIEW_SIDE = 256  # px
PREVIEWS_IN_MEMORY = 400


class Engine(Protocol):
    """The one call of :mod:`engine.client` that this needs."""

    async def run(self, request: Request) -> Result: ...


class NoSuchPhoto(GanvasError, LookupError):
    """The photo is gone or was brought by another browser."""

    code = "no_such_photo"
    status = 404

    def __init__(self) -> None:
        super().__init__("That photo is no longer on the bench, where photos stay only for a while; bring it again.")


@dataclass(frozen=True)
class Photo:
    """One upload: ``width`` and ``height`` are those of the copy shown on pages."""

    id: str
    owner: str
    width: int
    height: int
    created: float


class Photos:
    """The folder of uploads, each there for ``hours``, and the cache of previews."""

    def __init__(self, folder: Path, engine: Engine, hours: float) -> None:
        self._folder = folder
        self._kept = max(hours * 3600, LEAST_KEPT)
        self._engine = engine
        self._previews: OrderedDict[tuple[str, str], asyncio.Task[bytes]] = OrderedDict()
        self._turn = asyncio.Semaphore(2)  # previews must not crowd out paintings

    async def keep(self, data: bytes, owner: Member) -> Photo:
        """Store an upload; the engine refuses what is no picture.

        Raises:
            UnreadableImage: not a picture, broken, or too large.
        """
        shown = await self._fit(data, SHOWN_SIDE)
        small = await self._fit(shown.data, PREVIEW_SIDE)
        photo = Photo(secrets.token_urlsafe(16), owner.key, shown.width, shown.height, time.time())
        await asyncio.to_thread(self._write, photo, data, shown.data, small.data)
        return photo

    async def get(self, photo_id: str, owner: Member) -> Photo:
        """Raises NoSuchPhoto where it is gone or another's, which look the same from outside."""
        photo = await asyncio.to_thread(self._read, photo_id)
        if photo is None or photo.owner != owner.key:
            raise NoSuchPhoto
        return photo

    async def original(self, photo: Photo) -> bytes:
        return await asyncio.to_thread(self._path(photo.id, "photo").read_bytes)

    def shown(self, photo: Photo) -> Path:
        """The WebP copy for pages."""
        return self._path(photo.id, "webp")

    async def preview(self, photo: Photo, choice: str) -> bytes:
        """A small WebP of ``photo`` in the style ``style:NAME`` or by the brush ``model:NAME``; made once."""
        key = (photo.id, choice)
        task = self._previews.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._previews[key] = asyncio.create_task(self._make_preview(photo, choice))
            while len(self._previews) > PREVIEWS_IN_MEMORY:
                self._previews.popitem(last=False)
        self._previews.move_to_end(key)
        return await asyncio.shield(task)

    async def tidy(self) -> None:
        """Drop what is too old, for ever."""
        while True:
            await asyncio.to_thread(self._drop_old)
            await asyncio.sleep(900)

    async def forget(self, owner: Member) -> None:
        """Drop all photos that ``owner`` brought."""

        def work() -> set[str]:
            theirs = {photo.id for photo in self._all() if photo.owner == owner.key}
            for photo_id in theirs:
                self._drop(photo_id)
            return theirs

        gone = await asyncio.to_thread(work)
        for key in [key for key in self._previews if key[0] in gone]:
            self._previews.pop(key).cancel()

    async def close(self) -> None:
        for task in self._previews.values():
            task.cancel()
        await asyncio.gather(*self._previews.values(), return_exceptions=True)

    async def _make_preview(self, photo: Photo, choice: str) -> bytes:
        kind, _, name = choice.partition(":")
        async with self._turn:
            data = await asyncio.to_thread(self._path(photo.id, "small").read_bytes)
            style, model = (name, None) if kind == "style" else (None, name)
            request = StylizeRequest(photo=data, style=style, model=model, size=PREVIEW_SIDE, format="webp")
            return (await self._engine.run(request)).outputs[0].data

    async def _fit(self, data: bytes, side: int) -> Output:
        request = FitRequest(image=data, max_side=side, max_bytes=4 * 2**20, formats=("webp",), strip=True)
        return (await self._engine.run(request)).outputs[0]

    def _path(self, photo_id: str, suffix: str) -> Path:
        return self._folder / f"{photo_id}.{suffix}"

    def _read(self, photo_id: str) -> Photo | None:
        if not re.fullmatch(r"[\w-]{22}", photo_id, re.ASCII):
            return None
        try:
            photo = Photo(**json.loads(self._path(photo_id, "json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return photo if time.time() - photo.created < self._kept else None

    def _all(self) -> list[Photo]:
        found = (self._read(path.stem) for path in self._folder.glob("*.json"))
        return sorted((photo for photo in found if photo), key=lambda photo: -photo.created)

    def _write(self, photo: Photo, original: bytes, shown: bytes, small: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        note = json.dumps(asdict(photo)).encode()
        # The note comes last: without it the photo does not exist.
        for suffix, data in (("photo", original), ("webp", shown), ("small", small), ("json", note)):
            path = self._path(photo.id, suffix)
            temporary = path.with_suffix(f".{suffix}.new")
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        for old in [p for p in self._all() if p.owner == photo.owner][PER_MEMBER:]:
            self._drop(old.id)

    def _drop(self, photo_id: str) -> None:
        for suffix in ("json", "photo", "webp", "small"):
            self._path(photo_id, suffix).unlink(missing_ok=True)

    def _drop_old(self) -> None:
        alive = {photo.id for photo in self._all()}
        for path in self._folder.glob("*"):
            if path.name.split(".")[0] not in alive and time.time() - path.stat().st_mtime > 600:
                path.unlink(missing_ok=True)
