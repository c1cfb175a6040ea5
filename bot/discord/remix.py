"""Re-roll and vary: another request from the one that made a work.  Pure functions; chance comes in as ``rng``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from engine.api import EnhanceRequest, MorphRequest, PaintRequest, Request, StylizeRequest
from engine.errors import InvalidRequest


def fresh_seed(rng: random.Random) -> int:
    """Return a seed short enough to be read out."""
    return rng.randrange(10**6)


def reroll(request: Request, rng: random.Random, styles: Sequence[str]) -> Request:
    """Return the same wish with another chance: other seeds, or for a photo another of the known styles.

    Raises:
        InvalidRequest: there is no chance in it.
    """
    if isinstance(request, PaintRequest):
        return replace(request, seed=fresh_seed(rng), count=1)
    if isinstance(request, MorphRequest):
        return replace(request, stops=tuple(replace(stop, seed=fresh_seed(rng)) for stop in request.stops))
    if isinstance(request, StylizeRequest):
        others = [style for style in styles if style != request.style]
        if others:
            return replace(request, style=rng.choice(others), style_image=None, model=None)
    raise InvalidRequest("There is nothing to roll again in this work; vary it, or start from another one.")


def vary(request: Request, rng: random.Random) -> Request:
    """Return a neighbour of the wish: the same subject, a little bolder or calmer.

    Raises:
        InvalidRequest: it has no neighbours.
    """
    if isinstance(request, PaintRequest):
        return replace(request, psi=_nudge(request.psi, rng), count=1)
    if isinstance(request, MorphRequest):
        return replace(request, stops=(*request.stops[:-1], replace(request.stops[-1], seed=fresh_seed(rng))))
    if isinstance(request, StylizeRequest):
        return replace(request, strength=_nudge(request.strength, rng))
    if isinstance(request, EnhanceRequest):
        return replace(request, strength=_nudge(request.strength, rng))
    raise InvalidRequest("This work has no neighbours to vary it to; start from another one.")


def _nudge(value: float, rng: random.Random) -> float:
    """Return another value in [0.2, 1], 0.15 to 0.3 away."""
    step = rng.uniform(0.15, 0.3)
    up, down = value + step, value - step
    choices = [v for v in (up, down) if 0.2 <= v <= 1]
    return round(rng.choice(choices or [0.6]), 3)
