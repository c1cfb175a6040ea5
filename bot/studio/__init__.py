"""The application, which knows neither Discord nor HTTP nor torch.  See docs/studio-api.md.

async with engine.client.connect(...) as engine, open_studio(settings, engine) as studio:
    job = await studio.queue.submit(PaintRequest(genre="flowers", seed=7), member=HOST)
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bot.config import Settings
from bot.studio.apprentice import Apprentice, ApprenticeState, Version
from bot.studio.artwork import Artwork, Tally, spoken
from bot.studio.canary import CanaryScore, Side
from bot.studio.duels import Duel, Duels
from bot.studio.engine import Engine
from bot.studio.errors import DataInUse, LimitReached, NotFound, Refused, SourceGone, Undeliverable, WrongMoment
from bot.studio.events import (
    ArtworkAdded,
    ArtworkChanged,
    Event,
    Events,
    GalleryDue,
    JobChanged,
    NightEnded,
    PainterChanged,
    PostLate,
    TombstonesDue,
    VotesChanged,
)
from bot.studio.gallery import Facets, File, Filter, Gallery, Lineage, Page, period
from bot.studio.nights import Night, Nights, Snapshot, VoteRow
from bot.studio.people import HOST, WEB, Member
from bot.studio.policy import Ban, Deletion, Policy, Tombstone
from bot.studio.posts import Post
from bot.studio.promises import Promise, Promises, forget_expired
from bot.studio.queue import Deliverer, Delivery, Job, JobStatus, Queue, QueueStatus
from bot.studio.settings import GuildSettings, Preferences
from bot.studio.store import Store
from bot.studio.votes import Ballot, GalleryTask, Voter, Votes
from engine.errors import GanvasError

log = logging.getLogger(__name__)

MODELS_FOR = 60.0  # seconds the list of models is remembered
DAY = 86_400.0


@dataclass(frozen=True)
class Status:
    """How the house is."""

    engine: dict[str, Any] | None  # None: no engine answers
    queue: QueueStatus
    database_ok: bool
    disk_free: int  # bytes
    last_night: Night | None
    gap: float  # seconds since the last event from Discord, 0 if there never was one


class Studio:
    """Everything front ends use; made by :func:`open_studio`."""

    def __init__(self, settings: Settings, engine: Engine, store: Store) -> None:
        self.house = settings
        self.engine = engine
        self.events = Events()
        self.gallery = Gallery(store, self.events, settings, engine)
        self.votes = Votes(store, self.events, settings, self.gallery)
        self.policy = Policy(store, self.events, settings, self.gallery)
        self.nights = Nights(store, settings)
        self.apprentice = Apprentice(store, self.events, settings, engine, self.nights, self._forget_models)
        self.queue = Queue(
            store, self.events, settings, engine, self.gallery, self.policy.settings, self.apprentice.painter_for
        )
        self.duels = Duels(store, settings)
        self.promises = Promises(store)
        self._store = store
        self._models: tuple[float, list[dict[str, Any]]] | None = None

    async def models(self) -> list[dict[str, Any]]:
        """Return the engine's cards, at most a minute old.

        Raises:
            EngineUnavailable: no engine answers and none ever did.
        """
        now = time.monotonic()
        if self._models is None or now - self._models[0] > MODELS_FOR:
            try:
                self._models = now, await self.engine.models()
            except GanvasError:
                if self._models is None:
                    raise
        return self._models[1]

    def _forget_models(self) -> None:
        self._models = None

    async def status(self) -> Status:
        """Look at everything: engine, queue, database, disk, the last night."""
        try:
            async with asyncio.timeout(5):
                engine: dict[str, Any] | None = await self.engine.health()
        except (GanvasError, TimeoutError):
            engine = None
        try:
            async with asyncio.timeout(5):
                now = str(time.time())
                await self._store.write(lambda db: db.execute("REPLACE INTO facts VALUES ('looked', ?)", [now]))
                sql = "SELECT value FROM facts WHERE name = 'looked'"
                read = await self._store.read(lambda db: db.execute(sql).fetchone()[0])
            database_ok = read >= now
        except (TimeoutError, sqlite3.Error) as error:
            log.error("The database does not answer: %r", error)
            database_ok = False
        nights = await self.nights.list(1)
        return Status(
            engine=engine,
            queue=await self.queue.overview(),
            database_ok=database_ok,
            disk_free=shutil.disk_usage(self._store.folder).free,
            last_night=nights[0] if nights else None,
            gap=await self.votes.gap(),
        )

    async def keep_house(self) -> None:
        """Tidy: every quarter of an hour photos whose time is over, once a day all else that nobody needs."""
        for quarter in itertools.count():
            try:
                await self.queue.photos.sweep()
                await self._store.write(forget_expired)
                if quarter % (24 * 4) == 0:
                    await self._store.write(self._forget_old)
                    files = await self._store.read(lambda db: {name for (name,) in db.execute(_FILES)})
                    await asyncio.to_thread(self._sweep, files)
            except Exception:
                log.exception("The tidying failed")
            await asyncio.sleep(DAY / (24 * 4))

    def _forget_old(self, db: Any) -> None:
        now = time.time()
        db.execute("DELETE FROM vote_events WHERE at < ?", [now - self.house.vote_event_days * DAY])
        db.execute("DELETE FROM marks WHERE present = 0 AND seen < ?", [now - DAY])

    def _sweep(self, files: set[str]) -> None:
        old = time.time() - DAY  # younger ones may belong to a job that is just being kept
        folder = self._store.folder
        for path in [*folder.glob("artworks/*/*"), *folder.glob("export-*.zip"), *folder.glob("thumbnails/*/*")]:
            known = path.parent.parent.name == "thumbnails" and path.suffix == ".webp"
            known = known and any(f"{path.name.partition('-')[0]}.{kind}" in files for kind in _KINDS)
            if path.name not in files and not known:
                with contextlib.suppress(FileNotFoundError):  # half-written a moment ago, and renamed by now
                    if path.stat().st_mtime < old:
                        path.unlink()


_FILES = "SELECT id || '.' || format FROM artworks WHERE removed IS NULL"
_KINDS = ("png", "webp", "jpeg", "gif", "mp4")


@asynccontextmanager
async def open_studio(settings: Settings, engine: Engine) -> AsyncIterator[Studio]:
    """Open the studio on ``settings.data``; what an earlier life left undone is taken up.

    Raises:
        DataInUse: another Ganvas has this folder.
    """
    store = await asyncio.to_thread(Store, settings.data)
    try:
        studio = Studio(settings, engine, store)
        await studio.gallery.start()
        await studio.apprentice.start()
        await studio.queue.start()
        house = asyncio.create_task(studio.keep_house())
        try:
            yield studio
        finally:
            house.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await house
            await studio.apprentice.close()
            await studio.queue.close()
    finally:
        await store.close()


__all__ = [
    "HOST", "WEB", "Apprentice", "ApprenticeState", "Artwork", "ArtworkAdded", "ArtworkChanged", "Ballot", "Ban",
    "CanaryScore", "DataInUse", "Deletion", "Deliverer", "Delivery", "Duel", "Duels", "Engine", "Event", "Events",
    "Facets", "File", "Filter", "Gallery", "GalleryDue", "GalleryTask", "GuildSettings", "Job", "JobChanged",
    "JobStatus", "LimitReached", "Lineage", "Member", "Night", "NightEnded", "Nights", "NotFound", "Page",
    "PainterChanged", "Policy", "Post", "PostLate", "Preferences", "Promise", "Queue", "QueueStatus", "Refused", "Side",
    "Snapshot", "SourceGone", "Status", "Studio", "Tally", "Tombstone", "TombstonesDue", "Undeliverable", "Version",
    "VoteRow", "Voter", "Votes", "VotesChanged", "WrongMoment", "open_studio", "period", "spoken",
]  # fmt: skip
