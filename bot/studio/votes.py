"""The ledger of votes, exact under replay, loss and restart (the rules of voting, 1 to 40), and the gallery it feeds.

A *mark* is one visible act: a reaction of one emoji and kind on one message, a pressed button, a click on the page.
A person's *vote* on an artwork is the fold of their marks: the latest decides.  Every event is one transaction of the
single writer - write the mark, fold, count by SELECT, decide about the gallery - so it needs no locks beside it.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.artwork import Artwork, Tally, load_artwork
from bot.studio.errors import NotFound
from bot.studio.events import Event, Events, GalleryDue, VotesChanged
from bot.studio.people import Member
from bot.studio.posts import Post, Posts, add_post
from bot.studio.settings import GuildSettings, Preferences, guild_settings, is_banned, know, plain_emoji, preferences
from bot.studio.store import Store, one, to_json

Value = Literal["up", "down"]
Source = Literal["button", "web", "reaction"]

NORMAL, BURST, BUTTON, WEB_CLICK = 1, 2, 4, 8  # bits of votes.sources
_BITS = {"button": BUTTON, "web": WEB_CLICK}
DAY = 86_400.0
HALF_LIFE = 7 * DAY  # of a work's rank among the hot ones


@dataclass(frozen=True)
class Voter:
    """Who votes, as far as the front end knows."""

    member: Member
    guild: str | None = None
    bot: bool = False
    account_created: float | None = None  # on Discord the snowflake's time; None where accounts have no age
    pending: bool = False  # still before the guild's membership screening
    roles: frozenset[str] | None = None  # None: not known


@dataclass(frozen=True)
class Ballot:
    """What came of a vote."""

    tally: Tally
    mine: Value | None
    accepted: bool = True
    reason: str | None = None


@dataclass(frozen=True)
class Case:
    """All that decides whether somebody may vote on something."""

    voter: Voter
    source: Source
    requester: str
    photo_owner: str | None
    guild: str | None
    created: float
    private: bool
    removed: bool
    settings: GuildSettings
    preferences: Preferences
    banned: bool
    now: float


def objection(case: Case) -> str | None:
    """Return why this vote does not count, or None: the one rule for reactions, buttons, the web and recounts."""
    voter, settings = case.voter, case.settings
    if case.removed:
        return "This work has been removed."
    if voter.bot:
        return "Bots do not vote."
    if case.banned:
        return "You are banned from voting here."
    if not settings.voting:
        return "Voting is switched off here."
    if case.private:
        return "Private works are not voted on."
    if case.source == "reaction" and case.guild is None:
        return "Reactions in direct messages are no votes."
    if case.source == "reaction" and not case.preferences.votes:
        return "You asked that your reactions are not counted."
    if voter.member.key == case.requester and not settings.self_votes:
        return "This is your own work."
    if voter.member.key == case.photo_owner and not (settings.photo_owner_votes or settings.self_votes):
        return "This was made from your own picture."
    if voter.pending:
        return "Finish the membership screening first."
    if voter.account_created is not None and case.now - voter.account_created < settings.min_account_days * DAY:
        return f"Accounts younger than {settings.min_account_days} days do not vote here."
    if (
        settings.voter_role is not None
        and voter.member.platform == "discord"
        and settings.voter_role not in (voter.roles or ())
    ):
        return "Your roles here do not include the one that votes."
    if case.now - case.created > settings.window_days * DAY:
        return f"Works older than {settings.window_days} days take no more votes."
    return None


def fold(marks: Iterable[Mapping[str, Any]]) -> tuple[Value, int] | None:
    """Return the vote that present marks amount to, with the bits of its sources: the latest mark decides.

    Marks found by a recount share one time; then "up" wins, so that the outcome depends on the marks alone.
    """
    present = [mark for mark in marks if mark["present"]]
    if not present:
        return None
    value: Value = max(present, key=lambda mark: (mark["at"], mark["value"] == "up"))["value"]
    sources = 0
    for mark in present:
        sources |= mark["bit"] if mark["value"] == value else 0
    return value, sources


def wilson(up: int, down: int, z: float = 1.96) -> float:
    """Return the lower end of the 95 % interval of the share of ups: few votes cannot outrank many."""
    n = up + down
    if not n:
        return 0.0
    share = up / n
    spread = z * math.sqrt((share * (1 - share) + z * z / (4 * n)) / n)
    return (share + z * z / (2 * n) - spread) / (1 + z * z / n)


def hotness(score: float, created: float) -> float:
    """Return a rank that falls behind newer works by one halving a week; in log space, so it never needs an update."""
    return math.log2(max(score, 1e-3)) + created / HALF_LIFE


@dataclass(frozen=True)
class GalleryTask:
    """Something a gallery channel lacks."""

    artwork: Artwork
    action: Literal["post", "edit", "remove"]
    channel: str
    message: str | None
    repeated: bool  # an earlier claim never finished: look for the message by artwork id before posting again


def gallery_step(
    state: str, net: int, *, shown: bool, allowed: bool, settings: GuildSettings
) -> tuple[str, str | None]:
    """Return the gallery's next state and what is due, from ups minus downs (``net``), with hysteresis.

    Args:
        shown: whether the post shows the present count.
        allowed: whether the work may be in the gallery at all.
    """
    enters = allowed and net >= settings.gallery_threshold
    stays = allowed and net >= settings.gallery_remove_below
    if state == "hidden":
        return "hidden", None
    if state in ("none", "posting"):
        return ("posting", "post") if enters else ("none", None)
    if stays if state == "posted" else enters:
        return "posted", None if shown else "edit"
    return "removing", "remove"


# Inside transactions of others


def _case(db: Database, art: Mapping[str, Any], voter: Voter, source: Source, house: Settings, now: float) -> Case:
    return Case(
        voter=voter,
        source=source,
        requester=art["member"],
        photo_owner=art["photo_owner"],
        guild=art["guild"],
        created=art["created"],
        private=bool(art["private"]),
        removed=art["removed"] is not None,
        settings=guild_settings(db, art["guild"], house),
        preferences=preferences(db, voter.member.key),
        banned=is_banned(db, art["guild"], voter.member.key),
        now=now,
    )


def vote_objection(db: Database, art_id: str, voter: Voter, house: Settings) -> str | None:
    """Return why somebody may not vote on a work by a button, or None."""
    return objection(_case(db, _artwork(db, art_id), voter, "button", house, time.time()))


def _set_mark(
    db: Database, art_id: str, member: str, mark: str, *, value: Value, bit: int, present: bool, at: float,
    message: str | None = None, emoji: str | None = None,
) -> None:  # fmt: skip
    # A replayed "added" must not make an old mark the latest one: `at` moves only when the mark really changes.
    db.execute(
        """INSERT INTO marks (artwork, member, mark, message, emoji, bit, value, present, at, seen)
           VALUES (:art, :member, :mark, :message, :emoji, :bit, :value, :present, :at, :at)
           ON CONFLICT (artwork, member, mark) DO UPDATE SET
               at = CASE WHEN present = excluded.present AND value = excluded.value THEN at ELSE excluded.at END,
               seen = excluded.seen, present = excluded.present, value = excluded.value""",
        {
            "art": art_id, "member": member, "mark": mark, "message": message, "emoji": emoji, "bit": bit,
            "value": value, "present": int(present), "at": at,
        },
    )  # fmt: skip


def _refold(
    db: Database, art_id: str, member: str, source: str, at: float, account_created: float | None = None
) -> bool:
    """Bring one person's vote in line with their marks; whether it changed."""
    marks = db.query("SELECT value, bit, present, at FROM marks WHERE artwork = ? AND member = ?", [art_id, member])
    vote = fold(marks)
    before = one(db, "SELECT value, sources FROM votes WHERE artwork = ? AND member = ?", [art_id, member])
    if vote == (before and (before["value"], before["sources"])):
        return False
    if vote is None:
        db.execute("DELETE FROM votes WHERE artwork = ? AND member = ?", [art_id, member])
    else:
        db.execute(
            """INSERT INTO votes (artwork, member, value, sources, account_created, first_at, updated_at)
               VALUES (:art, :member, :value, :sources, :account, :at, :at)
               ON CONFLICT (artwork, member) DO UPDATE SET
                   updated_at = CASE value WHEN excluded.value THEN updated_at ELSE excluded.updated_at END,
                   value = excluded.value, sources = excluded.sources,
                   account_created = coalesce(excluded.account_created, account_created)""",
            {
                "art": art_id,
                "member": member,
                "value": vote[0],
                "sources": vote[1],
                "account": account_created,
                "at": at,
            },
        )
    if (vote and vote[0]) == (before and before["value"]):
        return False
    what = "withdrawn" if vote is None else "changed" if before else "voted"
    db.execute(
        "INSERT INTO vote_events (artwork, member, what, value, source, at) VALUES (?, ?, ?, ?, ?, ?)",
        [art_id, member, what, vote[0] if vote else None, source, at],
    )
    return True


def recount(db: Database, art_id: str, house: Settings) -> list[Event]:
    """Count a work's votes anew and decide what its gallery post needs."""
    counts = {
        row["value"]: row["n"]
        for row in db.query("SELECT value, count(*) AS n FROM votes WHERE artwork = ? GROUP BY value", [art_id])
    }
    up, down = counts.get("up", 0), counts.get("down", 0)
    score = wilson(up, down)
    (created,) = db.execute("SELECT created FROM artworks WHERE id = ?", [art_id]).fetchone()
    db.execute(
        "UPDATE artworks SET up = ?, down = ?, score = ?, hot = ? WHERE id = ?",
        [up, down, score, hotness(score, created), art_id],
    )
    return [VotesChanged(art_id, Tally(up, down, score)), *decide_gallery(db, art_id, house)]


def decide_gallery(db: Database, art_id: str, house: Settings) -> list[Event]:
    """Write down what the gallery lacks of this work; while somebody holds the claim it is decided on release."""
    art = one(db, "SELECT * FROM artworks WHERE id = ?", [art_id])
    row = one(db, "SELECT * FROM gallery WHERE artwork = ?", [art_id])
    if art is None or art["guild"] is None or (row and row["claim"]):
        return []
    settings = guild_settings(db, art["guild"], house)
    allowed = (
        settings.gallery_channel is not None
        and not art["private"]
        and art["removed"] is None
        and (not art["age_restricted"] or settings.gallery_age_restricted)
    )
    before = (row["state"], row["due"]) if row else ("none", None)
    shown = bool(row and row["shown"] == to_json([art["up"], art["down"]]))
    after = gallery_step(before[0], art["up"] - art["down"], shown=shown, allowed=allowed, settings=settings)
    if after == before:
        return []
    channel = settings.gallery_channel if after[1] == "post" else row and row["channel"]
    db.execute(
        """INSERT INTO gallery (artwork, state, due, channel) VALUES (?, ?, ?, ?)
           ON CONFLICT (artwork) DO UPDATE SET
               state = excluded.state, due = excluded.due, channel = excluded.channel""",
        [art_id, *after, channel],
    )
    return [GalleryDue(art_id)] if after[1] else []


def strike_votes(db: Database, member: str, guild: str | None, why: str, house: Settings) -> list[Event]:
    """Take back all votes of somebody, in one guild or everywhere, and count the works anew."""
    votes = list(
        db.query(
            "SELECT artwork, value FROM votes JOIN artworks ON artworks.id = artwork "
            "WHERE votes.member = :member AND (:guild IS NULL OR guild = :guild)",
            {"member": member, "guild": guild},
        )
    )
    events: list[Event] = []
    for vote in votes:
        key = [vote["artwork"], member]
        db.execute("DELETE FROM votes WHERE artwork = ? AND member = ?", key)
        db.execute("DELETE FROM marks WHERE artwork = ? AND member = ?", key)
        db.execute(
            "INSERT INTO vote_events (artwork, member, what, value, source, at) VALUES (?, ?, 'struck', NULL, ?, ?)",
            [*key, why, time.time()],
        )
        events += recount(db, vote["artwork"], house)
    return events


class Votes:
    """Cast, take back, reconcile and count votes; hand out what gallery channels lack."""

    def __init__(self, store: Store, events: Events, house: Settings, posts: Posts) -> None:
        self._store = store
        self._events = events
        self._house = house
        self._posts = posts
        self._instance = secrets.token_hex(8)  # claims of an earlier process carry another one
        self._seen = 0.0

    async def cast(self, art_id: str, voter: Voter, value: Value | None, *, source: Source = "button") -> Ballot:
        """Vote by button or on the web; None takes that vote back.

        Raises:
            NotFound: no such work.
        """
        return await self._press(art_id, voter, value, source, toggles=False)

    async def toggle(self, art_id: str, voter: Voter, value: Value, *, source: Source = "button") -> Ballot:
        """Vote; the same press again takes it back.

        Raises:
            NotFound: no such work.
        """
        return await self._press(art_id, voter, value, source, toggles=True)

    async def _press(self, art_id: str, voter: Voter, value: Value | None, source: Source, *, toggles: bool) -> Ballot:
        def work(db: Database) -> tuple[Ballot, list[Event]]:
            art = _artwork(db, art_id)
            member, now = voter.member.key, time.time()
            sql = "SELECT value, present FROM marks WHERE artwork = ? AND member = ? AND mark = ?"
            before = one(db, sql, [art_id, member, source])
            pressed = before["value"] if before and before["present"] else None
            wanted = None if toggles and value == pressed else value
            if wanted is None and pressed is None:
                return _ballot(db, art_id, member), []
            reason = objection(_case(db, art, voter, source, self._house, now)) if wanted else None
            if reason:
                return _ballot(db, art_id, member, reason), []
            know(db, voter.member, voter.account_created)
            bit = _BITS[source]
            _set_mark(
                db, art_id, member, source, value=wanted or pressed or "up", bit=bit, present=bool(wanted), at=now
            )
            changed = _refold(db, art_id, member, source, now, voter.account_created)
            events = recount(db, art_id, self._house) if changed else []
            return _ballot(db, art_id, member), events

        return await self._run(work)

    async def react(
        self, art_id: str, voter: Voter, emoji: str, *, message: str, burst: bool = False, added: bool
    ) -> Ballot:
        """Take one reaction event.  Replays are harmless; a removal needs nothing but the member.

        Raises:
            NotFound: no such work.
        """

        def work(db: Database) -> tuple[Ballot, list[Event]]:
            art = _artwork(db, art_id)
            member, now = voter.member.key, time.time()
            plain = plain_emoji(emoji)
            value = emoji_value(plain, guild_settings(db, art["guild"], self._house))
            if value is None or (not added and art["guild"] is None):
                return _ballot(db, art_id, member, "This emoji is no vote."), []
            reason = objection(_case(db, art, voter, "reaction", self._house, now)) if added else None
            if reason:
                return _ballot(db, art_id, member, reason), []
            # A removal is noted even of a mark never seen: a fetch under way may still bring the old state.
            _set_mark(
                db, art_id, member, _mark(message, plain, burst), value=value, bit=BURST if burst else NORMAL,
                present=added, at=now, message=message, emoji=plain,
            )  # fmt: skip
            changed = _refold(db, art_id, member, "reaction", now, voter.account_created)
            events = recount(db, art_id, self._house) if changed else []
            return _ballot(db, art_id, member), events

        return await self._run(work)

    async def clear(self, art_id: str, *, message: str, emoji: str | None = None) -> Tally:
        """Note that all reactions on a message, or those of one emoji, were cleared.  Buttons stay.

        Raises:
            NotFound: no such work.
        """

        def work(db: Database) -> tuple[Tally, list[Event]]:
            _artwork(db, art_id)
            now = time.time()
            cleared = {
                row["member"]
                for row in db.query(
                    "SELECT DISTINCT member FROM marks WHERE artwork = :art AND message = :message AND present = 1 "
                    "AND (:emoji IS NULL OR emoji = :emoji)",
                    {"art": art_id, "message": message, "emoji": emoji and plain_emoji(emoji)},
                )
            }
            db.execute(
                "UPDATE marks SET present = 0, at = :now, seen = :now WHERE artwork = :art AND message = :message "
                "AND present = 1 AND (:emoji IS NULL OR emoji = :emoji)",
                {"now": now, "art": art_id, "message": message, "emoji": emoji and plain_emoji(emoji)},
            )
            changed = [_refold(db, art_id, member, "reaction", now) for member in sorted(cleared)]
            events = recount(db, art_id, self._house) if any(changed) else []
            return _tally(db, art_id), events

        return await self._run(work)

    async def reconcile(
        self,
        art_id: str,
        *,
        message: str,
        reactions: Mapping[tuple[str, bool], Iterable[Voter]],
        fetch_began: float,
    ) -> Tally:
        """Apply the true reactions of one message as a diff; whatever happened live since the fetch began wins.

        Args:
            reactions: ``(emoji, burst) -> who``; of the guild's vote emojis, those nobody used may be missing.

        Raises:
            NotFound: no such work.
        """
        found = [(plain_emoji(emoji), burst, voter) for (emoji, burst), voters in reactions.items() for voter in voters]

        def work(db: Database) -> tuple[Tally, list[Event]]:
            art = _artwork(db, art_id)
            settings = guild_settings(db, art["guild"], self._house)
            sql = "SELECT * FROM marks WHERE artwork = ? AND message = ?"
            known = {(row["member"], row["mark"]): row for row in db.query(sql, [art_id, message])}
            touched: dict[str, float | None] = {}
            true = set()
            for emoji, burst, voter in found:
                value = emoji_value(emoji, settings)
                member, mark = voter.member.key, _mark(message, emoji, burst)
                true.add((member, mark))
                row = known.get((member, mark))
                if value is None or (row and (row["present"] or row["seen"] >= fetch_began)):
                    continue
                if objection(_case(db, art, voter, "reaction", self._house, fetch_began)):
                    continue
                _set_mark(
                    db, art_id, member, mark, value=value, bit=BURST if burst else NORMAL, present=True,
                    at=fetch_began, message=message, emoji=emoji,
                )  # fmt: skip
                touched[member] = voter.account_created
            for (member, mark), row in known.items():
                counts = emoji_value(row["emoji"], settings) is not None
                if row["present"] and counts and row["seen"] < fetch_began and (member, mark) not in true:
                    db.execute(
                        "UPDATE marks SET present = 0, at = :at, seen = :at "
                        "WHERE artwork = :art AND member = :member AND mark = :mark",
                        {"at": fetch_began, "art": art_id, "member": member, "mark": mark},
                    )
                    touched.setdefault(member, None)
            changed = [_refold(db, art_id, who, "recount", fetch_began, age) for who, age in touched.items()]
            events = recount(db, art_id, self._house) if any(changed) else []
            return _tally(db, art_id), events

        return await self._run(work)

    async def compare(self, platform: str, seen: Mapping[str, Mapping[tuple[str, bool], int]]) -> dict[str, bool]:
        """Return whether the ledger knows as many reactions that are votes as are seen, message by message.

        Messages without votes, there and in the ledger, are left out: of them nothing can be wrong.  Equal numbers
        are no proof, for somebody may have come for somebody who left.

        Args:
            seen: message -> ``(emoji, burst)`` -> how many people; without our own.
        """

        def work(db: Database) -> dict[str, bool]:
            messages = to_json(list(seen))
            known: dict[str, Counter[tuple[str, bool]]] = {message: Counter() for message in seen}
            sql = """SELECT message, emoji, bit, count(*) AS n FROM marks
                     WHERE present = 1 AND message IN (SELECT value FROM json_each(?)) GROUP BY message, emoji, bit"""
            for row in db.query(sql, [messages]):
                known[row["message"]][row["emoji"], row["bit"] == BURST] = row["n"]
            sql = """SELECT message, guild FROM posts JOIN artworks ON artworks.id = artwork
                     WHERE platform = ? AND message IN (SELECT value FROM json_each(?))"""
            agree = {}
            for row in list(db.query(sql, [platform, messages])):
                settings, message = guild_settings(db, row["guild"], self._house), row["message"]
                there = Counter[tuple[str, bool]]()
                for (emoji, burst), count in seen[message].items():
                    there[plain_emoji(emoji), burst] += count
                here, there = (
                    Counter({key: n for key, n in counts.items() if n and emoji_value(key[0], settings)})
                    for counts in (known[message], there)
                )
                if here or there:
                    agree[message] = here == there
            return agree

        return await self._store.read(work)

    async def tally(self, art_id: str, *, member: Member | None = None) -> Ballot:
        """Return the count, and how this member voted."""
        return await self._store.read(lambda db: _ballot(db, _artwork(db, art_id)["id"], member.key if member else ""))

    async def value_of(self, emoji: str, guild: str | None) -> Value | None:
        """Return what an emoji means in this guild; a custom one by its id."""
        settings = await self._store.read(lambda db: guild_settings(db, guild, self._house))
        return emoji_value(plain_emoji(emoji), settings)

    async def leaderboard(
        self, guild: str | None = None, *, since: float | None = None, limit: int = 10
    ) -> list[tuple[Member, float, int]]:
        """Return who made the best liked public works: ``(member, score, works)``, decayed by age."""
        rows = await self._store.read(
            lambda db: list(
                db.query(
                    """SELECT member, name, score, created FROM artworks JOIN members ON members.key = member
                       WHERE removed IS NULL AND private = 0 AND up > 0 AND created >= :since
                           AND (:guild IS NULL OR guild = :guild) ORDER BY created""",
                    {"since": since or 0.0, "guild": guild},
                )
            )
        )
        now, scores, works = time.time(), dict[Member, float](), dict[Member, int]()
        for row in rows:
            member = Member.from_key(row["member"], row["name"])
            scores[member] = scores.get(member, 0.0) + row["score"] * 0.5 ** ((now - row["created"]) / (4 * HALF_LIFE))
            works[member] = works.get(member, 0) + 1
        best = sorted(scores, key=lambda member: -scores[member])[:limit]  # stable: ties go to the earlier work
        return [(member, scores[member], works[member]) for member in best]

    # The gallery channels

    async def gallery_tasks(self, platform: str = "discord") -> list[GalleryTask]:
        """Return what the gallery channels lack, also what a crash left half done."""
        sql = (
            "SELECT artwork FROM gallery JOIN artworks ON artworks.id = artwork "
            "WHERE due IS NOT NULL AND (claim IS NULL OR claim != ?) AND guild LIKE ? || ':%' ORDER BY created"
        )
        return await self._store.read(
            lambda db: [_task(db, row["artwork"]) for row in list(db.query(sql, [self._instance, platform]))]
        )

    async def claim(self, art_id: str) -> GalleryTask | None:
        """Take a task; exactly one caller gets it, anybody else None."""

        def work(db: Database) -> GalleryTask | None:
            sql = "SELECT 1 FROM gallery WHERE artwork = ? AND due IS NOT NULL AND (claim IS NULL OR claim != ?)"
            if one(db, sql, [art_id, self._instance]) is None:
                return None
            task = _task(db, art_id)
            # What the post is about to show; a vote that comes before it is up makes it due again.
            shown = to_json([task.artwork.tally.up, task.artwork.tally.down])
            db.execute("UPDATE gallery SET claim = ?, shown = ? WHERE artwork = ?", [self._instance, shown, art_id])
            return task

        return await self._store.write(work)

    async def posted(self, art_id: str, channel: str, message: str, *, late: bool = False) -> None:
        """Note that a claimed post is up; ``late``: since an earlier life of the bot."""

        def work(db: Database) -> tuple[None, list[Event]]:
            add_post(db, art_id, "discord", channel, message, "gallery")
            return None, self._release(db, art_id, state="posted", channel=channel, message=message)

        await self._run(work)
        self._posts.noted(art_id, Post("discord", channel, message, "gallery"), late=late)

    async def edited(self, art_id: str) -> None:
        """Note that a claimed edit is done."""
        await self._run(lambda db: (None, self._release(db, art_id, state="posted")))

    async def unposted(self, art_id: str) -> None:
        """Note that a claimed removal is done."""

        def work(db: Database) -> tuple[None, list[Event]]:
            db.execute("DELETE FROM posts WHERE artwork = ? AND role = 'gallery'", [art_id])
            return None, self._release(db, art_id, state="none", channel=None, message=None, shown=None)

        await self._run(work)

    async def gave_up(self, art_id: str, reason: str) -> None:
        """Note that a claimed task cannot be done; the next vote tries again."""

        def work(db: Database) -> None:
            db.execute(
                """UPDATE gallery SET state = CASE due WHEN 'post' THEN 'none' ELSE 'posted' END,
                       due = NULL, claim = NULL, reason = ? WHERE artwork = ?""",
                [reason[:500], art_id],
            )

        await self._store.write(work)

    def _release(self, db: Database, art_id: str, **values: Any) -> list[Event]:
        if one(db, "SELECT 1 FROM gallery WHERE artwork = ?", [art_id]) is None:
            return []  # forgotten while the front end was posting; add_post() has left a tombstone
        db.table("gallery").update(art_id, values | {"due": None, "claim": None, "reason": None})
        return decide_gallery(db, art_id, self._house)

    # How long we were deaf

    async def seen(self, now: float | None = None) -> None:
        """Note that an event came from the gateway just now."""
        now = now or time.time()
        if now - self._seen < 10:
            return
        self._seen = now
        await self._store.write(
            lambda db: db.execute("INSERT OR REPLACE INTO facts VALUES ('last_event', ?)", [str(now)])
        )

    async def gap(self) -> float:
        """Return the seconds since the last event, 0 if there never was one."""
        row = await self._store.read(lambda db: one(db, "SELECT value FROM facts WHERE name = 'last_event'"))
        return max(0.0, time.time() - float(row["value"])) if row else 0.0

    async def _run(self, work: Any) -> Any:
        result, events = await self._store.write(work)
        for event in events:
            self._events.publish(event)
        return result


def emoji_value(plain: str, settings: GuildSettings) -> Value | None:
    """Return what an emoji (already plain) means."""
    if plain in map(plain_emoji, settings.up):
        return "up"
    return "down" if plain in map(plain_emoji, settings.down) else None


def _mark(message: str, emoji: str, burst: bool) -> str:
    return f"{message}/{emoji}/{'burst' if burst else 'normal'}"


def _artwork(db: Database, art_id: str) -> dict[str, Any]:
    art = one(db, "SELECT * FROM artworks WHERE id = ?", [art_id])
    if art is None:
        raise NotFound(f"There is no artwork {art_id!r}.")
    return art


def _tally(db: Database, art_id: str) -> Tally:
    return Tally(*db.execute("SELECT up, down, score FROM artworks WHERE id = ?", [art_id]).fetchone())


def _ballot(db: Database, art_id: str, member: str, reason: str | None = None) -> Ballot:
    row = one(db, "SELECT value FROM votes WHERE artwork = ? AND member = ?", [art_id, member])
    return Ballot(_tally(db, art_id), row["value"] if row else None, reason is None, reason)


def _task(db: Database, art_id: str) -> GalleryTask:
    row = one(db, "SELECT * FROM gallery WHERE artwork = ?", [art_id])
    assert row is not None
    return GalleryTask(load_artwork(db, art_id), row["due"], row["channel"], row["message"], row["claim"] is not None)
