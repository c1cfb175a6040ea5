"""The painter in office has a taste: it chooses what its community would like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine import checkpoints
from engine.api import PSI, PaintRequest, Result
from engine.nightly.looks import HAND, Looks
from engine.nightly.taste import Taste
from engine.pipelines import Pipelines, latents, ranking
from engine.pipelines.ranking import UNRANKED, Judged

SEEDS = [seed for seed in range(60, 120) if seed % UNRANKED]


def taste_for(feature: str) -> Taste:
    weights = torch.zeros(5, len(HAND))
    weights[:, HAND.index(feature)] = 1
    return Taste(torch.zeros(len(HAND)), torch.ones(len(HAND)), weights)


@pytest.fixture
def pipelines(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipelines]:
    """A painter whose community likes it bright; it chooses from four."""
    plain = checkpoints.load("tiny-painter", discriminator=True)
    fields = dict(plain.card.fields) | {"name": "bright", "defaults": {"best_of": 4}}
    taste = taste_for("brightness").tensors()
    checkpoints.save(fields, plain.net, plain.discriminator, taste=taste, root=tmp_path / "models")
    monkeypatch.setenv("GANVAS_MODELS", f"{tmp_path / 'models'}:{tiny_models}")
    monkeypatch.setattr(ranking, "_looks", Looks)
    with Pipelines(dtype="float32") as made:
        yield made


def chosen(pipelines: Pipelines, seed: int, *, best_of: int = 0) -> int:
    request = PaintRequest(genre="portrait", seed=seed, best_of=best_of, width=64, height=64, model="bright")
    [outcome] = pipelines.run([request])
    assert isinstance(outcome, Result)
    assert outcome.outputs[0].recipe["options"]["best_of"] == 1
    return int(outcome.outputs[0].recipe["options"]["seed"])


def brightness(seed: int) -> float:
    model = checkpoints.load("bright")
    point = latents.point(model, "portrait", seed, PSI)
    with torch.no_grad():
        return float(model.net(point.z[None], point.labels[None], torch.tensor([0.8])).clamp(0, 1).mean())


def test_what_the_community_likes_is_chosen_oftener(pipelines: Pipelines) -> None:
    ranked = sum(brightness(chosen(pipelines, seed)) for seed in SEEDS)
    first = sum(brightness(latents.candidate_seed(seed, 0)) for seed in SEEDS)
    assert ranked > first, (ranked, first)
    assert any(chosen(pipelines, seed) != latents.candidate_seed(seed, 0) for seed in SEEDS)


def test_one_in_five_comes_as_it_falls_so_that_votes_stay_informative(pipelines: Pipelines) -> None:
    for seed in range(0, 30, UNRANKED):
        assert chosen(pipelines, seed) == latents.candidate_seed(seed, 0)


def test_whoever_asks_for_a_number_gets_the_best_of_it_and_of_one_the_first(pipelines: Pipelines) -> None:
    assert any(chosen(pipelines, seed, best_of=6) != latents.candidate_seed(seed, 0) for seed in range(0, 20, UNRANKED))
    assert all(chosen(pipelines, seed, best_of=1) == latents.candidate_seed(seed, 0) for seed in SEEDS)


def test_without_its_eyes_the_taste_is_silent_and_the_discriminator_decides(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_looks", lambda: None)
    plain = PaintRequest(genre="portrait", seed=11, best_of=4, width=64, height=64, model="tiny-painter")
    [outcome] = pipelines.run([plain])
    assert isinstance(outcome, Result)
    assert chosen(pipelines, 11) == outcome.outputs[0].recipe["options"]["seed"]


def test_places_are_added_up_and_the_taste_decides_between_equals() -> None:
    critic, community = [0.9, 0.5, 0.1, 0.7], [0.0, 0.6, 0.9, 0.7]
    assert Judged((critic, community)).best(range(4)) == 3
    assert Judged(([2.0, 1.0], [1.0, 2.0])).best(range(2)) == 1
    assert Judged((critic,)).best(range(1, 4)) == 3
