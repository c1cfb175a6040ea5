"""The taste model finds what people like, and is believed only when it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from town import judged, random_votes

from engine.nightly.looks import HAND, Looks, hand_features
from engine.nightly.taste import fit, replay_weights, trust
from engine.nightly.votes import Ballot, Work, collect, pairs


def described(ballot: Ballot, seed: int = 0) -> dict[str, Tensor]:
    """Give each work random features, the first of which is what its seed's parity... is not: it is drawn too."""
    rng = np.random.default_rng(seed)
    return {key: torch.tensor(rng.normal(size=20), dtype=torch.float32) for key in ballot.works}


def liking(lines_of: Ballot, features: dict[str, Tensor], sureness: float) -> Ballot:
    """Return the ballot with values by the first feature."""
    rng = np.random.default_rng(5)
    votes = []
    for each in lines_of.votes:
        up = rng.random() < 1 / (1 + np.exp(-sureness * float(features[each.work][0])))
        votes.append(type(each)(each.voter, each.work, 1 if up else -1))
    return Ballot(lines_of.works, votes)


@pytest.fixture
def ballot() -> Ballot:
    return collect(random_votes(), Path())


def test_a_common_taste_is_found_and_believed(ballot: Ballot) -> None:
    features = described(ballot)
    chosen = pairs(liking(ballot, features, 2.5))
    belief = trust(features, chosen)
    assert belief.usable and belief.low > 0.6 and belief.accuracy < 0.95
    taste = fit(features, chosen)
    direction = taste.weights.mean(0) / taste.std
    assert direction.abs().argmax() == 0 and direction[0] > 0
    scores = torch.stack([taste.expected(f[None])[0] for f in features.values()])
    truth = torch.stack([f[0] for f in features.values()])
    assert torch.corrcoef(torch.stack([scores, truth]))[0, 1] > 0.8


def test_random_votes_are_not_believed(ballot: Ballot) -> None:
    for seed in range(3):
        noise = collect(random_votes(seed=seed), Path())
        belief = trust(described(noise, seed), pairs(noise), seed=seed)
        assert not belief.usable and "not surely above" in str(belief.why)


def test_few_people_or_few_pairs_are_no_community(ballot: Ballot) -> None:
    few = collect(judged(lambda v, w, rng: w % 3 == 0, voters=4), Path())
    assert "only 4 people" in str(trust(described(few), pairs(few)).why)
    short = collect(judged(lambda v, w, rng: w % 3 == 0, voters=10, works=6), Path())
    assert "pairs of paintings can be compared" in str(trust(described(short), pairs(short)).why)


def test_one_famous_work_is_no_taste() -> None:
    """Everybody loves one work and hates the rest: true of that work, and of no other."""
    lines = collect(judged(lambda v, w, rng: w == 0, voters=30, works=40), Path())
    assert not trust(described(lines), pairs(lines)).usable


def test_the_lower_bound_grows_with_doubt(ballot: Ballot) -> None:
    features = described(ballot)
    taste = fit(features, pairs(liking(ballot, features, 2.5)))
    usual = torch.stack(list(features.values()))
    strange = 20 * usual
    doubt = (taste.expected(strange) - taste.lower(strange)).mean() / (
        taste.expected(usual) - taste.lower(usual)
    ).mean()
    assert doubt > 5 and (taste.lower(usual) <= taste.expected(usual)).all()


def test_replay_keeps_most_paintings_in_play() -> None:
    for scores in (torch.randn(500), torch.cat([torch.zeros(499), torch.tensor([1000.0])]), torch.zeros(30)):
        weights = replay_weights(scores)
        assert weights.sum() == pytest.approx(1) and weights.max() <= 4.01 * weights.min()
        assert 1 / weights.square().sum() >= 0.8 * len(scores) - 1e-3
    weights = replay_weights(torch.arange(100.0))
    assert (weights.diff() >= 0).all() and weights[-1] > 1.5 * weights[0]


def test_plain_features_say_what_their_names_say() -> None:
    warm, bright = torch.zeros(3, 16, 16), torch.ones(3, 16, 16)
    warm[0] = 0.8
    half = torch.zeros(3, 16, 16)
    half[:, :8] = 1
    found = dict(zip(HAND, hand_features(torch.stack([warm, bright, half])).T, strict=True))
    assert found["warmth"].tolist() == pytest.approx([0.8, 0, 0], abs=1e-6)
    assert found["brightness"].tolist() == pytest.approx([0.2392, 1, 0.5], abs=1e-4)
    assert found["light above"].tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert found["edges"][2] > found["edges"][0] == 0


def test_taste_has_a_slope_everywhere_even_on_a_flat_picture() -> None:
    picture = torch.full((2, 3, 32, 32), 0.5, requires_grad=True)
    Looks()(picture).sum().backward()
    assert picture.grad is not None and torch.isfinite(picture.grad).all() and picture.grad.abs().max() > 0


def test_works_that_cannot_be_seen_leave_no_trace(ballot: Ballot) -> None:
    assert isinstance(next(iter(ballot.works.values())), Work)
