"""A local stand-in for Discord: REST, gateway and CDN over loopback, strict where the platform is strict.

    async with StandIn() as discord:
        guild = discord.guild("Atelier")
        channel = discord.channel(guild, "studio")
        ada = discord.person("Ada", guild)
        ...start the bot against discord.url...
        answer = await ada.slash(channel, "paint", genre="flowers")

Whatever the bot does against the rules is refused as Discord refuses it, and written to ``violations``: a test that
ends with an empty list has a bot that Discord would have accepted.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from aiohttp import WSMsgType, web

from . import rules
from .rules import Json, Refusal
from .world import (
    BY_GUILD,
    BY_USER,
    DM,
    IN_BOT_DM,
    IN_GUILD,
    IN_PRIVATE,
    MIB,
    Account,
    Attachment,
    Channel,
    Clock,
    Guild,
    Interaction,
    Message,
    emoji_wire,
)

TOKEN = "stand-in.token.for-tests"
# (method, path) -> (requests, seconds): the service's usual buckets
BUCKETS = [
    ("POST", re.compile(r"/channels/(\d+)/messages$"), 5, 5.0),
    ("PATCH", re.compile(r"/channels/(\d+)/messages/\d+$"), 5, 5.0),
    ("DELETE", re.compile(r"/channels/(\d+)/messages/\d+$"), 5, 1.0),
    ("PUT", re.compile(r"/channels/(\d+)/messages/\d+/reactions/"), 1, 0.25),
    ("GET", re.compile(r"/channels/(\d+)/messages"), 50, 5.0),
    ("*", re.compile(r"/webhooks/\d+/([^/]+)"), 5, 2.0),
]


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return JSON with the bare content type of the service; the client library looks for exactly that."""
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json", headers=headers)


class Session:
    """One gateway session: its numbered events, and the socket while there is one."""

    def __init__(self, intents: int, shard: tuple[int, int]) -> None:
        self.id = secrets.token_hex(8)
        self.intents, self.shard = intents, shard
        self.events: list[Json] = []
        self.socket: web.WebSocketResponse | None = None

    async def push(self, name: str, data: Json) -> None:
        """Number the event, keep it for a resume, and send it when somebody listens."""
        event = {"op": 0, "t": name, "s": len(self.events) + 1, "d": data}
        self.events.append(event)
        await self.send(event)

    async def send(self, event: Json) -> None:
        """Send a frame if the socket is open."""
        if self.socket is not None and not self.socket.closed:
            try:
                await self.socket.send_str(json.dumps(event))
            except ConnectionError:
                self.socket = None


class StandIn:
    """The whole of Discord that a picture bot meets."""

    def __init__(
        self, *, shards: int = 1, rate_limits: bool = True, answer_within: float = rules.ANSWER_WITHIN,
        check_bodies: bool = True,
    ) -> None:  # fmt: skip
        self.clock = Clock()
        self.shards, self.rate_limits = shards, rate_limits
        self.answer_within = answer_within  # s; tests of other things are patient on a busy machine
        self.application = self.clock.snowflake()
        self.accounts: dict[int, Account] = {}
        self.bot = self._account("Ganvas", bot=True, number=self.application)
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        self.interactions: dict[str, Interaction] = {}
        self.attachments: dict[int, Attachment] = {}
        self.commands: list[Json] = []
        self.command_writes = 0  # how often the bot registered its commands
        self.violations: list[str] = []
        self.requests: list[tuple[str, str]] = []  # (method, path) in order
        self.openapi = rules.OpenApi.find() if check_bodies else None  # a benchmark has no time for it
        self.replay_extra = 0  # events replayed by the next resumes although they had arrived
        self.identifies = self.resumes = 0
        self._sessions: dict[str, Session] = {}
        self._dms: dict[int, Channel] = {}
        self.mentioning: list[str] = []  # messages that could have rung somebody
        self._faults: list[tuple[str, re.Pattern[str], bool, Callable[[], web.Response]]] = []
        self.faulted: list[str] = []  # paths of the requests that were answered with a fault
        self._held: list[tuple[str, re.Pattern[str]]] = []
        self._healed = asyncio.Event()
        self._buckets: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._created: list[float] = []
        self._changed = asyncio.Condition()
        self._telling: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    # ---- life ----

    async def __aenter__(self) -> StandIn:
        app = web.Application(client_max_size=64 * MIB)
        app.router.add_get("/gateway", self._gateway)
        app.router.add_get("/gateway/", self._gateway)
        app.router.add_get("/{kind:cdn|media}/{where}/{channel}/{number}/{name}", self._cdn)
        app.router.add_route("*", "/api/v10/{path:.*}", self._rest)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.heal()
        for session in self._sessions.values():
            if session.socket is not None:
                await session.socket.close(code=1001)
        if self._runner is not None:
            await self._runner.cleanup()

    async def wait(self, truth: Callable[[], Any], what: str = "the expected state", within: float = 60) -> Any:
        """Wait until ``truth()`` holds, looking again after every request and event; return its value."""
        deadline = time.monotonic() + within
        while not (value := truth()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"Waited {within:g} s in vain for {what}. Violations: {self.violations}")
            async with self._changed:
                try:
                    await asyncio.wait_for(self._changed.wait(), min(left, 0.25))
                except TimeoutError:
                    continue
        return value

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def advance(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Put Discord's clock forward: tokens and addresses age."""
        self.clock.ahead += minutes * 60 + seconds

    def fail(
        self, method: str, path: str, status: int, *, times: int = 1, code: int = 0, retry_after: float = 0.2,
        files: bool = False,
    ) -> None:  # fmt: skip
        """Answer the next ``times`` requests whose path matches the pattern with an error instead of doing them.

        ``files``: only requests that carry files.
        """

        def answer() -> web.Response:
            body: Json = {"code": code, "message": f"stand-in fault {status}"}
            headers = {}
            if status == 429:
                body |= {"retry_after": retry_after, "global": False}
                headers = {"Via": "1.1 stand-in", "Retry-After": str(retry_after)}
            return _json(body, status=status, headers=headers)

        self._faults += [(method, re.compile(path), files, answer)] * times

    def hold(self, method: str, path: str) -> None:
        """Do the matching requests (also for files), but let the bot wait for their answers until :meth:`heal`."""
        self._held.append((method, re.compile(path)))
        self._healed.clear()

    def heal(self) -> None:
        """Take all faults away."""
        self._faults.clear()
        self._held.clear()
        self._healed.set()

    # ---- the world, as tests build it ----

    def _account(self, name: str, *, bot: bool = False, number: int | None = None, locale: str = "en-US") -> Account:
        account = Account(number or self.clock.snowflake(), name, bot, locale)
        self.accounts[account.id] = account
        return account

    def guild(self, name: str, *, installed: bool = True, file_limit: int = 10 * MIB, locale: str = "en-US") -> Guild:
        """Found a guild before the bot starts (or use :meth:`announce` afterwards)."""
        owner = self._account(f"owner-of-{name}")
        guild = Guild(self.clock.snowflake(), name, owner.id, installed, file_limit, locale)
        self.guilds[guild.id] = guild
        return guild

    def channel(self, guild: Guild, name: str, *, nsfw: bool = False, bot_lacks: int = 0) -> Channel:
        """Open a text channel; ``bot_lacks`` are permission bits denied to the bot there."""
        channel = Channel(self.clock.snowflake(), name, guild=guild, nsfw=nsfw, bot_lacks=bot_lacks)
        guild.channels[channel.id] = self.channels[channel.id] = channel
        if self.connected:
            event = self.dispatch("CHANNEL_CREATE", channel.wire(self.bot), intent=rules.GUILDS, guild=guild)
            self._telling = asyncio.create_task(event)
        return channel

    def person(
        self, name: str, guild: Guild | None = None, *, locale: str = "en-US", manager: bool = False, days: float = 900,
        bot: bool = False, pending: bool = False,
    ) -> Any:  # fmt: skip
        """Create somebody whose account is ``days`` old; a ``manager`` may Manage Server."""
        from .people import Person

        born = self.clock.snowflake(self.clock.now() - days * 86400)
        account = self._account(name, number=born, locale=locale, bot=bot)
        if guild is not None:
            guild.members[account.id] = {"pending": pending}
            if manager:
                guild.managers.add(account.id)
        return Person(self, account)

    def dm(self, account: Account) -> Channel:
        """Return the direct conversation of the bot and this person."""
        if account.id not in self._dms:
            channel = Channel(self.clock.snowflake(), "dm", DM, people=(account.id, self.bot.id))
            self._dms[account.id] = self.channels[channel.id] = channel
        return self._dms[account.id]

    def private_channel(self, *accounts: Account) -> Channel:
        """Return a conversation of people among themselves, where the bot is no member."""
        channel = Channel(self.clock.snowflake(), "friends", DM, people=tuple(a.id for a in accounts))
        self.channels[channel.id] = channel
        return channel

    def messages(self, channel: Channel | None = None) -> Iterator[Message]:
        """All messages, oldest first."""
        for each in [channel] if channel else list(self.channels.values()):
            yield from list(each.messages.values())

    # ---- permissions ----

    def bot_permissions(self, channel: Channel) -> int:
        """Return what the bot may do in a channel."""
        if channel.guild is None:
            return rules.MEMBER if self.bot.id in channel.people else 0
        return rules.MEMBER & ~channel.bot_lacks if channel.guild.installed else 0

    def member_permissions(self, channel: Channel, account: Account) -> int:
        """Return what a person may do in a channel."""
        manager = channel.guild is not None and (
            account.id in channel.guild.managers or account.id == channel.guild.owner
        )
        return rules.MEMBER | (rules.MANAGE_GUILD | rules.MANAGE_MESSAGES if manager else 0)

    def _need(self, channel: Channel, permission: int) -> None:
        allowed = self.bot_permissions(channel)
        if not allowed & rules.VIEW_CHANNEL:
            raise Refusal(403, 50001, "Missing Access")
        if allowed & permission != permission:
            raise Refusal(403, 50013, "Missing Permissions")

    # ---- wire forms that need the whole world ----

    def member_wire(self, guild: Guild, account: Account, *, user: bool = True) -> Json:
        """Return a guild member object."""
        wire: Json = {"roles": [], "joined_at": "2024-01-01T00:00:00+00:00", "deaf": False, "mute": False, "flags": 0,
                      "pending": guild.members.get(account.id, {}).get("pending", False), "nick": None, "avatar": None,
                      "premium_since": None, "communication_disabled_until": None}  # fmt: skip
        return wire | ({"user": account.wire()} if user else {})

    def guild_wire(self, guild: Guild) -> Json:
        """Return the object of GUILD_CREATE."""
        role = {"id": str(guild.id), "name": "@everyone", "permissions": str(rules.MEMBER), "position": 0, "color": 0,
                "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
                "hoist": False, "managed": False, "mentionable": False, "flags": 0}  # fmt: skip
        tier = {25: 0, 10: 0, 50: 2, 100: 3}.get(guild.file_limit // MIB, 0)
        return {
            "id": str(guild.id), "name": guild.name, "owner_id": str(guild.owner), "icon": None, "splash": None,
            "discovery_splash": None, "afk_channel_id": None, "afk_timeout": 60, "verification_level": 1,
            "default_message_notifications": 0, "explicit_content_filter": 0, "roles": [role], "emojis": [],
            "features": [], "mfa_level": 0, "system_channel_id": None, "system_channel_flags": 0,
            "rules_channel_id": None, "vanity_url_code": None, "description": None, "banner": None,
            "premium_tier": tier, "preferred_locale": guild.locale, "public_updates_channel_id": None, "nsfw_level": 0,
            "stickers": [], "premium_progress_bar_enabled": False, "member_count": 2 + len(guild.members),
            "large": False, "unavailable": False, "joined_at": "2024-01-01T00:00:00+00:00", "threads": [],
            "voice_states": [], "presences": [], "stage_instances": [], "guild_scheduled_events": [],
            "soundboard_sounds": [], "members": [self.member_wire(guild, self.bot)],
            "channels": [c.wire(self.bot) for c in guild.channels.values()],
        }  # fmt: skip

    def message_wire(self, message: Message) -> Json:
        """Return a message as the bot, without the content intent, may read it."""
        own = message.author.id == self.bot.id
        private = message.channel.guild is None
        return message.wire(self, hidden=not (own or private or self.bot.id in message.mentions))

    # ---- gateway ----

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": 20_000}})
        session: Session | None = None
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                continue
            packet = json.loads(frame.data)
            if packet["op"] == 1:
                # The library's thread that beats notes the time after sending; an answer that comes sooner, which only
                # loopback can give, looks to it as if it belonged to the beat before ("20.0s behind").
                await asyncio.sleep(0.05)
                await socket.send_json({"op": 11})
            elif packet["op"] == 2:
                session = await self._identify(socket, packet["d"])
            elif packet["op"] == 6:
                session = await self._resume(socket, packet["d"])
        if session is not None and session.socket is socket:
            session.socket = None
        return socket

    async def _identify(self, socket: web.WebSocketResponse, data: Json) -> Session | None:
        self.identifies += 1
        if data["token"] != TOKEN:
            await socket.close(code=4004)
            return None
        if data["intents"] & rules.PRIVILEGED_INTENTS:
            self.violations.append(f"privileged intents {data['intents'] & rules.PRIVILEGED_INTENTS:#x}")
            await socket.close(code=4014)
            return None
        shard = tuple(data.get("shard") or (0, 1))
        self._sessions = {key: s for key, s in self._sessions.items() if s.shard != shard}
        session = Session(data["intents"], shard)
        session.socket = socket
        self._sessions[session.id] = session
        guilds = [g for g in self.guilds.values() if g.installed and (g.id >> 22) % shard[1] == shard[0]]
        await session.push(
            "READY",
            {"v": 10, "user": self.bot.wire() | {"verified": True, "email": None, "mfa_enabled": False},
             "guilds": [{"id": str(g.id), "unavailable": True} for g in guilds], "session_id": session.id,
             "resume_gateway_url": self.url.replace("http", "ws") + "/gateway", "shard": list(shard),
             "application": {"id": str(self.application), "flags": 0}},
        )  # fmt: skip
        for guild in guilds:
            await session.push("GUILD_CREATE", self.guild_wire(guild))
        await self._notify()
        return session

    async def _resume(self, socket: web.WebSocketResponse, data: Json) -> Session | None:
        session = self._sessions.get(data["session_id"])
        if session is None or data["seq"] > len(session.events):
            await socket.send_json({"op": 9, "d": False})
            return None
        self.resumes += 1
        session.socket = socket
        seen = max(0, data["seq"] - self.replay_extra)
        for event in session.events[seen:]:
            if event["t"] != "READY":
                await session.send(event)
        await session.push("RESUMED", {})
        await self._notify()
        return session

    @property
    def connected(self) -> bool:
        """Whether the bot listens."""
        return any(s.socket is not None and not s.socket.closed for s in self._sessions.values())

    async def dispatch(
        self, name: str, data: Json, *, intent: int = 0, guild: Guild | None = None, times: int = 1
    ) -> None:
        """Send an event to the shard it concerns, if that shard asked for it; ``times`` > 1 sends duplicates."""
        for session in list(self._sessions.values()):
            number, shards = session.shard
            mine = (guild.id >> 22) % shards == number if guild else number == 0
            if mine and session.intents & intent == intent:
                for _ in range(times):
                    await session.push(name, data)
        await self._notify()

    async def drop(self, code: int = 4000) -> None:
        """Cut the bot's sockets; it may resume."""
        for session in self._sessions.values():
            if session.socket is not None:
                socket, session.socket = session.socket, None
                await socket.close(code=code)

    async def ask_reconnect(self) -> None:
        """Send op 7: reconnect and resume, please."""
        for session in self._sessions.values():
            await session.send({"op": 7, "d": None})

    async def invalidate(self) -> None:
        """Send op 9 and forget the sessions: the bot has to identify anew and has missed what happened meanwhile."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.send({"op": 9, "d": False})

    # ---- CDN ----

    async def _cdn(self, request: web.Request) -> web.Response:
        attachment = self.attachments.get(int(request.match_info["number"]))
        if attachment is None:
            raise web.HTTPNotFound
        if int(request.query.get("ex", "0"), 16) < self.clock.now():
            raise web.HTTPForbidden(text="This content is no longer available.")
        await self._answer_held(request.method, request.path)
        return web.Response(body=attachment.data, content_type=attachment.content_type)

    def store(self, channel: Channel, filename: str, data: bytes, **more: Any) -> Attachment:
        """Put a file on the CDN."""
        attachment = Attachment(self.clock.snowflake(), channel.id, filename, data, **more)
        self.attachments[attachment.id] = attachment
        return attachment

    # ---- REST ----

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        self.requests.append((request.method, path))
        for fault in list(self._faults):
            carries = request.content_type.startswith("multipart/") or not fault[2]
            if fault[0] == request.method and fault[1].search(path) and carries:
                self._faults.remove(fault)
                self.faulted.append(path)
                await request.read()
                return fault[3]()
        headers, wait = self._take_token(request.method, path)
        if wait:
            await request.read()
            body = {"message": "You are being rate limited.", "retry_after": wait, "global": False}
            return _json(body, status=429, headers=headers | {"Via": "1.1 stand-in"})
        try:
            body, files = await self._body(request)
            interaction = re.match(r"^/(interactions|webhooks)/", path)
            if not interaction and request.headers.get("Authorization") != f"Bot {TOKEN}":
                raise Refusal(401, 0, "401: Unauthorized")
            if body is not None and self.openapi is not None:
                self.openapi.check(request.method, path, body)
            answer = await self._route(request.method, path, body, files, request.query)
        except Refusal as refusal:
            if refusal.status == 400 or refusal.code in (10062, 40060):
                self.violations.append(f"{request.method} {path}: {refusal}")
            return _json(refusal.body(), status=refusal.status, headers=headers)
        finally:
            await self._notify()
        await self._answer_held(request.method, path)
        if answer is None:
            return web.Response(status=204, headers=headers)
        return _json(answer, headers=headers)

    async def _answer_held(self, method: str, path: str) -> None:
        if any(method == held and pattern.search(path) for held, pattern in self._held):
            await self._healed.wait()

    def _take_token(self, method: str, path: str) -> tuple[dict[str, str], float]:
        """Return rate limit headers, and how long to wait if the bucket is empty."""
        for known, pattern, limit, window in BUCKETS if self.rate_limits else ():
            match = pattern.search(path)
            if known in (method, "*") and match:
                name = f"{known} {pattern.pattern}"
                taken = self._buckets[name, match[1]]
                now = time.monotonic()
                while taken and taken[0] <= now - window:
                    taken.popleft()
                after = round(taken[0] + window - now, 3) if taken else window
                full = len(taken) >= limit
                if not full:
                    taken.append(now)
                headers = {
                    "X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(limit - len(taken)),
                    "X-RateLimit-Reset-After": str(after), "X-RateLimit-Reset": str(time.time() + after),
                    "X-RateLimit-Bucket": f"{abs(hash(name)):x}",
                }  # fmt: skip
                return headers, after if full else 0.0
        return {}, 0.0

    async def _body(self, request: web.Request) -> tuple[Any, dict[str, bytes]]:
        if request.content_type.startswith("multipart/"):
            files = await rules.read_form(request)
            body = json.loads(files.pop("payload_json"))
            declared = {str(a["id"]) for a in (body.get("data") or body).get("attachments") or ()}
            if not {key[6:-1] for key in files} <= declared:
                raise rules.invalid("attachments", f"{sorted(files)} are not all declared in {sorted(declared)}")
            return body, files
        data = await request.read()
        return (json.loads(data) if data else None), {}

    async def _route(self, method: str, path: str, body: Any, files: dict[str, bytes], query: Any) -> Any:
        for known, pattern, handler in self._ROUTES:
            if known == method and (match := re.fullmatch(pattern, path)):
                arguments = [int(g) if g.isdecimal() else g for g in match.groups()]
                return await handler(self, *arguments, body=body, files=files, query=query)
        raise Refusal(404, 0, f"404: Not Found ({method} {path})")

    def _channel(self, number: int) -> Channel:
        if number not in self.channels:
            raise Refusal(404, 10003, "Unknown Channel")
        return self.channels[number]

    def _message(self, channel: Channel, number: int) -> Message:
        message = channel.messages.get(number)
        if message is None or message.ephemeral:
            raise Refusal(404, 10008, "Unknown Message")
        return message

    async def _me(self, **_: Any) -> Json:
        return self.bot.wire() | {"verified": True, "mfa_enabled": False, "flags": 0}

    async def _application(self, **_: Any) -> Json:
        return {"id": str(self.application), "name": "Ganvas", "icon": None, "description": "", "bot_public": True,
                "bot_require_code_grant": False, "verify_key": "0" * 64, "flags": 0, "summary": "",
                "owner": self.accounts[next(iter(self.guilds.values())).owner].wire() if self.guilds else None,
                "team": None}  # fmt: skip

    async def _bot_gateway(self, **_: Any) -> Json:
        limits = {"total": 1000, "remaining": 999, "reset_after": 86400000, "max_concurrency": self.shards}
        url = self.url.replace("http", "ws") + "/gateway"
        return {"url": url, "shards": self.shards, "session_start_limit": limits}

    async def _put_commands(self, _app: int, *, body: list[Json], **_: Any) -> list[Json]:
        rules.check_commands(body)
        now = self.clock.now()
        old = {(c.get("type", 1), c["name"]): c for c in self.commands}
        self._created = [at for at in self._created if at > now - 86400]
        self._created += [now] * sum((c.get("type", 1), c["name"]) not in old for c in body)
        if len(self._created) > rules.COMMANDS_A_DAY:
            raise Refusal(429, 30034, "Max number of daily application command creates has been reached (200)")
        fixed = {"application_id": str(self.application), "version": "1"}
        numbers = {key: c["id"] for key, c in old.items()}
        self.commands = [
            {"type": 1, "description": "", **c, **fixed,
             "id": numbers.get((c.get("type", 1), c["name"])) or str(self.clock.snowflake())}
            for c in body
        ]  # fmt: skip
        self.command_writes += 1
        return self.commands

    async def _get_commands(self, _app: int, **_: Any) -> list[Json]:
        return self.commands

    async def _get_channel(self, number: int, **_: Any) -> Json:
        channel = self._channel(number)
        self._need(channel, 0)
        return channel.wire(self.bot)

    async def _open_dm(self, *, body: Json, **_: Any) -> Json:
        account = self.accounts[int(body["recipient_id"])]
        return self.dm(account).wire(self.bot) | {"recipients": [account.wire()]}

    async def _list_messages(self, number: int, *, query: Any, **_: Any) -> list[Json]:
        channel = self._channel(number)
        self._need(channel, rules.READ_HISTORY)
        low, high = int(query.get("after", 0)), int(query.get("before", 1 << 63))
        found = [m for key, m in sorted(channel.messages.items()) if low < key < high and not m.ephemeral]
        limit = int(query.get("limit", 50))
        page = found[:limit] if "after" in query else found[-limit:]
        return [self.message_wire(m) for m in reversed(page)]

    async def _get_message(self, number: int, message: int, **_: Any) -> Json:
        channel = self._channel(number)
        self._need(channel, rules.READ_HISTORY)
        return self.message_wire(self._message(channel, message))

    def _take_files(
        self, channel: Channel, body: Json, files: dict[str, bytes], *, ephemeral: bool
    ) -> list[Attachment]:
        taken = []
        for entry in body.get("attachments") or ():
            data = files.get(f"files[{entry['id']}]")
            if data is not None:
                taken.append(
                    self.store(
                        channel, entry["filename"], data, description=entry.get("description"), ephemeral=ephemeral
                    )
                )
        return taken

    def _apply(self, message: Message, body: Json, files: dict[str, bytes], limit: int) -> None:
        """Edit ``message`` as a PATCH does: what is not named stays."""
        rules.check_message(body, files, limit, new=False)
        self._watch_mentions(body)
        if message.flags & rules.COMPONENTS_V2 and (body.get("content") or body.get("embeds")):
            raise rules.invalid("content", "cannot be used with the components v2 flag")
        if "content" in body:
            message.content = body["content"] or ""
        if "embeds" in body:
            message.embeds = [{"type": "rich", **embed} for embed in body["embeds"] or []]
        if "components" in body:
            message.components = body["components"] or []
        if body.get("flags"):
            message.flags |= body["flags"] & rules.COMPONENTS_V2
        new = self._take_files(message.channel, body, files, ephemeral=message.ephemeral)
        if body.get("attachments") is not None:
            kept = {str(entry["id"]) for entry in body["attachments"]}
            message.attachments = [a for a in message.attachments if str(a.id) in kept]
        message.attachments += new
        if not message.loading:
            message.edited = self.clock.iso()
        message.flags &= ~rules.LOADING
        message.edits.append(self.clock.now())

    def _new_message(
        self, channel: Channel, body: Json, files: dict[str, bytes], limit: int, *, flags: int = 0, **more: Any
    ) -> Message:
        rules.check_message(body, files, limit, new=True)
        self._watch_mentions(body)
        flags |= (body.get("flags") or 0) & (rules.EPHEMERAL | rules.COMPONENTS_V2)
        message = Message(
            self.clock.snowflake(), channel, self.bot, body.get("content") or "",
            embeds=[{"type": "rich", **embed} for embed in body.get("embeds") or []],
            components=body.get("components") or [], flags=flags, created=self.clock.now(), **more,
        )  # fmt: skip
        message.attachments = self._take_files(channel, body, files, ephemeral=message.ephemeral)
        channel.messages[message.id] = message
        return message

    def _watch_mentions(self, body: Json) -> None:
        text = body.get("content") or ""
        allowed = body.get("allowed_mentions")
        if re.search(r"<@[!&]?\d+>|@everyone|@here", text) and (allowed is None or allowed.get("parse") != []):
            self.mentioning.append(text)

    async def _announce(self, name: str, message: Message) -> None:
        if message.ephemeral or not self.bot_permissions(message.channel) & rules.VIEW_CHANNEL:
            return
        guild = message.channel.guild
        intent = rules.GUILD_MESSAGES if guild else rules.DM_MESSAGES
        wire = self.message_wire(message)
        if guild:
            wire |= {"guild_id": str(guild.id), "member": self.member_wire(guild, message.author, user=False)}
        await self.dispatch(name, wire, intent=intent, guild=guild)

    async def _create_message(self, number: int, *, body: Json, files: dict[str, bytes], **_: Any) -> Json:
        channel = self._channel(number)
        self._need(channel, rules.SEND_MESSAGES | (rules.ATTACH_FILES if files else 0))
        nonce = str(body["nonce"]) if body.get("nonce") is not None else None
        if nonce is not None and body.get("enforce_nonce"):
            recent = self.clock.now() - 300
            for message in channel.messages.values():
                if message.nonce == nonce and message.author is self.bot and message.created > recent:
                    return self.message_wire(message)
        limit = channel.guild.file_limit if channel.guild else 10 * MIB
        message = self._new_message(
            channel, body, files, limit, nonce=nonce, reference=body.get("message_reference") or None
        )
        await self._announce("MESSAGE_CREATE", message)
        return self.message_wire(message)

    async def _edit_message(self, number: int, target: int, *, body: Json, files: dict[str, bytes], **_: Any) -> Json:
        channel = self._channel(number)
        self._need(channel, rules.ATTACH_FILES if files else 0)
        message = self._message(channel, target)
        if message.author is not self.bot:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        self._apply(message, body, files, channel.guild.file_limit if channel.guild else 10 * MIB)
        await self._announce("MESSAGE_UPDATE", message)
        return self.message_wire(message)

    async def _delete_message(self, number: int, target: int, **_: Any) -> None:
        channel = self._channel(number)
        message = self._message(channel, target)
        self._need(channel, 0 if message.author is self.bot else rules.MANAGE_MESSAGES)
        await self.remove(message)

    async def remove(self, *messages: Message) -> None:
        """Delete messages, as a moderator does; several at once make a bulk event."""
        channel = messages[0].channel
        for message in messages:
            channel.messages.pop(message.id, None)
        guild = channel.guild
        where = {"channel_id": str(channel.id)} | ({"guild_id": str(guild.id)} if guild else {})
        intent = rules.GUILD_MESSAGES if guild else rules.DM_MESSAGES
        if any(m.ephemeral for m in messages):
            return
        if len(messages) == 1:
            await self.dispatch("MESSAGE_DELETE", where | {"id": str(messages[0].id)}, intent=intent, guild=guild)
        else:
            ids = [str(m.id) for m in messages]
            await self.dispatch("MESSAGE_DELETE_BULK", where | {"ids": ids}, intent=intent, guild=guild)

    # ---- reactions ----

    def _reaction_event(self, message: Message, emoji: str, user: Account | None, kind: str) -> Json:
        data: Json = {"channel_id": str(message.channel.id), "message_id": str(message.id)}
        if message.channel.guild:
            data["guild_id"] = str(message.channel.guild.id)
        if emoji:
            data |= {"emoji": emoji_wire(emoji), "burst": kind == "burst", "type": int(kind == "burst")}
        if user is not None:
            data["user_id"] = str(user.id)
        return data

    async def react(self, message: Message, user: Account, emoji: str, *, kind: str = "normal", times: int = 1) -> None:
        """Add somebody's reaction and tell the bot, ``times`` times."""
        users = message.reactions.setdefault(emoji, {}).setdefault(kind, [])
        if user.id in users:
            return
        users.append(user.id)
        data = self._reaction_event(message, emoji, user, kind) | {"message_author_id": str(message.author.id)}
        guild = message.channel.guild
        if guild:
            data["member"] = self.member_wire(guild, user)
        await self._react_event("MESSAGE_REACTION_ADD", message, data, times)

    async def unreact(
        self, message: Message, user: Account, emoji: str, *, kind: str = "normal", times: int = 1
    ) -> None:
        """Take somebody's reaction away and tell the bot."""
        users = message.reactions.get(emoji, {}).get(kind, [])
        if user.id in users:
            users.remove(user.id)
            data = self._reaction_event(message, emoji, user, kind)
            await self._react_event("MESSAGE_REACTION_REMOVE", message, data, times)

    async def clear_reactions(self, message: Message, emoji: str | None = None) -> None:
        """Clear all reactions, or those of one emoji, as a moderator does."""
        if emoji is None:
            message.reactions.clear()
            data = self._reaction_event(message, "", None, "normal")
            await self._react_event("MESSAGE_REACTION_REMOVE_ALL", message, data, 1)
        else:
            message.reactions.pop(emoji, None)
            data = self._reaction_event(message, emoji, None, "normal")
            await self._react_event("MESSAGE_REACTION_REMOVE_EMOJI", message, data, 1)

    async def _react_event(self, name: str, message: Message, data: Json, times: int) -> None:
        guild = message.channel.guild
        if message.ephemeral or not self.bot_permissions(message.channel) & rules.VIEW_CHANNEL:
            return
        intent = rules.GUILD_REACTIONS if guild else rules.DM_REACTIONS
        await self.dispatch(name, data, intent=intent, guild=guild, times=times)

    async def _add_reaction(self, number: int, target: int, emoji: str, **_: Any) -> None:
        channel = self._channel(number)
        message = self._message(channel, target)
        self._need(channel, rules.READ_HISTORY | (0 if message.reactions.get(emoji) else rules.ADD_REACTIONS))
        if emoji.isascii() and ":" not in emoji:
            raise Refusal(400, 10014, "Unknown Emoji")
        await self.react(message, self.bot, emoji)

    async def _remove_reaction(self, number: int, target: int, emoji: str, who: int | str, **_: Any) -> None:
        channel = self._channel(number)
        message = self._message(channel, target)
        account = self.bot if who == "@me" else self.accounts[int(who)]
        self._need(channel, 0 if account is self.bot else rules.MANAGE_MESSAGES)
        await self.unreact(message, account, emoji)

    async def _reaction_users(self, number: int, target: int, emoji: str, *, query: Any, **_: Any) -> list[Json]:
        channel = self._channel(number)
        self._need(channel, rules.READ_HISTORY)
        message = self._message(channel, target)
        kind = "burst" if query.get("type") == "1" else "normal"
        users = sorted(message.reactions.get(emoji, {}).get(kind, []))
        after = int(query.get("after", 0))
        limit = min(100, int(query.get("limit", 25)))
        return [self.accounts[u].wire() for u in users if u > after][:limit]

    # ---- interactions ----

    async def interact(
        self, kind: int, user: Account, channel: Channel, data: Json, *, message: Message | None = None,
        user_install: bool = False, file_limit: int | None = None, times: int = 1,
    ) -> Interaction:  # fmt: skip
        """Send an interaction to the bot; ``times`` > 1 delivers the very same event again."""
        guild = channel.guild
        by_guild = guild is not None and guild.installed and not user_install
        member = self.bot.id in channel.people
        limit = file_limit or (guild.file_limit if guild and guild.installed else 10 * MIB)
        interaction = Interaction(
            self.clock.snowflake(), secrets.token_urlsafe(24), kind, user, channel, self.clock.now(), time.monotonic(),
            limit, by_guild or member, data, message,
        )  # fmt: skip
        self.interactions[interaction.token] = interaction
        owners = {str(BY_GUILD): str(guild.id if guild else 0)} if by_guild or member else {}
        if user_install or not owners:
            owners[str(BY_USER)] = str(user.id)
        context = IN_GUILD if guild else IN_BOT_DM if member else IN_PRIVATE
        wire: Json = {
            "id": str(interaction.id), "application_id": str(self.application), "type": kind, "data": data,
            "token": interaction.token, "version": 1, "locale": user.locale, "context": context,
            "channel_id": str(channel.id), "entitlements": [], "attachment_size_limit": limit,
            "authorizing_integration_owners": owners,
            "app_permissions": str(self.bot_permissions(channel) or rules.MEMBER),
            "channel": channel.wire(self.bot) | {"permissions": str(self.member_permissions(channel, user))},
        }  # fmt: skip
        if guild:
            permissions = {"permissions": str(self.member_permissions(channel, user))}
            wire |= {"guild_id": str(guild.id), "guild_locale": guild.locale,
                     "guild": {"id": str(guild.id), "locale": guild.locale, "features": []},
                     "member": self.member_wire(guild, user) | permissions}  # fmt: skip
        else:
            wire["user"] = user.wire()
        if message is not None:
            wire["message"] = message.wire(self)
        if self._telling is not None:
            await self._telling  # the gateway tells of a new channel before it is used
        await self.dispatch("INTERACTION_CREATE", wire, guild=guild if by_guild else None, times=times)
        return interaction

    async def _callback(
        self, number: int, token: str, *, body: Json, files: dict[str, bytes], query: Any, **_: Any
    ) -> Json | None:
        interaction = self.interactions.get(str(token))
        if interaction is None or interaction.id != number:
            raise Refusal(404, 10062, "Unknown interaction")
        if interaction.answered is not None:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        waited = time.monotonic() - interaction.born
        if waited > self.answer_within:
            interaction.late = True
            raise Refusal(404, 10062, f"Unknown interaction (answered after {waited:.1f} s)")
        kind, data = body["type"], body.get("data") or {}
        allowed = {2: (4, 5, 9), 3: (4, 5, 6, 7, 9), 4: (8,), 5: (4, 5, 6, 7)}[interaction.kind]
        if kind not in allowed:
            raise rules.invalid("type", f"{kind} is no answer to an interaction of type {interaction.kind}")
        flags = (data.get("flags") or 0) & rules.EPHEMERAL
        metadata = {"id": str(interaction.id), "type": interaction.kind, "user": interaction.user.wire(),
                    "authorizing_integration_owners": {}}  # fmt: skip
        if kind == 4:
            interaction.original = self._new_message(
                interaction.channel, data, files, interaction.file_limit, metadata=metadata, webhook=True
            )
        elif kind == 5:
            interaction.original = Message(
                self.clock.snowflake(), interaction.channel, self.bot, flags=flags | rules.LOADING,
                created=self.clock.now(), metadata=metadata, webhook=True,
            )  # fmt: skip
            interaction.channel.messages[interaction.original.id] = interaction.original
        elif kind in (6, 7):
            interaction.original = interaction.message
            if kind == 7 and interaction.message is not None:
                self._apply(interaction.message, data, files, interaction.file_limit)
        elif kind == 8:
            choices = data.get("choices") or []
            if len(choices) > 25 or any(not 1 <= len(str(c["name"])) <= 100 for c in choices):
                raise rules.invalid("choices", "at most 25 choices of 1 to 100 characters")
            interaction.choices = choices
        elif kind == 9:
            rules.check_components(data["components"], v2=True)
            interaction.modal = data
        interaction.answered, interaction.waited = kind, waited
        interaction.settled.set()
        if query.get("with_response") not in ("1", "true"):
            return None
        original = interaction.original
        about: Json = {"id": str(interaction.id), "type": interaction.kind}
        if original is not None:
            about |= {"response_message_id": str(original.id), "response_message_loading": original.loading,
                      "response_message_ephemeral": original.ephemeral}  # fmt: skip
        answer: Json = {"interaction": about}
        if original is not None and kind in (4, 5, 7):
            answer["resource"] = {"type": kind, "message": original.wire(self)}
        return answer

    def _by_token(self, token: str) -> Interaction:
        interaction = self.interactions.get(token)
        if interaction is None or interaction.answered is None:
            raise Refusal(404, 10015, "Unknown Webhook")
        if self.clock.now() - interaction.created > rules.TOKEN_LIVES:
            raise Refusal(401, 50027, "Invalid Webhook Token")
        return interaction

    def _webhook_message(self, interaction: Interaction, which: int | str) -> Message:
        mine = [m for m in (interaction.original, *interaction.followups) if m is not None]
        for message in mine:
            if which == "@original" or message.id == which:
                if message.id in message.channel.messages:
                    return message
                break
        raise Refusal(404, 10008, "Unknown Message")

    async def _webhook_get(self, _app: int, token: str, which: int | str, **_: Any) -> Json:
        return self._webhook_message(self._by_token(token), which).wire(self)

    async def _webhook_edit(
        self, _app: int, token: str, which: int | str, *, body: Json, files: dict[str, bytes], **_: Any
    ) -> Json:
        interaction = self._by_token(token)
        message = self._webhook_message(interaction, which)
        self._apply(message, body, files, interaction.file_limit)
        await self._announce("MESSAGE_UPDATE", message)
        return message.wire(self)

    async def _webhook_delete(self, _app: int, token: str, which: int | str, **_: Any) -> None:
        await self.remove(self._webhook_message(self._by_token(token), which))

    async def _followup(self, _app: int, token: str, *, body: Json, files: dict[str, bytes], **_: Any) -> Json:
        interaction = self._by_token(token)
        original = interaction.original
        if original is not None and original.loading:  # the first follow-up of a "thinking" answer replaces it
            self._apply(original, body, files, interaction.file_limit)
            return original.wire(self)
        if not interaction.by_guild and len(interaction.followups) >= rules.FOLLOWUPS:
            raise Refusal(400, 40094, "Interaction has reached its maximum number of follow-up messages")
        message = self._new_message(interaction.channel, body, files, interaction.file_limit, webhook=True)
        interaction.followups.append(message)
        await self._announce("MESSAGE_CREATE", message)
        return message.wire(self)

    _ROUTES: ClassVar[list[tuple[str, str, Any]]] = [
        ("GET", r"/users/@me", _me),
        ("GET", r"/(?:oauth2/)?applications/@me", _application),
        ("GET", r"/gateway/bot", _bot_gateway),
        ("POST", r"/users/@me/channels", _open_dm),
        ("PUT", r"/applications/(\d+)/commands", _put_commands),
        ("GET", r"/applications/(\d+)/commands", _get_commands),
        ("GET", r"/channels/(\d+)", _get_channel),
        ("GET", r"/channels/(\d+)/messages", _list_messages),
        ("POST", r"/channels/(\d+)/messages", _create_message),
        ("GET", r"/channels/(\d+)/messages/(\d+)", _get_message),
        ("PATCH", r"/channels/(\d+)/messages/(\d+)", _edit_message),
        ("DELETE", r"/channels/(\d+)/messages/(\d+)", _delete_message),
        ("GET", r"/channels/(\d+)/messages/(\d+)/reactions/([^/]+)", _reaction_users),
        ("PUT", r"/channels/(\d+)/messages/(\d+)/reactions/([^/]+)/@me", _add_reaction),
        ("DELETE", r"/channels/(\d+)/messages/(\d+)/reactions/([^/]+)/([^/]+)", _remove_reaction),
        ("POST", r"/interactions/(\d+)/([^/]+)/callback", _callback),
        ("GET", r"/webhooks/(\d+)/([^/]+)/messages/([^/]+)", _webhook_get),
        ("PATCH", r"/webhooks/(\d+)/([^/]+)/messages/([^/]+)", _webhook_edit),
        ("DELETE", r"/webhooks/(\d+)/([^/]+)/messages/([^/]+)", _webhook_delete),
        ("POST", r"/webhooks/(\d+)/([^/]+)", _followup),
    ]  # fmt: skip
