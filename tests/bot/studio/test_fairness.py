from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.studio.fairness import FairShare, Throughput, Waiting, units
from engine.api import (
    ChainRequest,
    EnhanceRequest,
    FitRequest,
    MorphRequest,
    PaintRequest,
    Request,
    Stop,
    StylizeRequest,
)

STOPS = (Stop("marina", 1), Stop("marina", 2))


def jobs(*specs: str, cost: float = 1.0) -> list[Waiting]:
    """Return jobs: "ann1@g" is the first job of Ann in guild g; they arrive in this order, at one moment."""
    found = []
    for number, spec in enumerate(specs):
        name, _, guild = spec.partition("@")
        found.append(Waiting(spec, name.rstrip("0123456789"), guild or None, cost, number * 1e-6))
    return found


def names(order: list[Waiting]) -> list[str]:
    return [job.job_id for job in order]


def test_members_take_turns() -> None:
    waiting = jobs("ann1@g", "ann2@g", "ann3@g", "ben1@g", "ben2@g")
    assert names(FairShare().order(waiting)) == ["ann1@g", "ben1@g", "ann2@g", "ben2@g", "ann3@g"]


def test_guilds_take_turns_too() -> None:
    waiting = jobs("ann1@g", "ann2@g", "ben1@h", "ben2@h")
    assert names(FairShare().order(waiting)) == ["ann1@g", "ben1@h", "ann2@g", "ben2@h"]


def test_a_guild_of_many_members_weighs_more_than_one_of_a_single_member() -> None:
    many = [f"m{chr(97 + n)}1@g" for n in range(9)]
    order = names(FairShare().order(jobs(*many, "one1@h", "one2@h", "one3@h")))
    assert order.index("one2@h") in (4, 5) and order.index("one3@h") in (8, 9)


def test_heavy_jobs_cost_more_turns() -> None:
    heavy = jobs("ann1@g", "ann2@g", cost=10.0)
    light = [Waiting(f"ben{n}@g", "ben", "g", 1.0, 1.0) for n in range(5)]
    assert names(FairShare().order([*heavy, *light])) == ["ann1@g", *(f"ben{n}@g" for n in range(5)), "ann2@g"]


def test_who_used_the_engine_lately_comes_after_a_newcomer() -> None:
    share = FairShare()
    waiting = jobs("ann1@g", "ann2@g", "ann3@g")
    for job in waiting[:2]:
        share.started(job, waiting)
    newcomer = Waiting("ben1@g", "ben", "g", 1.0, 60.0)  # a minute later
    assert names(share.order([waiting[2], newcomer]))[0] == "ben1@g"


def test_long_waiting_earns_a_place() -> None:
    old = [Waiting(f"ann{n}@g", "ann", "g", 1.0, 0.0) for n in range(3)]
    new = [Waiting(f"ben{n}@g", "ben", "g", 1.0, 3600.0) for n in range(3)]
    assert names(FairShare().order([*old, *new]))[:3] == ["ann0@g", "ann1@g", "ann2@g"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("g", "h", None)), st.floats(0.01, 30)), max_size=30))
def test_everybody_is_in_line_once_and_own_jobs_keep_their_order(specs: list[tuple[str, str | None, float]]) -> None:
    waiting = [Waiting(str(n), who, guild, cost, float(n)) for n, (who, guild, cost) in enumerate(specs)]
    order = FairShare().order(waiting)
    assert sorted(names(order)) == sorted(names(waiting))
    for party in {(job.member, job.group) for job in waiting}:
        own = [int(job.job_id) for job in order if (job.member, job.group) == party]
        assert own == sorted(own)


def test_the_cost_of_a_command_is_learnt() -> None:
    throughput = Throughput()
    for _ in range(40):
        throughput.learn("paint", 2.0, 8.0)
    assert throughput.cost("paint", 1.0) == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (StylizeRequest(photo=b""), StylizeRequest(photo=b"", size=2560)),
        (StylizeRequest(photo=b"", style="kiss"), StylizeRequest(photo=b"", style_image=b"")),
        (PaintRequest(genre="marina", seed=1), PaintRequest(genre="marina", seed=1, count=4)),
        (PaintRequest(genre="marina", seed=1), PaintRequest(genre="marina", seed=1, best_of=8)),
        (MorphRequest(stops=STOPS, frames=24), MorphRequest(stops=STOPS, frames=240)),
        (EnhanceRequest(image=b"", scale=2), EnhanceRequest(image=b"", scale=4)),
        (EnhanceRequest(image=b"", width=512, height=512), EnhanceRequest(image=b"", width=1920, height=1080)),
        (ChainRequest(image=b"", models=("a",)), ChainRequest(image=b"", models=("a", "b"))),
    ],
)  # fmt: skip
def test_larger_wishes_are_more_work(small: Request, large: Request) -> None:
    assert units(large) > units(small) > 0


def test_refitting_is_no_job() -> None:
    with pytest.raises(TypeError):
        units(FitRequest(image=b""))
