"""The durable queue: what was acknowledged survives a kill at any moment, and is delivered exactly once.

    queued -> running -> rendered -> delivered          and: failed, cancelled

Every arrow is one transaction.  A job's photos lie beside it (see photos.py).  Works and the job's turn to
"rendered" appear together; a delivery is claimed before it is tried (in the same transaction where it can begin at
once), so that after a crash the front end is first asked whether the message is already there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.artwork import COLUMNS, Artwork, artwork_from, describe
from bot.studio.engine import Engine
from bot.studio.errors import LimitReached, NotFound, Refused, SourceGone, Undeliverable
from bot.studio.events import Events, JobChanged
from bot.studio.fairness import FairShare, Throughput, Waiting, units
from bot.studio.gallery import Gallery
from bot.studio.people import WEB, Member
from bot.studio.photos import Photos, named, split
from bot.studio.promises import kept
from bot.studio.settings import GuildSettings, guild_settings, is_banned, know, preferences
from bot.studio.store import Store, new_id, one, rows, to_json, unlink_artwork, write_file
from bot.studio.votes import hotness
from engine.api import FitRequest, MorphRequest, PaintRequest, Progress, Request, Result
from engine.errors import BrokenModel, Busy, EngineUnavailable, GanvasError, InvalidRequest, JobCancelled, UnknownName

log = logging.getLogger(__name__)

State = Literal["queued", "running", "rendered", "delivered", "failed", "cancelled"]
FINAL = ("delivered", "failed", "cancelled")
ATTEMPTS = 5  # starts of one job over all lives of the bot, then it is to blame
LEASE = 60.0  # seconds; renewed at a third of it
AHEAD = 2.0  # seconds of work the engine may hold beyond half of its places: newcomers wait no longer for others
DELIVERIES = 8  # at once
RETRY, LONGEST_RETRY = 2.0, 30.0  # seconds until a failed delivery is tried again; doubled with every attempt
PATIENCE = 24 * 3600.0  # seconds a finished job is offered to its front end before it is given up


@dataclass(frozen=True)
class Job:
    """A request somebody made, and how far it is."""

    id: str
    member: Member
    guild: str | None
    command: str
    options: dict[str, Any]  # the request, with {"file": name} in place of photos
    private: bool
    kind: str
    address: dict[str, Any]
    parents: tuple[str, ...]
    state: State
    error: str | None
    notes: tuple[str, ...]
    artworks: tuple[str, ...]
    attempts: int
    created: float
    started: float | None
    finished: float | None


@dataclass(frozen=True)
class JobStatus:
    """What to show of a job right now."""

    job_id: str
    state: State
    place: int = 0  # jobs before it
    eta: float | None = None  # seconds until it is done
    share: float = 0.0  # of the work that is done
    error: str | None = None
    artworks: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """Whether nothing more will come; a rendered job's works are there, only its message is not."""
        return self.state in FINAL


@dataclass(frozen=True)
class QueueStatus:
    """How busy the studio is."""

    running: int
    waiting: int
    seconds: float  # of work that waits
    per_minute: float  # jobs finished, over the last five minutes


@dataclass(frozen=True)
class Delivery:
    """A finished job that its front end should show."""

    job: Job
    artworks: tuple[Artwork, ...]
    nonce: str
    attempt: int


class Deliverer(Protocol):
    """A front end's way to show results."""

    async def deliver(self, delivery: Delivery) -> str | None:
        """Post it (or why there is nothing to post); return "<channel>/<message>", or None where there is none."""

    async def find(self, delivery: Delivery) -> str | None:
        """Return the message if an earlier attempt did post it."""


@dataclass
class _Live:
    """What is known in RAM about a job that waits or runs."""

    job: Job
    waiting: Waiting
    units: float
    share: float = 0.0
    not_before: float = 0.0
    retries: int = 0
    began: float | None = None  # on the service clock
    cost: float = 0.0  # seconds of the engine's time, once it has made the works
    cancelled: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def at_engine(self) -> bool:
        """Whether the engine has it; what it has made is only to be kept."""
        return self.task is not None and not self.cost


class _Watcher:
    """The latest status, for one reader: whoever is slow sees fewer steps, never old ones."""

    def __init__(self) -> None:
        self.latest: JobStatus | None = None
        self.arrived = asyncio.Event()

    def offer(self, status: JobStatus) -> None:
        if status != self.latest:
            self.latest = status
            self.arrived.set()


class Queue:
    """Takes jobs, runs them fairly, hands the results to the front ends."""

    def __init__(
        self,
        store: Store,
        events: Events,
        house: Settings,
        engine: Engine,
        gallery: Gallery,
        settings_of: Callable[[str | None], Awaitable[GuildSettings]],
        painter_for: Callable[[Member, Request], Awaitable[str | None]],
    ) -> None:
        self._store = store
        self._events = events
        self._house = house
        self._engine = engine
        self._gallery = gallery
        self._settings_of = settings_of
        self._painter_for = painter_for
        self.photos = Photos(store, house)
        self._live: dict[str, _Live] = {}
        self._order: list[Waiting] | None = None  # None: not known any more
        self._fair = FairShare()
        self._throughput = Throughput()
        self._finishes: deque[float] = deque(maxlen=1000)
        self._service = 0.0  # integral of dt / jobs running: the engine's time one of them has had
        self._service_at = time.monotonic()
        self._watchers: dict[str, set[_Watcher]] = {}
        self._deliverers: dict[str, Deliverer] = {}
        self._delivering: dict[str, asyncio.Task[bool]] = {}
        self._crowded = False  # a delivery was put off, because there was no place for it
        self._claiming: set[str] = set()  # jobs whose works and whose delivery's claim are being written
        self._pump_wanted = asyncio.Event()
        self._delivery_wanted = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    # Life

    async def start(self) -> None:
        """Take up what an earlier life left, and begin to work."""

        def work(db: Database) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
            # We hold the folder's lock, so every lease in the table belongs to a dead process.
            stuck = "SELECT * FROM jobs WHERE state = 'running' AND attempts >= ?"
            for row in list(db.query(stuck, [ATTEMPTS])):
                sentence = f"This job was under way in {ATTEMPTS} sudden ends of the studio; it is not tried again."
                _finish(db, row, "failed", sentence)
            db.execute("UPDATE jobs SET state = 'queued', lease_until = NULL WHERE state = 'running'")
            db.execute("UPDATE deliveries SET next_at = 0 WHERE state IN ('waiting', 'claimed')")
            waiting = list(db.query("SELECT * FROM jobs WHERE state = 'queued' ORDER BY created"))
            sql = "SELECT command, units, cost FROM jobs WHERE cost IS NOT NULL ORDER BY finished DESC LIMIT 50"
            return waiting, list(db.query(sql))[::-1]

        waiting, measured = await self._store.write(work)
        for row in measured:
            self._throughput.learn(row["command"], row["units"], row["cost"])
        for row in waiting:
            self._admit(_job(row), row["units"])
        await self.photos.sweep(opening=True)
        self._loops = [asyncio.create_task(self._always(loop)) for loop in (self._pump, self._deliver, self._renew)]
        self._pump_wanted.set()

    async def _always(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keep a loop going over whatever happens to the disk: one bad moment must not end all work."""
        while True:
            try:
                await loop()
            except Exception:
                log.exception("The queue stumbled; it goes on in a second")
            await asyncio.sleep(1)
            self._pump_wanted.set()
            self._delivery_wanted.set()

    async def close(self) -> None:
        """Stop; what runs is taken up again by the next life."""
        tasks = [*self._loops, *self._delivering.values()]
        tasks += [live.task for live in self._live.values() if live.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # An orderly end is not the job's fault.
        sql = "UPDATE jobs SET state = 'queued', attempts = attempts - 1, lease_until = NULL WHERE state = 'running'"
        await self._store.write(lambda db: db.execute(sql))

    def register(self, kind: str, deliverer: Deliverer) -> None:
        """Name who delivers jobs of a kind; those that are done already follow at once."""
        self._deliverers[kind] = deliverer
        self._delivery_wanted.set()

    # What front ends ask

    async def submit(
        self,
        request: Request,
        *,
        member: Member,
        guild: str | None = None,
        private: bool | None = None,
        kind: str = WEB,
        address: Mapping[str, Any] | None = None,
        parents: Sequence[str] = (),
        photo_owner: Member | None = None,
        age_restricted: bool = False,
        key: str | None = None,
    ) -> Job:
        """Take a job; it is on disk when this returns.

        Args:
            private: None is the member's own preference.
            kind: whose deliverer shows the result; ``address`` is what that needs to find the place.
            parents: artworks it is made from.
            photo_owner: who posted the photo, if that is somebody else.
            age_restricted: whether the place is for adults only.
            key: the same key again returns the first job; a promise of this key counts as kept.

        Raises:
            Refused: a ban, the nude policy, or the owner of the photo does not want it.
            LimitReached: too many wait already.
            NotFound: a parent is not there, or not for this member to see.
            InvalidRequest: too large for this house.
        """
        self._check_size(request)
        taking = self._take(
            request, member, guild, private, kind, dict(address or {}), parents, photo_owner, age_restricted, key
        )
        # Once begun it is finished, also when the caller leaves: no job may stand in the table and not in the line.
        return await asyncio.shield(asyncio.create_task(taking))

    async def _take(
        self,
        request: Request,
        member: Member,
        guild: str | None,
        private: bool | None,
        kind: str,
        address: dict[str, Any],
        parents: Sequence[str],
        photo_owner: Member | None,
        age_restricted: bool,
        key: str | None,
    ) -> Job:
        job_id = new_id(12)
        options, photos = split(request)
        await self.photos.keep(job_id, photos)
        work_units = units(request)

        def work(db: Database) -> dict[str, Any]:
            if key:
                kept(db, key)  # from here on the job owes the answer
            first = one(db, "SELECT * FROM jobs WHERE key = ?", [key]) if key else None
            if first:
                return first
            know(db, member)
            owner = photo_owner or (_owner_of(db, parents) if photos else None)
            nude = self._check_policy(db, request, member, guild, owner, parents, age_restricted)
            self._check_limits(db, member, guild)
            hidden = preferences(db, member.key).private if private is None else private
            row = {
                "id": job_id, "key": key, "member": member.key, "guild": guild,
                "photo_owner": owner.key if owner and owner != member else None,
                "command": request.command, "options": to_json(options), "private": int(hidden),
                "age_restricted": int(nude), "kind": kind, "address": to_json(address),
                "parents": to_json(list(parents)), "state": "queued", "units": work_units, "created": time.time(),
            }  # fmt: skip
            columns = ", ".join(row)
            db.execute(f"INSERT INTO jobs ({columns}) VALUES ({', '.join('?' * len(row))})", list(row.values()))  # noqa: S608
            found = one(db, "SELECT * FROM jobs WHERE id = ?", [job_id])
            assert found is not None
            return found

        try:
            row = await self._store.write(work)
        except GanvasError:
            await self.photos.release(job_id, useful=False)
            raise
        if row["id"] != job_id:
            await self.photos.release(job_id, useful=False)
            return await self.get(row["id"])
        job = replace(_job(row), member=member)
        self._admit(job, work_units)
        self._pump_wanted.set()
        self._events.publish(JobChanged(job.id))
        return job

    async def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda db: _load(db, job_id))

    async def status(self, job_id: str) -> JobStatus:
        """Return what to show of a job.

        Raises:
            NotFound: there is none.
        """
        if live := self._live.get(job_id):
            return self._status(live)
        job = await self.get(job_id)
        share = 1.0 if job.state in ("rendered", "delivered") else 0.0
        return JobStatus(job.id, job.state, share=share, error=job.error, artworks=job.artworks)

    async def watch(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Yield the present status and then every change, the newest only, until the job has ended.

        Raises:
            NotFound: there is none.
        """
        watcher = _Watcher()
        self._watchers.setdefault(job_id, set()).add(watcher)
        try:
            watcher.offer(await self.status(job_id))
            while True:
                await watcher.arrived.wait()
                watcher.arrived.clear()
                assert watcher.latest
                latest = watcher.latest
                yield latest
                if latest.final:
                    return
        finally:
            self._watchers[job_id].discard(watcher)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    async def jobs(self, member: Member, *, active: bool = True, limit: int = 20) -> list[Job]:
        """Return a member's jobs, newest first; only those not yet delivered unless told."""
        states = "('queued', 'running', 'rendered')" if active else "(state)"
        sql = f"{_JOBS} WHERE jobs.member = ? AND jobs.state IN {states} ORDER BY jobs.created DESC LIMIT ?"
        rows = await self._store.read(lambda db: list(db.query(sql, [member.key, limit])))
        return [_job(row) for row in rows]

    def live(self, *, member: Member | None = None) -> list[Job]:
        """Return the jobs that wait or run, from RAM; of one member or of all."""
        return [live.job for live in self._live.values() if member in (None, live.job.member)]

    async def cancel(self, job_id: str, *, by: Member, moderator: bool = False) -> Job:
        """Stop a job; one that is done stays done.

        Raises:
            NotFound: there is none.
            Refused: it is somebody else's.
        """
        job = await self.get(job_id)
        if job.member != by and not moderator:
            raise Refused("Only the member who started a job, or a moderator, can cancel it.")
        live = self._live.get(job_id)
        if live is None:
            return job
        live.cancelled = True
        if live.task:
            with contextlib.suppress(GanvasError):  # it is done over there, or the engine is away
                await self._engine.cancel(job_id)
            await asyncio.wait([live.task], timeout=5)
        if live.task is None and job_id in self._live:  # it waits, perhaps again
            await self._end(live, "cancelled", "It was cancelled.")
        return await self.get(job_id)

    async def readdress(self, job_id: str, address: Mapping[str, Any]) -> None:
        """Replace what the deliverer of a job knows, e.g. with the id of its status message.

        Raises:
            NotFound: there is none.
        """
        sql = "UPDATE jobs SET address = ? WHERE id = ?"
        count = await self._store.write(lambda db: db.execute(sql, [to_json(dict(address)), job_id]).rowcount)
        if not count:
            raise NotFound(f"There is no job {job_id!r}.")
        if live := self._live.get(job_id):
            live.job = replace(live.job, address=dict(address))

    async def request(self, job_id: str, *, by: Member) -> Request:
        """Return the request of a job, to make it again or vary it.

        Raises:
            NotFound: there is none.
            SourceGone: its photo has been deleted, or is another member's.
        """
        job = await self.get(job_id)
        if named(job.options) and by != job.member:
            raise SourceGone("The photo of this work is its sender's own; only they can make it again.")
        return await self.photos.join(job_id, job.options, job.finished)

    async def overview(self, guild: str | None = None) -> QueueStatus:
        """Return how busy the studio is, with everything or with one guild's jobs."""
        lives = [live for live in self._live.values() if guild is None or live.job.guild == guild]
        waiting = [live for live in lives if live.task is None]
        recent = sum(finish > time.monotonic() - 300 for finish in self._finishes)
        seconds = sum(self._throughput.cost(live.job.command, live.units) for live in waiting)
        return QueueStatus(len(lives) - len(waiting), len(waiting), seconds, recent / 5)

    # The rules of taking jobs; inside the transaction of submit()

    def _check_size(self, request: Request) -> None:
        if isinstance(request, FitRequest):
            raise InvalidRequest("fit is no job.")
        for f in fields(request):
            value = getattr(request, f.name)
            if isinstance(value, bytes) and len(value) > self._house.max_upload_bytes:
                limit = self._house.max_upload_bytes / 2**20
                raise InvalidRequest(
                    f"The picture is {len(value) / 2**20:.1f} MiB; at most {limit:.0f} MiB are taken here."
                )
            if f.name in ("size", "width", "height") and isinstance(value, int) and value > self._house.max_side:
                raise InvalidRequest(f"{f.name} is {value}; at most {self._house.max_side} px are made here.")

    def _check_policy(
        self,
        db: Database,
        request: Request,
        member: Member,
        guild: str | None,
        photo_owner: Member | None,
        parents: Sequence[str],
        age_restricted: bool,
    ) -> bool:
        """Return whether the result is for adults only."""
        if is_banned(db, guild, member.key):
            raise Refused("You are banned from making pictures here.")
        if photo_owner and photo_owner != member and not preferences(db, photo_owner.key).others_may_stylize:
            raise Refused("The member who posted this picture asked that others make nothing from it.")
        genres = [request.genre] if isinstance(request, PaintRequest) else []
        if isinstance(request, MorphRequest):
            genres = [stop.genre for stop in request.stops]
        nude = "nude-painting" in genres
        for parent_id in parents:
            parent = one(db, "SELECT * FROM artworks WHERE id = ? AND removed IS NULL", [parent_id])
            if parent is None or (parent["private"] and parent["member"] != member.key):
                raise NotFound(f"There is no artwork {parent_id[:20]!r}.")
            nude = nude or bool(parent["age_restricted"])
        if nude:
            allowed = self._house.nudes and guild_settings(db, guild, self._house).nudes
            if not allowed:
                raise Refused("Nude paintings are switched off here; please choose another genre.")
            if not age_restricted and guild != WEB:
                raise Refused("Nude paintings are made in age-restricted channels only.")
        return nude

    def _check_limits(self, db: Database, member: Member, guild: str | None) -> None:
        settings = guild_settings(db, guild, self._house)
        sql = "SELECT count(*) FROM jobs WHERE state = 'queued' AND "
        (own,) = db.execute(sql + "member = ?", [member.key]).fetchone()
        if own >= settings.member_waiting:
            raise LimitReached(
                f"{own} of your jobs wait already, and {settings.member_waiting} may; let one finish first."
            )
        (all_of_guild,) = db.execute(sql + "guild IS ?", [guild]).fetchone()
        if guild is not None and all_of_guild >= settings.guild_waiting:
            raise LimitReached(
                f"{all_of_guild} jobs wait here already, and {settings.guild_waiting} may; try again soon."
            )

    # Running

    def _admit(self, job: Job, work_units: float) -> None:
        cost = self._throughput.cost(job.command, work_units)
        waiting = Waiting(job.id, job.member.key, job.guild, cost, job.created)
        self._live[job.id] = _Live(job, waiting, work_units)

    async def _pump(self) -> None:
        while True:
            await self._pump_wanted.wait()
            self._pump_wanted.clear()
            settings = {
                guild: await self._settings_of(guild) for guild in {live.job.guild for live in self._live.values()}
            }
            self._order = None
            running = [live for live in self._live.values() if live.at_engine]
            members = Counter(live.waiting.member for live in running)
            guilds = Counter(live.job.guild for live in running)
            jobs, held = len(running), sum(map(self._seconds, running))
            for waiting in list(self._line()) if self._has_room(jobs, held) else ():
                live = self._live.get(waiting.job_id)
                if not self._has_room(jobs, held):
                    break
                if live is None or live.cancelled or live.job.guild not in settings:
                    continue
                limits = settings[live.job.guild]
                if (
                    members[waiting.member] >= limits.member_running
                    or (live.job.guild is not None and guilds[live.job.guild] >= limits.guild_running)
                    or live.not_before > time.monotonic()
                ):
                    continue
                jobs, held = jobs + 1, held + self._seconds(live)
                members[waiting.member] += 1
                guilds[live.job.guild] += 1
                self._fair.started(waiting, self._line())
                self._line().remove(waiting)
                self._tick()
                live.began = self._service
                live.task = asyncio.create_task(self._run(live))
            self._tell_all()

    def _line(self) -> list[Waiting]:
        """Return who waits, in the order of their turns."""
        if self._order is None:
            self._order = self._fair.order(live.waiting for live in self._live.values() if live.task is None)
        return self._order

    def _has_room(self, jobs: int, seconds: float) -> bool:
        """Whether the engine, which holds so many jobs of so many seconds, may be handed one more.

        It must have the next batch at hand when it ends one; but what it holds, nobody can overtake any more.
        """
        parallel = self._house.engine_parallel
        unkept = sum(live.task is not None for live in self._live.values()) - jobs  # their pictures are in RAM
        return jobs < (parallel if seconds < AHEAD else (parallel + 1) // 2) and unkept < parallel

    def _seconds(self, live: _Live) -> float:
        """Return how long the engine will still be busy with a job, as far as anybody knows."""
        return self._throughput.cost(live.job.command, live.units) * (1 - live.share)

    def _tick(self) -> None:
        """Move the service clock on; call it before the number of jobs at the engine changes."""
        now = time.monotonic()
        running = sum(live.at_engine for live in self._live.values())
        self._service += (now - self._service_at) / max(1, running)
        self._service_at = now

    async def _run(self, live: _Live) -> None:
        job = live.job
        try:
            now = time.time()
            sql = """UPDATE jobs SET state = 'running', attempts = attempts + 1, started = coalesce(started, ?),
                     lease_until = ? WHERE id = ?"""
            await self._store.write(lambda db: db.execute(sql, [now, now + LEASE, job.id]))
            live.job = replace(job, state="running", started=job.started or now)
            self._events.publish(JobChanged(job.id))
            self._tell(live)
            request = await self.photos.join(job.id, job.options)
            if live.cancelled:
                raise JobCancelled("The job was cancelled.")
            request, result = await self._make(live, request)
            self._tick()
            live.share, live.cost = 1.0, max(1e-3, self._service - (live.began or 0.0))
            self._pump_wanted.set()  # the next may go to the engine while this one goes to the disk
            await self._render(live, request, result)
        except (EngineUnavailable, Busy) as error:
            await self._again(live, error)
        except JobCancelled:
            await self._end(live, "cancelled", "It was cancelled.")
        except GanvasError as error:
            await self._end(live, "failed", str(error))
        except Exception:
            log.exception("Job %s failed for a reason nobody foresaw", job.id)
            await self._end(
                live, "failed", f"Something broke in the studio; its host finds it in the log under {job.id}."
            )
        finally:
            self._pump_wanted.set()

    async def _make(self, live: _Live, request: Request) -> tuple[Request, Result]:
        """Return the result and the request it answers: that of a trial names the painter."""
        make = functools.partial(
            self._engine.run, job=live.job.id, on_progress=lambda progress: self._progress(live, progress),
            deadline=self._house.job_minutes * 60,
        )  # fmt: skip
        painter = await self._painter_for(live.job.member, request)
        if painter is not None and isinstance(request, PaintRequest | MorphRequest):
            try:
                return (named := replace(request, model=painter)), await make(named)
            except (BrokenModel, UnknownName):
                log.exception("The painter on trial cannot paint; the one in office does")
        return request, await make(request)

    def _progress(self, live: _Live, progress: Progress) -> None:
        live.share = max(live.share, min(1.0, progress.share))
        self._tell(live)

    async def _again(self, live: _Live, error: GanvasError) -> None:
        """Put a job back in line: the engine is away or full, which is not the job's fault."""
        if live.cancelled:
            await self._end(live, "cancelled", "It was cancelled.")
            return
        sql = """UPDATE jobs SET state = 'queued', attempts = attempts - 1, lease_until = NULL
                 WHERE id = ? AND state = 'running'"""
        if not await self._store.write(lambda db: db.execute(sql, [live.job.id]).rowcount):
            await self._left(live, await self.get(live.job.id))  # it had ended after all
            return
        live.retries += 1
        delay = min(30.0, 0.25 * 2 ** min(live.retries, 8))
        log.warning("Job %s waits %.1f s and tries again: %s", live.job.id, delay, error)
        self._tick()
        live.task, live.began, live.share, live.cost = None, None, 0.0, 0.0
        live.job = replace(live.job, state="queued")
        live.not_before = time.monotonic() + delay
        asyncio.get_running_loop().call_later(delay + 0.01, self._pump_wanted.set)
        self._tell(live)

    async def _render(self, live: _Live, request: Request, result: Result) -> None:
        """Keep the results: files first, then one transaction in which they and "rendered" appear."""
        job = live.job
        ids = await self._store.read(lambda db: _fresh_ids(db, len(result.outputs)))
        for art_id, output in zip(ids, result.outputs, strict=True):
            path = self._store.artwork_path(art_id, output.format)
            await asyncio.to_thread(write_file, path, output.data)
        claim = job.kind in self._deliverers and self._may_deliver()

        def work(db: Database) -> Delivery | None:
            row = one(db, "SELECT * FROM jobs WHERE id = ? AND state = 'running'", [job.id])
            if row is None:
                return None
            now = time.time()
            for number, (art_id, output) in enumerate(zip(ids, result.outputs, strict=True)):
                values = describe(request, number) | {
                    "id": art_id, "job": job.id, "number": number, "member": row["member"], "guild": row["guild"],
                    "photo_owner": row["photo_owner"], "command": row["command"], "format": output.format,
                    "width": output.width, "height": output.height, "frames": output.frames,
                    "size": len(output.data), "sha256": output.sha256, "recipe": to_json(output.recipe),
                    "private": row["private"], "age_restricted": row["age_restricted"], "created": now + number * 1e-6,
                    "hot": hotness(0.0, now),
                }  # fmt: skip
                columns = ", ".join(values)
                marks = ", ".join("?" * len(values))
                db.execute(f"INSERT INTO artworks ({columns}) VALUES ({marks})", list(values.values()))  # noqa: S608
                for position, parent in enumerate(json.loads(row["parents"])):
                    db.execute("INSERT INTO lineage VALUES (?, ?, ?)", [art_id, position, parent])
            notes = to_json(list(result.notes))
            db.execute("UPDATE jobs SET notes = ?, cost = ? WHERE id = ?", [notes, live.cost, job.id])
            _finish(db, row, "rendered", None)
            return _claim(db, job.id) if claim else _delivery(db, job.id)

        if claim:
            self._claiming.add(job.id)
        try:
            delivery = await self._store.write(work)
        finally:
            self._claiming.discard(job.id)
        if delivery is None:
            for art_id, output in zip(ids, result.outputs, strict=True):
                await asyncio.to_thread(unlink_artwork, self._store, art_id, output.format)
            return
        self._throughput.learn(job.command, live.units, live.cost)
        self._finishes.append(time.monotonic())
        self._gallery.took_in(delivery.artworks)
        if claim:
            self._start_delivery(job.id, delivery)
        await self._left(live, delivery.job)

    async def _end(self, live: _Live, state: State, sentence: str) -> None:
        def work(db: Database) -> Job:
            row = one(db, "SELECT * FROM jobs WHERE id = ? AND state IN ('queued', 'running')", [live.job.id])
            if row is not None:
                _finish(db, row, state, sentence)
            return _load(db, live.job.id)

        await self._left(live, await self._store.write(work))

    async def _left(self, live: _Live, job: Job) -> None:
        """A job neither waits nor runs any more."""
        self._tick()
        self._live.pop(live.job.id, None)
        if job.kind == WEB:
            await self.photos.release(job.id, useful=job.state == "delivered")
        self._changed(job)
        if job.id not in self._delivering:
            self._delivery_wanted.set()
        self._pump_wanted.set()

    def _changed(self, job: Job) -> None:
        self._events.publish(JobChanged(job.id))
        share = 1.0 if job.state in ("rendered", "delivered") else 0.0
        status = JobStatus(job.id, job.state, share=share, error=job.error, artworks=job.artworks)
        for watcher in self._watchers.get(job.id, ()):
            watcher.offer(status)

    def _tell(self, live: _Live) -> None:
        if watchers := self._watchers.get(live.job.id):
            status = self._status(live)
            for watcher in watchers:
                watcher.offer(status)

    def _tell_all(self) -> None:
        for job_id in list(self._watchers):
            if live := self._live.get(job_id):
                self._tell(live)

    def _status(self, live: _Live) -> JobStatus:
        running = [other for other in self._live.values() if other.at_engine]
        held, own = sum(map(self._seconds, running)), self._seconds(live)
        if live.task:  # the running ones share the engine
            eta = min(held, own * len(running))
            return JobStatus(live.job.id, "running", eta=round(eta, 1), share=live.share)
        before = []
        for waiting in self._line():
            if waiting.job_id == live.job.id:
                break
            if other := self._live.get(waiting.job_id):
                before.append(other)
        eta = held + sum(map(self._seconds, before)) + own
        return JobStatus(live.job.id, "queued", place=len(before), eta=round(eta, 1))

    async def _renew(self) -> None:
        """Keep the leases of what runs; a job whose end could not be written down (a full disk) goes back in line."""
        while True:
            await asyncio.sleep(LEASE / 3)
            lost = [live for live in self._live.values() if live.task and live.task.done()]
            running = [live.job.id for live in self._live.values() if live.task and not live.task.done()]
            await self._store.write(functools.partial(_renew_leases, running))
            for live in lost:
                await self._again(live, EngineUnavailable("its end could not be written down."))

    # Delivery

    async def _deliver(self) -> None:
        pause: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._delivery_wanted.wait()
            self._delivery_wanted.clear()
            pause = None
            for job_id, next_at in await self._store.read(self._undelivered):
                pause = next_at - time.time()
                if pause > 0 or not self._may_deliver():
                    break
                if job_id not in self._delivering and job_id not in self._claiming:
                    self._start_delivery(job_id)
                pause = None
            pause = pause if pause is None or pause > 0 else None  # no place free: the next one to end wakes us

    def _undelivered(self, db: Database) -> list[tuple[str, float]]:
        sql = """SELECT job, next_at FROM deliveries WHERE state IN ('waiting', 'claimed')
                 AND kind IN (SELECT value FROM json_each(?)) ORDER BY next_at LIMIT 200"""
        return list(db.execute(sql, [to_json(list(self._deliverers))]).fetchall())

    def _may_deliver(self) -> bool:
        """Whether there is a place for one more delivery; the first to end looks for those that found none."""
        free = len(self._delivering) + len(self._claiming) < DELIVERIES
        self._crowded = self._crowded or not free
        return free

    def _start_delivery(self, job_id: str, claimed: Delivery | None = None) -> None:
        task = self._delivering[job_id] = asyncio.create_task(self._deliver_one(job_id, claimed))
        task.add_done_callback(functools.partial(self._delivered, job_id))

    def _delivered(self, job_id: str, task: asyncio.Task[bool]) -> None:
        del self._delivering[job_id]
        if self._crowded or task.cancelled() or not task.result():
            self._crowded = False
            self._delivery_wanted.set()

    async def _deliver_one(self, job_id: str, claimed: Delivery | None) -> bool:
        """Deliver a job; False if it must be tried again."""
        try:
            delivery = claimed if claimed else await self._store.write(lambda db: _claim(db, job_id))
            deliverer = self._deliverers[delivery.job.kind]
            try:
                message = await deliverer.find(delivery) if delivery.attempt > 1 else None
                if message is None:
                    message = await deliverer.deliver(delivery)
            except Undeliverable as error:
                await self._give_up(delivery, f"It is done, but could not be posted: {error}")
            except Exception as error:
                if time.time() - (delivery.job.finished or 0.0) > PATIENCE:
                    await self._give_up(delivery, "It is done, but could not be posted for a whole day.")
                    return True
                delay = min(LONGEST_RETRY, RETRY * 2.0 ** min(delivery.attempt - 1, 10))
                log.warning("Job %s was not delivered, again in %.0f s: %r", job_id, delay, error)
                sql = "UPDATE deliveries SET next_at = ? WHERE job = ?"
                await self._store.write(lambda db: db.execute(sql, [time.time() + delay, job_id]))
                return False
            else:
                await self._done(delivery, message)
            return True
        except Exception:
            log.exception("The delivery of job %s could not be recorded", job_id)
            await asyncio.sleep(1)
            return False

    async def _done(self, delivery: Delivery, message: str | None) -> None:
        job_id = delivery.job.id

        def work(db: Database) -> Job:
            db.execute("UPDATE deliveries SET state = 'done', message = ? WHERE job = ?", [message, job_id])
            db.execute("UPDATE jobs SET state = 'delivered' WHERE id = ? AND state = 'rendered'", [job_id])
            return _load(db, job_id)

        job = await self._store.write(work)
        await self.photos.release(job_id, useful=job.state == "delivered")
        self._changed(job)

    async def _give_up(self, delivery: Delivery, sentence: str) -> None:
        job_id = delivery.job.id

        def work(db: Database) -> Job:
            db.execute("UPDATE deliveries SET state = 'given_up' WHERE job = ?", [job_id])
            sql = "UPDATE jobs SET state = 'failed', error = ? WHERE id = ? AND state = 'rendered'"
            db.execute(sql, [sentence, job_id])
            return _load(db, job_id)

        job = await self._store.write(work)
        log.warning("Job %s: %s", job_id, sentence)
        await self.photos.release(job_id, useful=False)
        self._changed(job)


_JOBS = """SELECT jobs.*, members.name,
    (SELECT json_group_array(id) FROM (SELECT id FROM artworks WHERE job = jobs.id ORDER BY number)) AS artworks
    FROM jobs JOIN members ON members.key = jobs.member"""


def _load(db: Database, job_id: str) -> Job:
    row = one(db, f"{_JOBS} WHERE jobs.id = ?", [job_id])
    if row is None:
        raise NotFound(f"There is no job {job_id[:20]!r}.")
    return _job(row)


def _job(row: Mapping[str, Any]) -> Job:
    return Job(
        id=row["id"],
        member=Member.from_key(row["member"], row.get("name", "")),
        guild=row["guild"],
        command=row["command"],
        options=json.loads(row["options"]),
        private=bool(row["private"]),
        kind=row["kind"],
        address=json.loads(row["address"]),
        parents=tuple(json.loads(row["parents"])),
        state=row["state"],
        error=row["error"],
        notes=tuple(json.loads(row["notes"])),
        artworks=tuple(json.loads(row.get("artworks", "[]"))),
        attempts=row["attempts"],
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
    )


def _finish(db: Database, row: Mapping[str, Any], state: State, error: str | None) -> None:
    """End a job; what its front end has to show of it is written in the same transaction."""
    if row["kind"] == WEB and state == "rendered":
        state = "delivered"  # the artwork's page is the delivery
    db.execute(
        "UPDATE jobs SET state = ?, error = ?, finished = ?, lease_until = NULL WHERE id = ?",
        [state, error, time.time(), row["id"]],
    )
    if row["kind"] != WEB:
        db.execute(
            "INSERT INTO deliveries (job, kind, nonce, state) VALUES (?, ?, ?, 'waiting')",
            [row["id"], row["kind"], f"ganvas-{row['id']}"],
        )


def _delivery(db: Database, job_id: str) -> Delivery:
    """Return what there is to show of a job; one that needs no delivery has no nonce."""
    row = one(db, "SELECT nonce, attempts FROM deliveries WHERE job = ?", [job_id]) or {"nonce": "", "attempts": 0}
    works = rows(db, f"SELECT {COLUMNS} WHERE job = ? AND removed IS NULL ORDER BY number", [job_id])
    return Delivery(_load(db, job_id), tuple(map(artwork_from, works)), row["nonce"], row["attempts"])


def _claim(db: Database, job_id: str) -> Delivery:
    """Begin an attempt to deliver a job; whoever finds a claim after a crash asks first what became of it."""
    db.execute("UPDATE deliveries SET state = 'claimed', attempts = attempts + 1 WHERE job = ?", [job_id])
    return _delivery(db, job_id)


def _renew_leases(job_ids: list[str], db: Database) -> None:
    sql = "UPDATE jobs SET lease_until = ? WHERE state = 'running' AND id IN (SELECT value FROM json_each(?))"
    db.execute(sql, [time.time() + LEASE, to_json(job_ids)])


def _owner_of(db: Database, parents: Sequence[str]) -> Member | None:
    """Return who posted the picture that the parents were made from, if that was not their maker."""
    sql = """SELECT photo_owner FROM artworks WHERE photo_owner IS NOT NULL
             AND id IN (SELECT value FROM json_each(?)) LIMIT 1"""
    row = one(db, sql, [to_json(list(parents))])
    return Member.from_key(row["photo_owner"]) if row else None


def _fresh_ids(db: Database, count: int) -> list[str]:
    ids: list[str] = []
    while len(ids) < count:
        art_id = new_id()
        if art_id not in ids and one(db, "SELECT 1 FROM artworks WHERE id = ?", [art_id]) is None:
            ids.append(art_id)
    return ids
