"""A work in words: its caption, the text for people who cannot see it, and its card."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence

import discord

from bot.discord.texts import Voice
from bot.studio import Artwork, Lineage, spoken

ALT_MOST = 1024  # characters Discord takes
COLOUR = discord.Colour.from_rgb(196, 92, 52)


GENRE_NAMES = {
    "abstract": "Abstract", "animal-painting": "Animals", "cityscape": "City", "figurative": "Figures",
    "flower-painting": "Flowers", "genre-painting": "Everyday life", "landscape": "Landscape", "marina": "Seascape",
    "mythological-painting": "Mythology", "nude-painting": "Nude", "portrait": "Portrait",
    "religious-painting": "Religion", "still-life": "Still life", "symbolic-painting": "Symbolism",
}  # fmt: skip


def title_of(name: str) -> str:
    """Return a readable form of a style's or brush's name: van-gogh-irises -> Van Gogh Irises."""
    return string.capwords(spoken(name))


def caption(art: Artwork, say: Voice) -> str:
    """Return a short title in the reader's language."""
    options = art.recipe.get("options", {})
    if art.command == "paint" and art.genre:
        text = say("{genre}, seed {seed}", genre=say(GENRE_NAMES[art.genre]), seed=options.get("seed", "?"))
        return f"{text}, {title_of(art.art_style)}" if art.art_style else text
    if art.command == "morph":
        stops = [f"{say(GENRE_NAMES[stop['genre']])} {stop['seed']}" for stop in options.get("stops", ())]
        return say("Morph: {stops}", stops=" → ".join(stops)) if stops else say("A morph")
    if art.command == "stylize":
        return say("A photo in the style {style}", style=title_of(art.style)) if art.style else say("A stylized photo")
    if art.command == "enhance":
        return say("Enlarged to {width} × {height}", width=art.width, height=art.height)
    return art.title


def alt_text(art: Artwork, say: Voice) -> str:
    """Return the description of the file."""
    kind = say("Animation") if art.frames > 1 else say("Picture")
    made = say("Made by Ganvas, {width} × {height} pixels.", width=art.width, height=art.height)
    return f"{kind}: {caption(art, say)}. {made}"[:ALT_MOST]


def line(art: Artwork, say: Voice) -> str:
    """Return one line for lists."""
    return f"`{art.id}` {caption(art, say)} · ❤ {art.tally.up}"


def maker(art: Artwork) -> str:
    """Return who made it: a mention on Discord, a name elsewhere."""
    return f"<@{art.member.id}>" if art.member.platform == "discord" else art.member.name


def card(art: Artwork, say: Voice, lineage: Lineage | None = None) -> discord.Embed:
    """Return everything there is to know about a work."""
    embed = discord.Embed(title=caption(art, say), colour=COLOUR)
    embed.add_field(name=say("Id"), value=f"`{art.id}`")
    embed.add_field(name=say("By"), value=maker(art))
    embed.add_field(name=say("Votes"), value=f"❤ {art.tally.up} · 👎 {art.tally.down}")
    embed.add_field(name=say("Made"), value=f"<t:{int(art.created)}:R>")
    embed.add_field(
        name=say("Size"), value=f"{art.width} × {art.height}, {art.format.upper()}, {art.size / 1024:,.0f} KiB"
    )
    if lineage and lineage.parents:
        embed.add_field(name=say("Made from"), value=_ids([parent.artwork for parent in lineage.parents]))
    if lineage and lineage.children:
        embed.add_field(name=say("Led to"), value=_ids(lineage.children))
    recipe = json.dumps(art.recipe, indent=1, ensure_ascii=False)
    embed.add_field(name=say("Recipe"), value=f"```json\n{cut(recipe, 980)}\n```", inline=False)
    embed.set_footer(text=say("The file itself carries the whole recipe."))
    return embed


def _ids(works: Sequence[Artwork]) -> str:
    return " ".join(f"`{work.id}`" for work in works[:20])


def cut(text: str, most: int) -> str:
    """Return at most so many characters, with an ellipsis where some are missing."""
    return text if len(text) <= most else text[: most - 1] + "…"
