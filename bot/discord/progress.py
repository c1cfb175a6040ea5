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
from bot.studio import Job, JobStatus, Member

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

log = logging.getLogger(__name__)

EVERY = 2.0  # s between two edits of one message, at least
STEP = 5  # s
BAR = 12  # characters


def bar(share: float) -> str:
    """Return a share in [0, 1] as a bar with its per cent."""
    filled = round(BAR * share)
    return f"{'▰' * filled}{'▱' * (BAR - filled)} {share:.0%}"


def status_text(status: JobStatus, say: Voice, now: float) -> str:
    """Return what the status message says."""
    if status.state == "queued":
        line = say("Next in line.") if status.place == 0 else say("Place {place} in line.", place=status.place + 1)
    else:
        line = f"{say('At work')} {bar(status.share)}"
    if status.eta is not None:
        when = STEP * round((now + status.eta) / STEP)  # in steps, or each new estimate would cost an edit
        line += " " + say("Ready {when}.", when=f"<t:{when}:R>")  # Discord counts it down by itself
    return line


class _Watch:
    """One job that is followed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.status: JobStatus | None = None
        self.changed = asyncio.Event()
        self.over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Let it come to its end after the edit that is under way."""
        self.over.set()
        self.changed.set()


class Progress:
    """Follows jobs that wait or run, and keeps their status messages true."""

    def __init__(self, bot: Ganvas) -> None:
        self._bot = bot
        self._watches: dict[str, _Watch] = {}

    def jobs(self, member: Member) -> list[tuple[Job, JobStatus | None]]:
        """Return somebody's jobs that are followed, from RAM."""
        return [(watch.job, watch.status) for watch in self._watches.values() if watch.job.member == member]

    def follow(self, job: Job) -> None:
        """Begin to follow a job, unless it is followed already."""
        if job.id not in self._watches and job.kind == "discord" and job.state in ("queued", "running"):
            watch = self._watches[job.id] = _Watch(job)
            watch.task = asyncio.create_task(self._follow(watch), name=f"progress of {job.id}")

    async def stop(self, job_id: str) -> None:
        """Wait until nothing will touch the status message any more; asked before the result goes into it."""
        watch = self._watches.get(job_id)
        if watch is not None and watch.task is not None:
            watch.end()
            await asyncio.wait([watch.task])

    async def close(self) -> None:
        """Stop following anything."""
        tasks = [watch.task for watch in self._watches.values() if watch.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, watch: _Watch) -> None:
        listener = asyncio.create_task(self._listen(watch), name=f"status of {watch.job.id}")
        try:
            await self._keep_true(watch)
        except (discord.HTTPException, aiohttp.ClientError) as error:
            log.info("The status of job %s is not shown any more: %s", watch.job.id, error)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            del self._watches[watch.job.id]

    async def _listen(self, watch: _Watch) -> None:
        async for status in self._bot.studio.queue.watch(watch.job.id):
            if status.state not in ("queued", "running"):
                break
            watch.status = status
            watch.changed.set()
        watch.end()

    async def _keep_true(self, watch: _Watch) -> None:
        address = Address(**watch.job.address)
        say = Voice(address.language)
        shown, at = "", -EVERY
        while True:
            await watch.changed.wait()
            watch.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, at + EVERY - time.monotonic())):
                    await watch.over.wait()
            if watch.over.is_set():
                return
            if watch.status is not None and (text := status_text(watch.status, say, time.time())) != shown:
                await self._show(address, watch.job, text, say)
                shown, at = text, time.monotonic()

    async def _show(self, address: Address, job: Job, text: str, say: Voice) -> None:
        view = cancel_view(job.id, say)
        if address.token_lives:
            await self._bot.webhook(address.token).edit_message(address.message, content=text, view=view)
        elif address.reachable:
            await self._bot.message(address.channel, address.message).edit(content=text, view=view)
