"""Logs on stderr, one line a record, without secrets."""

from __future__ import annotations

import logging
import re

from pydantic import SecretStr

from bot.config import Settings

# What looks like somebody's secret, also when it is none of ours: "token=...", a header, a Discord token, and the
# token of an interaction or webhook inside a URL.
_LOOKS_SECRET = re.compile(
    r"""(?ix) (?P<name>authorization|token|secret|password|cookie) (?P<sign>['"]?\s*[:=]\s*['"]?)
              (?:(?:bot|bearer)\s+)? [^\s'",;]+
            | [\w-]{23,28}\.[\w-]{6}\.[\w-]{27,}
            | (?P<path>/(?:webhooks|interactions)/\d+/) [\w-]{20,}"""
)


class Discreet(logging.Formatter):
    """Formats records and blots secrets out."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        values = (getattr(settings, name) for name in type(settings).model_fields)
        self._secrets = [text for v in values if isinstance(v, SecretStr) and (text := v.get_secret_value())]

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return self.blot(super().format(record))

    def blot(self, text: str) -> str:
        """Return the text without our own secrets and without what looks like somebody's."""
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        return _LOOKS_SECRET.sub(lambda m: f"{m['name'] or ''}{m['sign'] or ''}{m['path'] or ''}•••", text)


def start_logging(settings: Settings) -> None:
    """Send all logs to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Discreet(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for chatty in ("apscheduler", "discord.client", "discord.gateway", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
