from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import FakeEngine

from bot.config import Settings
from bot.studio import DataInUse, Studio, open_studio
from bot.studio.store import Store, migrations, new_id, write_file


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path)
    yield store
    await store.close()


def facts(store: Store) -> list[str]:
    with sqlite3.connect(store.folder / "ganvas.db") as db:
        found = [name for (name,) in db.execute("SELECT name FROM facts WHERE name != 'salt' ORDER BY name")]
    db.close()
    return found


async def test_a_write_is_on_disk_when_it_returns(store: Store) -> None:
    assert await store.write(lambda db: db.execute("INSERT INTO facts VALUES ('a', '1')").rowcount) == 1
    assert facts(store) == ["a"]


async def test_a_failing_write_undoes_itself_and_not_its_neighbours(store: Store) -> None:
    async def insert(name: str, fails: bool) -> None:
        def work(db):  # type: ignore[no-untyped-def]
            db.execute("INSERT INTO facts VALUES (?, '1')", [name])
            if fails:
                raise ValueError(name)

        await store.write(work)

    names = [f"n{number:02}" for number in range(20)]
    outcomes = await asyncio.gather(
        *(insert(name, number % 3 == 0) for number, name in enumerate(names)), return_exceptions=True
    )
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [number % 3 == 0 for number in range(20)]
    assert facts(store) == [name for number, name in enumerate(names) if number % 3]


async def test_a_write_nobody_waits_for_any_more_still_happens_whole(store: Store) -> None:
    task = asyncio.create_task(store.write(lambda db: db.execute("INSERT INTO facts VALUES ('a', '1')")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(lambda db: None)
    assert facts(store) == ["a"]


async def test_a_read_sees_one_moment(store: Store) -> None:
    def twice(db):  # type: ignore[no-untyped-def]
        first = db.execute("SELECT count(*) FROM facts").fetchone()
        other = sqlite3.connect(store.folder / "ganvas.db")
        with other:
            other.execute("INSERT INTO facts VALUES ('late', '1')")
        other.close()
        return first == db.execute("SELECT count(*) FROM facts").fetchone()

    assert await store.read(twice)


async def test_a_reader_cannot_be_starved_by_errors(store: Store) -> None:
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await store.read(lambda db: 1 / 0)
    assert await store.read(lambda db: 1) == 1


async def test_the_data_folder_belongs_to_one_studio(studio: Studio, settings: Settings, engine: FakeEngine) -> None:
    with pytest.raises(DataInUse, match="already runs on the data folder"):
        async with open_studio(settings, engine):
            pass
    assert (await studio.status()).database_ok


async def test_migrations_happen_once(tmp_path: Path) -> None:
    for _ in range(2):
        store = Store(tmp_path)
        assert migrations.pending(await store.read(lambda db: db)) == []
        (mode,) = await store.read(lambda db: db.execute("PRAGMA journal_mode").fetchone())
        (sync,) = await store.write(lambda db: db.execute("PRAGMA synchronous").fetchone())
        assert (mode, sync) == ("wal", 2)
        await store.close()


def test_files_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "b" / "work.png"
    write_file(path, b"first")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            write_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert [file.name for file in path.parent.iterdir()] == ["work.png"]


def test_ids_are_neither_words_nor_numbers() -> None:
    ids = {new_id() for _ in range(500)}
    assert len(ids) == 500
    assert not any(art_id.isdigit() or art_id.isalpha() for art_id in ids)


async def test_the_status_tells_of_everything(studio: Studio) -> None:
    status = await studio.status()
    assert (status.engine, status.database_ok, status.last_night) == ({"worker": "idle"}, True, None)
    assert status.disk_free > 0 and status.queue.waiting == 0
    assert (await studio.models())[0]["kind"] == "painter"


def test_tidying_goes_on_where_a_file_vanishes_under_it(studio: Studio, settings: Settings) -> None:
    home = settings.data / "artworks" / "ab"
    home.mkdir(parents=True, exist_ok=True)
    gone, forgotten = home / "abcdef.png.tmp", home / "abzzzz.png"
    gone.symlink_to(home / "renamed by now")  # found in its folder, and not there when it is looked at
    forgotten.write_bytes(b"nobody's")
    os.utime(forgotten, (0, 0))
    studio._sweep(set())
    assert not forgotten.exists()
