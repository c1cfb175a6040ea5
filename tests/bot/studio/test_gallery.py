from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest
from house import ANN, BEN, CAT, DAN, GUILD, PIXEL, FakeEngine, painted, voter

from bot.config import Settings
from bot.studio import ArtworkChanged, Filter, NotFound, Refused, Studio, open_studio, period
from engine.api import FitRequest, MorphRequest, PaintRequest, Stop, StylizeRequest
from engine.errors import InvalidRequest


def ids(page: object) -> list[str]:
    return [work.id for work in page.items]  # type: ignore[attr-defined]


async def test_an_id_has_six_characters_and_is_found_however_it_is_typed(studio: Studio) -> None:
    art = await painted(studio)
    assert len(art) == 6 and not art.isdigit() and not art.isalpha()
    assert (await studio.gallery.get(f" #{art.upper()} ", viewer=None)).id == art


@pytest.mark.parametrize("art_id", ["", "nothing", "../../etc/passwd", "a' OR '1'='1", "\x00"])
async def test_what_is_not_there_is_not_found(studio: Studio, art_id: str) -> None:
    with pytest.raises(NotFound):
        await studio.gallery.get(art_id, viewer=ANN)


async def test_private_works_do_not_exist_for_others(studio: Studio) -> None:
    art = await painted(studio, ANN, private=True)
    for ask in (
        studio.gallery.get(art, viewer=BEN),
        studio.gallery.get(art, viewer=None),
        studio.gallery.file(art, viewer=BEN),
        studio.gallery.thumbnail(art, viewer=BEN),
        studio.gallery.fit(art, viewer=None, max_bytes=9999),
        studio.gallery.lineage(art, viewer=BEN),
        studio.gallery.set_private(art, False, by=BEN),
        studio.gallery.remove(art, by=BEN),
    ):
        with pytest.raises(NotFound, match=f"There is no artwork '{art}'"):
            await ask
    assert ids(await studio.gallery.page(Filter(member=ANN), viewer=BEN)) == []
    assert await studio.gallery.search("", viewer=BEN) == []
    assert (await studio.gallery.facets()).genres == {}
    assert ids(await studio.gallery.page(Filter(member=ANN), viewer=ANN)) == [art]
    assert [work.id for work in await studio.gallery.search("", viewer=ANN)] == [art]
    assert (await studio.gallery.get(art, viewer=BEN, moderator=True)).id == art


async def test_pages_follow_each_other_without_gap_or_repetition(studio: Studio) -> None:
    made = [await painted(studio) for _ in range(7)]
    seen, cursor = [], None
    for _ in range(3):
        page = await studio.gallery.page(Filter(), viewer=None, cursor=cursor, limit=3)
        seen += ids(page)
        cursor = page.cursor
        if len(seen) == 3:  # what comes meanwhile disturbs nothing
            await painted(studio)
    assert (seen, cursor) == (made[::-1], None)


async def test_a_new_work_is_hotter_than_an_old_one_that_few_liked(studio: Studio, settings: Settings) -> None:
    old, new = await painted(studio), await painted(studio)
    with sqlite3.connect(settings.data / "ganvas.db") as db:
        db.execute("UPDATE artworks SET created = created - 100 * 86400 WHERE id = ?", [old])
    db.close()
    await studio.policy.change(GUILD, window_days=365)
    await studio.votes.cast(old, voter(BEN), "up")
    assert ids(await studio.gallery.page(Filter(sort="hot"), viewer=None)) == [new, old]


@pytest.mark.parametrize("sort", ["top", "hot"])
async def test_liked_works_come_first_and_pages_keep_that_order(studio: Studio, sort: str) -> None:
    made = [await painted(studio) for _ in range(4)]
    for work, fans in ((made[1], (BEN,)), (made[2], (BEN, CAT, DAN))):
        for fan in fans:
            await studio.votes.cast(work, voter(fan), "up")
    order = Filter(sort=sort)  # type: ignore[arg-type]
    first = await studio.gallery.page(order, viewer=None, limit=2)
    second = await studio.gallery.page(order, viewer=None, limit=2, cursor=first.cursor)
    assert ids(first) == [made[2], made[1]]
    assert sorted(ids(second)) == sorted([made[0], made[3]])
    if sort == "top":
        assert ids(second) == [made[0], made[3]], "ties go to the earlier work"


@pytest.mark.parametrize("cursor", ["x", "bnVsbA", "WyJ0b3AiLDEsMSwiYSJd", "é"])
async def test_a_made_up_cursor_is_a_sentence(studio: Studio, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="start again"):
        await studio.gallery.page(Filter(), viewer=None, cursor=cursor)


async def test_works_are_filtered(studio: Studio) -> None:
    landscape = await painted(studio, ANN)
    style = StylizeRequest(photo=PIXEL, style="monet")
    photo = await painted(studio, BEN, "discord:2", request=style)
    for wanted, found in (
        (Filter(genre="landscape"), [landscape]),
        (Filter(style="monet"), [photo]),
        (Filter(command="paint"), [landscape]),
        (Filter(member=BEN), [photo]),
        (Filter(guild=GUILD), [landscape]),
        (Filter(since=time.time() + 1), []),
        (Filter(until=time.time() + 1), [photo, landscape]),
        (Filter(genre="landscape", member=BEN), []),
    ):
        assert ids(await studio.gallery.page(wanted, viewer=None)) == found, wanted
    facets = await studio.gallery.facets()
    assert (facets.genres, facets.styles, facets.commands) == (
        {"landscape": 1},
        {"monet": 1},
        {"paint": 1, "stylize": 1},
    )
    assert facets.members == [(ANN, 1), (BEN, 1)]
    assert facets.members[0][0].name == "Ann"


def test_periods_have_names() -> None:
    assert period("all") is None
    assert (period("week") or 0) == pytest.approx(time.time() - 7 * 86_400, abs=5)
    with pytest.raises(InvalidRequest, match="day, week, month, year, all"):
        period("eon")


async def test_a_family_tree_shows_what_one_may_see(studio: Studio) -> None:
    root = await painted(studio, ANN)
    secret = await painted(studio, ANN, private=True)
    request = MorphRequest(stops=(Stop("marina", 1), Stop("portrait", 2)))
    child = await painted(studio, ANN, request=request, parents=(root, secret))
    grandchild = await painted(studio, BEN, parents=(child,))
    tree = await studio.gallery.lineage(grandchild, viewer=BEN)
    assert [(line.artwork.id, [up.artwork.id for up in line.parents]) for line in tree.parents] == [(child, [root])]
    assert [work.id for work in (await studio.gallery.lineage(root, viewer=BEN)).children] == [child]
    mine = await studio.gallery.lineage(child, viewer=ANN)
    assert [up.artwork.id for up in mine.parents] == [root, secret]
    assert mine.artwork.title == "Morph from marina to portrait"


# Files


async def test_a_thumbnail_is_made_once_for_all_who_ask(studio: Studio, engine: FakeEngine) -> None:
    art = await painted(studio)
    files = await asyncio.gather(*(studio.gallery.thumbnail(art, 320, viewer=None) for _ in range(8)))
    again = await studio.gallery.thumbnail(art, 320, viewer=None)
    fits = [request for _, request in engine.requests if isinstance(request, FitRequest)]
    assert len(fits) == 1 and fits[0].max_side == 320 and fits[0].strip
    assert {file.path for file in files} == {again.path} and again.path.stat().st_size == again.size
    with pytest.raises(InvalidRequest, match="320, 640, 1280"):
        await studio.gallery.thumbnail(art, 321, viewer=None)


async def test_a_file_that_fits_comes_back_untouched(studio: Studio, engine: FakeEngine) -> None:
    art = await painted(studio)
    file = await studio.gallery.file(art, viewer=None)
    whole = await studio.gallery.fit(art, viewer=None, max_bytes=10**6)
    assert whole.data == file.path.read_bytes() and whole.sha256 == file.sha256
    smaller = await studio.gallery.fit(art, viewer=None, max_bytes=10**6, max_side=256)
    assert smaller.format == "webp" and isinstance(engine.requests[-1][1], FitRequest)


# Changes


async def test_a_removed_work_is_gone_everywhere(studio: Studio, settings: Settings) -> None:
    art = await painted(studio)
    await studio.gallery.thumbnail(art, viewer=None)
    await studio.gallery.add_post(art, platform="discord", channel="5", message="m1")
    with studio.events.subscribe(ArtworkChanged) as stream:
        with pytest.raises(Refused):
            await studio.gallery.remove(art, by=BEN)
        await studio.gallery.remove(art, by=BEN, moderator=True, reason="rude")
        async for event in stream:
            assert event == ArtworkChanged(art)
            break
    with pytest.raises(NotFound):
        await studio.gallery.get(art, viewer=ANN)
    assert not list((settings.data / "artworks").rglob("*.png"))
    assert not list((settings.data / "thumbnails").rglob("*.webp"))
    (stone,) = await studio.policy.tombstones("discord")
    assert (stone.channel, stone.message) == ("5", "m1")
    await studio.policy.buried(stone.id)
    assert await studio.policy.tombstones("discord") == []
    assert not (await studio.votes.cast(art, voter(BEN), "up")).accepted


async def test_a_hidden_work_leaves_the_gallery_channel(studio: Studio) -> None:
    art = await painted(studio)
    await studio.policy.change(GUILD, gallery_channel="77", gallery_threshold=1, gallery_remove_below=1)
    await studio.votes.cast(art, voter(BEN), "up")
    await studio.votes.claim(art)
    await studio.votes.posted(art, "77", "g1")
    with pytest.raises(Refused):
        await studio.gallery.set_private(art, True, by=BEN)
    assert (await studio.gallery.set_private(art, True, by=ANN)).private
    assert [task.action for task in await studio.votes.gallery_tasks()] == ["remove"]


# Messages that show works


async def test_any_copy_of_a_work_leads_to_it(studio: Studio) -> None:
    art = await painted(studio)
    assert await studio.gallery.art_of("discord", "m1") is None
    await studio.gallery.add_post(art, platform="discord", channel="5", message="m1")
    await studio.gallery.add_post(art, platform="discord", channel="6", message="m2", role="share")
    assert [await studio.gallery.art_of("discord", m) for m in ("m1", "m2", "m3")] == [art, art, None]
    assert [(post.message, post.role) for post in await studio.gallery.posts(art)] == [
        ("m1", "original"),
        ("m2", "share"),
    ]
    assert sorted(post.message for _, _, post in await studio.gallery.votable("discord")) == ["m1", "m2"]
    await studio.gallery.channel_deleted("discord", "6")
    assert [post.message for _, _, post in await studio.gallery.votable("discord")] == ["m1"]
    await studio.gallery.guild_left(GUILD)
    assert await studio.gallery.votable("discord") == []


async def test_an_ordinary_message_costs_one_query_at_most(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await studio.gallery.art_of("discord", "chatter") is None

    with monkeypatch.context() as patch:
        patch.setattr(studio.gallery, "_store", None)
        assert await studio.gallery.art_of("discord", "chatter") is None


async def test_a_post_of_a_work_removed_meanwhile_is_taken_down(studio: Studio) -> None:
    art = await painted(studio)
    await studio.gallery.remove(art, by=ANN)
    with pytest.raises(NotFound):
        await studio.gallery.add_post(art, platform="discord", channel="5", message="late")
    assert [stone.message for stone in await studio.policy.tombstones("discord")] == ["late"]


async def test_autocomplete_remembers_over_a_restart(settings: Settings, engine: FakeEngine) -> None:
    async with open_studio(settings, engine) as studio:
        art = await painted(studio, request=PaintRequest(genre="portrait", seed=5))
        other = await painted(studio)
    async with open_studio(settings, engine) as studio:
        assert [work.id for work in await studio.gallery.search("", viewer=None)] == [other, art]
        assert [work.id for work in await studio.gallery.search("portr", viewer=None)] == [art]
        assert [work.id for work in await studio.gallery.search("#" + art[:4], viewer=None)] == [art]
