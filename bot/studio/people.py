"""Who somebody is, on either platform."""

from __future__ import annotations

from dataclasses import dataclass, field

WEB = "web"  # the guild of everything made in the browser


@dataclass(frozen=True)
class Member:
    """A person: a Discord user, the host at the keyboard, or a visitor by cookie."""

    platform: str  # "discord" or "web"
    id: str
    name: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """What the database knows them by."""
        return f"{self.platform}:{self.id}"

    @classmethod
    def from_key(cls, key: str, name: str = "") -> Member:
        """Invert :attr:`key`."""
        platform, _, member_id = key.partition(":")
        return cls(platform, member_id, name)


HOST = Member("web", "host", "Host")
