"""A member's day with the released models: the real bot, the real engine as its child; only Discord is a stand-in."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from discordstandin import Message, StandIn
from fakeengine import FakeEngine
from PIL import Image
from realhouse import ROOT, BotProcess, House
from test_day import art_id, votes_become

from engine.media import read_recipe

pytestmark = pytest.mark.timeout(3600)  # patience with a busy machine, not a measure

FLOWER = ROOT / "data" / "samples" / "flower.jpg"
PATIENCE = 900  # s; trainings beside may leave it a tenth of a processor


@pytest.fixture
async def atelier(tmp_path: Path) -> AsyncIterator[House]:
    """The same house as elsewhere, but the bot keeps an engine of its own."""
    async with StandIn(answer_within=20) as discord:
        guild = discord.guild("Atelier")
        nobody = FakeEngine()  # never asked
        bot = BotProcess(tmp_path, discord, nobody, GANVAS_ENGINE_URL="", GANVAS_MODELS=str(ROOT / "models"))
        here = House(discord, nobody, bot, guild, discord.channel(guild, "studio"))
        try:
            await bot.start()
            yield here
        finally:
            await bot.stop()
        here.check()


def photo() -> tuple[str, bytes]:
    """Return a real photo, small enough for a test."""
    buffer = io.BytesIO()
    with Image.open(FLOWER) as picture:
        picture.resize((320, 214)).save(buffer, "JPEG")
    return "flower.jpg", buffer.getvalue()


def painted(message: Message, command: str) -> Image.Image:
    """Return the picture that a message shows, after a look at its recipe."""
    (attachment,) = message.attachments
    recipe = read_recipe(attachment.data)
    assert recipe and recipe["command"] == command and recipe["models"]
    return Image.open(io.BytesIO(attachment.data))


async def test_a_photo_is_painted_over_by_the_released_stylizer(atelier: House) -> None:
    ada = atelier.person("Ada")
    answer = await ada.slash(atelier.room, "stylize", photo=photo())
    picture = painted(await answer.until(files=1, within=PATIENCE), "stylize")
    assert picture.width / picture.height == pytest.approx(320 / 214, rel=0.02)
    with Image.open(io.BytesIO(photo()[1])) as before:
        small = picture.convert("RGB").resize(before.size)
        assert small.tobytes() != before.tobytes()


@pytest.mark.slow
async def test_a_members_day(atelier: House) -> None:
    room = atelier.room
    ada, ben, cem = (atelier.person(name) for name in ("Ada", "Ben", "Cem"))
    styled = await (await ada.slash(room, "stylize", photo=photo())).until(files=1, within=PATIENCE)
    first = await (await ada.slash(room, "paint", genre="flower-painting", seed="7")).until(files=1, within=PATIENCE)
    second = await (await ada.slash(room, "paint", genre="flower-painting", seed="8")).until(files=1, within=PATIENCE)
    assert painted(first, "paint").tobytes() != painted(second, "paint").tobytes()
    stops: dict[str, Any] = {"from": art_id(first), "to": art_id(second)}
    film = await (await ada.slash(room, "morph", seconds=1, **stops)).until(files=1, within=PATIENCE)
    assert getattr(painted(film, "morph"), "n_frames", 1) > 10

    await ben.react(styled, "❤️")
    await cem.press(styled, "gan:1:up")
    await votes_become(ada, styled, 2, 0)
    await (await ben.slash(room, "gallery")).until("Works 1 to 4 of 4", files=4, within=PATIENCE)

    sent = await (await ada.slash(room, "privacy export")).until(files=1, within=PATIENCE)
    with zipfile.ZipFile(io.BytesIO(sent.attachments[0].data)) as archive:
        told = json.loads(archive.read("data.json"))
        assert {work["id"] for work in told["artworks"]} == {art_id(m) for m in (styled, first, second, film)}
        assert [archive.read(name) for name in archive.namelist() if name.startswith("photos/")] == [photo()[1]]
    question = await (await ada.slash(room, "privacy delete")).until("for good")
    await ada.press(question, "Delete everything")
    await atelier.discord.wait(lambda: "Deleted: 4 works" in question.text, "the deletion", PATIENCE)
    posted = {message.id for message in (styled, first, second, film)}
    await atelier.discord.wait(lambda: not posted & room.messages.keys(), "the posts to go", PATIENCE)
    assert not list((atelier.bot.folder / "var" / "artworks").rglob("*.png"))


@pytest.mark.slow
async def test_the_engine_is_killed_at_work_and_the_result_arrives_once(atelier: House) -> None:
    ada = atelier.person("Ada")
    stops: dict[str, Any] = {"from": "flowers:7", "to": "flowers:8"}
    answer = await ada.slash(atelier.room, "morph", seconds=4, **stops)
    await answer.until("At work", within=PATIENCE)
    before = engine_of(atelier.bot)
    os.kill(before, signal.SIGKILL)
    message = await answer.until(files=1, within=PATIENCE)
    await asyncio.sleep(2)
    assert [art_id(shown) for shown in atelier.works()] == [art_id(message)]
    assert engine_of(atelier.bot) != before
    assert "the engine died" in atelier.bot.log


def engine_of(bot: BotProcess) -> int:
    """Return the process id of the bot's engine."""
    assert bot.process is not None
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if parent == bot.process.pid and re.search(rb"engine\x00serve", command):
            return int(status.parent.name)
    raise AssertionError("The bot has no engine.")
