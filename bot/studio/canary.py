"""Who is better, as far as votes tell: Beta posteriors of two painters tried on the same people, and when to stop.

A vote is up or down.  With u ups and d downs the share of ups that a painter earns has the posterior
Beta(1 + u, 1 + d); the question is how probable it is that the candidate's share is the greater one.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

SURE, DOUBTFUL = 0.95, 0.10  # of being better: above, it is promoted; below, it has lost
EARLY = 4  # a candidate may lose on so much fewer votes than it needs to win
VOTER_WEIGHT = 5  # votes one person has on one side, at most

Verdict = Literal["going on", "promote", "lost"]


@dataclass(frozen=True)
class Side:
    """What one painter earned while both were tried.  A duel won against the other is an up, a lost one a down."""

    up: int = 0
    down: int = 0
    answers: int = 0  # works it made


@dataclass(frozen=True)
class CanaryScore:
    """How the candidate does against the painter in office."""

    candidate: str
    share: float  # of /paint answers that come from it
    started: float
    until: float  # the trial ends then at the latest
    trial: Side = Side()  # the candidate's
    office: Side = Side()  # the painter's in office
    wins: int = 0  # duels of the candidate against the painter in office
    losses: int = 0
    probability_better: float = 0.5

    @property
    def answers(self) -> int:
        """Works the candidate made."""
        return self.trial.answers


def assigned(member: str, night: str, share: float) -> bool:
    """Whether this member's answers come from the candidate of ``night``: always the same, drawn anew each night."""
    digest = hashlib.sha256(f"{night}/{member}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def probability_better(candidate: Side, office: Side) -> float:
    """Return P(p_candidate > p_office) under independent Beta(1 + up, 1 + down) posteriors, in closed form.

    P = sum_{i < a} B(i + c, b + d) / ((b + i) B(1 + i, b) B(c, d)) for Beta(a, b) against Beta(c, d) with whole a.
    """
    a, b = 1 + candidate.up, 1 + candidate.down
    c, d = 1 + office.up, 1 + office.down
    terms = (
        math.exp(_log_beta(i + c, b + d) - math.log(b + i) - _log_beta(1 + i, b) - _log_beta(c, d)) for i in range(a)
    )
    return min(1.0, math.fsum(terms))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def count(votes: Iterable[tuple[str, bool, bool]]) -> tuple[Counter[bool], Counter[bool]]:
    """Return ups and downs by side of votes (voter, of the candidate?, up?), at most VOTER_WEIGHT of a voter a side.

    Whoever gave more counts with the shares of their votes, rounded: a loud voter keeps an opinion, not a crowd.
    """
    by_voter: dict[tuple[str, bool], Counter[bool]] = defaultdict(Counter)
    for voter, candidate, up in votes:
        by_voter[voter, candidate][up] += 1
    ups: Counter[bool] = Counter()
    downs: Counter[bool] = Counter()
    for (_, candidate), given in sorted(by_voter.items()):
        total = given.total()
        weight = min(total, VOTER_WEIGHT)
        liked = round(weight * given[True] / total)
        ups[candidate] += liked
        downs[candidate] += weight - liked
    return ups, downs


def verdict(score: CanaryScore, *, least_votes: int, now: float) -> Verdict:
    """Return whether the trial is over.

    With ``least_votes`` on each side the candidate is promoted once it is surely better; with a quarter of them it has
    lost once that is improbable.  When the time is out the votes decide where there is that quarter, and the gate
    alone, which the candidate passed, where there are fewer.
    """
    fewest = min(score.trial.up + score.trial.down, score.office.up + score.office.down)
    told = fewest * EARLY >= least_votes
    if told and score.probability_better < DOUBTFUL:
        return "lost"
    if fewest >= least_votes and score.probability_better > SURE:
        return "promote"
    if now < score.until:
        return "going on"
    return "lost" if told and score.probability_better < 0.5 else "promote"
