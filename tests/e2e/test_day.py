"""A member's day: every command over real sockets, from the first photo to the last deletion."""

from __future__ import annotations

import io
import json
import re
import zipfile
from itertools import pairwise
from typing import Any

import pytest
from discordstandin import Message, Person
from PIL import Image
from realhouse import House

pytestmark = pytest.mark.timeout(300)  # patience with a busy machine, not a measure


def photo(colour: str = "teal") -> tuple[str, bytes]:
    """Return a small photo to upload."""
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(buffer, "JPEG")
    return "holiday.jpg", buffer.getvalue()


def art_id(message: Message) -> str:
    """Return the id of the work a message shows."""
    found = re.search(r"gan:1:up:(\w+)", " ".join(b.get("custom_id") or "" for b in message.buttons))
    assert found, message.buttons
    return found[1]


async def test_stylize_paint_and_morph(house: House) -> None:
    ada = house.person("Ada")
    styled = await ada.slash(house.room, "stylize", photo=photo(), style="the-great-wave", strength=60)
    shown = await styled.until("The Great Wave", files=1)
    assert shown.attachments[0].filename.startswith("ganvas-")
    first = await (await ada.slash(house.room, "paint", genre="flower-painting", seed="7")).until("seed 7", files=1)
    second = await (await ada.slash(house.room, "paint", genre="landscape")).until("Landscape", files=1)
    stops: dict[str, Any] = {"from": art_id(first), "to": art_id(second)}  # "from" is a word of Python's own
    morph = await ada.slash(house.room, "morph", seconds=2, **stops)
    film = await morph.until("Morph", files=1)
    assert film.attachments[0].filename.endswith(".gif")
    assert len(house.works()) == 4


async def votes_become(person: Person, work: Message, up: int, down: int) -> None:
    """Look at the card of a work until it shows these votes."""
    for _ in range(60):
        card = await (await person.press(work, "Info")).until("Votes", files=1)
        if f"❤ {up} · 👎 {down}" in card.text:
            return
        await person.settle(0.5)
    raise AssertionError(f"The votes did not become {up} and {down}: {card.text}")


async def test_votes_by_reaction_and_button_are_one_ledger(house: House) -> None:
    ada, ben, cem = house.person("Ada"), house.person("Ben"), house.person("Cem")
    work = await (await ada.slash(house.room, "paint", genre="flower-painting")).until(files=1)
    await ben.react(work, "❤️", times=2)  # the gateway may say it twice
    await votes_become(ada, work, 1, 0)
    await cem.press(work, "gan:1:up", times=2)
    await house.discord.wait(lambda: _count(work) == "2")
    await ben.react(work, "👍", burst=True)  # another emoji for it is still one vote
    await ben.unreact(work, "❤️")
    await cem.press(work, "gan:1:up")  # pressed again: taken back
    await house.discord.wait(lambda: _count(work) == "1")
    own = await ada.press(work, "gan:1:up")
    await house.discord.wait(lambda: len(own.messages) > 1)
    assert own.messages[-1].ephemeral
    assert "your own work" in own.text
    young = house.person("Young", days=1)
    await young.react(work, "❤️")  # too young an account: ignored in silence
    await ben.unreact(work, "👍", burst=True)
    await cem.press(work, "gan:1:down")
    await votes_become(ada, work, 0, 1)


def _count(work: Message) -> str:
    return next(b.get("label") or "" for b in work.buttons if b["custom_id"].startswith("gan:1:up"))


async def test_the_buttons_follow_votes_by_reaction_in_few_edits(house: House) -> None:
    ada, fans = house.person("Ada"), [house.person(f"Fan{i}") for i in range(4)]
    work = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    delivered = len(work.edits)
    for fan in fans[:3]:
        await fan.react(work, "❤️")
    await house.discord.wait(lambda: _count(work) == "3")
    await fans[3].react(work, "👎")
    await fans[0].unreact(work, "❤️")
    await house.discord.wait(lambda: [b.get("label") for b in work.buttons[:2]] == ["2", "1"])
    times = work.edits[delivered:]
    assert all(later - earlier >= 4.9 for earlier, later in pairwise(times)), "at most one edit in five seconds"
    assert [b["custom_id"].split(":")[2] for b in work.buttons] == [
        "up", "down", "roll", "vary", "enhance", "morph", "info", "delete",
    ]  # fmt: skip


async def test_the_gallery_shows_what_is_liked_and_drops_it_again(house: House) -> None:
    wall = house.discord.channel(house.guild, "gallery")
    boss, ada = house.person("Boss", manager=True), house.person("Ada")
    fans = [house.person(f"Fan{i}") for i in range(2)]
    await (await boss.slash(house.room, "settings", gallery_channel=wall, threshold=2)).until("2")
    work = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    for fan in fans:
        await fan.react(work, "👍")
    copy = await house.discord.wait(lambda: next(iter(house.works(gallery=wall)), None), "the copy in the gallery")
    assert f"<@{ada.id}>" in copy.content
    await house.person("Dee").react(copy, "❤️")  # a vote on the copy is a vote on the work
    await house.discord.wait(lambda: "❤ 3" in copy.content)
    for fan in fans:
        await fan.unreact(work, "👍")
    await house.discord.clear_reactions(copy)
    await house.discord.wait(lambda: not house.works(gallery=wall), "the copy to come down")
    await fans[0].react(work, "👍")
    await fans[1].react(work, "👍")
    await house.discord.wait(lambda: len(house.works(gallery=wall)) == 1, "the copy to come back")


async def test_every_button_of_a_work(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    work = await (await ada.slash(house.room, "paint", genre="flower-painting", seed="11")).until("11", files=1)
    again = await (await ben.press(work, "Re-roll")).until("Flowers", files=1)
    assert art_id(again) != art_id(work)
    varied = await (await ben.press(work, "Vary")).until("seed 11", files=1)
    larger = await (await ben.press(work, "Enhance")).until("Enlarged to 96", files=1)
    assert len({art_id(m) for m in (work, again, varied, larger)}) == 4
    card = await (await ben.press(work, "Info")).until("flower-painting", files=1)
    assert card.ephemeral
    assert art_id(varied) in card.text  # the family of the work
    original = await (await ben.press(card, "Original file")).until(files=1)
    assert original.attachments[0].data == work.attachments[0].data
    await (await ben.press(work, "Morph")).until("Choose the second")
    film = await (await ben.press(again, "Morph")).until("Morph", files=1)
    assert film.attachments[0].filename.endswith(".gif")
    refused = await ben.press(work, "Delete")
    await refused.until("Only the member who made a work")
    question = await (await ada.press(work, "Delete")).until("for good")
    await ada.press(question, "Delete")
    await house.discord.wait(lambda: work.id not in house.room.messages, "the work to be taken down")


async def test_context_menus(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    posted = await ben.say(house.room, "my cat", photo("orange"))
    window = await ada.menu(posted, "Stylize")
    styled = await (await ada.submit(window, style="the-scream", strength="70")).until("The Scream", files=1)
    recipe = await (await ada.menu(styled, "Recipe")).until('"strength": 0.7', files=1)
    assert recipe.ephemeral
    one = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    two = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    asked = await (await ada.menu(one, "Morph with...")).until("Choose the second")
    film = await (await ada.press(asked, "gan:1:pick:with", values=[art_id(two)])).until("Morph", files=1)
    assert art_id(film)
    chat = await ben.say(house.room, "no picture")
    await (await ada.menu(chat, "Stylize")).until("no picture attached")
    await (await ada.menu(chat, "Recipe")).until("no artwork of mine")


async def test_lists_and_pages(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    batch = await ada.slash(house.room, "paint", genre="flower-painting", count=4)
    await house.discord.wait(lambda: len(house.works()) == 4, "one message a painting")
    await (await ada.slash(house.room, "paint", genre="landscape", private=True)).until("Landscape", files=1)
    assert batch.message.attachments
    mine = await (await ada.slash(house.room, "mine")).until("Works 1 to 4 of 5", files=4)
    await ada.press(mine, "Next page")
    await house.discord.wait(lambda: "Works 5 to 5 of 5" in mine.text)
    assert await (await ben.slash(house.room, "gallery", member=ada)).until("Works 1 to 4 of 4", files=4)
    await (await ben.slash(house.room, "gallery", genre="landscape")).until("nothing here yet")
    shown = art_id(house.works()[0])
    offered = await ben.type(house.room, "artwork", "id", shown[:3])
    assert shown in [choice["value"] for choice in offered]
    assert await (await ben.slash(house.room, "artwork", id=shown)).until("Recipe", files=1)
    styles = await ben.type(house.room, "stylize", "style", "great", photo=photo())
    assert [choice["value"] for choice in styles] == ["the-great-wave"]
    offered = await ben.type(house.room, "paint", "style", "", genre="landscape")
    assert [choice["value"] for choice in offered][:4] == ["symbolism", "baroque", "ukiyo-e", "the-starry-night"]
    await (await ben.slash(house.room, "paint", genre="landscape", style="Ukiyo-e")).until("Ukiyo-e", files=1)


async def test_the_queue_can_be_seen_and_cancelled(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    house.engine.open.clear()
    jobs = [await ada.slash(house.room, "paint", genre="landscape") for _ in range(4)]
    await jobs[-1].until("in line")
    queue = await ada.slash(house.room, "queue")
    await queue.until("4. paint")
    await (await ben.press(jobs[-1].message, "Cancel")).until("Only the member who started a job")
    await ada.press(jobs[-1].message, "Cancel")
    await jobs[-1].until("cancelled")
    offered = await ada.type(house.room, "cancel", "job", "")
    assert len(offered) == 3
    await (await ada.slash(house.room, "cancel", job=offered[0]["value"])).until("Cancelled")
    house.engine.open.set()
    await house.discord.wait(lambda: len(house.works()) == 2)


async def test_admins_keep_order(house: House) -> None:
    boss, ada = house.person("Boss", manager=True), house.person("Ada")
    work = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    await (await boss.slash(house.room, "admin ban", member=ada, reason="spam")).until("is banned")
    await (await ada.slash(house.room, "paint", genre="landscape")).until("ban")
    await (await boss.slash(house.room, "admin unban", member=ada)).until("no longer banned")
    await (await boss.slash(house.room, "admin status")).until("idle")
    await (await boss.slash(house.room, "admin remove", id=art_id(work))).until("deleted")
    await house.discord.wait(lambda: work.id not in house.room.messages, "the work to be taken down")


async def test_privacy_reaches_everything(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    mine = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    bens = await (await ben.slash(house.room, "paint", genre="landscape")).until(files=1)
    await ada.press(bens, "gan:1:up")
    await house.discord.wait(lambda: _count(bens) == "1")
    await (await ada.slash(house.room, "privacy training", on=False)).until("Nothing of yours")
    sent = await (await ada.slash(house.room, "privacy export")).until(files=1)
    with zipfile.ZipFile(io.BytesIO(sent.attachments[0].data)) as archive:
        assert art_id(mine) in json.dumps(json.loads(archive.read("data.json")))
    question = await (await ada.slash(house.room, "privacy delete")).until("for good")
    await ada.press(question, "Delete everything")
    await house.discord.wait(lambda: "Deleted: 1 works, 1 votes" in question.text)
    await house.discord.wait(lambda: mine.id not in house.room.messages, "the post to be deleted")
    assert bens.id in house.room.messages


async def test_help_names_what_the_bot_lacks(house: House) -> None:
    ada = house.person("Ada")
    await (await ada.slash(house.room, "help")).until("I may do everything I need")
    silent = house.discord.channel(house.guild, "silent", bot_lacks=1 << 15)
    told = await (await ada.slash(silent, "help")).until("I may not")
    assert "attach files" in told.text


@pytest.mark.parametrize(
    ("locale", "name", "queue"), [("de", "malen", "Hier sind"), ("ja", "ペイント", "件"), ("es-ES", "pintar", "Aquí")]
)
async def test_other_languages(house: House, locale: str, name: str, queue: str) -> None:
    person = house.person("Ada", locale=locale)
    paint = next(c for c in house.discord.commands if c["name"] == "paint")
    assert paint["name_localizations"][locale] == name
    answer = await person.slash(house.room, "queue")
    assert queue in (await answer.until()).text


async def test_a_duel_is_blind_until_the_choice_and_goes_on_after_a_restart(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    for genre, count in (("landscape", 3), ("flower-painting", 1)):
        await ada.slash(house.room, "paint", genre=genre, count=count)
    await house.discord.wait(lambda: len(house.works()) == 4, "the works")
    secrets = [art_id(work) for work in house.works()] + [str(ada.id), "❤"]
    pair = await (await ben.slash(house.room, "duel")).until("which is better", files=2)
    assert pair.ephemeral
    assert "Landscape" in pair.text
    assert [a.filename for a in pair.attachments] == ["first.webp", "second.webp"]
    assert all("Landscape" in (a.description or "") for a in pair.attachments)
    shown = pair.text + str([vars(a) for a in pair.attachments] + pair.components)
    assert not [secret for secret in secrets if secret in shown]
    cem = house.person("Cem")
    stranger = await cem.press(pair, "Neither")
    await house.discord.wait(lambda: "drawn for somebody else" in stranger.text)
    await house.bot.kill()
    await house.bot.start()
    await ben.press(pair, "gan:1:first")
    await house.discord.wait(lambda: "Thank you" in pair.text)
    assert f"<@{ada.id}>" in pair.text
    assert pair.text.count("🏆") == 1
    assert "🏆" in pair.text.splitlines()[1]
    await ben.press(pair, "Next pair")
    await house.discord.wait(lambda: "which is better" in pair.text, "the next pair")
    for _ in range(2):  # three landscapes are three pairs
        await ben.press(pair, "Neither")
        await house.discord.wait(lambda: "Thank you" in pair.text)
        assert "🏆" not in pair.text
        await ben.press(pair, "Next pair")
        await house.discord.wait(lambda: "Thank you" not in pair.text)
    assert "no two new works" in pair.text
    assert not pair.attachments
    await (await ben.slash(house.room, "duel", genre="marina")).until("no two new works")


async def test_a_duel_in_a_direct_message_and_as_ones_own_app(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben", locale="de")
    await ada.slash(house.room, "paint", genre="landscape", count=2)
    await house.discord.wait(lambda: len(house.works()) == 2, "the works")
    direct = house.discord.dm(ben.account)
    pair = await (await ben.slash(direct, "duel")).until("besser", files=2)
    await ben.press(pair, "gan:1:second")
    await house.discord.wait(lambda: "Danke" in pair.text)
    elsewhere = house.discord.guild("Elsewhere", installed=False)
    corner = house.discord.channel(elsewhere, "corner")
    cem = house.discord.person("Cem", elsewhere)
    own = await (await cem.slash(corner, "duel", user_install=True)).until("which is better", files=2)
    await cem.press(own, "gan:1:first")
    await house.discord.wait(lambda: "Thank you" in own.text)


async def test_ones_own_preference_makes_works_private(house: House) -> None:
    ada = house.person("Ada")
    await (await ada.slash(house.room, "privacy private", on=True)).until("Only you see")
    hidden = await (await ada.slash(house.room, "paint", genre="landscape")).until("Landscape", files=1)
    assert hidden.ephemeral
    again = await (await ada.press(hidden, "Re-roll")).until("Landscape", files=1)
    assert again.ephemeral
    await house.bot.kill()
    await house.bot.start()
    styled = await (await ada.slash(house.room, "stylize", photo=photo())).until(files=1)
    assert styled.ephemeral
    shown = await (await ada.slash(house.room, "paint", genre="landscape", private=False)).until(files=1)
    assert not shown.ephemeral
    stops: dict[str, Any] = {"from": "landscape:1", "to": "landscape:2"}
    assert (await (await ada.slash(house.room, "morph", **stops)).until("Morph", files=1)).ephemeral
    await (await ada.slash(house.room, "privacy private", on=False)).until("public")
    assert not (await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)).ephemeral


async def test_consent_and_reactions_are_the_members_own_wish(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben", locale="es-ES")
    posted = await ada.say(house.room, "my cat", photo("orange"))
    await (await ada.slash(house.room, "privacy photos", on=False)).until("Nobody else")
    window = await ben.menu(posted, "Stylize")
    refused = await ben.submit(window, style="the-scream")
    await refused.until("pidió que otros no hagan nada")
    work = await (await ada.slash(house.room, "paint", genre="landscape")).until(files=1)
    await (await ben.slash(house.room, "privacy reactions", on=False)).until("no son votos")
    await ben.react(work, "❤️")
    cem = house.person("Cem")
    await cem.react(work, "❤️")
    await house.discord.wait(lambda: _count(work) == "1", "the button to count one vote by reaction")
    await votes_become(ada, work, 1, 0)


@pytest.mark.parametrize(
    ("file", "locale", "sentence"),
    [
        (("tune.mp3", b"ID3"), "en-US", "is no picture but audio"),
        (("drawing.svg", b"<svg/>"), "de", "ist kein Bild, sondern image/svg"),
        (("letter.pdf", b"%PDF"), "ja", "画像ではなく"),
    ],
)
async def test_what_cannot_be_a_picture_is_refused_at_once(
    house: House, file: tuple[str, bytes], locale: str, sentence: str
) -> None:
    answer = await house.person("Ada", locale=locale).slash(house.room, "stylize", photo=file)
    assert sentence in answer.text, "the very first answer"
    assert answer.message.ephemeral
    assert house.engine.ran == []


async def test_mistakes_of_the_engine_are_told_in_ones_language(house: House) -> None:
    ada = house.person("Ada", locale="de")
    broken = await ada.slash(house.room, "stylize", photo=("torn.jpg", b"\xff\xd8 torn"), private=True)
    await broken.until("no picture I can read")  # the stand-in's own sentence; nobody translated it
    unknown = await ada.slash(house.room, "artwork", id="zzzzzz")
    await unknown.until("Ein Werk 'zzzzzz' gibt es nicht.")


async def test_the_host_holds_nights_back_also_after_a_restart(house: House) -> None:
    boss = house.person("Boss", manager=True)
    card = await (await boss.slash(house.room, "apprentice")).until("Nights are switched off")
    told = await boss.press(card, "Run now")
    await house.discord.wait(lambda: "switched off in this house" in told.text)
    await boss.press(card, "Pause")
    await house.discord.wait(lambda: "Paused by the host" in card.text)
    await house.bot.kill()
    await house.bot.start()
    await boss.press(card, "Resume")
    await house.discord.wait(lambda: "Nights are held again" in card.text)
    assert "Paused by the host" not in card.text
