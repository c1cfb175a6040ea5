"""A studio that is killed again and again.  Run as ``python mortal.py DATA KILLS``; says what it acknowledged.

Results are pinned to ``DATA/../wall.txt``, one line each, as a chat would keep its messages.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from house import GUILD, FakeEngine

from bot.config import Settings
from bot.studio import Delivery, Filter, Member, Studio, Voter, open_studio
from engine.api import StylizeRequest


class Wall:
    """Messages that survive us."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def deliver(self, delivery: Delivery) -> str:
        await asyncio.sleep(random.random() * 0.01)
        os.write(self.handle, f"{delivery.nonce}\n".encode())
        await asyncio.sleep(random.random() * 0.01)  # the answer is still on its way when we may die
        return f"wall/{delivery.nonce}"

    async def find(self, delivery: Delivery) -> str | None:
        return f"wall/{delivery.nonce}" if delivery.nonce in self.path.read_text().split() else None


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


async def live(studio: Studio, number: int, count: int) -> None:
    async def member_works(member: Member) -> None:
        for job_number in range(count):
            photo = f"{number} {member.id} {job_number}".encode()
            job = await studio.queue.submit(StylizeRequest(photo=photo), member=member, guild=GUILD, kind="wall")
            say("job", job.id)
            await asyncio.sleep(random.random() * 0.02)

    async def member_votes(member: Member) -> None:
        while True:
            works = (await studio.gallery.page(Filter(), viewer=None, limit=100)).items
            for work in works:
                value = random.choice(("up", "down"))
                say("voting", work.id, member.id, value)
                await studio.votes.cast(work.id, Voter(member, GUILD), value)  # type: ignore[arg-type]
                say("voted", work.id, member.id, value)
            await asyncio.sleep(0.01)

    makers = [member_works(Member("discord", str(n))) for n in range(4)]
    voters = [asyncio.create_task(member_votes(Member("discord", str(10 + n)))) for n in range(2)] if count else []
    await asyncio.gather(*makers)
    say("ready")
    while count or (await studio.queue.overview()).waiting or await unfinished(studio):
        await asyncio.sleep(0.05)
    for task in voters:
        task.cancel()


async def unfinished(studio: Studio) -> bool:
    jobs = [await studio.queue.jobs(Member("discord", str(n)), limit=1) for n in range(4)]
    return any(jobs)


async def main(data: Path, number: int, count: int, opened: int) -> None:
    settings = Settings(data=data, member_waiting=1000, guild_waiting=10_000, photo_hours=0)
    async with open_studio(settings, FakeEngine()) as studio:
        studio.queue.register("wall", Wall(data.parent / "wall.txt"))
        os.write(opened, b"!")
        await live(studio, number, count)


def one_life(data: Path, number: int, count: int, delay: float | None) -> int:
    """Live in a fork, killed ``delay`` seconds after (or, every third time, while) the studio opens; its exit code."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        asyncio.run(main(data, number, count, writer))
        os._exit(0)
    os.close(writer)
    if delay is not None:
        if number % 3:
            os.read(reader, 1)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(kills)
    for life in range(kills):
        assert one_life(folder, life, 10, chance.uniform(0, 0.6)) == -signal.SIGKILL
        random.seed(life)
    sys.exit(one_life(folder, kills, 0, None))
