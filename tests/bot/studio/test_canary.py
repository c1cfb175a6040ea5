"""The statistics of a trial: what is sure, what a loud voter counts, and when it ends."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bot.studio.canary import VOTER_WEIGHT, CanaryScore, Side, assigned, count, probability_better, verdict

SCORE = CanaryScore(candidate="c", share=0.2, started=0.0, until=1000.0)


def test_equal_sides_are_even_and_swapping_them_swaps_the_odds() -> None:
    assert probability_better(Side(), Side()) == pytest.approx(0.5)
    assert probability_better(Side(7, 3), Side(70, 30)) == pytest.approx(0.5, abs=0.1)
    better = probability_better(Side(70, 30), Side(50, 50))
    assert better > 0.99 and probability_better(Side(50, 50), Side(70, 30)) == pytest.approx(1 - better)
    assert probability_better(Side(5000, 2000), Side(4000, 3000)) == pytest.approx(1.0)


def test_the_closed_form_agrees_with_drawing() -> None:
    rng = random.Random(1)
    draws = [rng.betavariate(13, 9) > rng.betavariate(31, 31) for _ in range(20_000)]
    assert probability_better(Side(12, 8), Side(30, 30)) == pytest.approx(sum(draws) / len(draws), abs=0.015)


def test_an_assignment_is_sticky_fair_and_new_each_night() -> None:
    members = [f"discord:{n}" for n in range(4000)]
    tonight = [assigned(member, "2026-11-23", 0.2) for member in members]
    assert tonight == [assigned(member, "2026-11-23", 0.2) for member in members]
    assert 0.17 < sum(tonight) / len(members) < 0.23
    tomorrow = [assigned(member, "2026-11-24", 0.2) for member in members]
    both = sum(a and b for a, b in zip(tonight, tomorrow, strict=True))
    assert both < 0.07 * len(members), "nobody is always the one it is tried on"


def test_a_loud_voter_has_an_opinion_and_no_crowd() -> None:
    ups, downs = count([("loud", True, True)] * 900 + [("loud", True, False)] * 100 + [("quiet", False, True)])
    assert (ups[True] + downs[True], ups[True]) == (VOTER_WEIGHT, 4)
    assert (ups[False], downs[False]) == (1, 0)


def judged(trial: Side, office: Side, now: float = 0.0, least: int = 100) -> str:
    score = replace(SCORE, trial=trial, office=office, probability_better=probability_better(trial, office))
    return verdict(score, least_votes=least, now=now)


def test_a_better_one_is_promoted_once_there_are_votes_enough() -> None:
    assert judged(Side(30, 5), Side(60, 60)) == "going on", "too few votes on its side"
    assert judged(Side(80, 20), Side(60, 60)) == "promote"
    assert judged(Side(52, 48), Side(50, 50)) == "going on", "not sure yet"


def test_a_worse_one_is_let_go_on_a_quarter_of_them() -> None:
    assert judged(Side(2, 15), Side(60, 60)) == "going on", "nobody is judged on 17 votes"
    assert judged(Side(5, 20), Side(60, 60)) == "lost"


def test_when_the_time_is_out_the_votes_decide_if_there_are_any_to_speak_of_and_else_the_gate() -> None:
    assert judged(Side(), Side(), now=1000.0) == "promote"
    assert judged(Side(2, 8), Side(60, 60), now=1000.0) == "promote"
    assert judged(Side(26, 24), Side(50, 50), now=1000.0) == "promote"
    assert judged(Side(23, 27), Side(50, 50), now=1000.0) == "lost"


def test_over_many_trials_the_better_is_promoted_and_the_worse_let_go() -> None:
    rng = random.Random(7)

    def trial(p_candidate: float, p_office: float) -> str:
        sides = [[0, 0], [0, 0]]
        for n in range(1200):
            mine = rng.random() < 0.3
            sides[mine][rng.random() >= (p_candidate if mine else p_office)] += 1
            if n % 60 == 59 and (found := judged(Side(*sides[1]), Side(*sides[0]))) != "going on":
                return found
        return judged(Side(*sides[1]), Side(*sides[0]), now=1000.0)

    better, worse = ([trial(*odds) for _ in range(40)] for odds in ((0.7, 0.5), (0.4, 0.55)))
    assert better.count("promote") >= 36
    assert worse.count("lost") >= 38
