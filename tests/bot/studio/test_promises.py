from __future__ import annotations

import time

import pytest
from house import ANN, FakeEngine

from bot.config import Settings
from bot.studio import Promise, Refused, Studio, open_studio
from engine.api import PaintRequest

REQUEST = PaintRequest(genre="landscape", seed=1)


def promise(key: str, seconds: float = 900) -> Promise:
    return Promise(key, {"token": "secret"}, time.time() + seconds)


async def test_what_was_promised_and_not_kept_is_owed_by_the_next_life(settings: Settings, engine: FakeEngine) -> None:
    given = [promise("a"), promise("b"), promise("c"), promise("late", seconds=-1)]
    async with open_studio(settings, engine) as studio:
        for each in given:
            await studio.promises.give(each)
        await studio.promises.keep("b")
        await studio.queue.submit(REQUEST, member=ANN, key="c")  # whose work will be the answer
    async with open_studio(settings, engine) as studio:
        assert await studio.promises.owed() == [given[0]]


async def test_a_refused_job_leaves_the_answer_owed(studio: Studio) -> None:
    await studio.promises.give(promise("a"))
    await studio.policy.ban(None, ANN, by=ANN)
    with pytest.raises(Refused):
        await studio.queue.submit(REQUEST, member=ANN, key="a")
    assert [owed.key for owed in await studio.promises.owed()] == ["a"]
