"""Whose job comes next, and when: start-time fair queueing between guilds and between the members of each.

Every job is charged its measured cost to its member and guild, in *virtual* seconds.  A newcomer starts at the present
virtual time, so their job goes before the second of somebody's twenty.  Waiting earns a little credit (ageing).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.api import ChainRequest, EnhanceRequest, MorphRequest, PaintRequest, Request, StylizeRequest

AGEING = 0.005  # virtual seconds of credit per second of waiting: an hour makes good for 18 s of work
PRIORS = {"stylize": 1.0, "paint": 0.1, "morph": 0.05, "enhance": 2.0, "chain": 1.0}  # seconds per unit on two cores
STUDY = 12.0  # units of stylize to look closely at a style of one's own, whatever the size: 6 s against 0.5 s
LEARNING_RATE = 0.2  # of the moving average; the last dozen jobs count


@dataclass(frozen=True)
class Waiting:
    """A job in line."""

    job_id: str
    member: str
    guild: str | None
    cost: float  # seconds of the engine's time
    since: float

    @property
    def group(self) -> str:
        """Guilds share the engine; in direct messages everybody is a guild of their own."""
        return self.guild or self.member


@dataclass
class _Share:
    """A virtual clock, and up to when each party has had its share."""

    clock: float = 0.0
    finished: dict[str, float] = field(default_factory=dict)

    def start(self, party: str) -> float:
        return max(self.clock, self.finished.get(party, 0.0))

    def charge(self, party: str, cost: float) -> None:
        start = self.start(party)
        self.finished[party] = start + cost
        self.clock = start
        if len(self.finished) > 1000:
            self.finished = {name: until for name, until in self.finished.items() if until > self.clock}


class FairShare:
    """The order of all waiting jobs."""

    def __init__(self) -> None:
        self._groups = _Share()
        self._members: dict[str, _Share] = {}

    def order(self, waiting: Iterable[Waiting]) -> list[Waiting]:
        """Return the jobs in the order in which they will start if no others come; O(n log n)."""
        groups: dict[str, list[Waiting]] = {}
        for job in sorted(waiting, key=lambda job: (job.since, job.job_id)):
            groups.setdefault(job.group, []).append(job)
        keyed: list[tuple[float, int, Waiting]] = []
        for group, jobs in groups.items():
            weight = _weight(jobs)
            start, key = self._groups.start(group), float("-inf")
            for job in self._within(group, jobs):
                key = max(key, start + AGEING * job.since)  # never before its predecessor of the same guild
                keyed.append((key, len(keyed), job))
                start += job.cost / weight
        return [job for _, _, job in sorted(keyed)]

    def _within(self, group: str, jobs: list[Waiting]) -> list[Waiting]:
        share = self._members.setdefault(group, _Share())
        starts: dict[str, float] = {}
        keyed: list[tuple[float, int, Waiting]] = []
        for job in jobs:
            start = starts.get(job.member, share.start(job.member))
            keyed.append((start + AGEING * job.since, len(keyed), job))
            starts[job.member] = start + job.cost
        return [job for _, _, job in sorted(keyed)]

    def started(self, job: Waiting, waiting: Iterable[Waiting]) -> None:
        """Charge a job that starts now."""
        peers = [other for other in waiting if other.group == job.group] or [job]
        self._groups.charge(job.group, job.cost / _weight(peers))
        self._members.setdefault(job.group, _Share()).charge(job.member, job.cost)


def _weight(jobs: list[Waiting]) -> float:
    """A guild of many waiting members deserves more than one of a single member, but not all of it."""
    return float(len({job.member for job in jobs})) ** 0.5


class Throughput:
    """What a job costs, learnt from those that ran."""

    def __init__(self) -> None:
        self._seconds = dict(PRIORS)

    def cost(self, command: str, units: float) -> float:
        """Return the expected seconds of the engine's time."""
        return self._seconds[command] * units

    def learn(self, command: str, units: float, seconds: float) -> None:
        """Take note of a job that used so many seconds of the engine's time."""
        self._seconds[command] += LEARNING_RATE * (seconds / units - self._seconds[command])


def units(request: Request) -> float:
    """Return how much work a request is, in units of its own command."""
    match request:
        case StylizeRequest():
            return (request.size / 1280) ** 2 + (STUDY if request.style_image is not None else 0)
        case ChainRequest():
            return len(request.models) * (request.size / 1280) ** 2
        case PaintRequest():
            return request.count * (0.1 * max(1, request.best_of) + request.width * request.height / 512**2)
        case MorphRequest():
            return request.frames * (request.size / 512) ** 2
        case EnhanceRequest():
            if request.width and request.height:
                return request.width * request.height / 2**20
            return (request.scale or 2) ** 2 / 4
    raise TypeError(f"{request.command} is no job.")
