"""/stylize, and "Stylize" on anybody's picture."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.captions import title_of
from bot.discord.client import Ganvas
from bot.discord.options import check_photo, complete_style, read_photo, read_style
from bot.discord.people import guild_key, member_of
from bot.discord.wish import Wish
from bot.studio import Member
from engine.api import StylizeRequest
from engine.errors import InvalidRequest

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff")


class Stylize(commands.Cog):
    """Photos become paintings."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot
        self.menu = app_commands.ContextMenu(name="Stylize", callback=self.from_message)

    async def cog_load(self) -> None:
        """Context menus cannot be declared inside a class."""
        self.bot.tree.add_command(self.menu)

    async def cog_unload(self) -> None:
        """Take it away again."""
        self.bot.tree.remove_command(self.menu.name, type=self.menu.type)

    @app_commands.command(description="Paint over a photo in a style.")
    @app_commands.describe(
        photo="The photo to paint over",
        style="A style; a list appears while you type",
        style_image="Any picture to take the style from, instead",
        strength="0 keeps the photo, 100 is the full style",
        keep_colours="Keep the photo's own colours",
        private="Only you see the result",
    )
    @app_commands.autocomplete(style=complete_style)
    async def stylize(
        self,
        interaction: discord.Interaction[Ganvas],
        photo: discord.Attachment,
        style: str | None = None,
        style_image: discord.Attachment | None = None,
        strength: app_commands.Range[int, 0, 100] = 100,
        keep_colours: bool = False,
        private: bool | None = None,
    ) -> None:
        """Paint over a photo."""
        for upload in (photo, style_image):
            check_photo(upload, self.bot.settings.max_upload_bytes)
        wish = await Wish.begin(interaction, private)
        options = {
            "photo": await read_photo(photo),
            "style_image": await read_photo(style_image) if style_image else None,
            "strength": strength / 100,
            "keep_colours": keep_colours,
        }
        await self.submit(wish, options, style)

    async def submit(
        self, wish: Wish, options: dict[str, Any], style: str | None, photo_owner: Member | None = None
    ) -> None:
        """Ask for a photo in a style; in the server's own, or any, if none is named."""
        name = read_style(style, self.bot.styles)
        if name is None and options.get("style_image") is None:
            settings = await self.bot.studio.policy.settings(guild_key(wish.interaction.guild_id))
            name = settings.default_style or next(iter(self.bot.styles), None)
        await wish.submit(StylizeRequest(style=name, **options), photo_owner=photo_owner)

    async def from_message(self, interaction: discord.Interaction[Ganvas], message: discord.Message) -> None:
        """Stylize the picture of a message: asks for the style in a window."""
        pictures = [a for a in message.attachments if a.filename.lower().endswith(PICTURES)]
        if not pictures:
            raise InvalidRequest("There is no picture attached to that message.")
        check_photo(pictures[0], self.bot.settings.max_upload_bytes)
        await interaction.response.send_modal(Window(self, pictures[0], member_of(message.author)))


class Window(discord.ui.Modal):
    """Asks for the style of a picture that was chosen in the context menu."""

    def __init__(self, cog: Stylize, picture: discord.Attachment, owner: Member) -> None:
        # A window opens before anything is asked of the database, so it speaks the bot's English until it is sent.
        super().__init__(title="Stylize", custom_id=f"gan:1:stylize:{picture.id}")
        self.cog, self.picture, self.owner = cog, picture, owner
        styles = [discord.SelectOption(label=title_of(name)[:100], value=name) for name in cog.bot.styles[:25]]
        if styles:
            styles[0].default = True
        self.style: discord.ui.Select[Any] = discord.ui.Select(custom_id="style", options=styles, required=False)
        self.strength: discord.ui.TextInput[Any] = discord.ui.TextInput(
            custom_id="strength", default="100", max_length=3, required=False
        )
        if styles:
            self.add_item(discord.ui.Label(text="Style", component=self.style))
        self.add_item(discord.ui.Label(text="Strength, 0 to 100", component=self.strength))

    async def interaction_check(self, interaction: discord.Interaction[Ganvas], /) -> bool:  # type: ignore[override]
        """Drop an event that the gateway delivers a second time."""
        return interaction.client.first_time(interaction)

    async def on_submit(self, interaction: discord.Interaction[Ganvas], /) -> None:  # type: ignore[override]
        """Put the wish into the queue."""
        wish = await Wish.begin(interaction, None)
        text = self.strength.value.strip() or "100"
        if not text.isdecimal() or int(text) > 100:
            raise InvalidRequest(f"Strength is {text!r}; it must be a number from 0 to 100.")
        owner = None if self.owner == member_of(interaction.user) else self.owner
        options = {"photo": await read_photo(self.picture), "strength": int(text) / 100}
        await self.cog.submit(wish, options, next(iter(self.style.values), None), owner)

    async def on_error(self, interaction: discord.Interaction[Ganvas], error: Exception, /) -> None:  # type: ignore[override]
        """Tell what went wrong."""
        await interaction.client.tell_mistake(interaction, error)


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Stylize(bot))
