"""Votes of people who do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

GENRES = ("flower-painting", "landscape")


def recipe(seed: int, genre: str = GENRES[0], *, command: str = "paint") -> dict[str, Any]:
    """Return the recipe of a painting of no painter in particular."""
    return {"ganvas": 1, "command": command, "options": {"genre": genre, "seed": seed, "psi": 0.8}, "models": {}}


def vote(voter: str, seed: int, value: str | int, genre: str = GENRES[0], **more: Any) -> dict[str, Any]:
    """Return one line of a file of votes."""
    return {"recipe": recipe(seed, genre), "value": value, "voter": voter, **more}


def random_votes(voters: int = 30, works: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Everybody throws a coin for half of the works."""
    return judged(lambda voter, work, rng: rng.random() < 0.5, voters, works, seed)


def judged(
    like: Callable[[int, int, np.random.Generator], bool], voters: int = 30, works: int = 60, seed: int = 0
) -> list[dict[str, Any]]:
    """Return votes on half of the works by each voter; ``like(voter, work, rng)`` decides."""
    lines = []
    for voter in range(voters):
        rng = np.random.default_rng([seed, voter])
        for work in range(works):
            if rng.random() < 0.5:
                value = "up" if like(voter, work, rng) else "down"
                lines.append(vote(f"voter-{voter}", work, value, GENRES[work % 2]))
    return lines
