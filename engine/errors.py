"""Mistakes, each named, each one human sentence.

Every error that a person can cause derives from :class:`GanvasError`; its ``str()`` is what the person reads, in a
terminal, on Discord or on a page.  ``code`` travels over the wire, so both sides raise the same class.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GanvasError(Exception):
    """Root of all mistakes; ``str(error)`` is one sentence that names the value and what is allowed."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500  # HTTP status of the engine's answer

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form that :func:`from_wire` turns back into the same class."""
        return {"code": self.code, "message": str(self)}


class InvalidRequest(GanvasError, ValueError):
    """An option has a wrong type or a value out of its range."""

    code = "invalid_request"
    status = 400


class UnreadableImage(InvalidRequest):
    """Bytes that are no picture, a broken one, or one too large to open safely."""

    code = "unreadable_image"
    status = 422


class UnknownName(InvalidRequest, LookupError):
    """A genre, style, model or system nobody knows; the message lists what is known."""

    code = "unknown_name"
    status = 404


class BrokenModel(GanvasError):
    """A model folder that is incomplete, altered or of another version."""

    code = "broken_model"


class Busy(GanvasError):
    """The queue is full; the message says how long it is."""

    code = "busy"
    status = 503


class DeadlineExceeded(GanvasError, TimeoutError):
    """The job was not done when its deadline came."""

    code = "deadline_exceeded"
    status = 504


class JobCancelled(GanvasError):
    """Somebody cancelled the job."""

    code = "cancelled"
    status = 409


class EngineDied(GanvasError):
    """The engine's process died three times on this very job."""

    code = "engine_died"


class EngineUnavailable(GanvasError):
    """No engine answers at the address."""

    code = "engine_unavailable"
    status = 503


class WrongToken(GanvasError, PermissionError):
    """The shared token is missing or wrong."""

    code = "wrong_token"
    status = 401


class VersionMismatch(GanvasError):
    """Client and engine speak different versions of the protocol."""

    code = "version_mismatch"
    status = 426


def _all(root: type[GanvasError]) -> dict[str, type[GanvasError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _all(child)
    return found


def from_wire(wire: dict[str, Any]) -> GanvasError:
    """Rebuild an error from :meth:`GanvasError.to_wire`; an unknown code becomes a plain :class:`GanvasError`."""
    return _all(GanvasError).get(str(wire.get("code")), GanvasError)(str(wire.get("message", "the engine failed")))
