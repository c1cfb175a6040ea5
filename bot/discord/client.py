"""The bot on Discord: connection, intents, cogs, answers and errors.  Truth lives in the studio."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import aiohttp
import discord
from discord import app_commands
from discord.ext import commands

from bot.config import Settings
from bot.discord import buttons, platform
from bot.discord.counts import Counts
from bot.discord.delivery import DiscordDeliverer
from bot.discord.people import PLATFORM, guild_key, member_of
from bot.discord.progress import Progress
from bot.discord.texts import Translator, Voice, language_of
from bot.discord.thinking import Thinking
from bot.studio import Artwork, Studio
from bot.studio.vocabulary import art_styles_of
from engine.errors import GanvasError

log = logging.getLogger(__name__)

COGS = (
    "stylize", "paint", "morph", "gallery", "duel", "apprentice", "queue", "votes", "showcase", "settings", "admin",
    "privacy", "help",
)  # fmt: skip
REMEMBERED = 4096  # interactions, to know a second delivery of the same event by
GRACE = 2.0  # s from the appearance of a message of ours until we have noted what it shows
READY_AFTER = 0.5  # s without a further guild


class Tree(app_commands.CommandTree["Ganvas"]):
    """The commands, each event obeyed once, mistakes told in a sentence."""

    async def interaction_check(self, interaction: discord.Interaction[Ganvas]) -> bool:
        """Drop an event that the gateway delivers a second time."""
        return interaction.client.first_time(interaction)

    async def on_error(self, interaction: discord.Interaction[Ganvas], error: app_commands.AppCommandError) -> None:
        """Tell the person what went wrong."""
        await interaction.client.tell_mistake(interaction, error)


class Ganvas(commands.AutoShardedBot):
    """The bot.  No privileged intent: it reads only what is addressed to it."""

    def __init__(self, studio: Studio, settings: Settings) -> None:
        intents = discord.Intents.none()
        intents.guilds = intents.guild_messages = intents.dm_messages = True
        intents.guild_reactions = intents.dm_reactions = True
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            tree_cls=Tree,
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            allowed_contexts=app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=True),
            allowed_installs=app_commands.AppInstallationType(guild=True, user=True),
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            guild_ready_timeout=READY_AFTER,
        )
        for unread in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):  # what people write, and our own edits, is not even parsed
            self._connection.parsers.pop(unread)
        self.studio, self.settings = studio, settings
        self.progress = Progress(self)
        self.counts = Counts(self)
        self.thinking = Thinking(self)
        self.styles: tuple[str, ...] = ()  # names of styles and brushes, for autocomplete
        self.art_styles: tuple[str, ...] = ()  # what the painter in office learned, movements, then the same names
        self.private_members: set[str] = set()  # who wants works private by default; in RAM: first answers hurry
        self.morphing: dict[int, Artwork] = {}  # user -> the work chosen as the first stop of a morph
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    # Life

    async def setup_hook(self) -> None:
        """Prepare everything once, before the gateway opens."""
        await self.tree.set_translator(Translator())
        for name in COGS:
            await self.load_extension(f"bot.discord.cogs.{name}")
        self.add_dynamic_items(*buttons.ITEMS)
        self.private_members = await self.studio.policy.private_members()
        self.studio.queue.register("discord", DiscordDeliverer(self))
        self.background(self._know_styles(), "styles")
        self.background(self.counts.follow(), "counts")
        self.background(self.thinking.make_good(await self.studio.promises.owed()), "promised answers")
        await self._sync()

    def background(self, work: Any, name: str) -> None:
        """Run ``work`` beside everything else until the bot stops; its failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._background_ended)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("The task %s failed.", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Leave Discord; jobs go on when the bot is back."""
        for task in list(self._tasks):
            task.cancel()
        await self.progress.close()
        await super().close()

    async def _sync(self) -> None:
        """Register the commands, but only if they changed: Discord takes 200 creations a day."""
        translator = self.tree.translator
        assert translator is not None
        if self.settings.discord_dev_guild:
            guild = discord.Object(self.settings.discord_dev_guild)
            self.tree.copy_global_to(guild=guild)
            await self.tree.sync(guild=guild)
            return
        payload = [await c.get_translated_payload(self.tree, translator) for c in self.tree.get_commands()]
        text = json.dumps([self.application_id, payload], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        file = self.settings.data / "discord-commands.sha256"
        if await asyncio.to_thread(_read, file) != digest:
            await self.tree.sync()
            await asyncio.to_thread(_write, file, digest)
            log.info("Registered %d commands.", len(payload))

    async def _know_styles(self) -> None:
        """Keep the names that autocomplete offers in RAM."""
        while True:
            try:
                cards = await self.studio.models()
                names = [style["name"] for card in cards for style in card.get("styles", ())]
                brushes = [card["name"] for card in cards if card.get("kind") == "brush"]
                self.styles = tuple(dict.fromkeys([*names, *brushes]))
                self.art_styles = tuple(dict.fromkeys([*art_styles_of(cards), *self.styles]))
            except GanvasError as error:
                log.info("The engine's models are not known yet: %s", error)
            await asyncio.sleep(60 if self.styles else 2)

    # Where things are

    def webhook(self, token: str) -> discord.Webhook:
        """Return the means to edit what an interaction was answered with."""
        assert self.application_id is not None
        return discord.Webhook.partial(self.application_id, token, client=self)

    def message(self, channel: int, message: int) -> discord.PartialMessage:
        """Return a message by its ids, without asking Discord for it."""
        return self.get_partial_messageable(channel).get_partial_message(message)

    async def art_shown(self, message: int, author: int | None) -> str | None:
        """Return the work that a message shows, or None; a message of ours may be younger than our note of it."""
        art_id = await self.studio.gallery.art_of(PLATFORM, str(message))
        if art_id is None and self.user and author == self.user.id:
            await asyncio.sleep(GRACE)
            art_id = await self.studio.gallery.art_of(PLATFORM, str(message))
        return art_id

    # Answers

    def first_time(self, interaction: discord.Interaction[Any]) -> bool:
        """Whether this interaction is new; after a reconnection the gateway may deliver one again."""
        if interaction.id in self._seen:
            return False
        self._seen[interaction.id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def private_voice(self, interaction: discord.Interaction[Any]) -> Voice:
        """Return the language of the person, for what only they read."""
        return Voice(language_of(interaction.locale))

    async def voice(self, interaction: discord.Interaction[Any], *, private: bool) -> Voice:
        """Return the language to answer in: the person's, or in public the guild's."""
        if private or interaction.guild_id is None:
            chosen = (await self.studio.policy.preferences(member_of(interaction.user))).language
            return Voice(chosen) if chosen else self.private_voice(interaction)
        settings = await self.studio.policy.settings(guild_key(interaction.guild_id))
        return Voice(settings.language)

    async def begin(self, interaction: discord.Interaction[Any], *, private: bool) -> tuple[int, Voice]:
        """Answer at once with "thinking"; return the message this made, and the language to go on in."""
        await self.thinking.begins(interaction)
        answer = await interaction.response.defer(thinking=True, ephemeral=private)
        message = answer.message_id if answer is not None else None
        if message is None:
            message = (await interaction.original_response()).id
        return message, await self.voice(interaction, private=private)

    async def tell_mistake(self, interaction: discord.Interaction[Any], error: Exception) -> None:
        """Tell the person what went wrong, in one sentence; what nobody foresaw gets a number to ask the host about."""
        say = self.private_voice(interaction)
        sentence = self._sentence(error, say)
        if sentence is None:
            number = secrets.token_hex(3)
            cause = getattr(error, "original", error)
            log.error("Mistake %s in an interaction", number, exc_info=cause)
            sentence = say("Something went wrong here. Tell the host this number: {number}", number=number)
        try:
            if not interaction.response.is_done():
                await interaction.response.send_message(sentence[:2000], ephemeral=True)
            elif interaction.type is discord.InteractionType.application_command:
                await interaction.edit_original_response(content=sentence[:2000], view=None)
            else:
                await interaction.followup.send(sentence[:2000], ephemeral=True)
        except (discord.HTTPException, aiohttp.ClientError) as failure:
            log.warning("A mistake could not be told: %s", failure)
        else:
            await self.thinking.ends(interaction)

    @staticmethod
    def _sentence(error: Exception, say: Voice) -> str | None:
        causes = (error, getattr(error, "original", None), error.__cause__)
        for cause in causes:
            if isinstance(cause, GanvasError):
                return say.retell(cause)
        if isinstance(error, app_commands.TransformerError):
            return say("{value} cannot be used here; perhaps I cannot see it.", value=error.value)
        if isinstance(error, app_commands.CommandSignatureMismatch | app_commands.CommandNotFound):
            return say("The commands have just changed; please try again in a minute.")
        if isinstance(error, app_commands.MissingPermissions | app_commands.CheckFailure):
            return say("You need the permission Manage Server for that.")
        return None

    async def on_app_command_completion(self, interaction: discord.Interaction[Any], _: object) -> None:
        """Note that a command has given its answer."""
        await self.thinking.ends(interaction)

    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        """Answer what nothing else answers: windows of before a restart, buttons of another release."""
        if interaction.type not in (discord.InteractionType.component, discord.InteractionType.modal_submit):
            return
        await asyncio.sleep(1.5)
        if not interaction.response.is_done() and self.first_time(interaction):
            say = self.private_voice(interaction)
            await interaction.response.send_message(say("This is out of date; please begin again."), ephemeral=True)


def _read(file: Path) -> str | None:
    return file.read_text("ascii") if file.is_file() else None


def _write(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(text, "ascii")
    fresh.replace(file)


async def run(studio: Studio, settings: Settings) -> None:
    """Be on Discord until cancelled.

    Raises:
        GanvasError: Discord does not accept the token.
    """
    assert settings.discord_token is not None
    if settings.discord_api:
        platform.point_at(settings.discord_api)
    began = time.monotonic()
    async with Ganvas(studio, settings) as bot:

        async def on_ready() -> None:
            log.info("On Discord as %s after %.1f s.", bot.user, time.monotonic() - began)

        bot.add_listener(on_ready)
        try:
            await bot.start(settings.discord_token.get_secret_value())
        except discord.LoginFailure as error:
            raise GanvasError(
                "Discord does not accept DISCORD_TOKEN; copy it anew from the developer portal."
            ) from error
