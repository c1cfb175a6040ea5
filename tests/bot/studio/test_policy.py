from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import zipfile
from typing import Any

import pytest
from house import ANN, BEN, CAT, GUILD, PIXEL, FakeEngine, painted, voter

from bot.config import Settings
from bot.studio import HOST, WEB, Filter, Member, Night, NotFound, Refused, Studio, TombstonesDue
from engine.api import PaintRequest, StylizeRequest
from engine.errors import InvalidRequest, UnknownName


async def test_a_guild_changes_only_itself_and_only_what_it_names(studio: Studio) -> None:
    await studio.policy.change(GUILD, gallery_channel="77", up=["⭐"])
    settings = await studio.policy.change(GUILD, gallery_threshold=5)
    assert (settings.gallery_channel, settings.up, settings.gallery_threshold) == ("77", ("⭐",), 5)
    assert await studio.policy.settings(GUILD) == settings
    other = await studio.policy.settings("discord:2")
    assert (other.gallery_channel, other.gallery_threshold) == (None, 3)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"gallery_treshold": 3}, UnknownName, "gallery_threshold"),
        ({"gallery_threshold": 0}, InvalidRequest, "between 1 and 1000"),
        ({"gallery_threshold": "3"}, InvalidRequest, "a whole number"),
        ({"voting": 1}, InvalidRequest, "true or false"),
        ({"gallery_channel": 5}, InvalidRequest, "a text or nothing"),
        ({"up": "❤"}, InvalidRequest, "a list of texts"),
        ({"up": []}, InvalidRequest, "at least one"),
        ({"up": ["👎🏽"]}, InvalidRequest, "for and against"),
        ({"gallery_threshold": 2, "gallery_remove_below": 3}, InvalidRequest, "must not exceed the threshold, 2"),
    ],
)
async def test_a_wrong_setting_is_refused_with_what_is_allowed(
    studio: Studio, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    before = await studio.policy.settings(GUILD)
    with pytest.raises(error, match=sentence):
        await studio.policy.change(GUILD, **changes)
    assert await studio.policy.settings(GUILD) == before


async def test_other_emojis_mean_votes_at_once(studio: Studio) -> None:
    assert await studio.votes.value_of("❤️", GUILD) == "up"
    await studio.policy.change(GUILD, up=["⭐", "123456"])
    values = [await studio.votes.value_of(emoji, GUILD) for emoji in ("⭐", "123456", "❤", "👎🏿")]
    assert values == ["up", "up", None, "down"]


async def test_a_ban_holds_where_it_was_spoken(studio: Studio) -> None:
    await studio.policy.ban(GUILD, BEN, by=ANN, reason="spam")
    with pytest.raises(Refused, match="banned"):
        await painted(studio, BEN)
    await painted(studio, BEN, "discord:2")
    (ban,) = await studio.policy.bans(GUILD)
    assert (ban.member.name, ban.reason) == ("Ben", "spam")
    assert await studio.policy.unban(GUILD, BEN) and not await studio.policy.unban(GUILD, BEN)
    await painted(studio, BEN)
    await studio.policy.ban(None, BEN, by=HOST)
    with pytest.raises(Refused, match="banned"):
        await painted(studio, BEN, "discord:2")


async def test_preferences_are_checked_and_kept(studio: Studio) -> None:
    assert (await studio.policy.preferences(ANN)).training
    await studio.policy.prefer(ANN, training=False, language="de")
    mine = await studio.policy.preferences(ANN)
    assert (mine.training, mine.language, mine.votes) == (False, "de", True)
    with pytest.raises(UnknownName, match="others_may_stylize"):
        await studio.policy.prefer(ANN, traning=True)
    with pytest.raises(InvalidRequest, match="true or false"):
        await studio.policy.prefer(ANN, training="no")


async def test_the_houses_limits_are_a_guilds_first_ones(settings: Settings, engine: FakeEngine) -> None:
    from bot.studio import open_studio

    async with open_studio(settings.model_copy(update={"member_waiting": 3, "language": "de"}), engine) as studio:
        mine = await studio.policy.settings(GUILD)
        assert (mine.member_waiting, mine.language) == (3, "de")


async def test_on_the_web_self_votes_count_only_at_home(settings: Settings, engine: FakeEngine) -> None:
    from bot.studio import open_studio

    async with open_studio(settings, engine) as studio:
        assert (await studio.policy.settings(WEB)).self_votes
        assert not (await studio.policy.settings(GUILD)).self_votes
    public = settings.model_copy(update={"web_host": "0.0.0.0"})
    async with open_studio(public, engine) as studio:
        assert not (await studio.policy.settings(WEB)).self_votes


# Privacy


async def busy_life(studio: Studio) -> tuple[str, str]:
    """Ann makes a work that Ben likes, and likes one of Ben's; a night learns from both."""
    own, bens = await painted(studio, ANN), await painted(studio, BEN)
    await studio.gallery.add_post(own, platform="discord", channel="5", message="m1")
    await studio.gallery.thumbnail(own, viewer=None)
    await studio.votes.cast(own, voter(BEN), "up")
    await studio.votes.react(bens, voter(ANN), "❤", message="m2", added=True)
    await studio.policy.prefer(ANN, language="de")
    night = Night(id="2026-01-01", state="promoted", started=time.time())
    await studio.nights.record(night, await studio.nights.snapshot(time.time() + 1))
    return own, bens


async def test_an_export_holds_everything_about_a_member(studio: Studio) -> None:
    own, bens = await busy_life(studio)
    path = await studio.policy.export(ANN)
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data.json"))
        assert sorted(archive.namelist()) == [f"artworks/{own}.png", "data.json"]
    assert [work["id"] for work in data["artworks"]] == [own]
    assert [(vote["artwork"], vote["value"]) for vote in data["votes"]] == [(bens, "up")]
    assert [post["message"] for post in data["posts"]] == ["m1"]
    assert len(data["jobs"]) == len(data["vote_events"]) == len(data["reactions"]) == 1
    assert BEN.key not in json.dumps(data["votes"])


async def test_photos_are_exported_and_deleted_also_those_in_others_jobs(studio: Studio, settings: Settings) -> None:
    request = StylizeRequest(photo=PIXEL)
    art = await painted(studio, ANN, request=request)
    job = (await studio.gallery.get(art, viewer=ANN)).job_id
    with zipfile.ZipFile(await studio.policy.export(ANN)) as archive:
        assert archive.read(f"photos/{job}/photo") == PIXEL
    await painted(studio, BEN, request=request, photo_owner=ANN)
    others = await painted(studio, CAT, request=request)
    await studio.policy.delete(ANN)
    left = await studio.gallery.get(others, viewer=CAT)
    assert [path.parent.name for path in (settings.data / "jobs").rglob("photo")] == [left.job_id]


async def test_a_deletion_reaches_everything(studio: Studio, settings: Settings) -> None:
    own, bens = await busy_life(studio)
    name = await studio.nights.pseudonym(ANN)
    with studio.events.subscribe(TombstonesDue) as stream:
        deletion = await studio.policy.delete(ANN)
        async for _ in stream:
            break
    assert (deletion.artworks, deletion.votes, deletion.jobs, deletion.posts) == (1, 1, 1, 1)
    assert deletion.nights == ("2026-01-01",)
    assert (await studio.nights.get("2026-01-01")).withdrawn == 2
    assert [stone.message for stone in await studio.policy.tombstones("discord")] == ["m1"]
    assert (await studio.votes.tally(bens)).tally.up == 0
    with pytest.raises(NotFound):
        await studio.gallery.get(own, viewer=ANN)
    assert await studio.gallery.search(own, viewer=ANN) == []

    db = sqlite3.connect(settings.data / "ganvas.db")
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    left = [
        (table, row)
        for table in tables
        for row in db.execute(f"SELECT * FROM {table}")
        if any(text in str(row) for text in (ANN.key, own, name, "'Ann'"))
    ]
    db.close()
    assert left == []
    assert [path for path in settings.data.rglob("*") if own in path.name] == []


async def test_who_said_no_to_training_stays_out_after_a_deletion(studio: Studio) -> None:
    await painted(studio, ANN)
    await studio.policy.prefer(ANN, training=False, private=True)
    await studio.policy.delete(ANN)
    mine = await studio.policy.preferences(ANN)
    assert (mine.training, mine.private) == (False, False)


async def test_a_deletion_waits_for_a_running_job(studio: Studio, engine: FakeEngine) -> None:
    engine.gate.clear()
    job = await studio.queue.submit(PaintRequest(genre="marina", seed=1), member=ANN, guild=GUILD)
    with pytest.raises(Refused, match="cancel it"):
        await studio.policy.delete(ANN)
    while not engine.running:
        await asyncio.sleep(0)
    await studio.queue.cancel(job.id, by=ANN)
    assert (await studio.policy.delete(ANN)).jobs == 1


async def test_a_forgotten_member_may_begin_anew(studio: Studio) -> None:
    await painted(studio, ANN)
    await studio.policy.delete(ANN)
    again = await painted(studio, ANN)
    assert [work.id for work in (await studio.gallery.page(Filter(), viewer=CAT)).items] == [again]


async def test_a_vote_of_a_visitor_is_kept_under_their_cookie(studio: Studio) -> None:
    art = await painted(studio, HOST, WEB)
    from bot.studio import Voter

    visitor = Member("web", "cookie", "Visitor")
    assert (await studio.votes.cast(art, Voter(visitor, WEB), "up", source="web")).tally.up == 1
    await studio.policy.delete(visitor)
    assert (await studio.votes.tally(art)).tally.up == 0
