"""The history of nights as a chart: shares of its box are reckoned here, the template draws them as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bot.studio import Night

WIDTH, HEIGHT = 1000.0, 100.0  # of the view box, which the page stretches to its column
GAP = 0.4  # of a night's width stays free beside its bar
LEAST = 1.5  # height of a bar without votes: a night that rested is seen too
WIDEST = 90.0  # a house of two nights has slim bars too

TONES = {
    "learning": "tried", "canary": "tried", "promoted": "won",
    "refused": "lost", "rolled back": "lost", "failed": "lost",
}  # fmt: skip
WORDS = {
    "learning": "Studying", "rested": "Rested", "refused": "Refused at the gate", "failed": "Broken off",
    "canary": "On trial", "promoted": "Promoted", "rolled back": "Sent back",
}  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """One night: how many votes it heard, and by ``tone`` ("won", "tried", "lost" or "idle") what came of it."""

    night: Night
    votes: int
    tone: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """``line`` goes through each night's share of other people's votes that its taste foretold, 50 % to 100 %."""

    bars: tuple[Bar, ...]
    most: int  # votes, at the top of the box
    line: str  # points of an SVG polyline; empty below two points


def draw(nights: Sequence[Night]) -> Chart:
    """Lay out ``nights`` (newest first) from left, the eldest, to right."""
    heard = [int((night.diary.get("votes") or {}).get("counted") or 0) for night in nights]
    most = max([*heard, 1])
    step = min(WIDTH / max(len(nights), 1), WIDEST)
    left = WIDTH - step * len(nights)
    bars, points = [], []
    for place, (night, votes) in enumerate(zip(reversed(nights), reversed(heard), strict=True)):
        height = max(LEAST, HEIGHT * votes / most)
        x = left + place * step
        tone = TONES.get(night.state, "idle")
        bars.append(Bar(night, votes, tone, x + step * GAP / 2, HEIGHT - height, step * (1 - GAP), height))
        accuracy = (night.diary.get("taste") or {}).get("accuracy")
        if isinstance(accuracy, int | float):
            share = min(1.0, max(0.0, 2 * accuracy - 1))
            points.append(f"{x + step / 2:.1f},{HEIGHT * (1 - share):.1f}")
    return Chart(tuple(bars), most, " ".join(points) if len(points) > 1 else "")
