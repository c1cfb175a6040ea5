"""The gallery, the works' pages, and the feed."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from visits import photo_bytes

from bot.studio import HOST, Studio
from bot.web import gallery

ATOM = "{http://www.w3.org/2005/Atom}"


async def hang(host: Any) -> list[str]:
    """Three works: a landscape, a flower painting, a photo as waves."""
    await host.get("/")
    [land] = await host.make("/paint", {"genre": "landscape", "seed": "1"})
    [flower] = await host.make("/paint", {"genre": "flowers", "seed": "2"})
    [wave] = await host.make("/stylize", {"photo_file": photo_bytes(), "style": "style:waves"})
    return [land, flower, wave]


def shown(page: str) -> list[str]:
    return re.findall(r'<a class="title" href="/art/(\w+)"', page)


async def test_filters_show_what_they_say(host: Any, studio: Studio) -> None:
    land, flower, wave = await hang(host)
    await studio.policy.change("web", self_votes=True)
    await host.post(f"/art/{flower}/vote", {"value": "up"})
    for query, expected in {
        "": [wave, flower, land],
        "?genre=landscape": [land],
        "?genre=flowers": [flower],
        "?style=waves": [wave],
        "?kind=stylize": [wave],
        "?sort=top": [flower, land, wave],
        "?member=me": [wave, flower, land],
        "?member=discord:9": [],
        "?period=day&kind=paint": [flower, land],
        "?kind=morph": [],
    }.items():
        for part in ("", "&part=1" if query else "?part=1"):
            response, page = await host.get(f"/gallery{query}{part}")
            assert (response.status, shown(page)) == (200, expected)
    _, page = await host.get("/gallery?genre=landscape")
    assert '<option value="landscape" selected>Landscape (1)</option>' in page
    assert "The &lt;Great&gt; Wave (1)" in page


async def test_unknown_filters_are_answered_with_what_is_allowed(host: Any) -> None:
    for query in ("genre=castles", "sort=best", "period=century", "kind=cake", "cursor=%%%", "cursor=abc"):
        response, page = await host.get(f"/gallery?{query}")
        assert 400 <= response.status < 500 and "<h1" in page


async def test_the_wall_goes_on_where_a_page_ends(host: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(gallery, "A_PAGE", 2)
    works = await hang(host)
    _, page = await host.get("/gallery?kind=&genre=")
    following = re.search(r'data-next="([^"]+)"', page)
    assert following and shown(page) == works[:0:-1]
    _, rest = await host.get(following[1].replace("&amp;", "&") + "&part=1")
    assert shown(rest) == works[:1] and "data-next" not in rest


async def test_pictures_know_their_size_before_they_come_and_wait_until_they_are_near(host: Any) -> None:
    await hang(host)
    _, page = await host.get("/gallery")
    for image in re.findall(r"<img src=\"/art[^>]*>", page):
        assert 'width="' in image and 'height="' in image and 'loading="lazy"' in image and "srcset" in image


async def test_the_feed_is_atom_and_leads_back(host: Any) -> None:
    works = await hang(host)
    response, body = await host.get("/gallery.atom?kind=paint")
    assert response.content_type == "application/atom+xml"
    feed = ElementTree.fromstring(body)
    links = [entry.find(f"{ATOM}link").get("href") for entry in feed.iter(f"{ATOM}entry")]  # type: ignore[union-attr]
    assert links == [str(host.base / f"art/{work}") for work in works[1::-1]]
    assert feed.find(f"{ATOM}updated") is not None


async def test_a_work_previews_itself_elsewhere_unless_it_is_private(host: Any, studio: Studio) -> None:
    land, *_ = await hang(host)
    _, page = await host.get(f"/art/{land}")
    assert f'<meta property="og:image" content="{host.base}art/{land}/thumb/1280.webp">' in page
    await host.post(f"/art/{land}/private", {"private": "yes"})
    _, page = await host.get(f"/art/{land}")
    assert "og:image" not in page and "private" in page
    _, page = await host.get("/gallery")
    assert land not in shown(page)


async def test_a_vote_counts_once_and_is_taken_back_by_a_second_press(host: Any, studio: Studio) -> None:
    land, *_ = await hang(host)
    await studio.policy.change("web", self_votes=False)
    status, ballot = await host.ask(f"/art/{land}/vote", {"value": "up"})
    assert status == 200 and ballot["mine"] is None and ballot["reason"].endswith(".")  # one's own work
    await studio.policy.change("web", self_votes=True)
    _, ballot = await host.ask(f"/art/{land}/vote", {"value": "up"})
    assert (ballot["up"], ballot["mine"]) == (1, "up")
    _, ballot = await host.ask(f"/art/{land}/vote", {"value": "up"})
    assert (ballot["up"], ballot["mine"]) == (0, None)
    status, answer = await host.ask(f"/art/{land}/vote", {"value": "sideways"})
    assert status == 400 and "up or down" in answer["error"]


async def test_files_come_whole_in_parts_and_to_keep(host: Any, studio: Studio) -> None:
    land, *_ = await hang(host)
    file = await studio.gallery.file(land, viewer=HOST)
    response, _ = await host.get(f"/art/{land}/picture")
    assert (response.content_type, response.headers["Content-Length"]) == ("image/png", str(file.size))
    response, _ = await host.get(f"/art/{land}/picture", headers={"Range": "bytes=0-9"})
    assert (response.status, response.headers["Content-Length"]) == (206, "10")
    response, _ = await host.get(f"/art/{land}/download")
    assert response.headers["Content-Disposition"] == f'attachment; filename="ganvas-{land}.png"'
    response, body = await host.get(f"/art/{land}/recipe.json")
    assert '"seed": 1' in body and "attachment" in response.headers["Content-Disposition"]
    for side in (320, 640, 1280):
        response, _ = await host.get(f"/art/{land}/thumb/{side}.webp")
        assert (response.status, response.content_type) == (200, "image/webp")


async def test_the_family_is_shown_on_both_sides(host: Any) -> None:
    land, *_ = await hang(host)
    [large] = await host.make(f"/art/{land}/make/enlarge", {})
    _, page = await host.get(f"/art/{large}")
    assert f'<a href="/art/{land}"><img' in page and "made from" in page
    _, page = await host.get(f"/art/{land}")
    assert f'<a href="/art/{large}"><img' in page and "came of it" in page


async def test_a_deleted_work_is_gone(host: Any) -> None:
    land, *_ = await hang(host)
    response, page = await host.post(f"/art/{land}/delete")
    assert response.url.path == "/gallery" and land not in page
    for path in ("", "/picture", "/thumb/320.webp"):
        assert (await host.get(f"/art/{land}{path}"))[0].status == 404
