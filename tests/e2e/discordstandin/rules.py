"""The platform's rules: what Discord refuses, and with which code.

Two layers: :class:`OpenApi` checks a request's body against Discord's own published description where a copy is at
hand, and the functions here check what that description leaves out (unique custom ids, sums over a message, sizes).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
from aiohttp import BodyPartReader, web
from referencing import Registry
from referencing.jsonschema import DRAFT202012

Json = dict[str, Any]

ANSWER_WITHIN = 3.0  # s, to the first answer of an interaction
TOKEN_LIVES = 15 * 60.0  # s
REQUEST_BYTES = 25 * 2**20  # of one whole request
FOLLOWUPS = 5  # of an interaction where the app is installed for the user alone
COMMANDS_A_DAY = 200  # creations

VIEW_CHANNEL, SEND_MESSAGES, EMBED_LINKS, ATTACH_FILES = 1 << 10, 1 << 11, 1 << 14, 1 << 15
READ_HISTORY, ADD_REACTIONS, MANAGE_MESSAGES, MANAGE_GUILD = 1 << 16, 1 << 6, 1 << 13, 1 << 5
USE_COMMANDS, SEND_IN_THREADS = 1 << 31, 1 << 38
MEMBER = (
    VIEW_CHANNEL | SEND_MESSAGES | EMBED_LINKS | ATTACH_FILES | READ_HISTORY | ADD_REACTIONS | USE_COMMANDS
    | SEND_IN_THREADS
)  # fmt: skip

GUILDS, GUILD_MESSAGES, GUILD_REACTIONS = 1 << 0, 1 << 9, 1 << 10
DM_MESSAGES, DM_REACTIONS = 1 << 12, 1 << 13
PRIVILEGED_INTENTS = 1 << 1 | 1 << 8 | 1 << 15

EPHEMERAL, LOADING, COMPONENTS_V2 = 1 << 6, 1 << 7, 1 << 15

CHAT, USER_MENU, MESSAGE_MENU = 1, 2, 3
_NAME = re.compile(r"^[-_'\w\u0900-\u097F\u0E00-\u0E7F]{1,32}$")


class Refusal(Exception):
    """An error answer of Discord: HTTP status, Discord's own code, and its sentence."""

    def __init__(self, status: int, code: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.extra = status, code, message, extra

    def body(self) -> Json:
        """Return the JSON that Discord would send."""
        return {"code": self.code, "message": self.message} | self.extra


def invalid(field: str, why: str) -> Refusal:
    """Return 50035, the answer to a body that breaks a rule."""
    errors = {field: {"_errors": [{"code": "INVALID", "message": why}]}}
    return Refusal(400, 50035, f"Invalid Form Body: {field}: {why}", errors=errors)


class OpenApi:
    """Discord's published description of its REST interface, as a check of request bodies."""

    def __init__(self, description: Json) -> None:
        # The description calls snowflakes strings; the service takes numbers too, and the client library sends some.
        snowflake = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]}
        description["components"]["schemas"]["SnowflakeType"] = snowflake
        self._registry: Registry[Any] = Registry().with_resource("api:", DRAFT202012.create_resource(description))
        self._routes: list[tuple[str, re.Pattern[str], str]] = []
        for path, methods in description["paths"].items():
            pattern = re.compile("^" + re.sub(r"\{[^}]*\}", "[^/]+", path) + "$")
            for method in methods:
                if "requestBody" in methods.get(method, ()):
                    pointer = path.replace("~", "~0").replace("/", "~1")
                    where = f"api:#/paths/{pointer}/{method}/requestBody/content/application~1json/schema"
                    self._routes.append((method, pattern, where))
        # "/messages/@original" before "/messages/{message_id}"
        self._routes.sort(key=lambda route: route[1].pattern.count("[^/]+"))
        self._validators: dict[str, jsonschema.protocols.Validator] = {}

    @classmethod
    def find(cls) -> OpenApi | None:
        """Load the copy named by ``GANVAS_DISCORD_OPENAPI`` or lying beside the repository; None without one."""
        beside = Path(__file__).resolve().parents[3].parent / "shared" / "discord" / "openapi.json"
        file = Path(os.environ.get("GANVAS_DISCORD_OPENAPI", beside))
        return cls(json.loads(file.read_text())) if file.is_file() else None

    def check(self, method: str, path: str, body: Any) -> None:
        """Raise 50035 when ``body`` is not what the description allows for ``method path``."""
        where = next((w for known, pattern, w in self._routes if known == method.lower() and pattern.match(path)), None)
        if where is None:
            raise Refusal(404, 0, f"404: {method} {path} takes no body")
        if where not in self._validators:
            self._validators[where] = jsonschema.Draft202012Validator({"$ref": where}, registry=self._registry)
        error = jsonschema.exceptions.best_match(self._validators[where].iter_errors(body))
        if error is not None:
            raise invalid("/".join(map(str, error.absolute_path)) or "body", error.message[:500])


async def read_form(request: web.Request) -> dict[str, bytes]:
    """Return the parts of a multipart body by name."""
    parts: dict[str, bytes] = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        parts[part.name or ""] = bytes(await part.read())
    return parts


def _length(field: str, text: Any, most: int, least: int = 0) -> int:
    size = len(text or "")
    if not least <= size <= most:
        raise invalid(field, f"must be between {least} and {most} in length, not {size}")
    return size


def components(tree: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Walk a message's components, parents first."""
    for item in tree:
        yield item
        yield from components(item.get("components") or ())
        yield from components([item[key] for key in ("accessory", "component") if item.get(key)])


def check_components(rows: list[Json], v2: bool) -> None:
    """Raise 50035 on a component tree that Discord would refuse."""
    everything = list(components(rows))
    if len(everything) > 40:
        raise invalid("components", f"{len(everything)} components, at most 40")
    if not v2 and (len(rows) > 5 or any(row["type"] != 1 for row in rows)):
        raise invalid("components", "at most 5 action rows")
    seen: set[str] = set()
    for item in everything:
        if item["type"] == 1 and not 1 <= len(item["components"]) <= 5:
            raise invalid("components", "an action row holds 1 to 5 components")
        if item["type"] == 2:
            _length("label", item.get("label"), 80)
            if not item.get("label") and not item.get("emoji"):
                raise invalid("components", "a button needs a label or an emoji")
        if item["type"] in (3, 4, 5, 6, 7, 8) and item.get("options") is not None:
            _length("options", item["options"], 25, 1)
        custom_id = item.get("custom_id")
        if custom_id is not None:
            _length("custom_id", custom_id, 100, 1)
            if custom_id in seen:
                raise invalid("custom_id", f"Component custom id cannot be duplicated: {custom_id}")
            seen.add(custom_id)


def check_message(body: Json, files: Mapping[str, bytes], limit: int, *, new: bool) -> None:
    """Raise what Discord would answer to this message: sizes, sums, emptiness, mixing of old and new components."""
    for name, data in files.items():
        if len(data) > limit:
            raise Refusal(413, 40005, f"Request entity too large: {name} has {len(data)} bytes, limit {limit}")
    if sum(map(len, files.values())) > REQUEST_BYTES:
        raise Refusal(413, 40005, "Request entity too large")
    _length("content", body.get("content"), 2000)
    if len(files) > 10:
        raise invalid("files", "at most 10")
    for attachment in body.get("attachments") or ():
        _length("description", attachment.get("description"), 1024)
    embeds = body.get("embeds") or []
    total = 0
    for embed in embeds:
        total += _length("embeds/title", embed.get("title"), 256)
        total += _length("embeds/description", embed.get("description"), 4096)
        total += _length("embeds/footer", (embed.get("footer") or {}).get("text"), 2048)
        total += _length("embeds/author", (embed.get("author") or {}).get("name"), 256)
        _length("embeds/fields", embed.get("fields"), 25)
        for entry in embed.get("fields") or ():
            total += _length("embeds/fields/name", entry.get("name"), 256, 1)
            total += _length("embeds/fields/value", entry.get("value"), 1024, 1)
    if len(embeds) > 10 or total > 6000:
        raise invalid("embeds", f"{len(embeds)} embeds of {total} characters; at most 10 and 6000")
    v2 = bool((body.get("flags") or 0) & COMPONENTS_V2)
    if v2 and (body.get("content") or embeds or body.get("poll")):
        raise invalid("content", "cannot be used with the components v2 flag")
    check_components(body.get("components") or [], v2)
    if new and not (body.get("content") or embeds or files or body.get("components")):
        raise Refusal(400, 50006, "Cannot send an empty message")


def _localised(field: str, table: Json | None, check: Callable[[str, str], None]) -> None:
    for locale, text in (table or {}).items():
        check(f"{field}_localizations/{locale}", text)


def _check_name(field: str, name: str) -> None:
    if not _NAME.match(name) or name != name.lower():
        raise invalid(field, f"{name!r} is no name of a command or option")


def _check_text(field: str, text: str) -> None:
    _length(field, text, 100, 1)


def _check_options(options: list[Json], depth: int = 0) -> None:
    _length("options", options, 25)
    optional = False
    for option in options:
        _check_name("name", option["name"])
        _localised("name", option.get("name_localizations"), _check_name)
        _length("description", option["description"], 100, 1)
        _localised("description", option.get("description_localizations"), _check_text)
        if option["type"] not in (1, 2) and optional and option.get("required"):
            raise invalid("options", "required options must come before optional ones")
        optional = optional or not option.get("required")
        _length("choices", option.get("choices"), 25)
        for choice in option.get("choices") or ():
            _length("choices/name", choice["name"], 100, 1)
            _localised("choices", choice.get("name_localizations"), _check_text)
        if option["type"] in (1, 2):
            if depth == 2:
                raise invalid("options", "sub-commands are nested too deep")
            _check_options(option.get("options") or [], depth + 1)


def _weight(entry: Json) -> int:
    """Characters that count towards the 8000 of a command: the longest localisation of each text."""

    def longest(field: str) -> int:
        return max(map(len, [entry.get(field) or "", *(entry.get(f"{field}_localizations") or {}).values()]))

    own = longest("name") + longest("description")
    own += sum(len(choice["name"]) + len(str(choice["value"])) for choice in entry.get("choices") or ())
    return own + sum(map(_weight, entry.get("options") or ()))


def check_commands(commands: list[Json]) -> None:
    """Raise 50035 on a set of commands that Discord would refuse."""
    kinds = [command.get("type", CHAT) for command in commands]
    if kinds.count(CHAT) > 100 or kinds.count(MESSAGE_MENU) > 15 or kinds.count(USER_MENU) > 15:
        raise Refusal(400, 30032, "Maximum number of application commands reached")
    names = [(kind, command["name"]) for kind, command in zip(kinds, commands, strict=True)]
    if len(set(names)) < len(names):
        raise invalid("name", "Application command names must be unique")
    for kind, command in zip(kinds, commands, strict=True):
        if kind == CHAT:
            _check_name("name", command["name"])
            _localised("name", command.get("name_localizations"), _check_name)
            _length("description", command["description"], 100, 1)
            _check_options(command.get("options") or [])
            if _weight(command) > 8000:
                raise invalid(command["name"], f"{_weight(command)} characters in all, at most 8000")
        else:
            _length("name", command["name"], 32, 1)
