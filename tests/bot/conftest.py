"""A studio with a small engine of its own: no torch, no child process, every answer under the test's control."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import FakeEngine

from bot.config import Settings
from bot.studio import Studio, open_studio


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "var", models=tmp_path)


@pytest.fixture
async def studio(settings: Settings, engine: FakeEngine) -> AsyncIterator[Studio]:
    async with open_studio(settings, engine) as studio:
        yield studio
