"""The painter's apprentice: it learns from the votes at night, is tried blindly on people, and succeeds or is let go.

resting -> learning -> (rested | refused | failed) -> resting
                    -> canary -> (promoted | rolled back) -> resting
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bot.config import Settings
from bot.studio.canary import CanaryScore
from bot.studio.engine import Engine
from bot.studio.events import Events
from bot.studio.nights import Night, Nights
from bot.studio.people import Member
from bot.studio.store import Store
from engine.api import Request
from engine.errors import GanvasError

Phase = Literal["off", "resting", "learning", "canary"]


@dataclass(frozen=True)
class Version:
    """A painter that was in office."""

    name: str  # of the model
    since: float
    until: float | None = None  # None: it still is
    night: str | None = None  # the night it was made in; None for a release
    why: str | None = None  # why it left, one sentence


@dataclass(frozen=True)
class ApprenticeState:
    """How the learning stands."""

    painter: str  # name of the model in office; empty while no engine ever answered
    painter_since: float | None
    base: str  # the release it descends from
    phase: Phase  # "off": the host's settings switch nights off
    paused: bool
    next_night: float | None  # None while paused or off
    progress: float | None  # 0..1 while learning
    waiting: bool  # the lesson stands still: paused, or people are served first
    canary: CanaryScore | None
    last_night: Night | None  # the last that ended, or is being tried
    versions: tuple[Version, ...]  # newest first; the first is in office


class Apprentice:
    """Holds nights by the host's calendar, tries candidates, promotes and rolls back; front ends check who may ask."""

    def __init__(self, store: Store, events: Events, house: Settings, engine: Engine, nights: Nights) -> None:
        self._store = store
        self._events = events
        self._house = house
        self._engine = engine
        self._nights = nights

    async def state(self) -> ApprenticeState:
        """Return how the learning stands; also while no engine answers."""
        try:
            cards = [card for card in await self._engine.models() if card.get("kind") == "painter"]
        except GanvasError:
            cards = []
        card = next((card for card in cards if card.get("in_office")), cards[0] if cards else {"name": ""})
        nights = await self._nights.list(1)
        return ApprenticeState(
            painter=card["name"], painter_since=None, base=card.get("base") or card["name"],
            phase="resting" if self._house.nights else "off", paused=False, next_night=None, progress=None,
            waiting=False, canary=None, last_night=nights[0] if nights else None,
            versions=(Version(card["name"], 0.0),),
        )  # fmt: skip

    async def run_now(self, by: Member) -> str:
        """Begin a night at once and return its id; it goes on by itself.

        Raises:
            WrongMoment: nights are off or paused, one is under way, or a candidate is being tried.
            EngineUnavailable: no engine answers.
        """
        raise NotImplementedError

    async def pause(self, by: Member) -> None:
        """Hold no nights until :meth:`resume`, also after a restart; a lesson under way stands still.

        Raises:
            WrongMoment: it is paused already.
        """
        raise NotImplementedError

    async def resume(self, by: Member) -> None:
        """Go on after a pause.

        Raises:
            WrongMoment: it is not paused.
        """
        raise NotImplementedError

    async def rollback(self, by: Member, to: str | None = None) -> Version:
        """Put an earlier painter back in office and return it.

        Without ``to`` a candidate that is being tried is let go and the painter in office stays; where none is tried,
        the predecessor comes back.  A lesson under way ends: it began from another painter.

        Raises:
            WrongMoment: there is nothing to roll back to, or ``to`` is in office already.
            NotFound: no version is called so, or its model is gone.
        """
        raise NotImplementedError

    async def switch(self, kind: str, name: str, by: Member) -> None:
        """Put any model in office for its kind: painter, stylizer, enhancer or brush.

        Raises:
            UnknownName: there is no such model of that kind.
            BrokenModel: its weights are damaged.
            WrongMoment: it is in office already.
        """
        raise NotImplementedError

    async def painter_for(self, member: Member, request: Request) -> str | None:
        """Return the painter that must answer ``request`` while a candidate is tried, else None.

        Blind and sticky: the same member has the same painter through a whole trial.
        """
        return None
