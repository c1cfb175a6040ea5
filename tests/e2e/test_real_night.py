"""Whole nights: the studio over a real engine process, killed in the middle; and one with the released painter."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.config import Settings
from bot.studio import HOST, ApprenticeState, Snapshot, Studio, open_studio
from engine.api import PaintRequest
from engine.client import Engine, connect
from engine.errors import BrokenModel, GanvasError

ROOT = Path(__file__).parents[2]
PUPIL = ("--pipelines", "tests.engine.puppets:Puppet", "--lesson", "tests.engine.pupil")


async def until(studio: Studio, found: Callable[[ApprenticeState], Any], pause: float = 0.05) -> ApprenticeState:
    while not found(state := await studio.apprentice.state()):
        await asyncio.sleep(pause)
    return state


@pytest.fixture
def house(tmp_path: Path) -> Settings:
    """A house with one painter of no weight, whose lessons a pupil holds."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"no weights")
    digest = hashlib.sha256(b"no weights").hexdigest()
    card = {"format": 1, "name": "tiny", "kind": "painter", "net": {"name": "painter"}, "sha256": digest}
    (folder / "card.json").write_text(json.dumps(card))
    return Settings(data=tmp_path / "var", models=tmp_path / "models")


def engine_of(house: Settings) -> contextlib.AbstractAsyncContextManager[Engine]:
    return connect(models=(house.data / "models", house.models), arguments=PUPIL)


@pytest.mark.timeout(300)
async def test_kills_of_engine_lesson_and_house_cost_a_night_nothing_but_time(
    house: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = json.dumps({"voter": f"wait:{tmp_path / 'never'}"})
    monkeypatch.setattr(Snapshot, "jsonl", lambda self: order + "\n")  # the pupil takes its order from the votes
    lessons = house.data / "models" / ".lessons"

    def pupil() -> int | None:
        return next((int(path.read_text() or 0) for path in lessons.glob("*/pid")), None)

    def another(than: int) -> bool:
        return pupil() not in (None, 0, than)

    async with engine_of(house) as engine, open_studio(house, engine) as studio:
        night_id = await studio.apprentice.run_now(HOST)
        await until(studio, lambda state: state.progress == 0.4)
        first, died = pupil(), engine.pid
        assert first and died
        os.kill(died, signal.SIGKILL)
        while not another(first):
            await asyncio.sleep(0.05)
        await until(studio, lambda state: state.progress == 0.4)
    # The house ends here, and with it the lesson; the next life takes the night up again.
    async with engine_of(house) as engine, open_studio(house, engine) as studio:
        state = await until(studio, lambda state: state.progress == 0.4)
        assert (state.phase, state.painter) == ("learning", "tiny")
        last = pupil()
        assert last
        os.kill(last, signal.SIGKILL)
        state = await until(studio, lambda state: state.phase == "resting")
        found = await studio.nights.get(night_id)
        assert found.state == "failed" and "killed by signal 9" in found.diary["why"]
        assert state.painter == "tiny" and [each.name for each in await engine.office()] == ["tiny"]


# With the released painter


def fill(data: Path, painter: Any, genres: list[str]) -> None:
    """Let twenty people vote on eighty paintings of ten others: the warmer, the better."""
    import torch
    import torch.nn.functional as F

    now = time.time() - 3600
    names = list(painter.card["genres"])
    works = [(f"{genre[:3]}{n:03}", genre, n) for genre in genres for n in range(40)]
    z = torch.stack([torch.randn(int(painter.net.z_dim), generator=torch.Generator().manual_seed(w[2])) for w in works])
    labels = F.one_hot(torch.tensor([names.index(genre) for _, genre, _ in works]), len(names)).float()
    with torch.inference_mode():
        pictures = painter.net(z, labels, torch.full((len(works),), 0.8))
    warmth = (pictures[:, 0] - pictures[:, 2]).mean((1, 2))
    with contextlib.closing(sqlite3.connect(data / "ganvas.db")) as db, db:
        for person in [*(f"discord:v{n}" for n in range(20)), *(f"discord:m{n}" for n in range(10))]:
            platform, _, person_id = person.partition(":")
            db.execute("INSERT INTO members VALUES (?, ?, ?, '', ?, NULL, '{}')", [person, platform, person_id, now])
        for index, (art, genre, seed) in enumerate(works):
            options = {"genre": genre, "seed": seed, "psi": 0.8, "model": painter.card.name}
            recipe = {
                "ganvas": 1, "command": "paint", "options": options, "models": {painter.card.name: painter.card.sha256},
            }  # fmt: skip
            db.execute(
                """INSERT INTO artworks (id, number, member, command, genre, format, width, height, frames, size,
                       sha256, recipe, title, private, age_restricted, created)
                   VALUES (?, 0, ?, 'paint', ?, 'png', 64, 64, 1, 1, ?, ?, '', 0, 0, ?)""",
                [art, f"discord:m{index % 10}", genre, art, json.dumps(recipe), now],
            )
            usual = warmth[[i for i, work in enumerate(works) if work[1] == genre]].median()
            for n in range(20):
                if (index + n) % 2:
                    value = "up" if warmth[index] > usual else "down"
                    row = [art, f"discord:v{n}", value, now + n, now + n]
                    db.execute("INSERT INTO votes VALUES (?, ?, ?, 1, NULL, ?, ?)", row)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_a_night_with_the_released_painter(tmp_path: Path) -> None:
    from engine import checkpoints
    from engine.nightly.cli import judges

    try:
        judges()
    except (BrokenModel, GanvasError) as error:
        pytest.skip(str(error))
    name = json.loads((ROOT / "models" / checkpoints.OFFICE).read_text())["painter"]
    painter = checkpoints.load_folder(ROOT / "models" / name)
    house = Settings(data=tmp_path / "var", models=ROOT / "models", night_minutes=3, night_threads=2)
    async with (
        connect(models=(house.data / "models", house.models)) as engine,
        open_studio(house, engine) as studio,
    ):
        await asyncio.to_thread(fill, house.data, painter, ["landscape", "marina"])
        night_id = await studio.apprentice.run_now(HOST)
        await until(studio, lambda state: state.progress, 0.5)
        answer = await engine.run(PaintRequest(genre="landscape", seed=7, width=64, height=64, finish="none"))
        assert list(answer.outputs[0].recipe["models"]) == [name], "people are served while it learns"
        state = await until(studio, lambda state: state.phase != "learning", 1.0)
        night = await studio.nights.get(night_id)
        assert night.state in ("canary", "refused"), night.diary["why"]
        assert night.diary["taste"]["usable"] and night.diary["votes"]["voters"] == 20 and len(night.diary["gate"]) > 3
        assert state.painter == name
        for sheet in ("before", "after"):
            assert (studio.nights.folder / night_id / night.diary[sheet]).stat().st_size > 1000
        if night.state == "refused":
            assert any(not check["passed"] for check in night.diary["gate"])
            return
        await studio.apprentice._keep(tried_since=time.time() - 30 * 86_400)
        await studio.apprentice.look()
        assert (await studio.apprentice.state()).painter == night.diary["candidate"]
        answer = await engine.run(PaintRequest(genre="landscape", seed=7, width=64, height=64, finish="none"))
        assert night.diary["candidate"] in answer.outputs[0].recipe["models"]
        assert (await studio.apprentice.rollback(HOST)).name == name
        answer = await engine.run(PaintRequest(genre="landscape", seed=7, width=64, height=64, finish="none"))
        assert name in answer.outputs[0].recipe["models"]
