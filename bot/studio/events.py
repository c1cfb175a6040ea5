"""What just happened, for whoever shows it.  Events are hints; the tables are the truth."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.studio.nights import Night
    from bot.studio.posts import Post
    from bot.studio.votes import Tally

KEPT = 256  # events a slow reader may lag behind before it loses the oldest


@dataclass(frozen=True)
class Event:
    """Root of all events."""


@dataclass(frozen=True)
class JobChanged(Event):
    """A job changed its state."""

    job_id: str


@dataclass(frozen=True)
class ArtworkAdded(Event):
    """A new work exists."""

    art_id: str


@dataclass(frozen=True)
class ArtworkChanged(Event):
    """A work became private, public or was removed."""

    art_id: str


@dataclass(frozen=True)
class VotesChanged(Event):
    """Somebody's vote counts differently now."""

    art_id: str
    tally: Tally


@dataclass(frozen=True)
class PostLate(Event):
    """A message was noted long after it could be seen: what people did to it until then must be read from it."""

    art_id: str
    post: Post


@dataclass(frozen=True)
class GalleryDue(Event):
    """A gallery channel lacks something; see ``votes.gallery_tasks()``."""

    art_id: str


@dataclass(frozen=True)
class TombstonesDue(Event):
    """Posts of removed works wait to be deleted; see ``policy.tombstones()``."""

    platform: str


@dataclass(frozen=True)
class NightEnded(Event):
    """A night came to something: it rested, was refused or failed, its candidate is tried, promoted or rolled back."""

    night: Night


@dataclass(frozen=True)
class PainterChanged(Event):
    """Another model is in office."""

    kind: str
    name: str
    why: str  # one sentence


class Stream:
    """One subscriber's events, in order."""

    def __init__(self, kinds: tuple[type[Event], ...]) -> None:
        self._kinds = kinds or (Event,)
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._arrived = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Take the event if it is of a kind asked for."""
        if isinstance(event, self._kinds):
            self._events.append(event)
            self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                yield self._events.popleft()
            self._arrived.clear()
            await self._arrived.wait()


class Events:
    """Hands every event to all who listen."""

    def __init__(self) -> None:
        self._streams: set[Stream] = set()

    def publish(self, event: Event) -> None:
        """Tell all listeners; never waits."""
        for stream in self._streams:
            stream.offer(event)

    @contextmanager
    def subscribe(self, *kinds: type[Event]) -> Iterator[Stream]:
        """Listen to events of these kinds (all, if none is named) until the block ends."""
        stream = Stream(kinds)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
