"""Buttons that work for ever: the custom id names the work, everything else is in the database.

``gan:1:<verb>:<id>``; the 1 is the version, so that a later release can still tell what an old button meant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self

import discord

from bot.discord.texts import Voice
from bot.studio import Artwork, Tally

if TYPE_CHECKING:
    from bot.discord.client import Ganvas

SEEDED = ("paint", "morph")  # commands whose works are points or paths in latent space
MOVING = "morph"


def _emblem(verb: str) -> str:
    return {"up": "❤️", "down": "👎", "roll": "🎲", "vary": "🌱", "enhance": "🔍", "morph": "🌊", "info": "ℹ️",
            "delete": "🗑️", "share": "📣", "file": "💾", "first": "1️⃣", "second": "2️⃣"}[verb]  # fmt: skip


class Pressed(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"gan:1:(?P<verb>[a-z]+):(?P<subject>[^:]+)"):
    """Any button of ours: what to do, and with what.  :mod:`bot.discord.acts` does it."""

    def __init__(self, verb: str, subject: str, **look: Any) -> None:
        super().__init__(discord.ui.Button(custom_id=f"gan:1:{verb}:{subject}", **look))
        self.verb, self.subject = verb, subject

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str]
    ) -> Self:
        """Build the button that was pressed."""
        assert isinstance(item, discord.ui.Button)
        return cls(match["verb"], match["subject"], label=item.label, emoji=item.emoji, style=item.style)

    async def interaction_check(self, interaction: discord.Interaction[Ganvas]) -> bool:  # type: ignore[override]
        """Drop an event that the gateway delivers a second time."""
        return interaction.client.first_time(interaction)

    async def callback(self, interaction: discord.Interaction[Ganvas]) -> None:  # type: ignore[override]
        """Do it; mistakes are told to the person alone."""
        from bot.discord import acts  # it builds views of these buttons

        await acts.perform(interaction, self.verb, self.subject)


class Chosen(
    discord.ui.DynamicItem[discord.ui.Select[Any]], template=r"gan:1:pick:(?P<verb>[a-z]+):(?P<subject>[^:]+)"
):
    """A list to choose one thing from."""

    def __init__(self, verb: str, subject: str, options: list[discord.SelectOption], placeholder: str | None = None):
        custom_id = f"gan:1:pick:{verb}:{subject}"
        super().__init__(discord.ui.Select(custom_id=custom_id, options=options, placeholder=placeholder))
        self.verb, self.subject = verb, subject

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: discord.ui.Item[Any], match: re.Match[str]
    ) -> Self:
        """Build the list that was used."""
        assert isinstance(item, discord.ui.Select)
        return cls(match["verb"], match["subject"], item.options, item.placeholder)

    async def interaction_check(self, interaction: discord.Interaction[Ganvas]) -> bool:  # type: ignore[override]
        """Drop an event that the gateway delivers a second time."""
        return interaction.client.first_time(interaction)

    async def callback(self, interaction: discord.Interaction[Ganvas]) -> None:  # type: ignore[override]
        """Do it."""
        from bot.discord import acts

        await acts.perform(interaction, self.verb, self.subject, self.item.values[0])


ITEMS = (Pressed, Chosen)


def _view(*items: discord.ui.Item[Any]) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for item in items:
        view.add_item(item)
    return view


def _vote_buttons(art_id: str, tally: Tally, row: int) -> list[Pressed]:
    counts = {"up": tally.up, "down": tally.down}
    return [
        Pressed(verb, art_id, emoji=_emblem(verb), label=str(count) if count else None, row=row)
        for verb, count in counts.items()
    ]


def work_view(art: Artwork, say: Voice) -> discord.ui.View:
    """Return the buttons of a work: vote, re-roll, vary, enhance, morph, info, delete."""
    verbs = [("roll", say("Re-roll")), ("vary", say("Vary"))]
    if art.frames == 1:
        verbs.append(("enhance", say("Enhance")))
    first = [Pressed(verb, art.id, emoji=_emblem(verb), label=label, row=0) for verb, label in verbs]
    second = [("morph", say("Morph"))] if art.command in SEEDED else []
    second += [("info", say("Info")), ("delete", say("Delete"))]
    return _view(
        *_vote_buttons(art.id, art.tally, 0),
        *first,
        *(Pressed(verb, art.id, emoji=_emblem(verb), label=label, row=1) for verb, label in second),
    )


def batch_view(works: tuple[Artwork, ...], say: Voice) -> discord.ui.View:
    """Return a row for each of several works in one message, which a reaction could not tell apart."""
    items: list[Pressed] = []
    for row, art in enumerate(works[:5]):
        up, _ = _vote_buttons(art.id, art.tally, row)
        up.item.label = f"{row + 1}" + (f" · {up.item.label}" if up.item.label else "")
        rest = [Pressed(verb, art.id, emoji=_emblem(verb), row=row) for verb in ("vary", "enhance", "info", "delete")]
        items += [up, *rest]
    return _view(*items)


def gallery_view(art: Artwork, say: Voice) -> discord.ui.View:
    """Return the buttons of a copy in the gallery: votes and information."""
    info = Pressed("info", art.id, emoji=_emblem("info"), label=say("Info"), row=0)
    return _view(*_vote_buttons(art.id, art.tally, 0), info)


def card_view(art: Artwork, say: Voice, *, own: bool) -> discord.ui.View:
    """Return the buttons below the card of a work."""
    verbs = [("file", say("Original file"))]
    verbs += [] if art.private else [("share", say("Show here"))]
    verbs += [("delete", say("Delete"))] if own else []
    row = [Pressed(verb, art.id, emoji=_emblem(verb), label=label, row=1) for verb, label in verbs]
    return _view(*_vote_buttons(art.id, art.tally, 0), *row)


def cancel_view(job_id: str, say: Voice) -> discord.ui.View:
    """Return the button that cancels a job."""
    return _view(Pressed("cancel", job_id, label=say("Cancel"), style=discord.ButtonStyle.secondary))


def jobs_view(job_ids: list[str], say: Voice) -> discord.ui.View:
    """Return a cancel button for each of one's jobs."""
    labels = [(job_id, say("Cancel {number}", number=i + 1)) for i, job_id in enumerate(job_ids[:25])]
    return _view(*(Pressed("cancel", job_id, label=label) for job_id, label in labels))


def confirm_view(verb: str, subject: str, label: str) -> discord.ui.View:
    """Return one red button."""
    return _view(Pressed(verb, subject, label=label, style=discord.ButtonStyle.danger))


def choice_view(verb: str, subject: str, options: list[discord.SelectOption], placeholder: str) -> discord.ui.View:
    """Return one list to choose from."""
    return with_choice(_view(), verb, subject, options, placeholder)


def with_choice(
    view: discord.ui.View, verb: str, subject: str, options: list[discord.SelectOption], placeholder: str
) -> discord.ui.View:
    """Return the view with a list to choose from below."""
    return view.add_item(Chosen(verb, subject, options[:25], placeholder[:150]))


def duel_view(subject: str, say: Voice) -> discord.ui.View:
    """Return the buttons of a blind pair."""
    sides = [Pressed(verb, subject, emoji=_emblem(verb), label=say("This one")) for verb in ("first", "second")]
    return _view(*sides, Pressed("neither", subject, label=say("Neither")))


def next_duel_view(genre: str, say: Voice) -> discord.ui.View:
    """Return the button that draws another pair, of any genre if ``genre`` is empty."""
    return _view(Pressed("duel", genre or "any", label=say("Next pair"), style=discord.ButtonStyle.primary))


def nights_view(say: Voice, *, host: bool, paused: bool) -> discord.ui.View:
    """Return what may be done about the learning: look again, and for hosts run now, pause or resume, roll back."""
    does = [("run", "🌙", say("Run now")), ("resume", "▶️", say("Resume")) if paused else ("pause", "⏸️", say("Pause")),
            ("rollback", "↩️", say("Roll back"))] if host else []  # fmt: skip
    return _view(*(Pressed("night", what, emoji=emblem, label=label) for what, emblem, label in
                   [("look", "🔄", say("Look again")), *does]))  # fmt: skip


def page_view(first: str | None, following: str | None, say: Voice) -> discord.ui.View:
    """Return the buttons that turn pages; each carries the whole question in its id."""
    items = []
    if first is not None:
        items.append(Pressed("page", first, label=say("First page")))
    if following is not None:
        items.append(Pressed("page", following, label=say("Next page")))
    return _view(*items)
