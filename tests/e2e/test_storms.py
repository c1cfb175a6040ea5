"""What goes wrong: kills, cut sockets, limits, slow engines, lost permissions.  Every work arrives once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from discordstandin import MIB, TOKEN
from fakeengine import FakeEngine
from realhouse import BotProcess, House
from test_day import art_id, photo, votes_become

from bot.discord.texts import Voice

pytestmark = pytest.mark.timeout(300)  # patience with a busy machine, not a measure


def shown(house: House) -> list[str]:
    """Return the ids of all works that stand in the room, as often as they stand there."""
    return [art_id(message) for message in house.works()]


async def test_a_killed_bot_delivers_after_its_restart_once(house: House) -> None:
    ada = house.person("Ada")
    house.discord.fail("PATCH", r"/webhooks/.*/messages/", 500, files=True, times=50)  # rendered, but never taken
    answers = [await ada.slash(house.room, "paint", genre="landscape", count=count) for count in (1, 3)]
    await house.discord.wait(lambda: len(set(house.discord.faulted)) == 2, "both deliveries to be tried")
    await house.bot.kill()
    house.discord.heal()
    await house.bot.start()
    for answer in answers:
        await answer.until(files=1)
    await house.discord.wait(lambda: len(house.works()) == 4, "all four works")
    await ada.settle(2)
    assert len(set(shown(house))) == len(shown(house)) == 4
    assert len(house.engine.ran) == 2, "rendered again"


async def test_a_kill_after_sending_does_not_send_again(house: House) -> None:
    ada = house.person("Ada")
    house.discord.hold("POST", r"/channels/\d+/messages$")  # arrives at Discord; the answer never reaches the bot
    await ada.slash(house.room, "paint", genre="landscape", count=2)
    await house.discord.wait(lambda: len(house.works()) == 2, "both works at Discord")
    await house.bot.kill()
    house.discord.heal()
    await house.bot.start()
    await (await ada.slash(house.room, "queue")).until("Here 0 at work")
    await ada.settle(2)
    assert len(shown(house)) == len(set(shown(house))) == 2


async def test_a_waiting_job_survives_and_its_status_goes_on(house: House) -> None:
    ada = house.person("Ada")
    house.engine.open.clear()
    answers = [await ada.slash(house.room, "paint", genre="landscape") for _ in range(3)]
    await answers[2].until("in line")
    await house.bot.kill()
    await house.bot.start()
    house.engine.open.set()
    for answer in answers:
        await answer.until(files=1)
    assert len(set(shown(house))) == 3


RESTARTED = "I was restarted before I could answer this; please send it again."


def counted(house: House, what: str) -> int:
    """Return how many rows of ``what`` the bot's database has."""
    with closing(sqlite3.connect(f"file:{house.bot.folder}/var/ganvas.db?mode=ro", uri=True, timeout=30)) as db:
        (count,) = db.execute(f"SELECT count(*) FROM {what}").fetchone()
        return int(count)


def promises(house: House) -> int:
    """Return how many answers the bot's database says are owed."""
    return counted(house, "promises")


@pytest.mark.parametrize("private", [False, True])
async def test_who_was_left_thinking_is_told_so_after_a_restart(house: House, private: bool) -> None:
    locales = {"en": "en-GB", "de": "de", "es": "es-ES", "ja": "ja"}
    people = {language: house.person(language, locale=locale) for language, locale in locales.items()}
    work = await (await people["en"].slash(house.room, "paint", genre="landscape")).until(files=1)
    house.discord.hold("GET", "^/cdn/")  # their photos do not arrive
    house.discord.hold("PATCH", r"/messages/@original$")  # and an answer that does arrive is not acknowledged
    answers = {
        language: await person.slash(house.room, "stylize", photo=photo(), private=private)
        for language, person in people.items()
    }
    answered = await people["en"].slash(house.room, "queue")
    await answered.until("Here 0 at work")
    assert promises(house) == 5
    await house.bot.kill()
    house.discord.heal()
    await house.bot.start()
    for language, answer in answers.items():
        await answer.until(Voice(language)(RESTARTED))
    await house.discord.wait(lambda: promises(house) == 0)
    assert RESTARTED not in answered.text, "it had its answer"
    again = await (await people["de"].slash(house.room, "stylize", photo=photo(), private=private)).until(files=1)
    assert art_id(again) != art_id(work) and promises(house) == 0
    assert not any(answer.interaction.token in house.bot.log for answer in (*answers.values(), answered))


async def test_a_promise_that_nobody_can_keep_any_more_is_forgotten(house: House) -> None:
    ada = house.person("Ada")
    house.discord.hold("GET", "^/cdn/")
    answer = await ada.slash(house.room, "stylize", photo=photo())
    await house.bot.kill()
    house.discord.heal()
    house.discord.advance(minutes=16)
    await house.bot.start()
    await house.discord.wait(lambda: promises(house) == 0)
    assert answer.message.loading


async def test_old_buttons_work_after_a_restart(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    work = await (await ada.slash(house.room, "paint", genre="landscape", seed="5")).until(files=1)
    asked = await (await ada.press(work, "Morph")).until("first")
    other = await (await ada.slash(house.room, "paint", genre="landscape", seed="6")).until(files=1)
    await house.bot.kill()
    await house.bot.start()
    assert house.discord.command_writes == 1, "commands are registered only when they change"
    await ben.press(work, "gan:1:up")
    await votes_become(ben, work, 1, 0)
    await (await ben.press(work, "Vary")).until("seed 5", files=1)
    await (await ada.menu(other, "Morph with...")).until("first")
    assert asked.buttons == []


async def test_reactions_missed_while_away_are_counted(house: House) -> None:
    ada, ben, cem = house.person("Ada"), house.person("Ben"), house.person("Cem")
    work = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    await ben.react(work, "❤️")
    await votes_become(ada, work, 1, 0)
    await house.bot.kill()
    await ben.unreact(work, "❤️")
    await cem.react(work, "👎")
    await cem.react(work, "🐢")
    await house.bot.start()
    await votes_become(ada, work, 0, 1)


async def test_after_a_restart_few_requests_find_the_votes_that_changed(house: House) -> None:
    ada, ben, cem, dee = (house.person(name) for name in ("Ada", "Ben", "Cem", "Dee"))
    old = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    for number in range(120):  # talk, more than a page of it
        await ben.say(house.room, f"what a view, {number}")
    await (await ada.slash(house.room, "paint", genre="landscape", count=4)).until(files=1)
    await (await ada.slash(house.room, "paint", genre="landscape", count=3)).until(files=1)
    await house.discord.wait(lambda: len(house.works()) == 8, "all works")
    swapped, left, gone, same, *bare = house.works()[1:]
    for work in (old, swapped, left, gone, same):
        await ben.react(work, "❤️")
    await dee.react(left, "👎")
    await votes_become(ada, left, 1, 1)
    await votes_become(ada, same, 1, 0)
    await house.discord.wait(lambda: house.bot.log.count("all with votes") == 1, "the end of the first recount")
    await house.discord.wait(lambda: counted(house, "jobs WHERE state = 'delivered'") == 3, "the books to know of all")
    await house.bot.kill()
    await cem.react(old, "❤️", burst=True)
    await ben.unreact(swapped, "❤️")
    await cem.react(swapped, "❤️")  # as many as before
    await ben.unreact(left, "❤️")
    await house.discord.remove(gone)
    began = len(house.discord.requests)
    await house.bot.start()
    await house.discord.wait(lambda: house.bot.log.count("all with votes") == 2, "the end of both recounts", 120)
    asked = [path for method, path in house.discord.requests[began:] if method == "GET" and "/messages" in path]
    people = [path for path in asked if "/reactions/" in path]
    read = [next(w for w in (old, swapped, left, same) if f"/{w.id}/" in path).id for path in people]
    assert read == [work.id for work in (left, old, old, same, swapped)], "the changed ones first, newest to oldest"
    assert asked.count(f"/channels/{house.room.id}/messages") <= 6, "two or three pages a round"
    assert asked.count(f"/channels/{house.room.id}/messages/{gone.id}") == 1 and not any(
        str(work.id) in path for work in bare for path in asked
    )
    for work, up, down in ((old, 2, 0), (swapped, 1, 0), (left, 0, 1), (same, 1, 0)):
        await votes_become(ada, work, up, down)
    await dee.unreact(left, "👎")
    await ben.react(swapped, "❤️")
    await votes_become(ada, left, 0, 0)
    await votes_become(ada, swapped, 2, 0)


async def test_a_cut_connection_is_resumed_and_repeated_events_do_no_harm(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    work = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    house.discord.replay_extra = 3  # among them the command itself
    await house.discord.drop()
    await ben.react(work, "❤️")
    await house.discord.wait(lambda: house.discord.resumes == 1)
    await votes_become(ada, work, 1, 0)
    await house.discord.invalidate()
    await house.discord.wait(lambda: house.discord.identifies == 2)
    twice = await ada.slash(house.room, "paint", genre="landscape", times=2)
    await twice.until(files=1)
    assert len(house.engine.ran) == 2


async def test_a_work_arrives_after_the_interaction_has_died(house: House) -> None:
    ada = house.person("Ada")
    house.engine.open.clear()
    public = await ada.slash(house.room, "paint", genre="landscape")
    private = await ada.slash(house.room, "paint", genre="landscape", private=True)
    await house.discord.wait(lambda: not public.message.loading and not private.message.loading)
    house.discord.advance(minutes=16)
    house.engine.open.set()
    await public.until(files=1)
    direct = house.discord.dm(ada.account)
    await house.discord.wait(lambda: house.works(gallery=direct), "the private work in a direct message")
    assert not private.message.attachments


async def test_the_first_answer_does_not_wait_for_the_engine(house: House) -> None:
    ada = house.person("Ada")
    house.engine.open.clear()
    answers = [await ada.slash(house.room, "stylize", photo=photo()) for _ in range(3)]
    assert all(answer.interaction.answered == 5 for answer in answers)

    def working() -> bool:  # whose photo came first is open
        return any("At work" in message.text for answer in answers for message in answer.messages)

    await house.discord.wait(working, "one of them to be at work", 60)
    house.engine.open.set()
    for answer in answers:
        await answer.until(files=1)


async def test_the_status_is_edited_seldom(house: House) -> None:
    ada = house.person("Ada")
    house.engine.seconds = 5
    answer = await ada.slash(house.room, "paint", genre="landscape")
    message = await answer.until(files=1)
    gaps = [b - a for a, b in zip(message.edits, message.edits[1:-1], strict=False)]  # the last is the work itself
    assert len(message.edits) >= 3
    assert all(gap > 1.9 for gap in gaps), gaps


async def test_files_shrink_to_the_limit_of_the_place(house: House) -> None:
    ada = house.person("Ada")
    house.engine.weight = 3 * MIB
    small = await ada.slash(house.room, "paint", genre="landscape", file_limit=2 * MIB)
    message = await small.until(files=1)
    assert len(message.attachments[0].data) <= 2 * MIB
    large = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    assert len(large.attachments[0].data) == 3 * MIB
    house.discord.fail("PATCH", r"/webhooks/.*/messages/", 413, code=40005, files=True, times=2)
    refused = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    assert len(refused.attachments[0].data) < 2 * MIB


async def test_too_many_requests_delay_but_lose_nothing(house: House) -> None:
    ada = house.person("Ada")
    house.discord.fail("PATCH", r"/webhooks/.*/messages/", 429, times=2, retry_after=0.3)
    house.discord.fail("POST", r"/channels/\d+/messages$", 429, times=2, retry_after=0.3)
    await (await ada.slash(house.room, "paint", genre="landscape", count=4)).until(files=1)
    await house.discord.wait(lambda: len(house.works()) == 4)
    assert len(set(shown(house))) == 4


async def test_a_deleted_status_message_and_a_closed_channel(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    house.engine.open.clear()
    first = await ada.slash(house.room, "paint", genre="landscape")
    await first.until("At work")
    await house.discord.remove(first.message)
    closing = house.discord.channel(house.guild, "closing")
    second = await ben.slash(closing, "paint", genre="landscape")
    await second.until("At work")
    house.discord.advance(minutes=16)
    closing.bot_lacks = (1 << 10) | (1 << 11)
    house.engine.open.set()
    await house.discord.wait(lambda: house.works(gallery=house.room), "the work in a new message")
    await house.discord.wait(lambda: house.works(gallery=house.discord.dm(ben.account)), "the work sent to its owner")


async def test_as_an_app_of_ones_own(house: House) -> None:
    elsewhere = house.discord.guild("Elsewhere", installed=False)
    street = house.discord.channel(elsewhere, "street")
    eve = house.discord.person("Eve", elsewhere)
    work = await (await eve.slash(street, "paint", genre="landscape", count=4, user_install=True)).until(files=4)
    assert len({b["custom_id"] for b in work.buttons if ":up:" in b["custom_id"]}) == 4
    await (await eve.slash(street, "help", user_install=True)).until("your own app")
    direct = house.discord.dm(eve.account)
    await (await eve.slash(direct, "paint", genre="landscape")).until(files=1)
    friends = house.discord.private_channel(eve.account, house.person("Flo").account)
    await (await eve.slash(friends, "paint", genre="landscape", user_install=True)).until(files=1)


async def test_mistakes_are_sentences(house: House) -> None:
    ada = house.person("Ada")
    await (await ada.slash(house.room, "stylize", photo=("a.png", b"not a picture"))).until("no picture I can read")
    await (await ada.slash(house.room, "stylize", photo=("a.mp4", b"film"))).until("is no picture but video/mp4")
    await (await ada.slash(house.room, "stylize", photo=photo(), style="nobody")).until("There is no style 'nobody'")
    stops: dict[str, Any] = {"from": "zzzzzz", "to": "flowers"}
    await (await ada.slash(house.room, "morph", **stops)).until("no artwork, genre")
    await (await ada.slash(house.room, "artwork", id="zzzzzz")).until("There is no artwork")
    house.discord.commands = [c for c in house.discord.commands if c["name"] != "paint"] + [
        {**next(c for c in house.discord.commands if c["name"] == "paint"), "name": "dance", "options": []}
    ]
    await (await ada.slash(house.room, "dance")).until("commands have just changed")


async def test_a_wrong_token_ends_with_one_sentence(house: House, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    async with FakeEngine() as engine:
        other = BotProcess(tmp_path / "second", house.discord, engine, DISCORD_TOKEN=TOKEN + "x")
        with pytest.raises(AssertionError, match="Discord does not accept DISCORD_TOKEN"):
            await other.start()
        assert "Traceback" not in other.log
        await other.stop()
