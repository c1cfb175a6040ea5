"""/apprentice, told nights and notices: the real bot in this process, on the stand-in, with a learner under control."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import discord
import pytest
import yarl
from discordstandin import TOKEN, Channel, Guild, Person, StandIn
from discordstandin.rules import READ_HISTORY
from fakeengine import FakeEngine
from PIL import Image

from bot.config import Settings
from bot.discord.client import Ganvas
from bot.studio import (
    ApprenticeState,
    CanaryScore,
    Member,
    Night,
    NightEnded,
    Side,
    Studio,
    Version,
    WrongMoment,
    open_studio,
)
from engine.client import connect

pytestmark = pytest.mark.timeout(300)  # patience with a busy machine, not a measure

NOW = time.time()
CHECKS = [
    {"name": "drift tonight", "value": 0.01, "limit": "at most 0.012", "passed": True},
    {"name": "KID", "value": 0.0234, "limit": "at most 0.0201", "passed": False},
]
REFUSED = Night(
    "2026-11-22", "refused", NOW - 9000, NOW - 6000,
    diary={"why": "KID: 0.0234, at most 0.0201 is allowed.", "votes": {"counted": 40, "voters": 9, "works": 21},
           "gate": CHECKS, "before": "before.webp", "after": "after.webp"},
)  # fmt: skip


class Learner:
    """Stands where the studio's apprentice stands; does what it is told and writes it down."""

    def __init__(self) -> None:
        self.state_now = ApprenticeState(
            painter="night-2", painter_since=NOW - 90_000, base="painter-64", phase="resting", paused=False,
            next_night=NOW + 3600, progress=None, waiting=False, canary=None, last_night=REFUSED,
            versions=(
                Version("night-2", NOW - 90_000),
                Version("night-1", NOW - 180_000, NOW - 90_000, "n1", "Bettered."),
                Version("painter-64", 0.0, NOW - 180_000),
            ),
        )  # fmt: skip
        self.asked: list[tuple[str, Member]] = []

    async def state(self) -> ApprenticeState:
        return self.state_now

    async def run_now(self, by: Member) -> str:
        if self.state_now.paused:
            raise WrongMoment("Nights are paused; resume them first.")
        self.asked.append(("run", by))
        return "n3"

    async def pause(self, by: Member) -> None:
        self.asked.append(("pause", by))
        self.state_now = replace(self.state_now, paused=True, next_night=None)

    async def resume(self, by: Member) -> None:
        self.asked.append(("resume", by))
        self.state_now = replace(self.state_now, paused=False)

    async def rollback(self, by: Member, to: str | None = None) -> Version:
        self.asked.append((f"back to {to}", by))
        version = next(v for v in self.state_now.versions[1:] if to in (None, v.name))
        self.state_now = replace(self.state_now, painter=version.name, canary=None)
        return version

    async def painter_for(self, member: Member, request: object) -> str | None:
        return None


@dataclass
class Atelier:
    """What a test needs."""

    discord: StandIn
    guild: Guild
    room: Channel
    studio: Studio
    settings: Settings
    learner: Learner = field(default_factory=Learner)

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Ganvas]:
        """Run the bot; each time is a life of its own."""
        before = self.discord.identifies
        async with Ganvas(self.studio, self.settings) as bot:
            task = asyncio.create_task(bot.start(TOKEN))
            await self.discord.wait(lambda: task.done() or self.discord.identifies > before, "the bot")
            await bot.wait_until_ready()
            yield bot
            await bot.close()
            await task


@pytest.fixture
async def atelier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Atelier]:
    settings = Settings(data=tmp_path / "var", models=tmp_path, nights=False)
    async with (
        StandIn(answer_within=20) as standin,
        FakeEngine() as fake,
        connect(fake.url) as engine,
        open_studio(settings, engine) as studio,
    ):
        monkeypatch.setattr(discord.http.Route, "BASE", standin.url + "/api/v10")
        gateway = yarl.URL(standin.url.replace("http", "ws") + "/gateway")
        monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)
        guild = standin.guild("Atelier")
        here = Atelier(standin, guild, standin.channel(guild, "studio"), studio, settings)
        real, studio.apprentice = studio.apprentice, here.learner  # type: ignore[assignment]
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), "teal").save(picture, "WEBP")
        folder = studio.nights.folder / REFUSED.id
        folder.mkdir(parents=True)
        for name in ("before", "after"):
            (folder / f"{name}.webp").write_bytes(picture.getvalue())
        await studio.nights.record(REFUSED)
        yield here
        studio.apprentice = real
        assert standin.violations == []
        assert standin.mentioning == []


def labels(message: object) -> list[str]:
    return [button.get("label") or "" for button in message.buttons]  # type: ignore[attr-defined]


async def test_the_card_tells_everything_and_hosts_act_on_it_also_after_a_restart(atelier: Atelier) -> None:
    standin, learner = atelier.discord, atelier.learner
    ada, boss = standin.person("Ada", atelier.guild), standin.person("Boss", atelier.guild, manager=True, locale="de")
    async with atelier.awake():
        card = await (await ada.slash(atelier.room, "apprentice")).until("The apprentice", files=2)
        for words in (
            "night-2", "descends from painter-64", "It rests", "Next night", "The gate refused", "40 votes of 9",
            "✗ KID: 0.0234 (at most 0.0201)", "✓ drift tonight", "Bettered.", "█",
        ):  # fmt: skip
            assert words in card.text, words
        assert [a.description for a in card.attachments] == [
            "Paintings before the lesson", "Paintings of the same seeds after the lesson",
        ]  # fmt: skip
        assert "<t:0:" not in card.text, "since when is not known of the release"
        assert labels(card) == ["Look again"]
        own = await (await boss.slash(atelier.room, "apprentice")).until("Der Lehrling", files=2)
        assert "erlaubt ist at most 0.0201" in own.text
        assert labels(own) == ["Neu ansehen", "Jetzt lernen", "Anhalten", "Zurücksetzen"]
        await boss.press(own, "Anhalten")
        await standin.wait(lambda: "keine Nächte" in own.text and "Fortsetzen" in labels(own))
        refused = await boss.press(own, "Jetzt lernen")
        await standin.wait(lambda: "Die Nächte sind angehalten; setze sie erst fort." in refused.text, "why not")
        assert refused.messages[-1].ephemeral
    async with atelier.awake():
        await boss.press(own, "Fortsetzen")
        await standin.wait(lambda: "Anhalten" in labels(own))
        await boss.press(own, "Jetzt lernen")
        await standin.wait(lambda: "Eine Nacht beginnt" in own.text)
        await boss.press(own, "Zurücksetzen")
        await standin.wait(lambda: "Der Maler vor night-2" in own.text, "the question")
        await boss.press(own, "gan:1:pick:office", values=["painter-64"])
        await standin.wait(lambda: "Jetzt malt painter-64" in own.text)
    assert [what for what, _ in learner.asked] == ["pause", "resume", "run", "back to painter-64"]
    assert {by for _, by in learner.asked} == {Member("discord", str(boss.id))}


async def test_a_trial_is_shown_and_let_go(atelier: Atelier) -> None:
    score = CanaryScore(
        "night-3", share=0.2, started=NOW, until=NOW + 90_000, trial=Side(12, 3, 30), office=Side(40, 22, 100), wins=4,
        losses=1, probability_better=0.91,
    )  # fmt: skip
    atelier.learner.state_now = replace(atelier.learner.state_now, phase="canary", canary=score)
    boss = atelier.discord.person("Boss", atelier.guild, manager=True)
    async with atelier.awake():
        card = await (await boss.slash(atelier.room, "apprentice")).until("The trial")
        for words in ("❤ 12 · 👎 3 · 30 works", "❤ 40 · 👎 22", "Duels won 4, lost 1", "91%", "20% of the members"):
            assert words in card.text, words
        await boss.press(card, "Roll back")
        await atelier.discord.wait(lambda: "The candidate night-3 is let go" in card.text)
        await boss.press(card, "gan:1:office")
        await atelier.discord.wait(lambda: "paints now" in card.text)
    assert [what for what, _ in atelier.learner.asked] == ["back to None"]


async def test_where_servers_share_the_painter_only_its_host_decides(atelier: Atelier) -> None:
    standin = atelier.discord
    other = standin.guild("Elsewhere")
    hall = standin.channel(other, "hall")
    boss = standin.person("Boss", other, manager=True)
    named = standin.person("Named", other)
    atelier.settings = atelier.settings.model_copy(update={"discord_hosts": (named.id,)})
    owner = Person(standin, standin.accounts[atelier.guild.owner])  # the application is theirs, at the stand-in
    async with atelier.awake():
        card = await (await boss.slash(hall, "apprentice")).until("The apprentice")
        assert labels(card) == ["Look again"]
        for host in (owner, named):
            theirs = await (await host.slash(standin.dm(host.account), "apprentice")).until("The apprentice")
            assert "Pause" in labels(theirs)
        stolen = await boss.press(theirs, "Pause")  # however she came by the button
        await standin.wait(lambda: "Only the host" in stolen.text)
    assert atelier.learner.asked == []


async def test_a_night_is_told_where_that_is_wished(atelier: Atelier) -> None:
    standin, studio = atelier.discord, atelier.studio
    wall = standin.channel(atelier.guild, "gallery")
    other = standin.guild("Elsewhere")
    silent = standin.channel(other, "gallery")
    boss = standin.person("Boss", atelier.guild, manager=True)
    async with atelier.awake():
        told = await boss.slash(atelier.room, "settings", gallery_channel=wall, night_posts=True, language="es")
        await told.until("on")
        await studio.policy.change(f"discord:{other.id}", gallery_channel=str(silent.id))
        studio.events.publish(NightEnded(replace(REFUSED, state="rested")))
        studio.events.publish(NightEnded(REFUSED))
        post = await standin.wait(lambda: next(iter(standin.messages(wall)), None), "the post")
        assert "El examen rechazó al candidato" in post.text
        assert "1 de 2 pruebas superadas" in post.text
        assert len(post.attachments) == 2
        assert all(a.description for a in post.attachments)
    assert len([*standin.messages(wall)]) == 1, "a night in which nothing happened is not told"
    assert not [*standin.messages(silent)]


async def test_managers_are_told_once_what_is_lacking(atelier: Atelier) -> None:
    standin = atelier.discord
    ada = standin.person("Ada", atelier.guild)
    owner = standin.dm(standin.accounts[atelier.guild.owner])
    async with atelier.awake():
        await (await ada.slash(atelier.room, "paint", genre="landscape")).until(files=1)
        assert not [*standin.messages(owner)]
    atelier.room.bot_lacks = READ_HISTORY
    async with atelier.awake():
        notice = await standin.wait(lambda: next(iter(standin.messages(owner)), None), "the notice")
        assert f"<#{atelier.room.id}>" in notice.text
        assert "Read Message History" in notice.text
    async with atelier.awake() as bot:
        await standin.wait(lambda: bot.latency > 0)
        await ada.settle(2)
    assert len([*standin.messages(owner)]) == 1
