"""Mistakes only the studio knows; each is one sentence for the member who caused it."""

from __future__ import annotations

from engine.errors import GanvasError


class NotFound(GanvasError, LookupError):
    """No such artwork, job or night, or one this person may not see: both read the same."""

    code = "not_found"
    status = 404


class Refused(GanvasError, PermissionError):
    """The house's rules forbid it: a ban, somebody else's work, missing consent, the nude policy."""

    code = "refused"
    status = 403


class LimitReached(GanvasError):
    """Too many jobs wait already, of this member or of this guild."""

    code = "limit_reached"
    status = 429


class SourceGone(GanvasError):
    """The photo of a finished job has been deleted, or is another member's, so nothing more is made from it."""

    code = "source_gone"
    status = 410


class WrongMoment(GanvasError):
    """It cannot be done right now: a lesson is under way, nights are paused, there is nothing to roll back to."""

    code = "wrong_moment"
    status = 409


class DataInUse(GanvasError):
    """Another Ganvas runs on the same data folder."""

    code = "data_in_use"


class Undeliverable(Exception):
    """Raised by a deliverer: this can never be posted (the channel is gone, the bot may not write there)."""
