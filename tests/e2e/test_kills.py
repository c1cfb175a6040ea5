"""A hundred sudden deaths of bot and engine while members paint, stylize and vote: nothing acknowledged is lost.

Acknowledged is a job whose status a member has read, and a vote by button whose count came back.  A reaction is one
from the moment Discord shows it, whether or not the bot lives.  Whoever reads "thinking..." reads an answer in the end,
if only that the command should be sent again.
"""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Set
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from discordstandin import Channel, Guild, Interaction, Message, Person, StandIn
from realhouse import MortalBot, MortalEngine
from test_day import photo

RESTARTED = "I was restarted before I could answer this; please send it again."
UP, DOWN = "❤️", "👎"
VALUES = {UP: "up", DOWN: "down"}
GALLERY_FROM, GALLERY_UNTIL = 2, 1  # ups minus downs; a work in the gallery stays there until it falls below


class Crowd:
    """Members who go on with their day whatever becomes of the bot, and remember what they did."""

    def __init__(self, discord: StandIn, guild: Guild, room: Channel, chance: random.Random) -> None:
        self.discord, self.room, self.chance = discord, room, chance
        self.makers: list[Person] = [discord.person(f"Maker{i}", guild) for i in range(5)]
        self.pressers: list[Person] = [discord.person(f"Presser{i}", guild) for i in range(3)]
        self.reactors: list[Person] = [discord.person(f"Reactor{i}", guild) for i in range(3)]
        self.wishes: list[Interaction] = []
        self.presses: dict[tuple[str, int], list[tuple[str, Interaction]]] = {}  # (work, person) -> in order
        self.reactions = 0
        self.over = False  # everybody ends what they are at, so that all they did is remembered

    def day(self) -> list[Coroutine[Any, Any, None]]:
        """Return what everybody does."""
        ways = ((self._make, self.makers), (self._press, self.pressers), (self._react, self.reactors))
        return [self._always(way, person) for way, people in ways for person in people]

    async def _always(self, way: Any, person: Person) -> None:
        while not self.over:
            await asyncio.sleep(self.chance.uniform(0.1, 0.9))
            await way(person)

    async def _make(self, person: Person) -> None:
        own = [wish for wish in self.wishes if wish.user is person.account]
        read = [wish.original for wish in own if wish.original is not None and not wish.original.loading]
        unanswered = sum(not message.attachments and message.text != RESTARTED for message in read)
        if unanswered >= 4 or not self.discord.connected:
            return
        if self.chance.random() < 0.4:
            answer = await person.slash(self.room, "stylize", photo=photo(), style="the-scream", wait=False)
        else:
            count = self.chance.choice((1, 1, 1, 2))
            answer = await person.slash(self.room, "paint", genre="landscape", count=count, wait=False)
        self.wishes.append(answer.interaction)

    async def _press(self, person: Person) -> None:
        if not self.discord.connected or not (shown := works(self.discord, self.room)):
            return
        art, message = self.chance.choice(list(shown.items())[-20:])
        earlier = self.presses.setdefault((art, person.id), [])
        if earlier and (len(earlier) > 1 or not self.counted(earlier[0][1])):
            return  # a press that may have counted would now be taken back
        choice = "down" if earlier and earlier[0][0] == "up" else "up"
        answer = await person.press(message, f"gan:1:{choice}:", wait=False)
        earlier.append((choice, answer.interaction))

    def counted(self, press: Interaction) -> bool:
        """Whether the bot has shown the new count, which it does when the vote is on disk."""
        path = f"/webhooks/{self.discord.application}/{press.token}/messages/@original"
        return ("PATCH", path) in self.discord.requests

    async def _react(self, person: Person) -> None:
        if not (shown := works(self.discord, self.room)):
            return
        message = self.chance.choice(list(shown.values())[-20:])
        emoji, other = self.chance.sample((UP, DOWN), 2)
        await person.unreact(message, other)
        await person.react(message, emoji, times=self.chance.choice((1, 1, 2)))
        self.reactions += 1
        if self.chance.random() < 0.2:
            await person.unreact(message, emoji)


def works(discord: StandIn, channel: Channel) -> dict[str, Message]:
    """Return which message shows which work, oldest first; a work shown twice fails the test."""
    found: dict[str, Message] = {}
    for message in discord.messages(channel):
        for attachment in message.attachments if message.author.bot else ():
            named = re.fullmatch(r"ganvas-(\w+)\.\w+", attachment.filename)
            assert named and named[1] not in found, f"delivered twice: {attachment.filename}"
            found[named[1]] = message
    return found


async def kill_often(bot: MortalBot, engine: MortalEngine, kills: int, chance: random.Random) -> Counter[str]:
    """Kill one or the other again and again, at any moment of its life, also while the bot is starting."""
    deaths: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await bot.start()
    starting = loop.time() - began
    while deaths.total() < kills:
        await asyncio.sleep(chance.uniform(0, 1) * max(1.5, starting))
        if chance.random() < 0.3:
            deaths["engine"] += 1
            await engine.kill()
            await asyncio.sleep(chance.uniform(0, 0.5))
            await engine.start()
            continue
        deaths["bot"] += 1
        await bot.kill()
        while deaths.total() < kills and chance.random() < 0.3:
            await bot.launch()
            await asyncio.sleep(chance.uniform(0.3, 1.2) * starting)
            deaths["bot starting"] += 1
            await bot.kill()
        await bot.start()
    return deaths


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    """Ask the bot's database."""
    with closing(sqlite3.connect(f"file:{folder}/var/ganvas.db?mode=ro", uri=True, timeout=30)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(sql)]


@pytest.mark.parametrize(
    "kills", [pytest.param(3, marks=pytest.mark.timeout(900)),
              pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
)  # fmt: skip
async def test_nothing_acknowledged_is_lost_and_nothing_comes_twice(
    tmp_path: Path, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(kills)
    engine = MortalEngine(tmp_path, spread=0.6)
    async with StandIn(answer_within=60) as discord:
        guild = discord.guild("Atelier")
        room, wall = discord.channel(guild, "studio"), discord.channel(guild, "gallery")
        boss: Person = discord.person("Boss", guild, manager=True)
        bot = MortalBot(tmp_path, discord, engine, GANVAS_MEMBER_WAITING="1000", GANVAS_GUILD_RUNNING="8")
        await engine.start()
        crowd = Crowd(discord, guild, room, chance)
        busy: list[asyncio.Task[None]] = []
        try:
            await bot.start()
            asked = await boss.slash(
                room, "settings", gallery_channel=wall, threshold=GALLERY_FROM, remove_below=GALLERY_UNTIL
            )
            await asked.until(str(GALLERY_FROM))
            await bot.stop()
            busy = [asyncio.create_task(day) for day in crowd.day()]
            deaths = await kill_often(bot, engine, kills, chance)
            crowd.over = True
            await asyncio.gather(*busy)
            await become(lambda: [] if all_done(tmp_path) else ["jobs"], "the last job", 120)
            await become(lambda: [w.data for w in crowd.wishes if thinking(w)], "an answer for everybody", 120)
            expected = true_votes(crowd)
            await become(lambda: differing(tmp_path, expected), "the ledger to be true", 900)
            await become(
                lambda: misplaced(tmp_path, works(discord, wall).keys()), "the gallery channel to be true", 120
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{bot.log[-6000:]}") from None
        finally:
            for task in busy:
                task.cancel()
            await bot.close()
            await engine.close()

    shown = works(discord, room)
    jobs = {row["key"]: row for row in rows(tmp_path, "SELECT * FROM jobs")}
    made = rows(tmp_path, "SELECT id, job, removed FROM artworks")
    sent_back = [wish for wish in crowd.wishes if wish.original is not None and wish.original.text == RESTARTED]
    read = [wish for wish in crowd.wishes if wish.original is not None and wish not in sent_back]
    told = [wish for wish in read if not wish.original.attachments]  # type: ignore[union-attr]
    presses = [press for several in crowd.presses.values() for _, press in several]
    counted = [press for press in presses if crowd.counted(press)]
    failed = Counter(row["error"] for row in jobs.values() if row["state"] != "delivered")
    with capsys.disabled():
        sys.stdout.write(
            f"\n{kills} kills ({', '.join(f'{n} {what}' for what, n in deaths.items())}): "
            f"{len(crowd.wishes)} commands, {len(read)} acknowledged, {len(jobs)} jobs, {len(shown)} works delivered, "
            f"{len(told)} told why not {dict(failed)}, {len(sent_back)} asked to send it again; "
            f"{len(crowd.wishes) - len(jobs) - len(sent_back)} commands died unread; "
            f"{len(presses)} presses, {len(counted)} acknowledged; {crowd.reactions} reactions, "
            f"{len(expected)} votes; {len(works(discord, wall))} in the gallery channel\n"
        )

    assert [wish.data for wish in sent_back if f"discord:{wish.id}" in jobs] == [], "asked to send again what is a job"
    assert [wish.data for wish in read if f"discord:{wish.id}" not in jobs] == [], "an acknowledged job is lost"
    assert {row["state"] for row in jobs.values()} <= {"delivered", "failed"}
    assert sorted(art["id"] for art in made) == sorted(shown), "a work was made and not delivered"
    for wish in crowd.wishes:
        job = jobs.get(f"discord:{wish.id}")
        if job and job["state"] == "delivered":
            arts = [art["id"] for art in made if art["job"] == job["id"]]
            assert arts and wish.original is not None and any(shown[art] is wish.original for art in arts)
        elif job:
            assert wish.original is not None and job["error"] in wish.original.text, "the owner was not told"
    assert rows(tmp_path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert discord.violations == [] and discord.mentioning == []
    assert "Traceback" not in bot.log, bot.log[-6000:]


def thinking(wish: Interaction) -> bool:
    """Whether the member still reads "thinking..."."""
    return wish.original is not None and wish.original.loading


async def become(wrong: Callable[[], list[Any]], what: str, within: float) -> None:
    """Look once a second until nothing is wrong any more."""
    for _ in range(round(within)):
        if not wrong():
            return
        await asyncio.sleep(1)
    raise AssertionError(f"Waited {within:g} s in vain for {what}: {wrong()}")


def all_done(folder: Path) -> bool:
    """Whether no job is under way and no message owed."""
    owed = "SELECT 1 FROM jobs WHERE state IN ('queued', 'running', 'rendered') UNION ALL "
    return not rows(folder, owed + "SELECT 1 FROM deliveries WHERE state IN ('waiting', 'claimed')")


def true_votes(crowd: Crowd) -> dict[tuple[str, str], set[str]]:
    """Return ``(work, member) -> votes that may stand``, "" for none; a press that died on its way may have counted."""
    expected: dict[tuple[str, str], set[str]] = {}
    for (art, person), presses in crowd.presses.items():
        values = {""}
        for value, press in presses:
            values = {value} if crowd.counted(press) else values | {value}
        expected[art, f"discord:{person}"] = values
    for art, message in works(crowd.discord, crowd.room).items():
        for emoji, kinds in message.reactions.items():
            for person in kinds.get("normal", ()):
                if emoji in VALUES and person != crowd.discord.bot.id:
                    expected[art, f"discord:{person}"] = {VALUES[emoji]}
    return expected


def differing(folder: Path, expected: dict[tuple[str, str], set[str]]) -> list[tuple[tuple[str, str], str, set[str]]]:
    """Return where the ledger is not as it should be: what it says, and what it may say."""
    ledger = {(row["artwork"], row["member"]): row["value"] for row in rows(folder, "SELECT * FROM votes")}
    keys = expected.keys() | ledger.keys()
    wrong = [key for key in keys if ledger.get(key, "") not in expected.get(key, {""})]
    return [(key, ledger.get(key, ""), expected.get(key, {""})) for key in wrong]


def misplaced(folder: Path, hung: Set[str]) -> list[str]:
    """Return the works that should hang in the gallery channel and don't, or do and shouldn't."""
    net = {row["id"]: row["net"] for row in rows(folder, "SELECT id, up - down AS net FROM artworks")}
    return [art for art in net if net[art] >= GALLERY_FROM and art not in hung] + [
        art for art in hung if net[art] < GALLERY_UNTIL
    ]
