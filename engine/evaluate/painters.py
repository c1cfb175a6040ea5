"""A painter against paintings: likeness, diversity, genre and memory in two spaces, and samples to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engine import media
from engine.api import parse_genre
from engine.checkpoints import Model
from engine.data.folders import art_style_of
from engine.data.paintings import PictureSet, load_pictures
from engine.data.splits import HELD_OUT, TRAIN
from engine.errors import InvalidRequest, UnknownName
from engine.evaluate import metrics
from engine.evaluate.metrics import Scale
from engine.evaluate.spaces import Space
from engine.nets.painter import EMPHASIS
from engine.train.system import has_bf16

Pixels = NDArray[np.uint8]

BATCH = 16
FEWEST = 10  # paintings to compare with; below that no figure means anything
SHOWN = 8  # pictures in a row of the report


@dataclass(frozen=True)
class Paintings:
    """Paintings whose labels are those of a painter's genres."""

    pictures: PictureSet
    rows: NDArray[np.int64]  # (N,) into ``pictures``
    labels: Tensor  # (N,) into the painter's genres

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self) -> Iterator[Tensor]:
        """Yield (B, 3, S, S) in [0, 1]."""
        for start in range(0, len(self), BATCH):
            yield self.pictures.batch(self.rows[start : start + BATCH])


@dataclass(frozen=True)
class References:
    """What a painter is compared with, and what it learned from."""

    judged: Paintings
    trained: Paintings | None  # None where nobody split the data: then ``judged`` may be what it learned from

    @property
    def held_out(self) -> bool:
        """Whether the paintings it is compared with are none that it was shown."""
        return self.trained is not None


def load_references(data: Path, genres: Sequence[str], size: int, cache: Path, *, most: int = 4000) -> References:
    """Return the paintings below ``data`` that are of ``genres``, at ``size`` px.

    Where ``dataset split`` made ``data``, or ``data`` is the held-out part of that, only this part judges.

    Raises:
        InvalidRequest: there are fewer than 10 such paintings.
    """
    if data.name == HELD_OUT and (data.parent / TRAIN).is_dir():
        data = data.parent
    split = (data / HELD_OUT).is_dir() and (data / TRAIN).is_dir()
    judged = of_genres(load_pictures(_paintings(data / HELD_OUT if split else data), size, cache), genres, most)
    if len(judged) < FEWEST:
        raise InvalidRequest(
            f"There are {len(judged)} paintings of {', '.join(genres)} in {data}; at least {FEWEST} are needed."
        )
    if not split:
        return References(judged, None)
    return References(judged, of_genres(load_pictures(_paintings(data / TRAIN), size, cache), genres, 2 * most))


def _paintings(root: Path) -> Path:
    return root / "paintings" if (root / "paintings").is_dir() else root


def of_genres(pictures: PictureSet, genres: Sequence[str], most: int) -> Paintings:
    """Keep at most ``most`` pictures, evenly taken."""
    index = {}
    for number, folder in enumerate(pictures.genres):
        try:
            name = parse_genre(folder)
        except UnknownName:
            name = folder
        if name in genres:
            index[number] = list(genres).index(name)
    rows = np.flatnonzero(np.isin(pictures.labels, list(index)))
    rows = rows[:: max(1, -(-len(rows) // most))]
    labels = torch.tensor([index[int(label)] for label in pictures.labels[rows]], dtype=torch.long)
    return Paintings(pictures, rows, labels)


# Samples


@dataclass(frozen=True)
class Latents:
    """Fixed points to paint from: the same for every painter that is compared."""

    z: Tensor  # (N, Z)
    labels: Tensor  # (N,)
    art_styles: Tensor | None = None  # (N,) into the painter's, where they are asked for, too

    def __len__(self) -> int:
        return len(self.z)


def draw_latents(count: int, z_dim: int, labels: Tensor, seed: int) -> Latents:
    """Return ``count`` latents whose genres come as often as in ``labels`` (M,)."""
    rng = torch.Generator().manual_seed(seed)
    odds = torch.bincount(labels).float()
    return Latents(torch.randn(count, z_dim, generator=rng), torch.multinomial(odds, count, True, generator=rng))


def paint(net: nn.Module, latents: Latents, psi: float = 1.0) -> Tensor:
    """Return the paintings of ``latents`` as uint8 (N, 3, R, R): rounded, as they are seen and stored."""
    painted = []
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16()):
        for start in range(0, len(latents), BATCH):
            batch = slice(start, start + BATCH)
            labels = F.one_hot(latents.labels[batch], int(net.genres)).float()  # type: ignore[arg-type]
            if latents.art_styles is not None:
                asked = F.one_hot(latents.art_styles[batch], int(net.art_styles))  # type: ignore[arg-type]
                labels = torch.cat([labels, EMPHASIS * asked], dim=1)
            pictures = net(latents.z[batch], labels, torch.full((len(labels),), psi))
            painted.append(pictures.float().mul(255).round().clamp(0, 255).byte())
    return torch.cat(painted).clone()


def batches(pictures: Tensor, size: int | None = None) -> Iterator[Tensor]:
    """Yield uint8 ``pictures`` (N, 3, R, R) as floats in [0, 1], scaled to ``size`` px."""
    for start in range(0, len(pictures), BATCH):
        batch = pictures[start : start + BATCH].float() / 255
        if size is not None and batch.shape[2] != size:
            batch = F.interpolate(batch, size=(size, size), mode="bilinear", antialias=True)
        yield batch


# The account


@dataclass(frozen=True)
class Account:
    """What was measured, as JSON, and pictures by caption."""

    figures: dict[str, Any]
    pictures: dict[str, Pixels]


def evaluate_painter(
    model: Model,
    references: References,
    spaces: Sequence[Space],
    *,
    count: int = 2000,
    psi: float = 1.0,
    seed: int = 2026,
    tell: Callable[[float], None] = lambda share: None,
) -> Account:
    """Measure ``model`` with ``count`` samples against ``references``.

    Args:
        spaces: the first one also classifies genres and looks for copies.
        psi: truncation of the samples; 1 is all that the painter can do.
        seed: of the latents.
        tell: told the share of the work that is done.
    """
    genres, size = list(model.card["genres"]), references.judged.pictures.pixels.shape[1]
    latents = draw_latents(count, int(model.net.z_dim), references.judged.labels, seed)  # type: ignore[arg-type]
    painted = paint(model.net, latents, psi)
    tell(0.2)

    figures: dict[str, Any] = {
        "model": model.card.name, "kind": "painter", "system": model.card.get("system"), "sha256": model.card.sha256,
        "samples": count, "psi": psi, "seed": seed, "size": size,
        "reference": {
            "paintings": len(references.judged), "held_out": references.held_out,
            "digest": references.judged.pictures.digest, "genres": _counts(references.judged.labels, genres),
        },
        "spaces": {},
    }  # fmt: skip
    pictures: dict[str, Pixels] = {}
    for number, space in enumerate(spaces):
        real, fake = space(references.judged.batches()), space(batches(painted, size))
        scale = Scale.of(real)
        real, fake = scale(real), scale(fake)
        figures["spaces"][space.name] = in_one_space(real, fake, references.judged.labels, latents.labels, genres)
        if number == 0:
            figures["genre_accuracy"] = label_accuracy(real, references.judged.labels, fake, latents.labels, genres)
            figures |= art_style_accuracy(model, references, space, scale, real, count, psi, seed)
            figures["memory"], pictures = _memory(references, scale, space, real, fake, painted)
        tell(0.2 + 0.8 * (number + 1) / len(spaces))
    return Account(figures, {"samples": samples_sheet(painted, latents.labels, genres, references)} | pictures)


def in_one_space(
    real: Tensor, fake: Tensor, real_labels: Tensor, fake_labels: Tensor, genres: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of one space, from features (N, F) and (M, F) in units of the real ones' spread."""
    manifolds = metrics.precision_recall(real, fake)
    theirs, ours = metrics.diversity(real, real_labels), metrics.diversity(fake, fake_labels)
    ratios = {genres[label]: round(ours[label] / theirs[label], 4) for label in ours if theirs.get(label)}
    return {
        "kid": metrics.kid_interval(real, fake).to_json(),
        "frechet": round(metrics.frechet(real, fake), 4),
        "precision": round(manifolds.precision, 4),
        "recall": round(manifolds.recall, 4),
        "coverage": round(manifolds.coverage, 4),
        "diversity": {"of_paintings": round(sum(ratios.values()) / max(len(ratios), 1), 4), "by_genre": ratios},
    }


def label_accuracy(
    real: Tensor, real_labels: Tensor, fake: Tensor, fake_labels: Tensor, names: Sequence[str]
) -> dict[str, Any]:
    """Return how often a classifier that was fitted on paintings sees in a sample the label that was asked for.

    Half of the paintings fit it and the other half tells what it is worth itself.
    """
    half = torch.arange(len(real)) % 2 == 0
    classifier = metrics.fit_classifier(real[half], real_labels[half], len(names))
    on_fakes = metrics.accuracy(classifier(fake), fake_labels)
    on_real = metrics.accuracy(classifier(real[~half]), real_labels[~half])
    return {
        "painter": round(on_fakes["mean"], 4),
        "paintings": round(on_real["mean"], 4),
        "chance": round(1 / len(names), 4),
        "by_label": {names[label]: round(share, 4) for label, share in on_fakes["by_label"].items()},
    }


def art_style_accuracy(
    model: Model,
    references: References,
    space: Space,
    scale: Scale,
    real: Tensor,
    count: int,
    psi: float,
    seed: int,
) -> dict[str, Any]:
    """Return {"art_style_accuracy": ...} of samples in the genres and art styles of the paintings that have both, and
    nothing where either side knows of no art styles."""
    judged, known = references.judged, list(model.card.get("art_styles") or ())
    named = [art_style_of(judged.pictures.paths[row]) for row in judged.rows]
    labels = torch.tensor([known.index(name) if name in known else -1 for name in named])
    rows = labels.ge(0).nonzero()[:, 0]
    if len(rows) < FEWEST:
        return {}
    rng = torch.Generator().manual_seed(seed)
    drawn = rows[torch.randint(len(rows), (count,), generator=rng)]
    z = torch.randn(count, int(model.net.z_dim), generator=rng)  # type: ignore[arg-type]
    painted = paint(model.net, Latents(z, judged.labels[drawn], labels[drawn]), psi)
    fake = scale(space(batches(painted, judged.pictures.pixels.shape[1])))
    return {"art_style_accuracy": label_accuracy(real[rows], labels[rows], fake, labels[drawn], known)}


def _memory(
    references: References, scale: Scale, space: Space, real: Tensor, fake: Tensor, painted: Tensor
) -> tuple[dict[str, Any], dict[str, Pixels]]:
    """Look for samples that are copies: nearer to a training picture than paintings nobody trained on are."""
    known = references.trained or references.judged
    features = scale(space(known.batches())) if references.trained else real
    distance, which = metrics.nearest(features, fake)
    figures: dict[str, Any] = {"nearest": round(float(distance.median()), 4), "least": round(float(distance.min()), 4)}
    if references.trained:
        usual = metrics.nearest(features, real)[0]
        figures["nearest_of_held_out"] = round(float(usual.median()), 4)
        figures["ratio"] = round(float(distance.median() / usual.median()), 4)
    closest = distance.argsort()[:SHOWN]
    ours = [_pixels(painted[i], known.pictures.pixels.shape[1]) for i in closest]
    theirs = [np.asarray(known.pictures.pixels[known.rows[int(which[i])]]) for i in closest]
    return figures, {"samples nearest to a known painting, above that painting": media.grid([*ours, *theirs], SHOWN)}


def samples_sheet(painted: Tensor, labels: Tensor, genres: Sequence[str], references: References) -> Pixels:
    """Return a sheet with two rows for each genre: samples, then paintings."""
    judged, size = references.judged, references.judged.pictures.pixels.shape[1]
    cells: list[Pixels] = []
    captions: list[str] = []
    blank = np.full((size, size, 3), 255, np.uint8)
    for label in labels.unique().tolist():
        mine = [_pixels(painted[i], size) for i in (labels == label).nonzero()[:SHOWN, 0]]
        rows = judged.rows[(judged.labels == label).numpy()][:SHOWN]
        theirs = [np.asarray(judged.pictures.pixels[row]) for row in rows]
        for row, caption in ((mine, genres[label]), (theirs, "paintings")):
            cells += row + [blank] * (SHOWN - len(row))
            captions += [caption, *[""] * (SHOWN - 1)]
    return media.grid(cells, SHOWN, captions, pad=4)


def _pixels(picture: Tensor, size: int) -> Pixels:
    (batch,) = batches(picture[None], size)
    return np.asarray(batch[0].mul(255).round().clamp(0, 255).byte().permute(1, 2, 0))


def _counts(labels: Tensor, genres: Sequence[str]) -> dict[str, int]:
    return {genres[label]: int((labels == label).sum()) for label in labels.unique().tolist()}
