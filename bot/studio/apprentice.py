"""The painter's apprentice: it learns from the votes at night, is tried blindly on people, and succeeds or is let go.

    resting -> learning -> (rested | refused | failed) -> resting
                        -> canary -> (promoted | rolled back) -> resting

What is under way stands in one row of the database, and each step may be taken twice without harm: after a kill the
next look at the engine goes on from where it was.  Nothing here paints; the engine holds lessons (engine/lessons.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from sqlite_utils import Database

from bot.config import Settings
from bot.studio.canary import CanaryScore, Side, assigned, count, probability_better, verdict
from bot.studio.engine import Engine
from bot.studio.errors import NotFound, WrongMoment
from bot.studio.events import Events, NightEnded, PainterChanged
from bot.studio.nights import Night, Nights, save_night
from bot.studio.people import Member
from bot.studio.store import Store, one, to_json, write_file
from engine.api import LessonPlan, LessonStatus, MorphRequest, PaintRequest, Request
from engine.errors import BrokenModel, Busy, EngineUnavailable, GanvasError, UnknownName

log = logging.getLogger(__name__)

MISFIRE = 6 * 3600.0  # seconds a night may begin late: the house was down, or the engine away
RESUME = 12 * 3600.0  # seconds after its beginning in which an interrupted lesson is begun anew
ATTEMPTS = 3  # lives of one lesson
REFUSED = 2  # nights in a row after which the base release returns
KEPT = 6  # older painters that can come back
WHO = "The host"  # the diary is public and stays: it names no members
LOOK, IDLE = 2.0, 60.0  # seconds between looks at the engine while it learns, and else

Phase = Literal["off", "resting", "learning", "canary"]


@dataclass(frozen=True)
class Version:
    """A painter that was in office."""

    name: str  # of the model
    since: float
    until: float | None = None  # None: it still is
    night: str | None = None  # the night it was made in; None for a release
    why: str | None = None  # why it left, one sentence
    base: str = ""  # the release it descends from


@dataclass(frozen=True)
class ApprenticeState:
    """How the learning stands."""

    painter: str  # name of the model in office; empty while no engine ever answered
    painter_since: float | None
    base: str  # the release it descends from
    phase: Phase  # "off": the host's settings switch nights off
    paused: bool
    next_night: float | None  # None while paused or off
    progress: float | None  # 0..1 while learning
    waiting: bool  # the lesson stands still: paused, or people are served first
    canary: CanaryScore | None
    last_night: Night | None  # the last that ended, or is being tried
    versions: tuple[Version, ...]  # newest first; the first is in office, the others can come back


@dataclass(frozen=True)
class _Desk:
    """What must survive a restart."""

    paused: bool = False
    due: float | None = None  # when the next night is to begin
    night: str | None = None  # under way: its lesson, or the trial of its candidate
    candidate: str | None = None  # being tried
    champion: str = ""  # in office when the night began
    share: float = 0.0
    tried_since: float = 0.0
    attempts: int = 0  # lives of the lesson
    refused: int = 0  # nights in a row


class Apprentice:
    """Holds nights by the host's calendar, tries candidates, promotes and rolls back; front ends check who may ask."""

    def __init__(
        self,
        store: Store,
        events: Events,
        house: Settings,
        engine: Engine,
        nights: Nights,
        models_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._events = events
        self._house = house
        self._engine = engine
        self._nights = nights
        self._models_changed = models_changed
        self._zone = ZoneInfo(house.night_timezone)
        self._calendar = CronTrigger.from_crontab(house.night_cron, timezone=self._zone)
        self._scheduler = AsyncIOScheduler(timezone=self._zone)
        self._desk = _Desk()
        self._lesson: LessonStatus | None = None  # as it stood when we last looked
        self._wanted: float | None = None  # when a night should have begun, until it has
        self._one_at_a_time = asyncio.Lock()
        self._look_wanted = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    # Life

    async def start(self) -> None:
        """Take up what an earlier life left, and keep the calendar."""
        self._desk = await self._store.read(_read_desk)
        await self._store.write(lambda db: _close_orphans(db, self._desk.night))
        due, now = self._desk.due, time.time()
        if self._house.nights:
            if due is not None and due < now < due + MISFIRE and not self._desk.paused:
                self._wanted = due  # missed while the house was down
            self._scheduler.add_job(
                self._on_time, self._calendar, coalesce=True, max_instances=1, misfire_grace_time=int(MISFIRE)
            )
            self._scheduler.start()
        await self._keep(due=self._next())
        self._loop = asyncio.create_task(self._look_on())

    async def close(self) -> None:
        """Stop; a lesson under way ends with its engine, or goes on at another address, and is taken up again."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        if self._loop:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def _on_time(self) -> None:
        """The calendar says that a night should begin."""
        await self._keep(due=self._next())
        if self._desk.paused or self._desk.night:
            log.info("No night begins: %s", "they are paused" if self._desk.paused else "one is under way")
            return
        self._wanted = time.time()
        self._look_wanted.set()

    def _next(self) -> float | None:
        if not self._house.nights:
            return None
        found = self._calendar.get_next_fire_time(None, datetime.now(self._zone))
        return found.timestamp() if found else None

    async def _look_on(self) -> None:
        reachable = True
        while True:
            try:
                await self.look()
                reachable = True
            except GanvasError as error:
                if reachable:
                    log.info("The apprentice waits: %s", error)
                reachable = False
            except Exception:
                log.exception("The apprentice stumbled; it goes on")
            learning = self._desk.night is not None and self._desk.candidate is None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK if learning or self._wanted or not reachable else IDLE):
                    await self._look_wanted.wait()
            self._look_wanted.clear()

    async def look(self) -> None:
        """Look at the engine once and do what is due.

        Raises:
            GanvasError: the engine does not answer, or cannot; the next look tries again.
        """
        async with self._one_at_a_time:
            painter = await self._painter()
            if self._desk.candidate:
                await self._watch_trial(painter)
            elif self._desk.night:
                await self._follow_lesson()
            elif self._wanted is not None:
                if time.time() - self._wanted > MISFIRE:
                    log.warning("A night could not begin for %.0f hours and is left out.", MISFIRE / 3600)
                else:
                    await self._begin(None)
                self._wanted = None

    # What front ends ask

    async def state(self) -> ApprenticeState:
        """Return how the learning stands; also while no engine answers."""
        versions = await self._versions()
        if not versions:
            versions = await self._first_version()
        desk, lesson, recent = self._desk, self._lesson, await self._nights.list(5)
        learning = desk.night is not None and desk.candidate is None
        resting: Phase = "resting" if self._house.nights else "off"
        return ApprenticeState(
            painter=versions[0].name if versions else "",
            painter_since=versions[0].since if versions and versions[0].since else None,
            base=versions[0].base if versions else "",
            phase="canary" if desk.candidate else "learning" if learning else resting,
            paused=desk.paused,
            next_night=None if desk.paused else self._next(),
            progress=(lesson.share if lesson else 0.0) if learning else None,
            waiting=learning and (desk.paused or lesson is None or lesson.waiting),
            canary=await self._score() if desk.candidate else None,
            last_night=next((night for night in recent if night.state != "learning"), None),
            versions=versions,
        )

    async def run_now(self, by: Member) -> str:
        """Begin a night at once and return its id; it goes on by itself.

        Raises:
            WrongMoment: nights are off or paused, one is under way, or a candidate is being tried.
            EngineUnavailable: no engine answers.
        """
        async with self._one_at_a_time:
            if not self._house.nights:
                raise WrongMoment("Nights are switched off in this house; set nights to true and start it again.")
            if self._desk.paused:
                raise WrongMoment("Nights are paused; resume them first.")
            if self._desk.candidate:
                raise WrongMoment("A candidate is being tried; let it go first, or wait for the end of its trial.")
            if self._desk.night:
                raise WrongMoment("A lesson is under way already.")
            night = await self._begin(by)
        self._look_wanted.set()
        return night

    async def pause(self, by: Member) -> None:
        """Hold no nights until :meth:`resume`, also after a restart; a lesson under way stands still.

        Raises:
            WrongMoment: it is paused already.
        """
        await self._pause(True, "Nights are paused already.")
        log.info("%s paused the nights", by.key)

    async def resume(self, by: Member) -> None:
        """Go on after a pause.

        Raises:
            WrongMoment: it is not paused.
        """
        await self._pause(False, "Nights are not paused.")
        log.info("%s resumed the nights", by.key)

    async def _pause(self, paused: bool, objection: str) -> None:
        async with self._one_at_a_time:
            if self._desk.paused == paused:
                raise WrongMoment(objection)
            await self._keep(paused=paused, due=self._next())
        self._look_wanted.set()  # the lesson hears of it there

    async def rollback(self, by: Member, to: str | None = None) -> Version:
        """Put an earlier painter back in office and return it.

        Without ``to`` a candidate that is being tried is let go and the painter in office stays; where none is tried,
        the predecessor comes back.  A lesson under way ends: it began from another painter.

        Raises:
            WrongMoment: there is nothing to roll back to, or ``to`` is in office already.
            NotFound: no version is called so, or its model is gone.
        """
        log.info("%s rolls back", by.key)
        async with self._one_at_a_time:
            await self._painter()
            versions = await self._versions()
            if to is None and self._desk.candidate:
                await self._end_trial("rolled back", f"{WHO} let the candidate go.")
                return versions[0]
            earlier = [version.name for version in versions[1:]]
            if to is None and not earlier:
                raise WrongMoment("There is no earlier painter to go back to.")
            name = to or earlier[0]
            if name == versions[0].name:
                raise WrongMoment(f"{name} is in office already.")
            if name not in earlier:
                raise NotFound(f"There is no earlier painter {name[:64]!r}; there are {', '.join(earlier) or 'none'}.")
            try:
                return await self._choose(name, f"{WHO} went back to {name}.")
            except UnknownName as error:
                raise NotFound(f"The painter {name} is gone; {error}") from error

    async def switch(self, kind: str, name: str, by: Member) -> None:
        """Put any model in office for its kind: painter, stylizer, enhancer or brush.

        Raises:
            UnknownName: there is no such model of that kind.
            BrokenModel: its weights are damaged.
            WrongMoment: it is in office already.
        """
        why = f"{WHO} put {name} in office."
        log.info("%s puts %s in office", by.key, name)
        async with self._one_at_a_time:
            if any((each.kind, each.name) == (kind, name) for each in await self._engine.office()):
                raise WrongMoment(f"{name} is in office already.")
            if kind == "painter":
                await self._painter()
                await self._choose(name, why)
                return
            await self._engine.appoint(kind, name)
        self._models_changed()
        self._events.publish(PainterChanged(kind, name, why))

    async def painter_for(self, member: Member, request: Request) -> str | None:
        """Return the painter that must answer ``request`` while a candidate is tried, else None.

        Blind and sticky: the same member has the same painter through a whole trial, also for morphs, so that they
        lead through the paintings they were asked to.  The work's row names it, though its job named none: that is how
        votes on paintings are put down to a trial.
        """
        desk = self._desk
        if not desk.candidate or not desk.night or not isinstance(request, PaintRequest | MorphRequest):
            return None
        if request.model is not None:
            return None
        return desk.candidate if assigned(member.key, desk.night, desk.share) else desk.champion

    # A lesson

    async def _begin(self, by: Member | None) -> str:
        """Freeze the votes and begin a lesson."""
        painter, now = await self._painter(), time.time()
        cards = {card["name"]: card for card in await self._engine.models()}
        base = str(cards.get(painter, {}).get("base") or painter)
        night_id = await self._store.read(lambda db: _free_id(db, datetime.now(self._zone).date().isoformat()))
        snapshot = await self._nights.snapshot(now)
        text = await asyncio.to_thread(snapshot.jsonl)
        await asyncio.to_thread(write_file, self._nights.folder / night_id / "votes.jsonl", text.encode())
        diary: dict[str, Any] = {"champion": painter, "base": base, "candidate": f"{base}-{night_id}"}
        if by is not None:
            diary["asked_by"] = WHO
        night = Night(night_id, "learning", now, base=cards.get(painter, {}).get("sha256"), diary=diary)
        await self._nights.record(night, snapshot)
        await self._keep(night=night_id, champion=painter, attempts=0, candidate=None)
        self._wanted = None
        await self._teach(night)
        return night_id

    async def _teach(self, night: Night) -> None:
        """Send the frozen votes to the engine, once more if the last lesson was interrupted."""
        votes = await asyncio.to_thread((self._nights.folder / night.id / "votes.jsonl").read_text)
        here = self._house.engine_url is None  # the engine sees our files
        plan = LessonPlan(
            name=night.diary["candidate"],
            painter=night.diary["champion"],
            minutes=self._house.night_minutes,
            threads=self._house.night_threads,
            held=self._desk.paused,
            paintings=str((self._house.data / "paintings").absolute()) if here else None,
        )
        if here:
            votes = await asyncio.to_thread(_with_files, votes, self._house.data)
        await self._keep(attempts=self._desk.attempts + 1)
        try:
            self._lesson = await self._engine.begin_lesson(plan, votes)
        except EngineUnavailable:  # the next look tries again, and this was no life of the lesson
            await self._keep(attempts=self._desk.attempts - 1)
        except Busy as error:
            await self._end_night(night, "failed", str(error))
        except (UnknownName, BrokenModel) as error:
            await self._end_night(night, "failed", f"The lesson could not begin: {error}")

    async def _follow_lesson(self) -> None:
        assert self._desk.night
        night = await self._nights.get(self._desk.night)
        name = night.diary["candidate"]
        try:
            lesson = await self._engine.lesson(name)
        except UnknownName:
            lesson = LessonStatus(name=name, state="interrupted")
        self._lesson = lesson
        if lesson.state == "interrupted":
            if self._desk.attempts >= ATTEMPTS or time.time() - night.started > RESUME:
                why = f"The lesson was interrupted {self._desk.attempts} times and is not begun again."
                await self._end_night(night, "failed", why)
            else:
                await self._teach(night)
        elif lesson.state == "learning":
            await self._engine.hold_lesson(name, self._desk.paused)
        else:
            await self._hear(night, lesson)

    async def _hear(self, night: Night, lesson: LessonStatus) -> None:
        """A lesson is over: keep what it tells, and try its candidate if there is one."""
        told = {key: value for key, value in lesson.night.items() if key not in ("state", "candidate")}
        for picture in lesson.pictures:
            data = await self._engine.lesson_picture(lesson.name, picture)
            await asyncio.to_thread(write_file, self._nights.folder / night.id / picture, data)
            told[Path(picture).stem] = picture
        night = replace(night, diary=night.diary | told)
        if lesson.state == "candidate":
            await self._begin_trial(night, lesson.why)
            return
        refused = self._desk.refused + 1 if lesson.state == "refused" else self._desk.refused
        base, painter = night.diary["base"], await self._painter()
        if refused >= REFUSED and painter != base:
            why = f"{refused} nights in a row were refused, so the base release {base} is back."
            await self._appoint(base, None, why)
            log.warning("%s", why)
            night = replace(night, diary=night.diary | {"returned_to": base})
        await self._keep(refused=refused % REFUSED)
        state = lesson.state if lesson.state in ("rested", "refused") else "failed"
        await self._end_night(night, state, lesson.why)

    async def _end_night(self, night: Night, state: str, why: str) -> None:
        """Write a night's end and clear the desk, in one transaction."""
        ended = replace(night, state=state, finished=time.time(), diary=night.diary | {"why": why})
        desk = replace(self._desk, night=None, candidate=None)

        def work(db: Database) -> None:
            save_night(db, ended)
            _write_desk(db, desk)

        await self._store.write(work)
        self._desk, self._lesson = desk, None
        log.info("Night %s: %s. %s", night.id, state, why)
        self._events.publish(NightEnded(ended))

    # A trial

    async def _begin_trial(self, night: Night, why: str) -> None:
        self._models_changed()
        name, now = night.diary["candidate"], time.time()
        cards = {card["name"]: card for card in await self._engine.models()}
        tried = replace(
            night, state="canary", finished=now, candidate=cards.get(name, {}).get("sha256"),
            diary=night.diary | {"why": f"{why} People try it now, without knowing."},
        )  # fmt: skip
        share = self._house.canary_share
        desk = replace(self._desk, candidate=name, tried_since=now, share=share, refused=0)

        def work(db: Database) -> None:
            save_night(db, tried)
            _write_desk(db, desk)

        await self._store.write(work)
        self._desk, self._lesson = desk, None
        log.info("Night %s: the candidate %s is tried on %.0f%% of members.", night.id, name, 100 * share)
        self._events.publish(NightEnded(tried))

    async def _watch_trial(self, painter: str) -> None:
        desk = self._desk
        if painter == desk.candidate:  # we were killed between the swap and our own book
            await self._end_trial("promoted", "It was promoted.")
            return
        if painter != desk.champion:
            await self._end_trial("rolled back", f"{painter} was put in office while the candidate was tried.")
            return
        score = await self._score()
        found = verdict(score, least_votes=self._house.canary_votes, now=time.time())
        if found == "going on":
            return
        votes = sum((score.trial.up, score.trial.down, score.office.up, score.office.down))
        told = f"after {votes} votes it is better with a probability of {score.probability_better:.0%}"
        if found == "lost":
            await self._end_trial("rolled back", f"It lost its trial: {told}.")
            return
        assert desk.candidate
        try:
            await self._appoint(desk.candidate, desk.night, f"{desk.candidate} did better.")
        except (UnknownName, BrokenModel) as error:
            await self._end_trial("rolled back", f"It could not be promoted: {error}")
            return
        out_of_time = " when the time of its trial was out" if time.time() >= score.until else ""
        await self._end_trial("promoted", f"It was promoted{out_of_time}: {told}.")

    async def _end_trial(self, state: str, why: str) -> None:
        assert self._desk.night
        score, night = await self._score(), await self._nights.get(self._desk.night)
        night = replace(night, diary=night.diary | {"canary": asdict(score)})
        await self._end_night(night, state, why)
        await self._prune()

    async def _score(self) -> CanaryScore:
        desk = self._desk
        assert desk.candidate
        trial = await self._nights.trial(desk.tried_since, desk.candidate, desk.champion)
        ups, downs = count(trial.votes)
        ours, theirs = (Side(ups[side], downs[side], trial.answers[side]) for side in (True, False))
        return CanaryScore(
            candidate=desk.candidate,
            share=desk.share,
            started=desk.tried_since,
            until=desk.tried_since + self._house.canary_days * 86_400,
            trial=ours,
            office=theirs,
            wins=trial.wins,
            losses=trial.losses,
            probability_better=probability_better(ours, theirs),
        )

    # Who is in office

    async def _painter(self) -> str:
        """Return the painter in office; a damaged one gives way to the newest whole one, and the book follows."""
        office = {each.kind: each for each in await self._engine.office()}
        if "painter" not in office:
            raise UnknownName("The engine has no painter.")
        found, known = office["painter"], await self._versions()
        if found.fault is not None:
            for version in known:
                if version.name != found.name:
                    with contextlib.suppress(UnknownName, BrokenModel):
                        await self._appoint(version.name, version.night, found.fault)
                        log.error("The painter %s gave way to %s: %s", found.name, version.name, found.fault)
                        return version.name
            raise BrokenModel(found.fault)
        if not known or known[0].name != found.name:
            tried = self._desk.night if found.name == self._desk.candidate else None
            await self._enter(found.name, tried, f"{found.name} was put in office.")
        return found.name

    async def _choose(self, name: str, why: str) -> Version:
        """Put a painter in office by a person's wish: what is under way began from another one, and ends."""
        known = {version.name: version.night for version in await self._versions()}
        await self._appoint(name, known.get(name), why)
        if self._desk.candidate:
            await self._end_trial("rolled back", why)
        elif self._desk.night:
            night = await self._nights.get(self._desk.night)
            with contextlib.suppress(GanvasError):
                await self._engine.end_lesson(night.diary["candidate"])
            await self._end_night(night, "failed", why)
        return (await self._versions())[0]

    async def _appoint(self, name: str, night: str | None, why: str) -> None:
        await self._engine.appoint("painter", name)
        await self._enter(name, night, why)

    async def _enter(self, name: str, night: str | None, why: str) -> None:
        """Write down who is in office now, and why the one before left."""
        self._models_changed()
        cards = {card["name"]: card for card in await self._engine.models()}
        base = str(cards.get(name, {}).get("base") or name)

        def work(db: Database) -> None:
            now = time.time()
            db.execute("UPDATE versions SET until = ?, why = ? WHERE until IS NULL", [now, why])
            sql = "INSERT INTO versions (name, base, since, night) VALUES (?, ?, ?, ?)"
            db.execute(sql, [name, base, now, night])

        first = not await self._versions()
        await self._store.write(work)
        if not first:
            self._events.publish(PainterChanged("painter", name, why))

    async def _first_version(self) -> tuple[Version, ...]:
        """Return the painter in office as the engine's cards tell it, before it was written down."""
        try:
            cards = [card for card in await self._engine.models() if card.get("kind") == "painter"]
        except GanvasError:
            return ()
        card = next((card for card in cards if card.get("in_office")), cards[0] if cards else None)
        return (Version(card["name"], 0.0, base=card.get("base") or card["name"]),) if card else ()

    async def _versions(self) -> tuple[Version, ...]:
        """Return the painter in office, and those before it that can come back, each once."""
        sql = "SELECT name, since, until, night, why, base FROM versions ORDER BY until IS NOT NULL, id DESC"
        rows = await self._store.read(lambda db: list(db.query(sql)))
        found: dict[str, Version] = {}
        for row in rows:
            if row["name"] not in found and (len(found) <= KEPT or row["name"] == rows[0]["base"]):
                found[row["name"]] = Version(**row)
        if found and (base := rows[0]["base"]) not in found:  # a release that never was in office here
            found[base] = Version(base, found[rows[0]["name"]].since, base=base)
        return tuple(found.values())

    async def _prune(self) -> None:
        keep = [version.name for version in await self._versions()]
        gone = await self._engine.prune(keep)
        if gone:
            log.info("Older painters were deleted: %s", ", ".join(gone))
        self._models_changed()

    async def _keep(self, **changes: Any) -> None:
        desk = replace(self._desk, **changes)
        await self._store.write(lambda db: _write_desk(db, desk))
        self._desk = desk


def _read_desk(db: Database) -> _Desk:
    row = one(db, "SELECT value FROM facts WHERE name = 'apprentice'")
    return _Desk(**json.loads(row["value"])) if row else _Desk()


def _write_desk(db: Database, desk: _Desk) -> None:
    db.execute("REPLACE INTO facts VALUES ('apprentice', ?)", [to_json(asdict(desk))])


def _close_orphans(db: Database, night: str | None) -> None:
    """End nights that were written down but never begun: the house was killed in between."""
    db.execute(
        """UPDATE nights SET state = 'failed', finished = ?,
               diary = json_set(diary, '$.why', 'The studio ended before the lesson began.')
           WHERE state = 'learning' AND id IS NOT ?""",
        [time.time(), night],
    )


def _free_id(db: Database, date: str) -> str:
    taken = {row["id"] for row in db.query("SELECT id FROM nights WHERE id LIKE ?", [f"{date}%"])}
    return next(name for name in (date, *(f"{date}-{n}" for n in range(2, 1000))) if name not in taken)


def _with_files(votes: str, data: Path) -> str:
    """Return the votes with whole paths of works, for an engine that sees them."""
    lines: Sequence[dict[str, Any]] = [json.loads(line) for line in votes.splitlines()]
    root = data.absolute()
    return "".join(
        to_json(line | {"file": str(root / line["file"])} if "file" in line else line) + "\n" for line in lines
    )
