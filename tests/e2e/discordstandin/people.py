"""Persons who use Discord: they type commands, press buttons, react, and read what came back.

A person behaves as the official client does: she cannot send a command that was not registered, an unknown option, a
value out of its range, or press a button that is not there.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from . import rules
from .rules import Json
from .server import StandIn
from .world import DM, IN_BOT_DM, IN_GUILD, IN_PRIVATE, Account, Channel, Interaction, Message

SUB_COMMAND, STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, NUMBER, ATTACHMENT = 1, 3, 4, 5, 6, 7, 8, 10, 11


class ClientRefuses(AssertionError):
    """The official client would not let a person do this."""


class InteractionFailed(AssertionError):
    """The person reads "The application did not respond"."""


class Answer:
    """What came of an interaction, as the person sees it."""

    def __init__(self, server: StandIn, interaction: Interaction) -> None:
        self.server, self.interaction = server, interaction

    @property
    def message(self) -> Message:
        """The first answer's message, as it looks now."""
        if self.interaction.original is None:
            raise AssertionError(f"The interaction was answered with type {self.interaction.answered}, not a message")
        return self.interaction.original

    @property
    def messages(self) -> list[Message]:
        """The answer's message and the follow-ups."""
        return [m for m in (self.interaction.original, *self.interaction.followups) if m is not None]

    @property
    def text(self) -> str:
        """All words of the answer and the follow-ups."""
        return "\n".join(m.text for m in self.messages)

    async def until(self, what: str = "", *, files: int = 0, within: float = 60) -> Message:
        """Wait until some message of the answer says ``what`` and shows ``files`` attachments; return it."""

        def found() -> Message | None:
            for message in self.messages:
                if what in message.text and not message.loading and len(message.attachments) >= files:
                    return message
            return None

        try:
            message: Message = await self.server.wait(found, f"{what!r} with {files} files", within)
        except AssertionError as error:
            raise AssertionError(f"{error} The answer says {self.text!r}.") from None
        return message


class Person:
    """Somebody with an account."""

    def __init__(self, server: StandIn, account: Account) -> None:
        self.server, self.account = server, account

    @property
    def id(self) -> int:
        """Snowflake of the account."""
        return self.account.id

    async def slash(
        self, channel: Channel, name: str, *, times: int = 1, user_install: bool = False, file_limit: int | None = None,
        wait: bool = True, **options: Any,
    ) -> Answer:  # fmt: skip
        """Send ``/name``; spaces reach sub-commands ("admin ban").  Files are ``(filename, bytes)``."""
        command, data = self._command(channel, name, user_install)
        resolved: Json = {}
        values = self._options(channel, command, options, resolved)
        self._place(data, values, resolved)
        interaction = await self.server.interact(
            2, self.account, channel, data, user_install=user_install, file_limit=file_limit, times=times
        )
        return await self._answered(interaction, wait)

    def _command(self, channel: Channel, name: str, user_install: bool) -> tuple[Json, Json]:
        head, *tail = name.split()
        command = next((c for c in self.server.commands if c["name"] == head and c["type"] == rules.CHAT), None)
        if command is None:
            raise ClientRefuses(f"/{head} is not registered; there are {[c['name'] for c in self.server.commands]}")
        self._may(command, channel, user_install)
        data: Json = {"id": command["id"], "name": head, "type": rules.CHAT, "options": []}
        for part in tail:
            found = next((o for o in command.get("options") or () if o["name"] == part and o["type"] < STRING), None)
            if found is None:
                raise ClientRefuses(f"/{name} is not registered")
            command = found
            data.setdefault("path", []).append((part, found["type"]))
        return command, data

    def _may(self, command: Json, channel: Channel, user_install: bool) -> None:
        context = IN_GUILD if channel.guild else IN_BOT_DM if self.server.bot.id in channel.people else IN_PRIVATE
        if context not in (command.get("contexts") or [0, 1, 2]):
            raise ClientRefuses(f"/{command['name']} is not offered in context {context}")
        if user_install and 1 not in (command.get("integration_types") or [0]):
            raise ClientRefuses(f"/{command['name']} cannot be installed by a user")
        needs = command.get("default_member_permissions")
        if needs and channel.kind != DM and not self.server.member_permissions(channel, self.account) & int(needs):
            raise ClientRefuses(f"/{command['name']} is hidden from {self.account.name}")

    @staticmethod
    def _place(data: Json, values: list[Json], resolved: Json) -> None:
        for part, kind in reversed(data.pop("path", [])):
            values = [{"name": part, "type": kind, "options": values}]
        data["options"] = values
        if resolved:
            data["resolved"] = resolved

    def _options(self, channel: Channel, command: Json, given: Json, resolved: Json) -> list[Json]:
        known = {option["name"]: option for option in command.get("options") or ()}
        for name in given:
            if name not in known:
                raise ClientRefuses(f"/{command['name']} has no option {name}; it has {sorted(known)}")
        for name, option in known.items():
            if option.get("required") and name not in given:
                raise ClientRefuses(f"/{command['name']} needs {name}")
        return [self._option(channel, known[name], value, resolved) for name, value in given.items()]

    def _option(self, channel: Channel, option: Json, value: Any, resolved: Json) -> Json:
        kind, name = option["type"], option["name"]
        choices = [choice["value"] for choice in option.get("choices") or ()]
        if choices and value not in choices:
            raise ClientRefuses(f"{name}={value!r} is not among the choices {choices}")
        if kind in (INTEGER, NUMBER) and not option.get("min_value", value) <= value <= option.get("max_value", value):
            raise ClientRefuses(f"{name}={value!r} lies outside of its range")
        if kind == ATTACHMENT:
            filename, data = value
            attachment = self.server.store(channel, filename, data, ephemeral=True)
            resolved.setdefault("attachments", {})[str(attachment.id)] = attachment.wire(self.server)
            value = str(attachment.id)
        elif kind == USER:
            account: Account = value.account
            resolved.setdefault("users", {})[str(account.id)] = account.wire()
            if channel.guild:
                member = self.server.member_wire(channel.guild, account, user=False) | {"permissions": "0"}
                resolved.setdefault("members", {})[str(account.id)] = member
            value = str(account.id)
        elif kind == CHANNEL:
            wire = value.wire(self.server.bot)
            resolved.setdefault("channels", {})[str(value.id)] = wire | {"permissions": str(rules.MEMBER)}
            value = str(value.id)
        kinds: dict[int, Any] = {INTEGER: int, BOOLEAN: bool, NUMBER: (int, float)}
        wanted = kinds.get(kind, str)
        if not isinstance(value, wanted):
            raise ClientRefuses(f"{name}={value!r} has the wrong type")
        return {"name": name, "type": kind, "value": value}

    async def _answered(self, interaction: Interaction, wait: bool = True) -> Answer:
        if wait:
            most = self.server.answer_within
            with suppress(TimeoutError):
                async with asyncio.timeout(interaction.born + most - time.monotonic()):
                    await interaction.settled.wait()
            if interaction.answered is None:
                raise InteractionFailed(f"No answer within {most:g} s to {interaction.data}")
        return Answer(self.server, interaction)

    async def type(self, channel: Channel, name: str, focused: str, text: str, **options: Any) -> list[Json]:
        """Type ``text`` into an option that completes itself; return the choices offered."""
        command, data = self._command(channel, name, False)
        resolved: Json = {}
        known = {option["name"]: option for option in command.get("options") or ()}
        if not known[focused].get("autocomplete"):
            raise ClientRefuses(f"{focused} does not complete itself")
        values = [self._option(channel, known[key], value, resolved) for key, value in options.items()]
        values.append({"name": focused, "type": known[focused]["type"], "value": text, "focused": True})
        self._place(data, values, resolved)
        interaction = await self.server.interact(4, self.account, channel, data)
        await self._answered(interaction)
        return interaction.choices or []

    async def menu(self, message: Message, name: str, *, user_install: bool = False) -> Answer:
        """Choose ``name`` in the context menu of a message."""
        command = next((c for c in self.server.commands if c["name"] == name and c["type"] == rules.MESSAGE_MENU), None)
        if command is None:
            raise ClientRefuses(f"There is no message command {name!r}")
        self._may(command, message.channel, user_install)
        resolved = {"messages": {str(message.id): message.wire(self.server)}}
        data = {"id": command["id"], "name": name, "type": rules.MESSAGE_MENU, "target_id": str(message.id),
                "resolved": resolved}  # fmt: skip
        interaction = await self.server.interact(2, self.account, message.channel, data, user_install=user_install)
        return await self._answered(interaction)

    async def press(
        self, message: Message, what: str, *, times: int = 1, wait: bool = True, values: list[str] | None = None
    ) -> Answer:
        """Press the button whose label, emoji or custom id holds ``what``, or choose ``values`` in a select."""
        for item in rules.components(message.components):
            label = (item.get("label") or "") + ((item.get("emoji") or {}).get("name") or "")
            if item["type"] in (2, 3, 5, 6, 7, 8) and what and (what in label or what in (item.get("custom_id") or "")):
                break
        else:
            raise ClientRefuses(f"There is no {what!r}; there are {[b.get('custom_id') for b in message.buttons]}")
        if item.get("disabled"):
            raise ClientRefuses(f"{what!r} is greyed out")
        data: Json = {"custom_id": item["custom_id"], "component_type": item["type"], "id": item.get("id", 1)}
        if values is not None:
            data["values"] = values
        interaction = await self.server.interact(3, self.account, message.channel, data, message=message, times=times)
        return await self._answered(interaction, wait)

    async def submit(self, answer: Answer, **fields: str) -> Answer:
        """Fill in the window that ``answer`` opened; keys are custom ids of its fields."""
        modal = answer.interaction.modal
        if modal is None:
            raise ClientRefuses("No window is open")
        rows = []
        for row in modal["components"]:
            inner = row.get("component") or row["components"][0]
            value = fields.pop(inner["custom_id"], inner.get("value") or "")
            if inner.get("required", True) and not value:
                raise ClientRefuses(f"{inner['custom_id']} must be filled in")
            filled: Json = {"type": inner["type"], "custom_id": inner["custom_id"], "id": 2}
            filled |= {"value": value} if inner["type"] == 4 else {"values": [value] if value else []}
            rows.append({"type": 18, "id": 1, "component": filled} if "component" in row else
                        {"type": 1, "id": 1, "components": [filled]})  # fmt: skip
        if fields:
            raise ClientRefuses(f"The window has no fields {sorted(fields)}")
        data = {"custom_id": modal["custom_id"], "components": rows}
        before = answer.interaction
        interaction = await self.server.interact(5, self.account, before.channel, data, message=before.message)
        return await self._answered(interaction)

    async def react(self, message: Message, emoji: str, *, burst: bool = False, times: int = 1) -> None:
        """Add a reaction, an ordinary or a super one."""
        kind = "burst" if burst else "normal"
        await self.server.react(message, self.account, emoji, kind=kind, times=times)

    async def unreact(self, message: Message, emoji: str, *, burst: bool = False, times: int = 1) -> None:
        """Take the reaction back."""
        kind = "burst" if burst else "normal"
        await self.server.unreact(message, self.account, emoji, kind=kind, times=times)

    async def say(self, channel: Channel, text: str, *files: tuple[str, bytes]) -> Message:
        """Write an ordinary message, with files."""
        message = Message(self.server.clock.snowflake(), channel, self.account, text, created=self.server.clock.now())
        message.attachments = [self.server.store(channel, name, data) for name, data in files]
        channel.messages[message.id] = message
        await self.server._announce("MESSAGE_CREATE", message)
        return message

    async def settle(self, seconds: float = 0.3) -> None:
        """Give the bot a moment in which nothing is expected to happen."""
        await asyncio.sleep(seconds)
