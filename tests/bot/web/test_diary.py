"""The diary: who paints now, what each night taught, and what only the host may do about it."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from test_security import code_of, login
from visits import TOKEN, photo_bytes

from bot.studio import ApprenticeState, CanaryScore, Night, Side, Studio, Version, WrongMoment
from bot.web import chart

GATE = [{"name": "KID", "value": 0.0213, "limit": "at most 0.022", "passed": True}]
LINE = (Version("painter-2", 2.0), Version("painter-1", 1.0, 2.0))
RESTING = ApprenticeState(
    painter="painter-1", painter_since=1_790_000_000.0, base="painter-1", phase="resting", paused=False,
    next_night=time.time() + 5.2 * 3600, progress=None, waiting=False, canary=None, last_night=None,
    versions=(Version("painter-1", 1_790_000_000.0),),
)  # fmt: skip


@pytest.fixture
def told(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The apprentice says what the test decides, and writes down what it is asked."""

    told = SimpleNamespace(state=RESTING, asked=[])

    async def state() -> ApprenticeState:
        return told.state

    monkeypatch.setattr(studio.apprentice, "state", state)
    for name in ("run_now", "pause", "resume", "rollback", "switch"):

        async def note(*what: Any, name: str = name) -> None:
            told.asked.append((name, *what))

        monkeypatch.setattr(studio.apprentice, name, note)
    return told


async def test_the_diary_tells_of_each_night(host: Any, studio: Studio, told: Any) -> None:
    diary = {"why": "It passed the gate.", "votes": {"counted": 41, "voters": 7, "works": 12}, "gate": GATE}
    await studio.nights.record(Night("n1", "promoted", 1_790_000_000.0, diary=diary))
    folder = studio.nights.folder / "n1"
    folder.mkdir(parents=True)
    (folder / "before-and-after.webp").write_bytes(photo_bytes())
    (folder / "votes.jsonl").write_text("secret")
    _, page = await host.get("/diary")
    assert "It passed the gate." in page and "41 votes of 7 people on 12 works" in page and "0.0213" in page
    response, _ = await host.get("/diary/n1/before-and-after.webp")
    assert (response.status, response.content_type) == (200, "image/webp")
    for path in ("/diary/n1/votes.jsonl", "/diary/n1/..%2f..%2fganvas.db", "/diary/n9/before-and-after.webp"):
        assert (await host.get(path))[0].status == 404


async def test_the_last_lesson_shows_the_same_seeds_before_and_after(host: Any, studio: Studio, told: Any) -> None:
    last = Night("n2", "canary", 1_790_100_000.0, diary={"gate": GATE, "before": "before.webp", "after": "after.webp"})
    await studio.nights.record(last)
    folder = studio.nights.folder / "n2"
    folder.mkdir(parents=True)
    for name in ("before", "after"):
        (folder / f"{name}.webp").write_bytes(photo_bytes())
    score = CanaryScore("painter-2", 0.2, 0.0, 1_790_900_000.0, Side(8, 2, 30), Side(5, 5, 90), probability_better=0.91)
    told.state = replace(RESTING, phase="canary", canary=score, last_night=last)
    _, page = await host.get("/diary")
    lesson = page.partition('id="last"')[2]
    assert lesson.index("/diary/n2/before.webp") < lesson.index("/diary/n2/after.webp") < lesson.index("0.0213")
    assert "Painter 2 paints for 20 % of the members" in page and "91 %" in page
    assert (await host.get("/diary/n2/after.webp"))[0].status == 200


@pytest.mark.parametrize(
    ("change", "words", "buttons"),
    [
        ({}, "The next night begins in 5 hours.", {"run", "pause"}),
        ({"paused": True, "next_night": None}, "no night begins until it goes on", {"resume"}),
        ({"phase": "learning", "progress": 0.42}, "42 % of the lesson.", {"pause"}),
        ({"phase": "learning", "progress": 0.42, "waiting": True}, "People are served first", {"pause"}),
        ({"phase": "off", "next_night": None}, "switch the nights off", set()),
        ({"versions": LINE}, "in 5 hours", {"run", "pause", "rollback"}),
        ({"painter": "", "base": "", "painter_since": None}, "No painter is installed", {"run", "pause"}),
    ],
)  # fmt: skip
async def test_how_the_learning_stands_and_what_the_host_may_do(
    host: Any, told: Any, change: dict[str, Any], words: str, buttons: set[str]
) -> None:
    told.state = replace(RESTING, **change)
    _, page = await host.get("/diary")
    assert words in page
    assert {wish for wish in ("run", "pause", "resume", "rollback") if f'action="/diary/{wish}"' in page} == buttons


async def test_the_host_holds_a_night_pauses_and_rolls_back_and_nobody_else(serve: Any, told: Any) -> None:
    open_door = await serve(web_token=TOKEN, web_public=True)
    host, friend, stranger = open_door(), open_door(), open_door()
    await login(host, TOKEN)
    await login(friend, await code_of(host))
    for wish in ("run", "pause", "resume", "rollback"):
        assert (await friend.post(f"/diary/{wish}"))[0].status == 403
        assert (await stranger.post(f"/diary/{wish}"))[0].status == 401
    _, page = await friend.get("/diary")
    assert "Painter 1" in page and "<form" not in page.partition("<main")[2].partition("</main")[0]
    assert told.asked == []
    for wish in ("run", "pause", "resume", "rollback"):
        response, page = await host.post(f"/diary/{wish}")
        assert response.status == 200 and 'role="status"' in page
    await host.post("/diary/rollback", {"to": "painter-1"})
    assert [what[0] for what in told.asked] == ["run_now", "pause", "resume", "rollback", "rollback"]
    assert [what[2:] for what in told.asked[3:]] == [(None,), ("painter-1",)]
    assert (await host.post("/diary/dance"))[0].status == 400


async def test_a_wrong_moment_is_told_in_its_sentence(host: Any, studio: Studio, monkeypatch: Any) -> None:
    async def busy(_: Any) -> str:
        raise WrongMoment("A lesson is under way already.")

    monkeypatch.setattr(studio.apprentice, "run_now", busy)
    await host.get("/paint")
    response, page = await host.post("/diary/run")
    assert response.status == 409 and "A lesson is under way already." in page


async def test_the_models_are_shown_with_their_cards_and_switched(
    host: Any, engine: Any, told: Any, style_pictures: Any, monkeypatch: Any
) -> None:
    painters = [
        {"name": "painter-1", "kind": "painter", "genres": ["landscape"], "resolution": 64, "in_office": True,
         "metrics": {"how": "600 samples", "kid_vgg": 0.2731}, "faults": ["faces are <masks>"]},
        {"name": "painter-2", "kind": "painter", "genres": ["landscape"], "in_office": False},
        {"name": "atelier", "kind": "stylizer", "styles": [{"name": "waves", "title": "Waves"}], "in_office": True},
    ]  # fmt: skip

    async def cards() -> Any:
        return painters

    monkeypatch.setattr(engine, "models", cards)
    _, page = await host.get("/host/models")
    assert "kid vgg" in page and "0.273" in page and "600 samples" in page and "faces are &lt;masks&gt;" in page
    assert "/styles/atelier/waves.webp" in page and page.count("In office") == 2
    assert page.count('action="/host/models"') == 1 and 'value="painter-2"' in page
    _, page = await host.post("/host/models", {"kind": "painter", "name": "painter-2"})
    assert told.asked[0][:3] == ("switch", "painter", "painter-2") and "Painter 2 is in office from now on" in page


async def test_pictures_of_models_made_here_are_shown_too(host: Any, settings: Any) -> None:
    folder = settings.data / "models" / "atelier" / "samples"
    folder.mkdir(parents=True)
    (folder / "dots.webp").write_bytes(photo_bytes())
    _, page = await host.get("/")
    assert "/styles/atelier/dots.webp" in page
    assert (await host.get("/styles/atelier/dots.webp"))[0].status == 200


def test_the_chart_stands_on_its_box_and_grows_with_votes() -> None:
    nights = [
        Night("n3", "promoted", 3.0, diary={"votes": {"counted": 40}, "taste": {"accuracy": 0.75}}),
        Night("n2", "refused", 2.0, diary={"votes": {"counted": 20}, "taste": {"accuracy": 0.5}}),
        Night("n1", "rested", 1.0),
    ]
    drawn = chart.draw(nights)
    assert [bar.night.id for bar in drawn.bars] == ["n1", "n2", "n3"]  # the eldest on the left
    assert [bar.tone for bar in drawn.bars] == ["idle", "lost", "won"]
    assert drawn.most == 40 and [bar.height for bar in drawn.bars] == [chart.LEAST, 50.0, 100.0]
    assert all(bar.y + bar.height == pytest.approx(chart.HEIGHT) for bar in drawn.bars)
    assert drawn.line.endswith(",50.0") and len(drawn.line.split()) == 2
    assert chart.draw([]).bars == ()
