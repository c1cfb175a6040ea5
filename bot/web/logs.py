"""The last log lines, kept in memory for the host's page, with every secret blotted out."""

from __future__ import annotations

import logging
import re
from collections import deque

from pydantic import SecretStr

from bot.config import Settings

_SECRETS = re.compile(
    r"(?i)(authorization|token|secret|password|cookie)(['\"]?\s*[:=]\s*['\"]?)(?:(?:bot|bearer)\s+)?[^\s'\",;]+"
    r"|[\w-]{23,28}\.[\w-]{6}\.[\w-]{27,}"  # a Discord token
)


class RecentLogs(logging.Handler):
    """Keeps the newest ``size`` formatted records."""

    def __init__(self, settings: Settings, size: int = 500) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
        self.lines: deque[str] = deque(maxlen=size)
        values = (getattr(settings, name) for name in type(settings).model_fields)
        self._secrets = [v.get_secret_value() for v in values if isinstance(v, SecretStr) and v.get_secret_value()]

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.blot(self.format(record)))

    def blot(self, text: str) -> str:
        """``text`` without our own secrets and without what looks like somebody's."""
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        return _SECRETS.sub(lambda match: f"{match[1] or ''}{match[2] or ''}•••", text)
