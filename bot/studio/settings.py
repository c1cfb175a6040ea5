"""What guilds and members decide for themselves, and who is banned; read inside other people's transactions."""

from __future__ import annotations

import json
import time
import types
import typing
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlite_utils import Database

from bot.config import Settings
from bot.studio.people import WEB, Member
from bot.studio.store import one
from engine.errors import InvalidRequest, UnknownName

EVERYWHERE = "*"  # in the table of bans: a ban in every guild


@dataclass(frozen=True)
class GuildSettings:
    """What a guild decides for itself.  Ranges stand in ``_RANGES``."""

    gallery_channel: str | None = None
    gallery_age_restricted: bool = False  # whether that channel is; nudes go nowhere else
    gallery_threshold: int = 3  # ups minus downs that lead into the gallery
    gallery_remove_below: int = 2  # hysteresis: it leaves again only below this
    up: tuple[str, ...] = ("❤", "👍")  # emojis; a custom one by its id
    down: tuple[str, ...] = ("👎",)
    voting: bool = True
    self_votes: bool = False
    photo_owner_votes: bool = False  # may the owner of the photo vote on what others made of it
    voter_role: str | None = None  # only who has this role votes; None is everyone
    min_account_days: int = 7
    window_days: int = 30  # works older than this take no new votes
    member_running: int = 2
    member_waiting: int = 10
    guild_running: int = 16
    guild_waiting: int = 200
    nudes: bool = False  # the host must allow them too
    default_style: str | None = None
    language: str = "en"
    night_posts: bool = False  # tell of each night in the gallery channel
    notices_channel: str | None = None  # where managers are told what is lacking; None is up to the front end
    told: tuple[str, ...] = ()  # notices that were given already


_RANGES = {
    "gallery_threshold": (1, 1000),
    "gallery_remove_below": (-1000, 1000),
    "min_account_days": (0, 3650),
    "window_days": (1, 3650),
    "member_running": (1, 64),
    "member_waiting": (1, 1000),
    "guild_running": (1, 256),
    "guild_waiting": (1, 10_000),
}


@dataclass(frozen=True)
class Preferences:
    """What a member decides for themselves."""

    training: bool = True  # their works and votes may teach the painter
    votes: bool = True  # their reactions are counted as votes
    others_may_stylize: bool = True  # others may stylize pictures they posted
    private: bool = False  # their works are private unless they say otherwise
    language: str | None = None


def changed(settings: GuildSettings, changes: dict[str, Any]) -> GuildSettings:
    """Return the settings with changes, each checked.

    Raises:
        UnknownName: there is no such setting.
        InvalidRequest: a wrong type, or a value out of its range.
    """
    checked = typed(GuildSettings, changes)
    for key, value in checked.items():
        low, high = _RANGES.get(key, (None, None))
        if low is not None and high is not None and not low <= value <= high:
            raise InvalidRequest(f"{key} is {value!r}; it must lie between {low} and {high}.")
    new = replace(settings, **checked)
    if new.gallery_remove_below > new.gallery_threshold:
        raise InvalidRequest(
            f"gallery_remove_below is {new.gallery_remove_below}; it must not exceed the threshold, "
            f"{new.gallery_threshold}."
        )
    if not new.up:
        raise InvalidRequest("up is empty; name at least one emoji that counts as a vote for a work.")
    if both := set(map(plain_emoji, new.up)) & set(map(plain_emoji, new.down)):
        raise InvalidRequest(f"{both.pop()} cannot be a vote for and against; choose one.")
    return new


def typed(kind: type[Any], changes: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    checked = {}
    for key, value in changes.items():
        if key not in hints:
            raise UnknownName(f"There is no setting {key!r}; there are {', '.join(hints)}.")
        hint = hints[key]
        if typing.get_origin(hint) is tuple:
            valid = not isinstance(value, str) and all(isinstance(item, str) for item in value)
            value = tuple(value) if valid else value
        else:
            allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            valid = type(value) in allowed
        if not valid:
            raise InvalidRequest(f"{key} is {value!r}; it must be {_spoken(hint)}.")
        checked[key] = value
    return checked


def _spoken(hint: Any) -> str:
    words = {bool: "true or false", int: "a whole number", str: "a text", types.NoneType: "nothing"}
    if typing.get_origin(hint) is tuple:
        return "a list of texts"
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return " or ".join(words[part] for part in parts)


def plain_emoji(emoji: str) -> str:
    """Return the emoji without variation selector and skin tone: one vote, however it was typed."""
    return "".join(c for c in emoji if c != "\ufe0f" and not "\U0001f3fb" <= c <= "\U0001f3ff")


# The functions below take a database, because others call them inside their own transactions.


def guild_settings(db: Database, guild: str | None, house: Settings) -> GuildSettings:
    """Return the settings of a guild; of the house where the guild has changed nothing."""
    base = GuildSettings(
        member_running=house.member_running,
        member_waiting=house.member_waiting,
        guild_running=house.guild_running,
        guild_waiting=house.guild_waiting,
        gallery_threshold=house.gallery_threshold,
        gallery_remove_below=max(1, house.gallery_threshold - 1),
        language=house.language,
        night_posts=house.night_posts,
        # At home alone, everything is one's own: without self votes nobody could vote at all.  They never train.
        self_votes=guild == WEB and house.loopback,
        nudes=guild == WEB and house.nudes,
    )
    row = one(db, "SELECT settings FROM guilds WHERE guild = ?", [guild]) if guild else None
    stored: dict[str, Any] = json.loads(row["settings"]) if row else {}
    known = {f.name for f in fields(GuildSettings)}
    own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in known}
    return replace(base, **own)


def preferences(db: Database, member: str) -> Preferences:
    """Return what a member decided."""
    row = one(db, "SELECT preferences FROM members WHERE key = ?", [member])
    return Preferences(**(json.loads(row["preferences"]) if row else {}))


def is_banned(db: Database, guild: str | None, member: str) -> bool:
    """Whether the member is banned here or everywhere."""
    sql = "SELECT 1 FROM bans WHERE member = ? AND guild IN (?, ?)"
    return one(db, sql, [member, guild or EVERYWHERE, EVERYWHERE]) is not None


def know(db: Database, member: Member, account_created: float | None = None) -> None:
    """Remember that this member exists, and their newest name."""
    db.execute(
        """INSERT INTO members (key, platform, id, name, first_seen, account_created) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT (key) DO UPDATE SET name = CASE excluded.name WHEN '' THEN name ELSE excluded.name END,
               account_created = coalesce(excluded.account_created, account_created)""",
        [member.key, member.platform, member.id, member.name[:100], time.time(), account_created],
    )
