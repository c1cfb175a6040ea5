"""The host's rooms, one's own wishes, health and metrics."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from typing import Any

import pytest
from test_security import code_of, login
from visits import TOKEN, photo_bytes

from bot.studio import HOST, Filter, Member, Studio
from engine.api import PaintRequest
from engine.errors import EngineUnavailable

CLEO = Member("discord", "5", "Cleo")
PAGES = (
    "/", "/paint", "/morph", "/gallery", "/queue", "/duel", "/diary", "/me", "/login", "/host", "/host/settings",
    "/host/bans", "/host/models", "/host/logs",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_opens_also_while_the_engine_is_away(
    host: Any, engine: Any, monkeypatch: Any, path: str
) -> None:
    response, page = await host.get(path)
    assert response.status == 200 and page.count("<h1") == 1 and "<title>" in page

    async def away() -> Any:
        raise EngineUnavailable("No engine answers.")

    monkeypatch.setattr(engine, "models", away)
    monkeypatch.setattr(engine, "health", away)
    response, page = await host.get(path)
    assert response.status == 200


async def test_the_rules_are_those_the_discord_command_sets(host: Any, studio: Studio) -> None:
    await host.get("/host/settings")
    form = {"guild": "discord:42", "gallery_threshold": "5", "gallery_remove_below": "1", "up": "❤ 👍", "down": "👎",
            "min_account_days": "0", "window_days": "30", "member_running": "2", "member_waiting": "3",
            "guild_running": "6", "guild_waiting": "9", "language": "de", "voting": "on"}  # fmt: skip
    response, page = await host.post("/host/settings", form)
    assert response.status == 200 and "The rules are kept" in page
    rules = await studio.policy.settings("discord:42")
    assert (rules.gallery_threshold, rules.language, rules.member_waiting, rules.voting) == (5, "de", 3, True)
    assert (await studio.policy.settings("web")).gallery_threshold == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gallery_threshold": "many"}, "whole number"),
        ({"window_days": "0"}, "window_days is 0"),
        ({"guild": "mars"}, "mars"),
    ],
)
async def test_a_wrong_rule_is_refused_by_name(host: Any, studio: Studio, change: dict[str, str], words: str) -> None:
    await host.get("/host/settings")
    form = {"gallery_threshold": "5", "gallery_remove_below": "1", "up": "❤", "min_account_days": "0",
            "window_days": "30", "member_running": "2", "member_waiting": "3", "guild_running": "6",
            "guild_waiting": "9", "language": "en"} | change  # fmt: skip
    response, page = await host.post("/host/settings", form)
    assert response.status == 400 and words in page


async def test_who_is_banned_makes_nothing_until_the_ban_is_lifted(serve: Any, studio: Studio) -> None:
    open_door = await serve(web_token=TOKEN)
    host, friend = open_door(), open_door()
    await login(host, TOKEN)
    await login(friend, await code_of(host))
    [work] = await friend.make("/paint", {"genre": "landscape", "seed": "1"})
    member = (await studio.gallery.get(work, viewer=None)).member.key
    _, page = await host.post("/host/bans", {"member": member, "reason": "Rude."})
    assert member in page and "Rude." in page
    status, answer = await friend.ask("/paint", {"genre": "landscape", "seed": "2"})
    assert status == 403 and answer["error"].endswith(".")
    await host.post("/host/bans", {"member": member, "lift": "1"})
    assert await friend.make("/paint", {"genre": "landscape", "seed": "2"})
    response, page = await host.post("/host/bans", {"member": "Robert'); DROP TABLE"})
    assert response.status == 400


async def test_the_log_keeps_secrets_to_itself(serve: Any) -> None:
    browser = (await serve(web_token=TOKEN))()
    await login(browser, TOKEN)
    logging.getLogger("bot.test").warning("connecting with %s and token=%s", TOKEN, "hunter2hunter2")
    _, page = await browser.get("/host/logs")
    assert "connecting with •••" in page and "hunter2" not in page and TOKEN not in page


async def test_the_models_are_shown_with_what_their_cards_say(host: Any) -> None:
    _, page = await host.get("/host/models")
    assert "Atelier" in page and "Painter 1" in page and "Old brush" in page


async def test_health_is_ill_when_the_engine_is_away(host: Any, engine: Any, monkeypatch: Any) -> None:
    response, body = await host.get("/healthz")
    assert (response.status, json.loads(body)) == (200, {"ok": True, "database": True, "engine": True})

    async def away() -> Any:
        raise EngineUnavailable("No engine answers.")

    monkeypatch.setattr(engine, "health", away)
    response, body = await host.get("/healthz")
    assert response.status == 503 and json.loads(body)["engine"] is False


async def test_metrics_are_told_also_while_the_engine_is_silent(host: Any, engine: Any, monkeypatch: Any) -> None:
    async def away() -> Any:
        raise EngineUnavailable("No engine answers.")

    monkeypatch.setattr(engine, "metrics", away)
    response, text = await host.get("/metrics")
    assert response.status == 200 and "ganvas_database_ok 1.0" in text and "ganvas_requests_total" not in text
    monkeypatch.setattr(engine, "health", away)
    _, text = await host.get("/metrics")
    assert "ganvas_engine_up 0.0" in text


async def test_what_the_house_notes_for_itself_is_no_rule_of_the_form(host: Any) -> None:
    _, page = await host.get("/host/settings")
    assert 'name="told"' not in page and "<option selected>en</option>" in page


async def test_metrics_count_by_route_and_need_the_token_beyond_loopback(serve: Any) -> None:
    host = (await serve())()
    await host.get("/art/zzzzz2")
    _, text = await host.get("/metrics")
    assert 'ganvas_web_requests_total{route="/art/{id}",status="404"} 1.0' in text
    assert "ganvas_engine_up 1.0" in text and "ganvas_jobs_waiting 0.0" in text
    assert 'ganvas_requests_total{command="paint",outcome="done"} 3.0' in text  # the engine's own figures
    guarded = (await serve(web_token=TOKEN))()
    response, _ = await guarded.get("/metrics")
    assert response.status == 401
    response, _ = await guarded.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status == 200


async def test_wishes_are_kept_and_followed(host: Any, studio: Studio) -> None:
    await host.get("/me")
    _, page = await host.post("/me", {"private": "on"})
    assert "Your wishes are kept" in page
    wishes = await studio.policy.preferences(HOST)
    assert (wishes.training, wishes.others_may_stylize, wishes.private) == (False, False, True)
    _, page = await host.get("/paint")
    assert 'name="private" checked' in page


async def test_everything_of_mine_comes_as_one_file_and_goes_for_good(host: Any, studio: Studio) -> None:
    await host.get("/")
    _, photo = await host.ask("/photos", {"photo_file": photo_bytes()})
    [work] = await host.make("/stylize", {"photo": photo["id"], "style": "style:waves"})
    async with host.session.post(host.base / "me/export", data={"csrf": host.token}) as response:
        names = zipfile.ZipFile(io.BytesIO(await response.read())).namelist()
    assert "data.json" in names and any(work in name for name in names)
    response, page = await host.post("/me/forget", {"sure": "yes"})
    assert response.status == 400 and "Nothing was deleted" in page
    response, page = await host.post("/me/forget", {"sure": "delete"})
    assert response.status == 200 and "It is gone" in page
    assert (await studio.gallery.page(Filter(member=HOST), viewer=HOST)).items == ()
    assert (await host.get(photo["href"]))[0].status == 404


async def test_a_duel_is_blind_until_the_choice(host: Any, studio: Studio) -> None:
    _, page = await host.get("/duel")
    assert "no two new paintings" in page
    works: list[str] = []
    for seed in (1, 2):
        job = await studio.queue.submit(PaintRequest(genre="landscape", seed=seed), member=CLEO, guild="web")
        async for status in studio.queue.watch(job.id):
            works = [*works, *status.artworks]
    _, page = await host.get("/duel")
    assert "Cleo" not in page and "seed" not in page and all(f"/art/{work}/thumb" in page for work in works)
    duel = page.partition('action="/duel/')[2].partition('"')[0]
    response, page = await host.post(f"/duel/{duel}", {"choice": "both"})
    assert response.status == 400 and "first, second, neither" in page
    _, page = await host.post(f"/duel/{duel}", {"choice": "first"})
    assert "You chose" in page and "Cleo" in page
