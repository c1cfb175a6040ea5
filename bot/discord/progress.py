"""The status message of a job: place in line, when it will be done, a bar.  One message, edited seldom.

Nobody is told every change: each message looks at its job when its turn comes, and what is the same costs nothing.
"""

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

FIRST = 1.0  # s until a job is spoken of: most are done by then, and their results need not wait for an edit to end
EVERY = 2.0  # s between two edits of one message, at least
PACE = 0.1  # s between two edits, over all messages: a fifth of the requests that Discord takes from a bot
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
        self.over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def ends(self, within: float) -> bool:
        """Wait so many seconds; whether nothing is to be shown any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.over.wait()
        return self.over.is_set()


class Progress:
    """Follows jobs that wait or run, and keeps their status messages true."""

    def __init__(self, bot: Ganvas) -> None:
        self._bot = bot
        self._watches: dict[str, _Watch] = {}
        self._free = 0.0  # monotonic s from which the next edit may be made

    def follow(self, job: Job) -> None:
        """Begin to follow a job, unless it is followed already."""
        if job.id not in self._watches and job.kind == "discord" and job.state in ("queued", "running"):
            watch = self._watches[job.id] = _Watch(job)
            watch.task = asyncio.create_task(self._follow(watch), name=f"progress of {job.id}")

    async def stop(self, job_id: str) -> None:
        """Wait until nothing will touch the status message any more; asked before the result goes into it."""
        watch = self._watches.get(job_id)
        if watch is not None and watch.task is not None:
            watch.over.set()  # an edit that is under way comes to its end
            await asyncio.wait([watch.task])

    async def close(self) -> None:
        """Stop following anything."""
        tasks = [watch.task for watch in self._watches.values() if watch.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, watch: _Watch) -> None:
        try:
            await self._keep_true(watch)
        except (discord.HTTPException, aiohttp.ClientError) as error:
            log.info("The status of job %s is not shown any more: %s", watch.job.id, error)
        finally:
            del self._watches[watch.job.id]

    async def _keep_true(self, watch: _Watch) -> None:
        address = Address(**watch.job.address)
        say = Voice(address.language)
        shown, pause = "", FIRST
        while not (await watch.ends(pause) or await watch.ends(self._turn())):
            status = await self._bot.studio.queue.status(watch.job.id)
            if status.state not in ("queued", "running"):
                return
            if (text := status_text(status, say, time.time())) != shown:
                await self._show(address, watch.job, text, say)
                shown = text
            pause = EVERY

    def _turn(self) -> float:
        """Take the next place among all edits; return the seconds until it comes."""
        now = time.monotonic()
        turn = max(now, self._free)
        self._free = turn + PACE
        return turn - now

    async def _show(self, address: Address, job: Job, text: str, say: Voice) -> None:
        view = cancel_view(job.id, say)
        if address.token_lives:
            await self._bot.webhook(address.token).edit_message(address.message, content=text, view=view)
        elif address.reachable:
            await self._bot.message(address.channel, address.message).edit(content=text, view=view)
