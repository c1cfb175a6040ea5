"""What the stand-in knows: clock, people, guilds, channels, messages and interactions, with their wire forms."""

from __future__ import annotations

import asyncio
import io
import itertools
import mimetypes
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from PIL import Image

from . import rules
from .rules import Json

EPOCH = 1420070400  # s, Discord's
MIB = 2**20
TEXT, DM, GROUP = 0, 1, 3  # kinds of channel
IN_GUILD, IN_BOT_DM, IN_PRIVATE = 0, 1, 2  # contexts of an interaction
BY_GUILD, BY_USER = 0, 1  # installs


class Clock:
    """Discord's clock, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._numbers = itertools.count()

    def now(self) -> float:
        """Return unix seconds."""
        return time.time() + self.ahead

    def iso(self) -> str:
        """Return the moment as Discord writes it."""
        return datetime.fromtimestamp(self.now(), UTC).isoformat()

    def snowflake(self, at: float | None = None) -> int:
        """Return a fresh id that carries the moment."""
        return int(((at or self.now()) - EPOCH) * 1000) << 22 | next(self._numbers) & 0x3FFFFF


@dataclass
class Account:
    """A user: a person or a bot."""

    id: int
    name: str
    bot: bool = False
    locale: str = "en-US"

    def wire(self) -> Json:
        """Return the public user object."""
        return {"id": str(self.id), "username": self.name.lower(), "discriminator": "0", "global_name": self.name,
                "avatar": None, "bot": self.bot, "public_flags": 0}  # fmt: skip


@dataclass
class Attachment:
    """A file on the CDN."""

    id: int
    channel: int
    filename: str
    data: bytes
    description: str | None = None
    ephemeral: bool = False

    @property
    def content_type(self) -> str:
        """Return what Discord derives from the name."""
        return mimetypes.guess_type(self.filename)[0] or "application/octet-stream"

    def wire(self, server: Any) -> Json:
        """Return the attachment object with a signed address that expires."""
        where = "ephemeral-attachments" if self.ephemeral else "attachments"
        expires = int(server.clock.now()) + 86400
        url = f"{server.url}/cdn/{where}/{self.channel}/{self.id}/{self.filename}?ex={expires:x}&is=0&hm=stand-in"
        wire = {"id": str(self.id), "filename": self.filename, "size": len(self.data), "url": url,
                "proxy_url": url.replace("/cdn/", "/media/"), "content_type": self.content_type}  # fmt: skip
        if self.description is not None:
            wire["description"] = self.description
        if self.ephemeral:
            wire["ephemeral"] = True
        return wire | self._size

    @cached_property
    def _size(self) -> Json:
        if not self.content_type.startswith("image/"):
            return {}
        try:
            with Image.open(io.BytesIO(self.data)) as picture:
                return {"width": picture.width, "height": picture.height}
        except OSError:
            return {}  # broken pictures are stored like any other file


@dataclass
class Guild:
    """A server of the community; ``installed`` says whether the app was added to it."""

    id: int
    name: str
    owner: int
    installed: bool = True
    file_limit: int = 10 * MIB
    locale: str = "en-US"
    channels: dict[int, Channel] = field(default_factory=dict)
    managers: set[int] = field(default_factory=set)
    members: dict[int, Json] = field(default_factory=dict)  # user id -> what differs from an ordinary member


@dataclass
class Channel:
    """A text channel, or a direct conversation (``people`` are its members)."""

    id: int
    name: str
    kind: int = TEXT
    guild: Guild | None = None
    nsfw: bool = False
    people: tuple[int, ...] = ()
    bot_lacks: int = 0  # permissions denied to the bot here
    messages: dict[int, Message] = field(default_factory=dict)

    def wire(self, bot: Account) -> Json:
        """Return the channel object as the gateway sends it."""
        wire: Json = {"id": str(self.id), "type": self.kind, "last_message_id": None}
        if self.guild is None:
            return wire | {"recipients": [], "name": self.name}
        deny = [{"id": str(bot.id), "type": 1, "allow": "0", "deny": str(self.bot_lacks)}] if self.bot_lacks else []
        return wire | {"guild_id": str(self.guild.id), "name": self.name, "position": 0, "nsfw": self.nsfw,
                       "permission_overwrites": deny, "parent_id": None, "topic": None}  # fmt: skip


@dataclass
class Message:
    """A message; ``reactions`` maps emoji -> kind (normal, burst) -> user ids in order."""

    id: int
    channel: Channel
    author: Account
    content: str = ""
    attachments: list[Attachment] = field(default_factory=list)
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    flags: int = 0
    nonce: str | None = None
    created: float = 0.0
    edited: str | None = None
    edits: list[float] = field(default_factory=list)  # when it was edited, Discord's clock
    reactions: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    metadata: Json | None = None
    webhook: bool = False
    mentions: tuple[int, ...] = ()
    reference: Json | None = None

    @property
    def ephemeral(self) -> bool:
        """Whether only one person sees it."""
        return bool(self.flags & rules.EPHEMERAL)

    @property
    def loading(self) -> bool:
        """Whether it is still "thinking..."."""
        return bool(self.flags & rules.LOADING)

    @property
    def text(self) -> str:
        """All words a person reads in it."""
        parts = [self.content]
        for embed in self.embeds:
            parts += [embed.get("title") or "", embed.get("description") or ""]
            parts += [f"{entry['name']}\n{entry['value']}" for entry in embed.get("fields") or ()]
            parts.append((embed.get("footer") or {}).get("text") or "")
        parts += [str(item.get("content") or "") for item in rules.components(self.components)]
        return "\n".join(part for part in parts if part)

    @property
    def buttons(self) -> list[Mapping[str, Any]]:
        """Its buttons in reading order."""
        return [item for item in rules.components(self.components) if item["type"] == 2]

    def wire(self, server: Any, *, hidden: bool = False) -> Json:
        """Return the message object; ``hidden`` blanks what the bot may not read."""
        account = self.author.wire()
        reactions = [
            {"emoji": emoji_wire(emoji), "count": sum(map(len, kinds.values())),
             "count_details": {"normal": len(kinds.get("normal", ())), "burst": len(kinds.get("burst", ()))},
             "me": False, "me_burst": False, "burst_colors": []}
            for emoji, kinds in self.reactions.items() if any(kinds.values())
        ]  # fmt: skip
        wire = {
            "id": str(self.id), "channel_id": str(self.channel.id), "author": account, "content": self.content,
            "timestamp": datetime.fromtimestamp(self.created, UTC).isoformat(), "edited_timestamp": self.edited,
            "tts": False, "mention_everyone": False, "mentions": [], "mention_roles": [], "pinned": False,
            "type": 20 if self.metadata else 0, "flags": self.flags, "embeds": self.embeds,
            "attachments": [a.wire(server) for a in self.attachments], "components": self.components,
            "reactions": reactions,
        }  # fmt: skip
        if self.author.bot:
            wire["application_id"] = str(server.application)
        if self.metadata:
            wire["interaction_metadata"] = self.metadata
        if self.webhook:
            wire["webhook_id"] = str(server.application)
        if self.nonce is not None:
            wire["nonce"] = self.nonce
        if self.reference:
            wire["message_reference"] = self.reference
        if hidden:
            wire |= {"content": "", "embeds": [], "attachments": [], "components": []}
        return wire


def emoji_wire(emoji: str) -> Json:
    """Return the object of an emoji written as itself or ``name:id``."""
    name, _, number = emoji.partition(":")
    return {"name": name, "id": number or None}


@dataclass
class Interaction:
    """One use of a command, button or window, and what the bot has done about it."""

    id: int
    token: str
    kind: int  # 2 command, 3 component, 4 autocomplete, 5 modal
    user: Account
    channel: Channel
    created: float
    born: float  # monotonic s
    file_limit: int
    by_guild: bool
    data: Json
    message: Message | None = None  # the message whose button was pressed
    answered: int | None = None  # kind of the first answer
    waited: float = 0.0  # s from sending to the first answer
    original: Message | None = None
    followups: list[Message] = field(default_factory=list)
    choices: list[Json] | None = None
    modal: Json | None = None
    late: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # the first answer has come
