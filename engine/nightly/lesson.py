"""One night's lesson: the painter in office is tuned a little, on real paintings, towards what is liked.

What was painted here never enters the discriminator's real stream: a painter that learns from its own pictures loses
variety within a few generations (Alemohammad et al. 2023, 2307.01850).  Votes act only through the sampling weights of
real paintings and a small, bounded reward; four anchors hold the painter near the base release: distance in frozen
features, likeness of the relations between samples (Ojha et al. 2021), a pull of the weights, and a hard limit on them.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engine import losses
from engine.checkpoints import Model
from engine.errors import BrokenModel, GanvasError
from engine.evaluate.painters import Paintings, draw_latents, paint
from engine.nets.painter import Painter, ProjectedDiscriminator
from engine.nightly import prior
from engine.nightly.looks import Look
from engine.nightly.taste import Taste, replay_weights
from engine.train.augment import Augmentation
from engine.train.state import ema_update
from engine.train.system import has_bf16

LEANING = 48  # samples of each genre that tell where its prior leans


@dataclass(frozen=True)
class LessonConfig:
    """How a lesson is held."""

    steps: int = 60  # drift is near its nightly limit then; docs/learning.md was measured so
    minutes: float = 60.0
    batch: int = 16
    rate: float = 3e-5  # Adam's, for the generator
    critic_rate: float = 1e-4
    warm_up: float = 0.1  # share of the steps in which only the discriminator learns: its optimiser starts anew
    learning_blocks: int = 2  # of the generator, the finest; below them only the gains by genre and latent learn
    frozen_heads: int = 2  # of the discriminator, those that see the finest maps
    adversarial: float = 1.0  # weight of the discriminator's opinion
    reward: float = (
        0.2  # the reward's gradient at the picture against all the rest's; at 0.1 it was held at one night's gain
    )
    apart: float = 0.2  # relative distance to the base release's picture, in features, that costs nothing
    anchor: float = 4.0  # weight of what exceeds it
    relations: float = 0.5  # weight of the divergence of the samples' relations
    tone: float = 0.1  # weight of the mean tone's distance from the paintings'
    lean: float = 0.25  # what a reward that is linear in z moves the prior, in its spreads
    total_lean: float = 0.5  # and from the base release's, in all
    pull: float = 1e-4  # share of the way back to the base release, a step
    nightly_drift: float = 0.01  # relative change of the learning weights, at most, in a night
    total_drift: float = 0.08  # and from the base release
    ema: float = 0.995
    seed: int = 0


class LessonFailed(GanvasError):
    """The lesson became NaN; there is no candidate."""

    code = "lesson_failed"


@dataclass(frozen=True)
class Stream:
    """Real paintings with their sampling odds."""

    pixels: NDArray[np.uint8]  # (N, S, S, 3)
    rows: NDArray[np.int64]  # (M,) into ``pixels``
    labels: NDArray[np.int64]  # (M,)
    odds: NDArray[np.float64]  # (M,), summing to 1

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return pictures (B, 3, S, S) in [0, 1] and labels (B,)."""
        chosen = rng.choice(len(self.rows), count, p=self.odds)
        pictures = _floats(self.pixels, self.rows[chosen])
        mirror = torch.from_numpy(rng.random(count) < 0.5)
        pictures = torch.where(mirror[:, None, None, None], pictures.flip(3), pictures)
        return pictures.contiguous(memory_format=torch.channels_last), torch.from_numpy(self.labels[chosen])


def _floats(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(pixels[rows])).permute(0, 3, 1, 2).float() / 255


def stream_of(paintings: Paintings) -> Stream:
    """Return the host's own paintings as a stream."""
    return _fair(paintings.pictures.pixels, paintings.rows, paintings.labels.numpy())


def anchor_stream(base: Model, count: int, *, seed: int = 1) -> Stream:
    """Return fixed samples of the base release, for hosts without paintings: they keep what it could, no more."""
    every = torch.arange(int(base.net.genres))  # type: ignore[arg-type]
    latents = draw_latents(count, int(base.net.z_dim), every, seed)  # type: ignore[arg-type]
    pixels = paint(base.net, latents).permute(0, 2, 3, 1).contiguous().numpy()
    return _fair(pixels, np.arange(count), latents.labels.numpy())


def _fair(pixels: NDArray[np.uint8], rows: NDArray[np.int64], labels: NDArray[np.int64]) -> Stream:
    """Draw a genre of n paintings with p ~ n^0.5: rare ones more often than they come."""
    odds = np.bincount(labels)[labels] ** -0.5
    return Stream(pixels, rows, labels, odds / odds.sum())


def with_taste(stream: Stream, taste: Taste, looks: Look) -> tuple[Stream, float]:
    """Return the stream with liked paintings drawn oftener, and the 90 % quantile of the taste on it.

    Scores are compared within a genre only.
    """
    scores = []
    with torch.inference_mode():
        for start in range(0, len(stream), 32):
            scores.append(taste.lower(looks(_floats(stream.pixels, stream.rows[start : start + 32]))))
    score = torch.cat(scores).clone()
    odds = stream.odds.copy()
    for label in np.unique(stream.labels):
        mine = stream.labels == label
        weight = replay_weights(score[torch.from_numpy(mine)]).double().numpy() if mine.sum() > 1 else np.ones(1)
        odds[mine] = weight * odds[mine].sum()
    return Stream(stream.pixels, stream.rows, stream.labels, odds / odds.sum()), float(score.quantile(0.9))


@dataclass(frozen=True)
class Lesson:
    """What came out of a night."""

    net: Painter  # averaged over the steps
    discriminator: ProjectedDiscriminator
    figures: dict[str, float]  # last means of the losses, steps, images, seconds


def learning_parameters(net: Painter, blocks: int) -> dict[str, nn.Parameter]:
    """Return what a night may change: conditional gains, genre embeddings, and the ``blocks`` finest blocks."""
    finest = tuple(f"blocks.{name}." for name in list(net.blocks)[-blocks:]) if blocks else ()
    return {
        name: parameter
        for name, parameter in net.named_parameters()
        if ".affine." in name or name.startswith(("embed.", "to_rgb.", *finest))
    }


def drift(net: nn.Module, other: nn.Module, names: set[str]) -> float:
    """Return |a - b| / |b| over the tensors called ``names``."""
    mine, theirs = net.state_dict(), other.state_dict()
    change = sum(float((mine[name] - theirs[name]).double().square().sum()) for name in names)
    size = sum(float(theirs[name].double().square().sum()) for name in names)
    return math.sqrt(change / max(size, 1e-12))


def teach(
    champion: Model,
    base: Model,
    stream: Stream,
    config: LessonConfig,
    *,
    taste: Taste | None = None,
    looks: Look | None = None,
    ceiling: float = 0.0,
    tell: Callable[[float], None] = lambda share: None,
    paused: Path | None = None,
) -> Lesson:
    """Tune a copy of ``champion`` and return it; neither model given is changed.

    Args:
        base: the release that anchors hold on to.
        stream: real paintings, and nothing painted since the base release.
        taste: with ``looks``, what is rewarded; None trains plainly.
        ceiling: no picture is rewarded for a score above this, what real paintings get at best.
        tell: told the share of the work that is done.
        paused: while this file exists the lesson waits, and its clock stands still.

    Raises:
        LessonFailed: NaN.
        BrokenModel: the champion's or the base's network is none that can be taught so.
    """
    # Set up the networks.
    G, D, G0 = copy.deepcopy(champion.net), copy.deepcopy(champion.discriminator), copy.deepcopy(base.net).eval()
    if not isinstance(G, Painter) or not isinstance(D, ProjectedDiscriminator) or not isinstance(G0, Painter):
        raise BrokenModel(f"The painter {champion.card.name} cannot be taught: it has no projected discriminator.")
    learning = learning_parameters(G, config.learning_blocks)
    for parameter in learning.values():
        parameter.requires_grad_(True)
    G.eval()  # batch norms keep what they measured: in the lesson as after it, a picture has no batch mates
    D.eval()
    heads = list(D.heads)[config.frozen_heads :]
    for head in heads:
        head.train().requires_grad_(True)
    start = {name: parameter.detach().clone() for name, parameter in learning.items()}
    anchors = {name: parameter.detach() for name, parameter in G0.named_parameters() if name in learning}
    optimizer_g = torch.optim.Adam(learning.values(), config.rate, betas=(0.5, 0.99))
    critics = [parameter for head in heads for parameter in head.parameters()]
    optimizer_d = torch.optim.Adam(critics, config.critic_rate, betas=(0.0, 0.99))
    torch_rng = torch.Generator().manual_seed(config.seed)
    if taste is not None and looks is not None:
        prior.lean(
            G, G0, taste, looks, strength=config.lean, total=config.total_lean, ceiling=ceiling, samples=LEANING,
            seed=config.seed,
        )  # fmt: skip
    leant = float(prior.leaning(G, G0).norm(dim=1).mean())
    G0.centre.copy_(G.centre)  # the anchors compare how the same latent is painted, not which one is drawn
    average = copy.deepcopy(G).requires_grad_(False)
    rng = np.random.default_rng(config.seed)
    tone = Tone(stream, rng)

    # Learn.
    sums: dict[str, float] = {}
    counted = steps = 0
    clock = _Clock(paused)
    while steps < config.steps and clock.seconds < 60 * config.minutes:
        clock.wait()
        real, labels = stream.batch(config.batch, rng)
        genre = F.one_hot(labels, G.genres).float()
        z = torch.randn(config.batch, G.z_dim, generator=torch_rng)
        augment = Augmentation.draw(config.batch, torch_rng)
        with _precision():
            fake = G(z, genre)
            leaf = fake.detach().requires_grad_(True)
            with torch.no_grad():
                real_maps = D.look(augment(real))
            fake_maps = D.look(augment(leaf))
            fake_mixed = D.projector(fake_maps)

            # D learns.
            on_real = D.judge(real_maps, genre)
            on_fake = D.judge_mixed([m.detach() for m in fake_mixed], genre)
        loss_d = torch.stack(
            [losses.hinge_discriminator(r.float(), f.float()) for r, f in zip(on_real, on_fake, strict=True)]
        ).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()
        told = {"D": loss_d.item()}

        # G learns: its loss is followed back to the picture, the reward joins there with a bounded share.
        if steps >= config.warm_up * config.steps:
            with _precision():
                adversarial = torch.stack(
                    [losses.hinge_generator(f.float()) for f in D.judge_mixed(fake_mixed, genre)]
                ).mean()
                with torch.no_grad():
                    before = D.look(augment(G0(z, genre)))
            far = relative_distance(fake_maps, before)
            loss_g = (
                config.adversarial * adversarial
                + config.anchor * F.relu(far - config.apart).mean()
                + config.relations * relation_divergence(fake_maps[-1], before[-1])
                + config.tone * tone(leaf)
            )
            (gradient,) = torch.autograd.grad(loss_g, leaf)
            told |= {"G": adversarial.item(), "apart": far.mean().item()}
            if taste is not None and looks is not None:
                score = taste.lower(looks(leaf))
                (wish,) = torch.autograd.grad(-score.clamp_max(ceiling).mean(), leaf)
                gradient = gradient + config.reward * wish * (gradient.norm() / wish.norm().clamp_min(1e-12)).clamp_max(
                    1e4
                )
                told["taste"] = score.mean().item()
            optimizer_g.zero_grad(set_to_none=True)
            fake.backward(gradient.to(fake.dtype))
            nn.utils.clip_grad_norm_(learning.values(), 5.0)
            optimizer_g.step()
            with torch.no_grad():
                for name, parameter in learning.items():
                    parameter.lerp_(anchors[name], config.pull)
                stay_near(learning, start, config.nightly_drift)
                stay_near(learning, anchors, config.total_drift)
            ema_update(average, G, min(config.ema, (1 + steps) / (10 + steps)))

        if not all(math.isfinite(value) for value in told.values()):
            raise LessonFailed(f"After {steps} steps the losses are {told}.")
        steps += 1
        if steps % 50 == 1:
            sums, counted = {}, 0
        counted += 1
        for name, value in told.items():
            sums[name] = sums.get(name, 0.0) + value
        tell(max(steps / config.steps, clock.seconds / max(60 * config.minutes, 1e-9)))

    figures = {name: round(total / max(counted, 1), 5) for name, total in sums.items()}
    figures |= {"lean": round(leant, 3), "steps": steps, "images": steps * config.batch}
    figures |= {"seconds": round(clock.seconds, 1)}
    return Lesson(average.eval(), D.eval().requires_grad_(False), figures)


def tones(pictures: Tensor) -> Tensor:
    """Return the contrast of pictures (B, 3, H, W), of their colours and of their grain at four scales, (B, 6)."""
    luma = pictures.mean(1, keepdim=True)
    found = [(luma.var((1, 2, 3)) + 1e-6).sqrt(), ((pictures - luma).square().mean((1, 2, 3)) + 1e-6).sqrt()]
    for _ in range(4):
        found.append((luma.diff(dim=2).abs().mean((1, 2, 3)) + luma.diff(dim=3).abs().mean((1, 2, 3))) / 2)
        luma = F.avg_pool2d(luma, 2)
    return torch.stack(found, dim=1)


class Tone:
    """sum_k ((m_k - r_k) / s_k)^2 of the mean tones m of what is painted and r of the paintings, s their spread.

    A discriminator likes contrast, and every reward finds it: in 60 steps the grain went from 27 % to 29 % above the
    paintings', and KID in VGG from 0.29 to 0.44.  The mean is a running one, because that of a batch says little; its
    gradient flows through the batch.
    """

    def __init__(self, stream: Stream, rng: np.random.Generator, count: int = 512) -> None:
        rows = rng.choice(len(stream), count, p=stream.odds)
        measured = torch.cat([tones(_floats(stream.pixels, stream.rows[part])) for part in np.split(rows, count // 32)])
        self._spread, self._wanted = torch.std_mean(measured, dim=0)
        self._mean: Tensor | None = None

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the distance for pictures (B, 3, H, W) in [0, 1]."""
        here = tones(pictures.float()).mean(0)
        before = here.detach() if self._mean is None else self._mean
        self._mean = torch.lerp(before, here.detach(), 0.1)
        away = (self._mean - self._wanted) / self._spread
        return (2 * away * here / self._spread).sum() - (2 * away * self._mean / self._spread - away**2).sum()


def relative_distance(maps: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Mean over scales of |F_l(x) - F_l(y)|_1 / |F_l(y)|_1, for each picture (B,)."""
    return torch.stack(
        [
            (ours.float() - theirs.float()).abs().mean((1, 2, 3)) / theirs.float().abs().mean((1, 2, 3)).clamp_min(1e-6)
            for ours, theirs in zip(maps, targets, strict=True)
        ]
    ).mean(0)


def relation_divergence(features: Tensor, before: Tensor) -> Tensor:
    """KL(p0 || p), where p_i is the softmax of picture i's cosine similarities to the others (2104.06820, eq. 3)."""

    def relations(x: Tensor) -> Tensor:
        direction = F.normalize(x.float().mean((2, 3)), dim=1)
        others = ~torch.eye(len(x), dtype=torch.bool)
        return (direction @ direction.T)[others].view(len(x), -1).log_softmax(1)

    return F.kl_div(relations(features), relations(before), log_target=True, reduction="batchmean")


def stay_near(learning: dict[str, nn.Parameter], centre: dict[str, Tensor], limit: float) -> None:
    """Bring the weights back onto the ball of relative radius ``limit`` around ``centre``, as one vector."""
    change = math.sqrt(sum(float((p - centre[name]).square().sum()) for name, p in learning.items()))
    reach = limit * math.sqrt(sum(float(centre[name].square().sum()) for name in learning))
    if change > reach:
        for name, parameter in learning.items():
            parameter.lerp_(centre[name], 1 - reach / change)


def _precision() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16())


class _Clock:
    """Seconds of work; a pause does not count."""

    def __init__(self, paused: Path | None) -> None:
        self._paused = paused
        self._started = time.monotonic()
        self._stood = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started - self._stood

    def wait(self) -> None:
        if self._paused is None or not self._paused.exists():
            return
        began = time.monotonic()
        while self._paused.exists():
            time.sleep(0.5)
        self._stood += time.monotonic() - began
