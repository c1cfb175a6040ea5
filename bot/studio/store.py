"""One SQLite file: numbered migrations, one writer thread, readers beside it; and files that are whole or absent.

Durability: WAL with ``synchronous=FULL``.  A write returns after its transaction is on disk; writes that wait at the
same moment share one commit, each in a savepoint of its own, so a hundred members cost a handful of fsyncs.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from bot.studio.errors import DataInUse

T = TypeVar("T")
Work = Callable[[Database], T]

READERS = 2  # connections; reads are short and the machine has few cores
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # base32

migrations = Migrations("studio")


@migrations(name="0001 the house")
def _the_house(db: Database) -> None:
    # Not executescript(): that would commit the surrounding transaction.
    for statement in _SCHEMA.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute("INSERT INTO facts VALUES ('salt', ?)", [secrets.token_hex(16)])


@migrations(name="0002 painters in office")
def _painters_in_office(db: Database) -> None:
    db.execute(
        """CREATE TABLE versions (
               id INTEGER PRIMARY KEY, name TEXT NOT NULL, base TEXT NOT NULL, since REAL NOT NULL, until REAL,
               night TEXT, why TEXT
           )"""
    )
    db.execute("CREATE INDEX artworks_model ON artworks(model, created) WHERE model IS NOT NULL")


@migrations(name="0003 promised answers")
def _promised_answers(db: Database) -> None:
    db.execute("CREATE TABLE promises (key TEXT PRIMARY KEY, address TEXT NOT NULL, expires REAL NOT NULL)")


# Times are Unix seconds.  A member is "platform:id", a guild "platform:id", "web", or NULL in a direct message.
_SCHEMA = """
CREATE TABLE members (
    key TEXT PRIMARY KEY, platform TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,
    first_seen REAL NOT NULL, account_created REAL, preferences TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, key TEXT UNIQUE, member TEXT NOT NULL REFERENCES members(key), guild TEXT,
    photo_owner TEXT, command TEXT NOT NULL, options TEXT NOT NULL, private INTEGER NOT NULL,
    age_restricted INTEGER NOT NULL, kind TEXT NOT NULL, address TEXT NOT NULL, parents TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'rendered', 'delivered', 'failed', 'cancelled')),
    error TEXT, notes TEXT NOT NULL DEFAULT '[]', attempts INTEGER NOT NULL DEFAULT 0,
    units REAL NOT NULL, cost REAL, lease_until REAL, created REAL NOT NULL, started REAL, finished REAL
);
CREATE INDEX jobs_state ON jobs(state);
CREATE INDEX jobs_member ON jobs(member, created);
CREATE TABLE deliveries (
    job TEXT PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE, kind TEXT NOT NULL, nonce TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'claimed', 'done', 'given_up')),
    message TEXT, attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0
);
CREATE INDEX deliveries_state ON deliveries(state, kind);
CREATE TABLE artworks (
    id TEXT PRIMARY KEY, job TEXT REFERENCES jobs(id) ON DELETE SET NULL, number INTEGER NOT NULL,
    member TEXT NOT NULL REFERENCES members(key), guild TEXT, photo_owner TEXT, command TEXT NOT NULL,
    genre TEXT, style TEXT, art_style TEXT, model TEXT, format TEXT NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, frames INTEGER NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL,
    recipe TEXT NOT NULL, title TEXT NOT NULL, private INTEGER NOT NULL, age_restricted INTEGER NOT NULL,
    removed REAL, removed_by TEXT, created REAL NOT NULL,
    up INTEGER NOT NULL DEFAULT 0, down INTEGER NOT NULL DEFAULT 0,
    score REAL NOT NULL DEFAULT 0, hot REAL NOT NULL DEFAULT 0,
    UNIQUE (job, number)
);
CREATE INDEX artworks_new ON artworks(created, id) WHERE removed IS NULL;
CREATE INDEX artworks_top ON artworks(score, created, id) WHERE removed IS NULL;
CREATE INDEX artworks_member ON artworks(member, created);
CREATE TABLE lineage (
    child TEXT NOT NULL REFERENCES artworks(id) ON DELETE CASCADE, position INTEGER NOT NULL, parent TEXT NOT NULL,
    PRIMARY KEY (child, position)
);
CREATE INDEX lineage_parent ON lineage(parent);
CREATE TABLE posts (
    platform TEXT NOT NULL, message TEXT NOT NULL, channel TEXT NOT NULL, role TEXT NOT NULL,
    artwork TEXT NOT NULL REFERENCES artworks(id) ON DELETE CASCADE, created REAL NOT NULL, deleted REAL,
    PRIMARY KEY (platform, message)
);
CREATE INDEX posts_artwork ON posts(artwork);
CREATE INDEX posts_created ON posts(created);
CREATE TABLE tombstones (
    id INTEGER PRIMARY KEY, platform TEXT NOT NULL, channel TEXT NOT NULL, message TEXT NOT NULL, created REAL NOT NULL,
    UNIQUE (platform, message)
);
CREATE TABLE marks (
    artwork TEXT NOT NULL REFERENCES artworks(id) ON DELETE CASCADE, member TEXT NOT NULL, mark TEXT NOT NULL,
    message TEXT, emoji TEXT, bit INTEGER NOT NULL, value TEXT NOT NULL CHECK (value IN ('up', 'down')),
    present INTEGER NOT NULL, at REAL NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (artwork, member, mark)
);
CREATE INDEX marks_message ON marks(message);
CREATE INDEX marks_member ON marks(member);
CREATE TABLE votes (
    artwork TEXT NOT NULL REFERENCES artworks(id) ON DELETE CASCADE, member TEXT NOT NULL,
    value TEXT NOT NULL CHECK (value IN ('up', 'down')), sources INTEGER NOT NULL,
    account_created REAL, first_at REAL NOT NULL, updated_at REAL NOT NULL,
    PRIMARY KEY (artwork, member)
);
CREATE INDEX votes_member ON votes(member);
CREATE TABLE vote_events (
    id INTEGER PRIMARY KEY, artwork TEXT NOT NULL, member TEXT NOT NULL, what TEXT NOT NULL, value TEXT,
    source TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX vote_events_member ON vote_events(member);
CREATE INDEX vote_events_at ON vote_events(at);
CREATE TABLE gallery (
    artwork TEXT PRIMARY KEY REFERENCES artworks(id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('none', 'posting', 'posted', 'removing', 'hidden')),
    due TEXT CHECK (due IN ('post', 'edit', 'remove')), claim TEXT, channel TEXT, message TEXT, shown TEXT, reason TEXT
);
CREATE INDEX gallery_due ON gallery(due) WHERE due IS NOT NULL;
CREATE TABLE guilds (guild TEXT PRIMARY KEY, settings TEXT NOT NULL);
CREATE TABLE bans (
    guild TEXT NOT NULL, member TEXT NOT NULL, name TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (guild, member)
);
CREATE TABLE nights (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, started REAL NOT NULL, finished REAL, base TEXT, candidate TEXT,
    cutoff REAL, snapshot TEXT, withdrawn INTEGER NOT NULL DEFAULT 0, diary TEXT NOT NULL
);
CREATE TABLE night_uses (
    night TEXT NOT NULL REFERENCES nights(id) ON DELETE CASCADE, artwork TEXT NOT NULL, voter TEXT NOT NULL,
    requester TEXT NOT NULL, PRIMARY KEY (night, artwork, voter)
);
CREATE TABLE duels (
    id TEXT PRIMARY KEY, member TEXT NOT NULL, guild TEXT, genre TEXT NOT NULL,
    first TEXT NOT NULL REFERENCES artworks(id) ON DELETE CASCADE,
    second TEXT NOT NULL REFERENCES artworks(id) ON DELETE CASCADE,
    choice TEXT CHECK (choice IN ('first', 'second', 'neither')), created REAL NOT NULL, decided REAL
);
CREATE INDEX duels_member ON duels(member);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)
"""


def new_id(length: int = 6) -> str:
    """Return a random base32 id with a letter and a digit in it, so that it is neither a genre nor a seed."""
    while True:
        text = "".join(secrets.choice(ALPHABET) for _ in range(length))
        if not text.isalpha() and not text.isdigit():
            return text


def to_json(value: Any) -> str:
    """Return canonical JSON: the same value gives the same text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def one(db: Database, sql: str, params: Any = ()) -> dict[str, Any] | None:
    """Return the first row, or None."""
    return next(iter(rows(db, sql, params)), None)


def rows(db: Database, sql: str, params: Any = ()) -> list[dict[str, Any]]:
    """Return all rows; half the price of ``db.query``, which is ready to roll back what returns none."""
    cursor = db.conn.execute(sql, params)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


class Store:
    """The database and the folder of files.  Open one per data folder; a second one is refused.

    Args:
        folder: made where missing; holds ``ganvas.db``, ``artworks/``, ``jobs/`` and ``thumbnails/``.

    Raises:
        DataInUse: another process has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("artworks", "jobs", "thumbnails"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        # The lock ends with the process, also by kill -9, so whoever holds it knows that all earlier leases are dead.
        self._lock = open(folder / "ganvas.lock", "a")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DataInUse(f"Another Ganvas already runs on the data folder {folder}; stop it first.") from None
        try:
            self._writer = self._connect()
            migrations.apply(self._writer)
        except BaseException:
            self._lock.close()
            raise
        self._writes: queue.SimpleQueue[tuple[Work[Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._readers: queue.LifoQueue[Database] = queue.LifoQueue()
        for _ in range(READERS):
            self._readers.put(self._connect())
        self._thread = threading.Thread(target=self._write_forever, name="ganvas-writer", daemon=True)
        self._thread.start()

    def _connect(self) -> Database:
        connection = sqlite3.connect(
            self.folder / "ganvas.db", isolation_level=None, check_same_thread=False, timeout=30, cached_statements=256
        )
        db = Database(connection)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-8000"):
            db.conn.execute(f"PRAGMA {pragma}")
        return db

    async def write(self, work: Work[T]) -> T:
        """Run ``work(db)`` in a transaction on the writer thread; return its result once it is on disk."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writes.put((work, future))
        # The transaction happens whether or not the caller still waits: never half, never unheard of.
        return await asyncio.shield(future)

    async def read(self, work: Work[T]) -> T:
        """Run ``work(db)`` in one read transaction, beside the writer."""
        return await asyncio.to_thread(self._read, work)

    def _read(self, work: Work[T]) -> T:
        db = self._readers.get()
        try:
            with db.atomic():
                return work(db)
        finally:
            self._readers.put(db)

    def _write_forever(self) -> None:
        while (item := self._writes.get()) is not None:
            batch = [item]
            with contextlib.suppress(queue.Empty):
                while len(batch) < 64:
                    following = self._writes.get_nowait()
                    if following is None:
                        self._writes.put(None)
                        break
                    batch.append(following)
            self._commit(batch)

    def _commit(self, batch: list[tuple[Work[Any], asyncio.Future[Any]]]) -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        execute = self._writer.conn.execute
        try:
            execute("BEGIN IMMEDIATE")
            for work, _ in batch:
                execute("SAVEPOINT work")
                try:
                    outcomes.append((work(self._writer), None))
                except Exception as error:
                    if not self._writer.conn.in_transaction:
                        raise  # SQLite itself has taken everything back
                    execute("ROLLBACK TO work")
                    outcomes.append((None, error))
                execute("RELEASE work")
            execute("COMMIT")
        except Exception as error:  # e.g. the disk is full: nothing of the batch happened, and everyone hears so
            with contextlib.suppress(sqlite3.Error):
                execute("ROLLBACK")
            outcomes = [(None, error)] * len(batch)
        for (_, future), (result, failure) in zip(batch, outcomes, strict=True):
            with contextlib.suppress(RuntimeError):  # its loop has ended
                future.get_loop().call_soon_threadsafe(_settle, future, result, failure)

    async def close(self) -> None:
        """Finish all writes and let go of the folder."""
        self._writes.put(None)
        await asyncio.to_thread(self._thread.join)
        for _ in range(READERS):
            (await asyncio.to_thread(self._readers.get)).close()
        self._writer.close()
        self._lock.close()

    # Files.  Their names are made of our own ids, never of anything a person typed.

    def artwork_path(self, art_id: str, suffix: str) -> Path:
        """Return where the file of an artwork is; a folder for each first two characters."""
        return self.folder / "artworks" / art_id[:2] / f"{art_id}.{suffix}"

    def thumbnail_path(self, art_id: str, side: int) -> Path:
        """Return where a small copy is kept."""
        return self.folder / "thumbnails" / art_id[:2] / f"{art_id}-{side}.webp"

    def job_folder(self, job_id: str) -> Path:
        """Return where the photos of an unfinished job wait."""
        return self.folder / "jobs" / job_id


def _settle(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.cancelled():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)


_FOLDERS = threading.Lock()  # whoever finds a folder finds one that outlives a power loss


def write_file(path: Path, data: bytes) -> None:
    """Write so that after power loss the file is whole or absent."""
    with _FOLDERS:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            _sync(path.parent.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def pseudonym(db: Database, member: str) -> str:
    """Return a stable name for a person that says nothing about who it is (HMAC with this house's own salt)."""
    (salt,) = db.execute("SELECT value FROM facts WHERE name = 'salt'").fetchone()
    return hashlib.blake2b(member.encode(), key=salt.encode(), digest_size=10).hexdigest()


def unlink_artwork(store: Store, art_id: str, suffix: str) -> None:
    """Delete the file of a work and its small copies."""
    store.artwork_path(art_id, suffix).unlink(missing_ok=True)
    folder = store.thumbnail_path(art_id, 0).parent
    for path in folder.glob(f"{art_id}-*.webp") if folder.is_dir() else ():
        path.unlink(missing_ok=True)


def drop_job_folder(store: Store, job_id: str) -> None:
    """Delete the photos of a job."""
    folder = store.job_folder(job_id)
    for path in folder.iterdir() if folder.is_dir() else ():
        path.unlink(missing_ok=True)
    if folder.is_dir():
        folder.rmdir()


def bury_posts(db: Database, where: str, params: Sequence[Any]) -> int:
    """Turn posts into tombstones; ``where`` is our own SQL, never a person's."""
    db.execute(
        "INSERT OR IGNORE INTO tombstones (platform, channel, message, created) "  # noqa: S608
        f"SELECT platform, channel, message, ? FROM posts WHERE deleted IS NULL AND {where}",
        [time.time(), *params],
    )
    cursor = db.execute(f"DELETE FROM posts WHERE {where}", list(params))  # noqa: S608
    return int(cursor.rowcount)
