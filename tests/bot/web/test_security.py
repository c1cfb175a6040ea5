"""The door: who gets in, what a foreign page cannot do, and what nobody can learn."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from visits import TOKEN, photo_bytes

from bot.studio import HOST, Member, Studio
from bot.web.security import Bucket, safe_next
from engine.api import PaintRequest


async def login(browser: Any, secret: str, name: str = "Ann") -> aiohttp.ClientResponse:
    await browser.get("/login")
    response, _ = await browser.post("/login", {"token": secret, "name": name, "next": "/"})
    await browser.get("/")
    return response


async def code_of(browser: Any) -> str:
    _, page = await browser.get("/host")
    return page.partition('<p class="code mono">')[2].partition("<")[0]


async def test_on_loopback_only_names_of_this_machine_are_answered(host: Any) -> None:
    for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "192.168.0.9"):
        response, page = await host.get("/", headers={"Host": name})
        assert response.status == 421 and "csrf" not in page.partition("<body>")[2]
    response, _ = await host.get("/", headers={"X-Forwarded-For": "203.0.113.9"})
    assert response.status == 421  # a proxy brought a stranger
    for name in ("localhost:8080", "127.0.0.1", "[::1]:8080"):
        response, _ = await host.get("/", headers={"Host": name})
        assert response.status == 200


async def test_a_foreign_page_cannot_send_our_forms(host: Any, studio: Studio) -> None:
    await host.get("/paint")
    form = {"genre": "landscape", "seed": "7"}
    for options in ({"csrf": ""}, {"csrf": "0" * 64}, {"headers": {"Origin": "https://evil.example"}}):
        response, page = await host.post("/paint", form, **options)
        assert response.status == 403 and "reload the page" in page
    host.session.cookie_jar.clear()
    response, _ = await host.post("/paint", form)
    assert response.status == 403
    assert await studio.queue.jobs(HOST, active=False) == []


async def test_every_answer_forbids_what_pages_do_not_need(host: Any) -> None:
    _, page = await host.get("/")
    style = page.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    for path in ("/", "/gallery", "/nowhere", "/healthz", style, "/gallery.atom", "/photos/x"):
        response, _ = await host.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "same-origin"


async def test_pages_carry_no_inline_script_or_style_and_name_no_other_host(host: Any) -> None:
    await host.get("/paint")
    [work] = await host.make("/paint", {"genre": "landscape", "seed": "7"})
    pages = ("/", "/paint", "/morph", "/gallery", f"/art/{work}", "/queue", "/diary", "/me", "/host", "/host/models")
    for path in pages:
        _, page = await host.get(path)
        assert "<script>" not in page and "<style" not in page and " style=" not in page and " onclick=" not in page
        assert page.count("http://") == page.count('content="http://127.0.0.1')  # Open Graph alone names a host: ours


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../config.py",
        "/static/%2e%2e/%2e%2e/config.py",
        "/styles/atelier/..%2f..%2f..%2fetc%2fpasswd.webp",
        "/styles/..%2f../passwd.webp",
        "/styles/atelier/%00.webp",
        "/art/..%2f..%2fganvas.db/picture",
        "/photos/..%2f..%2f..%2fganvas.db.webp",
        "/photos/AAAAAAAAAAAAAAAAAAAAAA.webp",
        "/art/abc123/thumb/99.webp",
    ],
)
async def test_no_path_leads_out_of_the_house(host: Any, path: str) -> None:
    response, body = await host.get(path)
    assert response.status in (400, 403, 404)
    assert "Settings" not in body and "SQLite" not in body and "root:" not in body


def test_after_login_one_stays_in_the_house() -> None:
    assert safe_next("/gallery?sort=top") == "/gallery?sort=top"
    for outside in ("//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nSet-Cookie: x=1"):
        assert safe_next(outside) == "/"


async def test_no_header_can_be_slipped_in(serve: Any) -> None:
    browser = (await serve(web_token=TOKEN))()
    await browser.get("/login?next=/%0d%0aX-Evil:%201")
    response, _ = await browser.post(
        "/login", {"token": TOKEN, "next": "/\r\nX-Evil: 1", "name": "A\r\nB"}, allow_redirects=False
    )
    assert response.headers["Location"] == "/" and "X-Evil" not in response.headers


async def test_strangers_see_only_the_door(serve: Any, studio: Studio) -> None:
    browser = (await serve(web_token=TOKEN))()
    for path in ("/", "/gallery", "/host", "/art/abc123", "/gallery.atom", "/me"):
        response, _ = await browser.get(path)
        assert response.url.path == "/login"
    response, _ = await browser.get("/gallery", headers={"Accept": "image/webp"})
    assert response.status == 401
    response, _ = await browser.post("/paint", {"genre": "landscape"})
    assert response.status == 401
    response, _ = await browser.post("/login", {"token": "x" * 20_000})
    assert response.status == 413
    response, _ = await browser.get("/healthz")
    assert response.status == 200


async def test_wrong_tokens_are_refused_and_soon_counted(serve: Any) -> None:
    browser = (await serve(web_token=TOKEN))()
    statuses = [(await login(browser, guess)).status for guess in (TOKEN[:-1], TOKEN.upper(), "", " ", "é" * 9)]
    assert statuses == [403] * 5
    for _ in range(10):
        response = await login(browser, "guess")
    assert response.status == 429 and int(response.headers["Retry-After"]) > 0


async def test_the_token_makes_a_host_and_the_code_a_visitor(serve: Any) -> None:
    open_door = await serve(web_token=TOKEN)
    host, friend = open_door(), open_door()
    assert (await login(host, TOKEN)).status == 200
    code = await code_of(host)
    assert TOKEN not in code and len(code) == 14
    assert (await login(friend, code, "Bea")).status == 200
    [work] = await friend.make("/paint", {"genre": "landscape", "seed": "7"})
    _, page = await host.get(f"/art/{work}")
    assert "Bea" in page
    for path in ("/host", "/host/settings", "/host/bans", "/host/models", "/host/logs"):
        response, _ = await friend.get(path)
        assert response.status == 403
    response, _ = await friend.post("/host/settings", {"voting": "on"})
    assert response.status == 403
    await friend.post("/logout")
    response, _ = await friend.get("/gallery")
    assert response.url.path == "/login"


@pytest.mark.parametrize(("url", "secure"), [("https://art.example", True), (None, False)])
async def test_the_cookie_is_for_this_site_alone(serve: Any, url: str | None, secure: bool) -> None:
    browser = (await serve(web_token=TOKEN, public_url=url))()
    response, _ = await browser.get("/login")
    cookie = response.cookies["ganvas"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and bool(cookie["secure"]) is secure
    assert TOKEN not in cookie.value


async def test_forged_and_outdated_cookies_open_nothing(serve: Any) -> None:
    first, second = (await serve(web_token=TOKEN))(), (await serve(web_token=TOKEN + "2"))()
    await login(first, TOKEN)
    [cookie] = [c for c in first.session.cookie_jar if c.key == "ganvas"]
    body, _, signature = cookie.value.partition(".")
    for value in (cookie.value, f"{body}.{'0' * 64}", f"{body[:-4]}AAAA.{signature}", "x", ".", ""):
        second.session.cookie_jar.clear()
        second.session.cookie_jar.update_cookies({"ganvas": value}, second.base)
        response, _ = await second.get("/")
        assert response.url.path == "/login"


async def test_anothers_private_work_does_not_exist(serve: Any) -> None:
    open_door = await serve(web_token=TOKEN)
    host, ann, ben = open_door(), open_door(), open_door()
    await login(host, TOKEN)
    code = await code_of(host)
    await login(ann, code, "Ann")
    await login(ben, code, "Ben")
    [secret] = await ann.make("/paint", {"genre": "landscape", "seed": "7", "private": "on"})
    for path in ("", "/picture", "/download", "/recipe.json", "/thumb/320.webp"):
        assert (await ann.get(f"/art/{secret}{path}"))[0].status == 200
        response, page = await ben.get(f"/art/{secret}{path}")
        assert response.status == 404 and "Ann" not in page
    _, missing = await ben.get("/art/zzzzz2")
    _, hidden = await ben.get(f"/art/{secret}")
    assert missing.replace("zzzzz2", "?") == hidden.replace(secret, "?")
    for path in ("/gallery", "/gallery?part=1", "/gallery.atom", "/morph", "/", "/gallery?sort=top"):
        _, page = await ben.get(path)
        assert secret not in page
    status, _ = await ben.ask("/morph", {"from": secret, "to": "landscape"})
    assert status == 404
    for act in ("vote", "delete", "make/wall", "private"):
        status, _ = await ben.ask(f"/art/{secret}/{act}", {"private": "no"})
        assert status == 404
    _, page = await ann.get("/gallery?member=me")
    assert secret in page


async def test_anothers_photo_and_job_do_not_exist(serve: Any, studio: Studio) -> None:
    open_door = await serve(web_token=TOKEN)
    host, ann, ben = open_door(), open_door(), open_door()
    await login(host, TOKEN)
    code = await code_of(host)
    await login(ann, code, "Ann")
    await login(ben, code, "Ben")
    _, photo = await ann.ask("/photos", {"photo_file": photo_bytes()})
    _, job = await ann.ask("/stylize", {"photo": photo["id"], "style": "style:waves"})
    for path in (photo["href"], f"/photos/{photo['id']}/style/waves.webp", job["href"], job["href"] + ".json"):
        assert (await ann.get(path))[0].status == 200
        assert (await ben.get(path))[0].status == 404
    assert (await ben.get(job["href"] + "/events"))[0].status == 404
    status, _ = await ben.ask("/stylize", {"photo": photo["id"], "style": "style:waves"})
    assert status == 404


async def test_a_public_gallery_may_be_looked_at_but_not_touched(serve: Any, studio: Studio) -> None:
    browser = (await serve(web_token=TOKEN, web_public=True))()
    job = await studio.queue.submit(PaintRequest(genre="landscape", seed=7), member=Member("discord", "5", "Cleo"))
    studio.queue.register("web", None)  # type: ignore[arg-type]
    async for status in studio.queue.watch(job.id):
        works = status.artworks
    for path in ("/gallery", "/gallery.atom", f"/art/{works[0]}", f"/art/{works[0]}/thumb/640.webp", "/diary"):
        response, _ = await browser.get(path)
        assert response.status == 200 and response.url.path == path
    response, _ = await browser.get("/me")
    assert response.url.path == "/login"
    response, _ = await browser.post(f"/art/{works[0]}/vote")
    assert response.status == 401


@pytest.mark.parametrize(("public", "listed"), [(False, False), (True, True)])
async def test_search_engines_find_only_what_the_host_opened(serve: Any, public: bool, listed: bool) -> None:
    browser = (await serve(web_token=TOKEN, web_public=public))()
    response, text = await browser.get("/robots.txt")
    assert response.status == 200 and text.endswith("Disallow: /\n") and ("Allow: /gallery" in text) is listed


async def test_an_upload_above_the_limit_is_refused_in_a_sentence(serve: Any) -> None:
    browser = (await serve(max_upload_bytes=200_000))()
    await browser.get("/")
    for size in (200_001, 900_000):
        status, answer = await browser.ask("/photos", {"photo_file": b"\xff" * size})
        assert status == 413 and "200 kB" in answer["error"]


def test_a_bucket_lets_so_many_through_a_minute_and_each_caller_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    bucket = Bucket()
    assert [bucket.wait("ann", 3) for _ in range(3)] == [0, 0, 0]
    assert 0 < bucket.wait("ann", 3) <= 20
    assert bucket.wait("ben", 3) == 0
    now += 20
    assert bucket.wait("ann", 3) == 0


async def test_an_unforeseen_mistake_shows_a_mark_and_no_inside(host: Any, studio: Studio, monkeypatch: Any) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(studio.gallery, "page", broken)
    response, page = await host.get("/gallery")
    assert response.status == 500 and "in the log under" in page and "secret inside" not in page
    _, log = await host.get("/host/logs")
    assert "the secret inside" in log


async def test_scripts_get_errors_as_json(host: Any) -> None:
    response, body = await host.get("/art/zzzzz2", headers={"Accept": "application/json"})
    assert response.status == 404 and "zzzzz2" in json.loads(body)["error"]
    assert isinstance(response, aiohttp.ClientResponse) and web.HTTPNotFound.status_code == 404
