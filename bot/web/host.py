"""The host's rooms: how everything is, the rules, who is kept out, the models, the log."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from bot.studio import WEB, GuildSettings, Member
from bot.web import catalogue, chart
from bot.web.keys import LOGS, PAGES, SESSIONS, SETTINGS, STUDIO, VISITOR
from engine.errors import GanvasError, InvalidRequest

EXPLAINED = {
    "gallery_channel": ("Gallery channel", "The Discord channel's id; works that are liked enough are shown there."),
    "gallery_threshold": ("Votes into the gallery", "Ups minus downs that lead a work into the gallery channel."),
    "gallery_remove_below": ("Votes out of it", "It leaves again below this; at most the number above."),
    "gallery_age_restricted": ("The gallery channel is age-restricted", ""),
    "up": ("Emojis for", "Separated by spaces; a custom emoji by its id."),
    "down": ("Emojis against", "Separated by spaces."),
    "voting": ("Voting is open", ""),
    "self_votes": ("Members may vote on their own works", ""),
    "photo_owner_votes": ("The owner of a photo may vote on what others made of it", ""),
    "voter_role": ("Voters' role", "A Discord role's id; empty lets everyone vote."),
    "min_account_days": ("Youngest account that votes", "In days."),
    "window_days": ("Days a work takes votes", ""),
    "member_running": ("Jobs at work, each member", ""),
    "member_waiting": ("Jobs in line, each member", ""),
    "guild_running": ("Jobs at work, whole server", ""),
    "guild_waiting": ("Jobs in line, whole server", ""),
    "nudes": ("Allow the genre nude painting", "Only where the host allows it too, and in age-restricted channels."),
    "default_style": ("Style when none is named", "A style's name; empty means each member chooses."),
    "language": ("Language", "What the bot speaks in public there; these pages speak English."),
    "night_posts": ("Tell of each night in the gallery channel", ""),
    "notices_channel": ("Channel for notices", "A Discord channel's id; managers are told there what is lacking."),
}
CHOICES = {"language": ("en", "de", "es", "ja")}
OWN_NOTES = ("told",)  # what the house remembers for itself


KINDS = {"painter": "Painters", "stylizer": "Stylizers", "brush": "Brushes", "enhancer": "Enhancers"}


@dataclass(frozen=True)
class Model:
    """One model as its page shows it; ``measured`` are the figures of its card by plain names."""

    card: catalogue.Card
    preview: str | None
    samples: list[catalogue.Choice]
    measured: dict[str, str]


@dataclass(frozen=True)
class Field:
    """One row of the settings form."""

    name: str
    label: str
    hint: str
    kind: str  # "check", "number", "words", "choice" or "text"
    value: Any
    choices: tuple[str, ...] = ()


def only_host(request: web.Request) -> None:
    if not request[VISITOR].is_host:
        raise web.HTTPForbidden(text="These rooms are the host's; log in with the host's token to enter.")


async def status_page(request: web.Request) -> web.Response:
    only_host(request)
    sessions = request.app[SESSIONS]
    status = await request.app[STUDIO].status()
    return await request.app[PAGES].page(
        request, "host/status", status=status, words=chart.WORDS,
        has_discord=request.app[SETTINGS].discord_token is not None,
        code=sessions.visitors_code if sessions.token else None,
    )  # fmt: skip


async def settings_page(request: web.Request) -> web.Response:
    only_host(request)
    guild = _guild(request.query.get("guild", WEB))
    rules = await request.app[STUDIO].policy.settings(guild)
    return await request.app[PAGES].page(
        request, "host/settings", guild=guild, fields=_fields(rules), saved="saved" in request.query
    )


async def change_settings(request: web.Request) -> web.Response:
    only_host(request)
    form = await request.post()
    guild = _guild(str(form.get("guild", WEB)))
    policy = request.app[STUDIO].policy
    now = await policy.settings(guild)
    changes: dict[str, Any] = {}
    for field in _fields(now):
        value = _read(field, str(form.get(field.name, "")))
        if value != getattr(now, field.name):
            changes[field.name] = value
    if changes:
        await policy.change(guild, **changes)
    raise web.HTTPSeeOther(f"/host/settings?guild={guild}&saved=1")


async def bans_page(request: web.Request) -> web.Response:
    only_host(request)
    bans = await request.app[STUDIO].policy.bans(None)
    return await request.app[PAGES].page(request, "host/bans", bans=bans, member=request.query.get("member", ""))


async def change_ban(request: web.Request) -> web.Response:
    only_host(request)
    form = await request.post()
    platform, _, member_id = str(form.get("member", "")).strip().partition(":")
    if platform not in ("discord", "web") or not member_id.isalnum():
        raise InvalidRequest(f"{form.get('member', '')!r} is no member; write discord:<user id> or web:<id>.")
    member = Member(platform, member_id)
    policy = request.app[STUDIO].policy
    if "lift" in form:
        await policy.unban(None, member)
    else:
        await policy.ban(None, member, by=request[VISITOR].member, reason=str(form.get("reason", ""))[:200])
    raise web.HTTPSeeOther("/host/bans")


async def models_page(request: web.Request) -> web.Response:
    """All models by kind, those in office first, with what their cards say of them."""
    only_host(request)
    studio = request.app[STUDIO]
    cards = await catalogue.cards(studio)
    with contextlib.suppress(GanvasError):
        cards = await studio.engine.models()  # who is in office now, not a minute ago
    kinds: dict[str, list[Model]] = {kind: [] for kind in KINDS}
    for card in sorted(cards, key=lambda card: (not card.get("in_office"), card["name"])):
        shown = Model(card, catalogue.preview(studio, card), catalogue.samples(studio, card), _measured(card))
        kinds.setdefault(card.get("kind", "other"), []).append(shown)
    return await request.app[PAGES].page(
        request, "host/models", kinds={kind: models for kind, models in kinds.items() if models}, named=KINDS,
        switched=request.query.get("switched"),
    )  # fmt: skip


async def switch_model(request: web.Request) -> web.Response:
    """Put a model in office for its kind."""
    only_host(request)
    form = await request.post()
    kind, name = str(form.get("kind", "")), str(form.get("name", ""))
    await request.app[STUDIO].apprentice.switch(kind, name, request[VISITOR].member)
    raise web.HTTPSeeOther(f"/host/models?{urlencode({'switched': name})}")


async def logs_page(request: web.Request) -> web.Response:
    only_host(request)
    return await request.app[PAGES].page(request, "host/logs", lines=list(request.app[LOGS].lines)[::-1])


def _measured(card: catalogue.Card) -> dict[str, str]:
    metrics = card.get("metrics") or {}
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }  # fmt: skip


def _guild(text: str) -> str:
    platform, _, guild_id = text.partition(":")
    if text != WEB and not (platform == "discord" and guild_id.isdecimal()):
        raise InvalidRequest(f"{text!r} is no server; write web, or discord:<server id>.")
    return text


def _fields(rules: GuildSettings) -> list[Field]:
    hints = typing.get_type_hints(GuildSettings)
    rows = []
    for field in dataclasses.fields(rules):
        if field.name in OWN_NOTES:
            continue
        label, hint = EXPLAINED.get(field.name, (field.name.replace("_", " ").capitalize(), ""))
        value = getattr(rules, field.name)
        declared = hints[field.name]
        choices = CHOICES.get(field.name, ())
        if choices:
            shape = "choice"
        elif declared is bool:
            shape = "check"
        elif declared is int:
            shape = "number"
        elif typing.get_origin(declared) is tuple:
            shape, value = "words", " ".join(value)
        else:
            shape, value = "text", value or ""
        rows.append(Field(field.name, label, hint, shape, value, choices))
    return rows


def _read(field: Field, text: str) -> Any:
    text = text.strip()
    if field.kind == "check":
        return text == "on"
    if field.kind == "number":
        try:
            return int(text)
        except ValueError:
            raise InvalidRequest(f"{field.label} is {text!r}; it must be a whole number.") from None
    if field.kind == "words":
        return tuple(text.split())
    optional = isinstance(typing.get_type_hints(GuildSettings)[field.name], types.UnionType)
    return None if optional and not text else text
