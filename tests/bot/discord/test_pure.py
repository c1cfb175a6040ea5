"""What needs no Discord: remixing requests, reading options, what the buttons say, where a result goes."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import discord
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.discord.address import Address
from bot.discord.buttons import Chosen, Pressed, batch_view, choice_view, page_view, work_view
from bot.discord.captions import GENRE_NAMES, alt_text, caption, card
from bot.discord.cogs.settings import read_emojis
from bot.discord.cogs.votes import emoji_key
from bot.discord.learning import before_and_after, gate_table, sparkline
from bot.discord.listing import PERIODS, Question
from bot.discord.options import check_photo, read_style, stop_of
from bot.discord.progress import status_text
from bot.discord.remix import reroll, vary
from bot.discord.texts import LANGUAGES, Voice
from bot.studio import Artwork, JobStatus, Member, Night, Tally
from engine.api import GENRES, EnhanceRequest, MorphRequest, PaintRequest, Stop, StylizeRequest
from engine.errors import InvalidRequest, UnknownName, UnreadableImage

SAY = Voice("en")


def artwork(**changes: Any) -> Artwork:
    """Return a painting of tulips."""
    fields: dict[str, Any] = {
        "id": "k3f9ab", "job_id": "j1", "member": Member("discord", "7", "Ada"), "guild": "discord:1",
        "command": "paint", "genre": "flower-painting", "style": None, "art_style": None, "model": "painter",
        "format": "png", "width": 512, "height": 512, "frames": 1, "size": 2000, "sha256": "0" * 64,
        "recipe": {"options": {"genre": "flower-painting", "seed": 7}}, "parents": (), "private": False,
        "age_restricted": False, "created": 1.0, "tally": Tally(2, 1, 0.2), "gallery": "none", "title": "Flowers",
    }  # fmt: skip
    return Artwork(**(fields | changes))


# Remixing


def test_reroll_keeps_the_wish_and_changes_the_chance() -> None:
    first = PaintRequest(genre="flowers", seed=7, count=4, psi=0.3)
    again = reroll(first, random.Random(1), ())
    assert isinstance(again, PaintRequest)
    assert (again.genre, again.psi, again.count) == (first.genre, 0.3, 1)
    assert again.seed != 7
    photo = StylizeRequest(photo=b"x", style="the-scream")
    other = reroll(photo, random.Random(1), ("the-scream", "the-great-wave"))
    assert isinstance(other, StylizeRequest)
    assert other.style == "the-great-wave"
    with pytest.raises(InvalidRequest):
        reroll(EnhanceRequest(image=b"x", scale=2), random.Random(1), ())


@given(st.floats(0, 1), st.integers(0, 2**32))
def test_varying_moves_but_stays_in_range(psi: float, chance: int) -> None:
    varied = vary(PaintRequest(genre="flowers", seed=7, psi=psi), random.Random(chance))
    assert isinstance(varied, PaintRequest)
    assert varied.seed == 7
    assert 0 <= varied.psi <= 1
    assert abs(varied.psi - psi) > 0.1


def test_varying_a_morph_changes_where_it_ends() -> None:
    morph = MorphRequest(stops=(Stop("flowers", 1), Stop("landscape", 2)))
    varied = vary(morph, random.Random(1))
    assert isinstance(varied, MorphRequest)
    assert varied.stops[0] == morph.stops[0]
    assert varied.stops[1] != morph.stops[1]


# Options


def test_a_style_is_found_however_it_is_written() -> None:
    known = ("the-starry-night", "the-scream")
    assert read_style("The Starry Night", known) == "the-starry-night"
    assert read_style("  ", known) is None
    with pytest.raises(UnknownName, match="nobody"):
        read_style("nobody", known)


def test_only_paintings_and_morphs_are_stops() -> None:
    assert stop_of(artwork(), last=True) == Stop("flower-painting", 7)
    options = {"genre": "landscape", "seed": 7, "art_style": "baroque"}
    assert stop_of(artwork(recipe={"options": options}), last=True) == Stop("landscape", 7, "baroque")
    stops = [{"genre": "landscape", "seed": 1}, {"genre": "marina", "seed": 2}]
    film = artwork(command="morph", recipe={"options": {"stops": stops}})
    assert stop_of(film, last=True) == Stop("marina", 2)
    assert stop_of(film, last=False) == Stop("landscape", 1)
    with pytest.raises(InvalidRequest):
        stop_of(artwork(command="stylize", recipe={"options": {}}), last=True)


def test_emojis_are_read_from_what_people_type() -> None:
    assert read_emojis("❤️, 👍 <:tulip:123456789012345678>") == ("❤️", "👍", "123456789012345678")
    with pytest.raises(InvalidRequest, match="heart"):
        read_emojis("heart")
    assert emoji_key(discord.PartialEmoji(name="renamed", id=5)) == "5"
    assert emoji_key(discord.PartialEmoji(name="👍")) == "👍"


def attachment(filename: str, kind: str | None, size: int = 1000) -> discord.Attachment:
    data: Any = {"id": 1, "filename": filename, "size": size, "url": "", "proxy_url": "", "content_type": kind}
    return discord.Attachment(data=data, state=cast(Any, SimpleNamespace(http=None)))


@pytest.mark.parametrize(
    ("filename", "kind"),
    [("a.jpg", "image/jpeg"), ("a.heic", "image/heic"), ("a.heic", "application/octet-stream"), ("a", None),
     ("a.tif", "image/tiff; charset=binary")],
)  # fmt: skip
def test_what_may_be_a_picture_goes_on_to_the_engine(filename: str, kind: str | None) -> None:
    check_photo(attachment(filename, kind), 1000)


@pytest.mark.parametrize(
    "kind",
    ["video/mp4", "audio/mpeg", "text/plain; charset=utf-8", "application/pdf", "application/zip", "image/svg+xml"],
)
def test_what_cannot_be_a_picture_is_refused(kind: str) -> None:
    with pytest.raises(UnreadableImage, match="no picture"):
        check_photo(attachment("a.bin", kind), 1000)
    with pytest.raises(UnreadableImage, match="at most"):
        check_photo(attachment("a.jpg", "image/jpeg", 2**22), 2**20)


# What people see


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"art_style": "the-scream"},
        {"command": "stylize", "style": "the-scream", "genre": None, "recipe": {"options": {"x": "y" * 3000}}},
        {"command": "stylize", "genre": None, "recipe": {}},
        {"command": "morph", "frames": 72, "recipe": {"options": {"stops": [{"genre": "marina", "seed": 1}] * 16}}},
        {"command": "enhance", "recipe": {"options": {}}},
    ],
)
def test_every_work_has_a_caption_words_for_the_blind_and_a_card(language: str, changes: dict[str, Any]) -> None:
    say, art = Voice(language), artwork(**changes)
    assert caption(art, say)
    assert 0 < len(alt_text(art, say)) <= 1024
    embed = card(art, say)
    assert len(embed) <= 6000
    assert all(len(field.value or "") <= 1024 for field in embed.fields)


def test_all_genres_have_names() -> None:
    assert set(GENRE_NAMES) == set(GENRES)


def test_the_status_tells_place_time_and_share() -> None:
    waiting = status_text(JobStatus("j", "queued", place=2, eta=20), SAY, 1000.0)
    assert waiting == "Place 3 in line. Ready <t:1020:R>."
    assert "50%" in status_text(JobStatus("j", "running", share=0.5), SAY, 0.0)
    assert status_text(JobStatus("j", "running", share=1.0), SAY, 0.0).count("▰") == 12


# Nights


def test_a_line_of_votes_shows_the_greatest_full() -> None:
    assert sparkline([0, 7, 14]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


@given(st.lists(st.tuples(st.text(max_size=80), st.floats(allow_nan=True) | st.text(max_size=9)), max_size=40))
def test_the_gate_fits_into_a_field_and_cannot_leave_its_frame(checks: list[tuple[str, float | str]]) -> None:
    shown = gate_table([{"name": name, "value": value, "limit": "x", "passed": True} for name, value in checks])
    assert len(shown) <= 1024
    assert shown.count("```") == 2


def test_pictures_of_a_night_never_leave_its_folder(tmp_path: Path) -> None:
    night = Night("n1", "refused", 1.0, diary={"before": "../../secret.webp", "after": "after.webp"})
    (tmp_path / "n1").mkdir()
    (tmp_path / "secret.webp").write_bytes(b"secret")
    (tmp_path / "n1" / "after.webp").write_bytes(b"after")
    assert before_and_after(tmp_path / "n1", night) == before_and_after(tmp_path, night) == {}
    (tmp_path / "n1" / "before.webp").write_bytes(b"before")
    plain = Night("n1", "refused", 1.0)
    assert before_and_after(tmp_path, plain) == {"before.webp": b"before", "after.webp": b"after"}


# Buttons


@given(
    st.sampled_from(PERIODS), st.sampled_from([None, *GENRES]), st.none() | st.integers(1, 2**64), st.integers(0, 99)
)
def test_a_page_button_carries_the_whole_question(period: str, genre: str | None, member: int | None, n: int) -> None:
    question = Question(period, genre, member, n)
    assert Question.read(question.write()) == question
    assert len(f"gan:1:page:{question.write()}") <= 100


async def test_views_keep_to_the_limits_and_name_the_work() -> None:
    verbs = ("up", "down", "roll", "vary", "enhance", "morph", "info", "delete")
    work = work_view(artwork(), SAY)
    ids = [item.custom_id for item in work.children if isinstance(item, Pressed)]
    assert ids == [f"gan:1:{verb}:k3f9ab" for verb in verbs]
    assert work.timeout is None
    assert all(Pressed.__discord_ui_compiled_template__.fullmatch(custom_id) for custom_id in ids)
    film = work_view(artwork(command="morph", frames=72), SAY)
    assert "gan:1:enhance:k3f9ab" not in [getattr(item, "custom_id", "") for item in film.children]
    batch = batch_view(tuple(artwork(id=f"abcde{i}") for i in range(4)), SAY)
    assert len(batch.to_components()) == 4
    assert page_view(None, "all...1", SAY).children
    choice = choice_view("with", "k3f9ab", [discord.SelectOption(label="x")] * 25, "Morph with...")
    assert isinstance(choice.children[0], Chosen)


# Addresses


def test_an_address_survives_json_and_knows_when_its_token_dies() -> None:
    address = Address(
        channel=1, message=2, token="t", expires=time.time() + 600, limit=10, user=3, guild=None, reachable=True,
        ephemeral=False, language="de",
    )  # fmt: skip
    assert Address(**json.loads(json.dumps(address.to_json()))) == address
    assert address.token_lives
    nearly = Address(**(address.to_json() | {"expires": time.time() + 10}))
    assert not nearly.token_lives
