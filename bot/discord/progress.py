"""The status message of a job: place in line, when it will be done, a bar.  One message, edited seldom."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot.discord.address import Address
from bot.discord.buttons import cancel_view
from bot.discord.texts import Voice
from bot.studio import Job, JobStatus

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

log = logging.getLogger(__name__)

EVERY = 2.0  # s between two edits of one message, at least
BAR = 12  # characters


def status_text(status: JobStatus, say: Voice, now: float) -> str:
    """Return what the status message says."""
    if status.state == "queued":
        line = say("Next in line.") if status.place == 0 else say("Place {place} in line.", place=status.place + 1)
    else:
        filled = round(BAR * status.share)
        line = f"{say('At work')} {'▰' * filled}{'▱' * (BAR - filled)} {status.share:.0%}"
    if status.eta is not None:
        line += " " + say("Ready {when}.", when=f"<t:{int(now + status.eta)}:R>")  # Discord counts it down by itself
    return line


class Progress:
    """Follows jobs that wait or run, and keeps their status messages true."""

    def __init__(self, bot: Ganvas) -> None:
        self._bot = bot
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self.jobs: dict[str, tuple[Job, JobStatus | None]] = {}  # what autocomplete offers, from RAM

    def follow(self, job: Job) -> None:
        """Begin to follow a job, unless it is followed already."""
        if job.id not in self._tasks and job.kind == "discord" and job.state in ("queued", "running"):
            self._ends[job.id] = asyncio.Event()
            self.jobs[job.id] = (job, None)
            self._tasks[job.id] = asyncio.create_task(self._follow(job), name=f"progress of {job.id}")

    async def stop(self, job_id: str) -> None:
        """Wait until nothing will touch the status message any more; asked before the result goes into it."""
        if job_id in self._tasks:
            self._ends[job_id].set()
            await asyncio.wait([self._tasks[job_id]])

    async def close(self) -> None:
        """Stop following anything."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, job: Job) -> None:
        address = Address(**job.address)
        say = Voice(address.language)
        end = self._ends[job.id]
        latest: JobStatus | None = None
        changed = asyncio.Event()

        async def listen() -> None:
            nonlocal latest
            async for status in self._bot.studio.queue.watch(job.id):
                latest = status
                if status.state not in ("queued", "running"):
                    break
                self.jobs[job.id] = (job, status)
                changed.set()
            end.set()

        listener = asyncio.create_task(listen(), name=f"status of {job.id}")
        shown, at = "", 0.0
        try:
            while not end.is_set():
                await _either(changed, end)
                if end.is_set():
                    return
                changed.clear()
                await _sleep_or(end, at + EVERY - time.monotonic())
                if end.is_set() or latest is None:
                    continue
                text = status_text(latest, say, time.time())
                if text != shown:
                    await self._show(address, job, text, say)
                    shown, at = text, time.monotonic()
        except (discord.HTTPException, aiohttp.ClientError) as error:
            log.info("The status of job %s is not shown any more: %s", job.id, error)
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener
            self._tasks.pop(job.id, None)
            self._ends.pop(job.id, None)
            self.jobs.pop(job.id, None)

    async def _show(self, address: Address, job: Job, text: str, say: Voice) -> None:
        view = cancel_view(job.id, say)
        if address.token_lives:
            await self._bot.webhook(address.token).edit_message(address.message, content=text, view=view)
        elif address.reachable:
            await self._bot.message(address.channel, address.message).edit(content=text, view=view)


async def _either(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _sleep_or(event: asyncio.Event, seconds: float) -> None:
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
