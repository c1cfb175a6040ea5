"""The bench: photos, previews, and the three forms that become jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from visits import draw, photo_bytes

from bot.studio import HOST, Filter, Studio
from engine.api import MorphRequest, PaintRequest, Stop, StylizeRequest


async def test_a_photo_becomes_a_work_beside_which_the_photo_lies(host: Any, studio: Studio) -> None:
    await host.get("/")
    status, photo = await host.ask("/photos", {"photo_file": photo_bytes(2000, 1500)})
    assert (status, photo["width"], photo["height"]) == (201, 1280, 960)
    [work] = await host.make("/stylize", {"photo": photo["id"], "style": "style:waves", "nonce": "1", "strength": "40"})
    _, page = await host.get(f"/art/{work}")
    assert 'id="compare"' in page and photo["href"] in page
    artwork = await studio.gallery.get(work, viewer=None)
    assert (artwork.style, artwork.member) == ("waves", HOST)


async def test_the_bench_is_at_the_address_that_its_form_has(host: Any) -> None:
    response, page = await host.get("/stylize")
    assert response.status == 200 and 'action="/stylize"' in page


@pytest.mark.parametrize(("hours", "stays"), [(0.0, False), (24.0, True)])
async def test_photos_leave_the_bench_as_the_host_decided(serve: Any, settings: Any, hours: float, stays: bool) -> None:
    host = (await serve(photo_hours=hours))()
    await host.get("/")
    _, photo = await host.ask("/photos", {"photo_file": photo_bytes()})
    assert (await host.get(photo["href"]))[0].status == 200  # there is time to choose a style in any case
    note = settings.data / "bench" / f"{photo['id']}.json"
    told = json.loads(note.read_text())
    note.write_text(json.dumps(told | {"created": told["created"] - 2 * 3600}))
    assert (await host.get(photo["href"]))[0].status == (200 if stays else 404)


async def test_the_form_works_without_scripts(host: Any, studio: Studio) -> None:
    await host.get("/")
    response, _ = await host.post(
        "/stylize", {"photo_file": photo_bytes(), "style": "model:old-brush", "nonce": "1", "private": "on"}
    )
    assert response.status == 200
    [work] = await host.works_of(response.url.path)
    assert (await studio.gallery.get(work, viewer=HOST)).private


async def test_a_picture_of_ones_own_is_the_style(host: Any, engine: Any) -> None:
    await host.get("/")
    own = photo_bytes(20, 20, (0, 0, 0))
    await host.make("/stylize", {"photo_file": photo_bytes(), "style_file": own})
    assert any(isinstance(r, StylizeRequest) and r.style_image == own for _, r in engine.requests)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"style": "style:waves"}, "no photo yet"),
        ({"photo_file": b"<svg/>", "style": "style:waves"}, "no picture"),
        ({"photo_file": photo_bytes()}, "No style is chosen"),
        ({"photo_file": photo_bytes(), "style": "style:waves", "strength": "101"}, "from 0 to 100"),
        ({"photo_file": photo_bytes(), "style": "style:waves", "size": "many"}, "Size is 'many'"),
        ({"photo": "A" * 22, "style": "style:waves"}, "no longer on the bench"),
        ({"photo": "../../ganvas", "style": "style:waves"}, "no longer on the bench"),
    ],
)
async def test_a_mistake_is_answered_with_what_to_do(host: Any, fields: dict[str, Any], words: str) -> None:
    await host.get("/")
    status, answer = await host.ask("/stylize", fields)
    assert 400 <= status < 500
    assert words in answer["error"] and answer["error"].endswith((".", ")"))


async def test_the_same_form_sent_twice_is_one_job_and_another_style_is_another(host: Any) -> None:
    await host.get("/")
    _, photo = await host.ask("/photos", {"photo_file": photo_bytes()})
    form = {"photo": photo["id"], "style": "style:waves", "nonce": "abc"}
    _, first = await host.ask("/stylize", form)
    _, again = await host.ask("/stylize", form)
    _, other = await host.ask("/stylize", form | {"style": "style:dots"})
    assert first == again != other


async def test_every_style_shows_itself_on_ones_own_photo_once(host: Any, engine: Any) -> None:
    await host.get("/")
    _, photo = await host.ask("/photos", {"photo_file": photo_bytes(900, 600)})
    for _ in range(2):
        response, _ = await host.get(f"/photos/{photo['id']}/style/waves.webp")
        assert (response.status, response.content_type) == (200, "image/webp")
    previews = [r for _, r in engine.requests if isinstance(r, StylizeRequest)]
    assert [(r.style, r.size) for r in previews] == [("waves", 256)]
    assert len(previews[0].photo) < 20_000  # a small copy, not the photo
    response, _ = await host.get(f"/photos/{photo['id']}/style/unheard-of.webp")
    assert response.status == 404


async def test_a_style_is_shown_by_the_models_picture_until_there_is_a_photo(host: Any, style_pictures: Any) -> None:
    _, page = await host.get("/")
    assert '<img src="/styles/atelier/waves.webp"' in page
    assert "The &lt;Great&gt; Wave" in page
    response, _ = await host.get("/styles/atelier/waves.webp")
    assert (response.status, response.content_type) == (200, "image/webp")
    assert "/styles/atelier/dots.webp" not in page  # it has none


async def test_one_seed_paints_several_and_words_are_a_seed(host: Any, studio: Studio) -> None:
    await host.get("/paint")
    first = await host.make("/paint", {"genre": "flower-painting", "seed": "a quiet harbour", "count": "3"})
    assert len(first) == 3
    seeds = [(await studio.gallery.get(work, viewer=None)).recipe["options"]["seed"] for work in first]
    again = await host.make("/paint", {"genre": "flower-painting", "seed": "a quiet harbour", "count": "1"})
    assert (await studio.gallery.get(again[0], viewer=None)).recipe["options"]["seed"] == min(seeds)


async def test_art_styles_of_painter_and_stylizer_are_offered(host: Any, studio: Studio) -> None:
    _, page = await host.get("/paint")
    assert '<option value="baroque">Baroque</option><option value="ukiyo-e">Ukiyo-e</option>' in page
    [work] = await host.make("/paint", {"genre": "landscape", "art_style": "ukiyo-e"})
    assert (await studio.gallery.get(work, viewer=None)).art_style == "ukiyo-e"


async def test_nudes_are_offered_only_where_house_and_rules_allow_them(serve: Any, studio: Studio) -> None:
    browser = (await serve(nudes=True))()
    _, page = await browser.get("/paint")
    assert "nude-painting" not in page
    await studio.policy.change("web", nudes=True)
    _, page = await browser.get("/paint")
    assert "nude-painting" in page


async def test_two_works_glide_into_each_other_and_are_its_parents(host: Any, studio: Studio, engine: Any) -> None:
    await host.get("/paint")
    [first] = await host.make("/paint", {"genre": "landscape", "seed": "7", "art_style": "ukiyo-e"})
    [second] = await host.make("/paint", {"genre": "flowers", "seed": "8"})
    [film] = await host.make(
        "/morph", {"from": first, "to": f"#{second.upper()}", "via": "landscape:9", "format": "gif"}
    )
    work = await studio.gallery.get(film, viewer=None)
    assert set(work.parents) == {first, second}
    request = next(r for _, r in engine.requests if isinstance(r, MorphRequest))
    assert request.stops == (Stop("landscape", 7, "ukiyo-e"), Stop("landscape", 9), Stop("flower-painting", 8))
    _, page = await host.get(f"/art/{film}")
    assert f'href="/art/{first}"' in page and 'id="hold"' in page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"from": "landscape"}, "second work is missing"),
        ({"from": "castles:3", "to": "landscape"}, "no genre 'castles'"),
        ({"from": "zzzzz2", "to": "landscape"}, "no artwork 'zzzzz2'"),
        ({"from": "landscape", "to": "portrait", "seconds": "99"}, "from 1 to 10"),
        ({"from": "landscape", "to": "portrait", "format": "avi"}, "avi"),
    ],
)
async def test_a_morph_that_cannot_be_says_why(host: Any, fields: dict[str, str], words: str) -> None:
    await host.get("/morph")
    status, answer = await host.ask("/morph", fields)
    assert 400 <= status < 500 and words in answer["error"]


async def test_made_larger_for_the_wall_and_a_sister(host: Any, studio: Studio, engine: Any) -> None:
    await host.get("/paint")
    [work] = await host.make("/paint", {"genre": "landscape", "seed": "7"})
    [wall] = await host.make(f"/art/{work}/make/wall", {})
    large = await studio.gallery.get(wall, viewer=None)
    assert (large.width, large.height, large.parents) == (1920, 1080, (work,))
    [sister] = await host.make(f"/art/{work}/make/vary", {})
    assert (await studio.gallery.get(sister, viewer=None)).recipe["options"]["seed"] == 8


async def test_a_replay_says_whether_the_bytes_agree(host: Any, studio: Studio, monkeypatch: Any, engine: Any) -> None:
    await host.get("/paint")
    [work] = await host.make("/paint", {"genre": "landscape", "seed": "7"})
    _, answer = await host.ask(f"/art/{work}/make/replay")
    await host.works_of(answer["href"])
    _, page = await host.get(answer["href"])
    assert "Every byte agrees" in page
    others = await studio.gallery.page(Filter(), viewer=None)
    assert [item.id for item in others.items] == [work]  # the copy is private

    def otherwise(request: PaintRequest, number: int) -> Any:
        return draw(PaintRequest(genre="portrait", seed=1), number)

    monkeypatch.setattr(engine, "_output", otherwise)
    _, answer = await host.ask(f"/art/{work}/make/replay")
    await host.works_of(answer["href"])
    _, page = await host.get(answer["href"])
    assert "The bytes differ" in page
