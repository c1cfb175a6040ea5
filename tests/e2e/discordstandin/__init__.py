"""A local stand-in for Discord: REST, gateway and CDN over loopback, for tests with the real client library."""

from .people import Answer, ClientRefuses, InteractionFailed, Person
from .rules import Refusal
from .server import TOKEN, StandIn
from .world import MIB, Attachment, Channel, Guild, Interaction, Message

__all__ = [
    "MIB", "TOKEN", "Answer", "Attachment", "Channel", "ClientRefuses", "Guild", "Interaction", "InteractionFailed",
    "Message", "Person", "Refusal", "StandIn",
]  # fmt: skip
