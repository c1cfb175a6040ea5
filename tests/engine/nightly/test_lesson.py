"""A lesson changes a copy, a little, where it may."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.checkpoints import Model
from engine.nightly import lesson
from engine.nightly.lesson import (
    LessonConfig,
    LessonFailed,
    Tone,
    anchor_stream,
    drift,
    learning_parameters,
    teach,
)
from engine.nightly.looks import HAND, Looks
from engine.nightly.night import NightConfig
from engine.nightly.taste import Taste


def warm_taste() -> Taste:
    weights = torch.zeros(2, len(HAND))
    weights[:, HAND.index("warmth")] = 1
    return Taste(torch.zeros(len(HAND)), torch.full((len(HAND),), 0.05), weights)


def warmth(net: torch.nn.Module, seed: int = 1) -> float:
    rng = torch.Generator().manual_seed(seed)
    genre = F.one_hot(torch.arange(64) % 2, 2).float()
    with torch.inference_mode():
        return float(Looks()(net(torch.randn(64, 16, generator=rng), genre))[:, HAND.index("warmth")].mean())


def test_only_what_may_learn_learns_and_the_champion_is_untouched(tiny: Model, config: NightConfig) -> None:
    before = {name: value.clone() for name, value in tiny.net.state_dict().items()}
    critic = {name: value.clone() for name, value in tiny.discriminator.state_dict().items()}  # type: ignore[union-attr]
    taught = teach(tiny, tiny, anchor_stream(tiny, 100), replace(config.lesson, steps=6))
    assert all(torch.equal(value, before[name]) for name, value in tiny.net.state_dict().items())
    assert all(torch.equal(value, critic[name]) for name, value in tiny.discriminator.state_dict().items())  # type: ignore[union-attr]
    may = set(learning_parameters(taught.net, config.lesson.learning_blocks))
    changed = {name for name, value in taught.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and changed <= may
    heads = {
        name.split(".")[1]
        for name, value in taught.discriminator.state_dict().items()
        if not torch.equal(value, critic[name])
    }
    assert heads == {"2", "3"}


def test_pictures_louder_than_the_paintings_are_led_back(tiny: Model) -> None:
    stream = anchor_stream(tiny, 100)
    own = torch.from_numpy(stream.pixels).permute(0, 3, 1, 2).float() / 255
    loud = (0.5 + 1.5 * (own - 0.5)).requires_grad_(True)
    far = Tone(stream, np.random.default_rng(0), count=256)(loud)
    (gradient,) = torch.autograd.grad(far, loud)
    assert float(Tone(stream, np.random.default_rng(0), count=256)(own)) < 0.1 * far.item()
    quieter = loud.detach() - 0.05 * gradient / gradient.abs().max()
    assert Tone(stream, np.random.default_rng(0), count=256)(quieter).item() < far.item()


def test_a_taste_moves_the_pictures_and_no_taste_does_not(tiny: Model, config: NightConfig) -> None:
    stream = anchor_stream(tiny, 100)
    plain = teach(tiny, tiny, stream, config.lesson)
    warmer = teach(tiny, tiny, stream, config.lesson, taste=warm_taste(), looks=Looks(), ceiling=99)
    base = warmth(tiny.net)
    assert warmth(warmer.net) - base > 3 * abs(warmth(plain.net) - base) and warmth(warmer.net) > base
    assert warmer.figures["steps"] == 24 and warmer.figures["images"] == 192
    assert plain.figures["lean"] == 0 and 0 < warmer.figures["lean"] < 0.35
    assert torch.equal(plain.net.centre, tiny.net.centre) and not torch.equal(warmer.net.centre, tiny.net.centre)


def test_nothing_is_rewarded_beyond_what_real_paintings_get(tiny: Model, config: NightConfig) -> None:
    stream = anchor_stream(tiny, 100)
    sated = teach(tiny, tiny, stream, config.lesson, taste=warm_taste(), looks=Looks(), ceiling=-99)
    plain = teach(tiny, tiny, stream, config.lesson)
    assert warmth(sated.net) == pytest.approx(warmth(plain.net), abs=1e-6)


def test_the_weights_stay_on_their_leash(tiny: Model, config: NightConfig) -> None:
    wild = replace(config.lesson, rate=0.1, nightly_drift=0.02, steps=8)
    taught = teach(tiny, tiny, anchor_stream(tiny, 100), wild, taste=warm_taste(), looks=Looks(), ceiling=99)
    names = set(learning_parameters(taught.net, wild.learning_blocks))
    assert drift(taught.net, tiny.net, names) <= 0.02 + 1e-6
    assert drift(taught.net, tiny.net, {n for n, _ in tiny.net.named_parameters()} - names) == 0


def test_the_same_seed_teaches_the_same(tiny: Model, config: NightConfig) -> None:
    short = replace(config.lesson, steps=4, warm_up=0)
    nets = [teach(tiny, tiny, anchor_stream(tiny, 60), short).net.state_dict() for _ in range(2)]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_liked_paintings_are_shown_oftener_within_their_genre(tiny: Model) -> None:
    stream = anchor_stream(tiny, 120)
    weighed, ceiling = lesson.with_taste(stream, warm_taste(), Looks())
    for label in (0, 1):
        mine = stream.labels == label
        assert weighed.odds[mine].sum() == pytest.approx(stream.odds[mine].sum())
    pictures = torch.from_numpy(stream.pixels[stream.rows]).permute(0, 3, 1, 2).float() / 255
    scores = warm_taste().lower(Looks()(pictures))
    first = torch.from_numpy(stream.labels == 0)
    assert np.corrcoef(scores[first], weighed.odds[first.numpy()])[0, 1] > 0.8
    assert scores.min() < ceiling < scores.max()


def test_nan_ends_the_lesson(tiny: Model, config: NightConfig) -> None:
    with torch.no_grad():
        next(tiny.net.parameters()).fill_(float("nan"))
    with pytest.raises(LessonFailed, match="the losses are"):
        teach(tiny, tiny, anchor_stream(tiny, 60), config.lesson)


def test_a_lesson_waits_while_it_is_asked_to(tiny: Model, tmp_path: Path) -> None:
    """Time spent waiting is not time of the lesson."""
    paused = tmp_path / "pause"
    paused.touch()
    shares: list[float] = []
    config = LessonConfig(steps=3, batch=4)
    stream = anchor_stream(tiny, 60)
    thread = threading.Thread(target=lambda: teach(tiny, tiny, stream, config, tell=shares.append, paused=paused))
    thread.start()
    time.sleep(0.3)
    assert shares == []
    paused.unlink()
    thread.join()
    assert shares[-1] == 1


def test_relations_diverge_only_when_samples_move_against_each_other() -> None:
    features = torch.randn(8, 6, 4, 4)
    assert lesson.relation_divergence(features, features) == pytest.approx(0, abs=1e-6)
    assert lesson.relation_divergence(2 * features, features) == pytest.approx(0, abs=1e-5)  # only the scale moved
    collapsed = features[:1].expand(8, -1, -1, -1)
    assert lesson.relation_divergence(collapsed, features) > 0.01


def test_distance_is_relative_and_per_picture() -> None:
    maps = [torch.rand(3, 4, 8, 8) + 0.5, torch.rand(3, 6, 4, 4) + 0.5]
    doubled = [torch.cat([maps[0][:1], 2 * maps[0][1:]]), torch.cat([maps[1][:1], 2 * maps[1][1:]])]
    assert lesson.relative_distance(doubled, maps).tolist() == pytest.approx([0, 1, 1])
