"""The last log lines, kept in memory for the host's page, with every secret blotted out."""

from __future__ import annotations

import logging
from collections import deque

from bot.config import Settings
from bot.logs import Discreet


class RecentLogs(logging.Handler):
    """Keeps the newest ``size`` formatted records."""

    def __init__(self, settings: Settings, size: int = 500) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(Discreet(settings))
        self.lines: deque[str] = deque(maxlen=size)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
