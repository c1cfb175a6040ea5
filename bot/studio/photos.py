"""The photos of jobs: beside a job for as long as it needs them, then for some hours for whoever sent them, then gone.

Nobody else ever gets at them: they are on no page and in no list, and only their sender's own next jobs may use them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.errors import SourceGone
from bot.studio.store import Store, drop_job_folder, write_file
from engine.api import Request, request_from_wire

HOUR = 3600.0


def split(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the request as JSON that names files in place of photos, and those photos."""
    photos = {f.name: value for f in fields(request) if isinstance(value := getattr(request, f.name), bytes)}
    blank = {name: {"file": name} for name in photos}
    return replace(request, **dict.fromkeys(photos, b"")).to_wire() | blank, photos


def named(options: Mapping[str, Any]) -> dict[str, str]:
    """Return ``option -> file`` of the photos that :func:`split` took out."""
    return {name: value["file"] for name, value in options.items() if isinstance(value, dict) and "file" in value}


class Photos:
    """One folder a job, below ``jobs/``."""

    def __init__(self, store: Store, house: Settings) -> None:
        self._store = store
        self._kept = house.photo_hours * HOUR

    async def keep(self, job_id: str, photos: Mapping[str, bytes]) -> None:
        """Put photos beside a job; they are on disk when this returns."""
        for name, data in photos.items():
            await asyncio.to_thread(write_file, self._store.job_folder(job_id) / name, data)

    async def join(self, job_id: str, options: Mapping[str, Any], finished: float | None = None) -> Request:
        """Return the request that :func:`split` took apart, of a job that ended at ``finished``.

        Raises:
            SourceGone: a photo has been deleted, or its time is over.
        """
        folder, files, photos = self._store.job_folder(job_id), named(options), dict[str, bytes]()
        if finished is None or time.time() < finished + self._kept:
            with contextlib.suppress(FileNotFoundError):
                photos = {name: await asyncio.to_thread((folder / file).read_bytes) for name, file in files.items()}
        if photos.keys() != files.keys():
            raise SourceGone("The photo of this job has been deleted; please send it again.")
        return request_from_wire({**options, **photos})

    async def release(self, job_id: str, *, useful: bool) -> None:
        """A job has ended and its end is known: its photos go now, or in some hours if more can be made of them."""
        if not (useful and self._kept):
            await asyncio.to_thread(drop_job_folder, self._store, job_id)

    def needed(self, db: Database) -> set[str]:
        """Return the jobs whose photos must stay."""
        sql = """SELECT id FROM jobs LEFT JOIN deliveries ON job = id
                 WHERE jobs.state IN ('queued', 'running', 'rendered') OR deliveries.state IN ('waiting', 'claimed')
                     OR (jobs.state = 'delivered' AND finished > ?)"""
        return {job_id for (job_id,) in db.execute(sql, [time.time() - self._kept])}

    async def sweep(self, *, opening: bool = False) -> None:
        """Delete what is needed no longer; ``opening``: nobody hands in a job just now, so nothing is too young."""
        needed = await self._store.read(self.needed)
        youngest = time.time() - (0 if opening else HOUR)
        await asyncio.to_thread(self._sweep, needed, youngest)

    def _sweep(self, needed: set[str], youngest: float) -> None:
        for folder in (self._store.folder / "jobs").iterdir():
            if folder.name not in needed and folder.stat().st_mtime <= youngest:
                drop_job_folder(self._store, folder.name)
