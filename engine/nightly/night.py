"""One night: votes -> taste -> lesson -> gate -> a candidate, or the reason why there is none.

A night ends in one of three states.  "rested": nothing was learned, because the votes say nothing sure, nothing sure
was gained, or the painter is as far from its base release as it may go.  "refused": the gate found the candidate
wanting.  "candidate": a model folder that may be tried on people.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine import checkpoints
from engine.api import PSI
from engine.checkpoints import Model, write_atomic
from engine.data.intake import open_photo
from engine.data.paintings import PictureSet, load_pictures
from engine.data.splits import is_held_out
from engine.errors import BrokenModel, InvalidRequest, UnknownName, UnreadableImage
from engine.evaluate.painters import Latents, Paintings, draw_latents, of_genres, paint
from engine.evaluate.spaces import Space
from engine.media import encode_still, grid
from engine.nightly import gate, lesson
from engine.nightly.gate import Check, Evidence, GateConfig
from engine.nightly.lesson import LessonConfig, LessonFailed, Stream
from engine.nightly.looks import Look
from engine.nightly.taste import fit, trust, unheard
from engine.nightly.votes import Ballot, Pair, Work, pairs

HELD_OUT = 0.1  # of the host's paintings, by their bytes: for ever unseen by lessons
MOST_REAL = 1000  # paintings in the gate
SHARES = (1.0, 0.5, 0.25, 0.1)  # of the way a lesson went, tried in turn
DIARY = "night.json"
BEFORE, AFTER = "before.webp", "after.webp"  # the same latents, painted by the champion and by the candidate
SHOWN = 4  # of each genre on a sheet
BEST_OF = 4  # samples that a painter with a taste chooses each painting from
ENOUGH = 200  # paintings of a host from which lessons can be held; with fewer the base's samples stand in


@dataclass(frozen=True)
class NightConfig:
    """How a night is held."""

    lesson: LessonConfig = field(default_factory=LessonConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    anchors: int = 1024  # samples of the base release that stand for paintings where a host has none
    plain: bool = False  # train on paintings alone when the votes say nothing; else rest
    seed: int = 0


@dataclass(frozen=True)
class Judges:
    """Who looks: the taste's features, and the gate's spaces."""

    looks: Look
    spaces: Sequence[Space]


@dataclass
class Night:
    """What happened, for the diary."""

    state: str  # rested, refused or candidate
    why: str
    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    candidate: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "state": self.state, "why": self.why, "candidate": str(self.candidate) if self.candidate else None,
            **self.figures, "gate": [check.to_json() for check in self.checks],
        }  # fmt: skip


def hold_night(
    ballot: Ballot,
    champion: Model,
    out: Path,
    judges: Judges | Callable[[], Judges],
    config: NightConfig | None = None,
    *,
    name: str,
    paintings: Path | None = None,
    cache: Path = Path("runs/cache"),
    dry_run: bool = False,
    paused: Path | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> Night:
    """Hold a night and write its diary, night.json, into ``out``; the candidate, if any, is ``out``/``name``.

    Args:
        champion: the painter in office, with its discriminator.
        judges: or what fetches them when they are needed.
        name: of the candidate.
        paintings: the host's own, <folder>/<genre>/; samples of the base release stand in where there are few.
        dry_run: stop after looking at the votes.
        paused: a file; while it exists the lesson waits.
    """
    started = time.monotonic()
    config = config or NightConfig()
    base = base_of(champion)
    if not dry_run:
        out.mkdir(parents=True, exist_ok=True)
    night = _hold(ballot, champion, base, out, judges, config, name, paintings, cache, dry_run, paused, tell)
    night.figures = {
        "champion": champion.card.name, "base": base.card.name, "votes_sha256": ballot.digest(),
        "votes": {"counted": len(ballot.votes), "duels": len(ballot.duels), "voters": len(ballot.voters),
                  "works": len(ballot.works), "left_out": dict(ballot.left_out)},
        **night.figures, "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    if not dry_run:
        write_atomic(out / DIARY, (json.dumps(night.to_json(), indent=2) + "\n").encode())
    return night


def _hold(
    ballot: Ballot,
    champion: Model,
    base: Model,
    out: Path,
    judges: Judges | Callable[[], Judges],
    config: NightConfig,
    name: str,
    paintings: Path | None,
    cache: Path,
    dry_run: bool,
    paused: Path | None,
    tell: Callable[[float], None],
) -> Night:
    # Listen to the votes; where they are too few nobody needs to look at anything.
    chosen = pairs(ballot, config.seed)
    belief = unheard(chosen)
    if belief.scarce and not config.plain:
        return Night(
            "rested", f"The votes teach nothing yet: {belief.why}.", {"taste": asdict(belief) | {"usable": False}}
        )
    judges = judges() if callable(judges) else judges
    features = look_at(ballot, champion, judges.looks)
    chosen = [pair for pair in chosen if pair.winner in features and pair.loser in features]
    belief = trust(features, chosen, seed=config.seed)
    figures: dict[str, Any] = {"taste": asdict(belief) | {"usable": belief.usable}}
    if not belief.usable and not config.plain:
        return Night("rested", f"The votes teach nothing yet: {belief.why}.", figures)
    taste = other = None
    if belief.usable:
        heard, others = part_voters(chosen)
        taste, other = fit(features, heard, seed=config.seed), fit(features, others, seed=config.seed)
    if dry_run:
        return Night("rested", "This was a dry run; a lesson would be held.", figures)

    # Hold the lesson.
    material = gather(base, paintings, cache, config.anchors)
    stream, ceiling = material.stream, 0.0
    if taste is not None:
        stream, ceiling = lesson.with_taste(stream, taste, judges.looks)
    figures["real"] = {"source": material.source, "lesson": len(stream), "gate": len(material.real)}
    try:
        taught = lesson.teach(
            champion, base, stream, config.lesson, taste=taste, looks=judges.looks, ceiling=ceiling,
            tell=lambda share: tell(0.9 * share), paused=paused,
        )  # fmt: skip
    except LessonFailed as error:
        return Night("refused", str(error), figures)
    figures["lesson"] = taught.figures

    # Let the gate judge; a lesson that went too far is taken half as far, and half of that.
    learning = set(lesson.learning_parameters(taught.net, config.lesson.learning_blocks))
    latents = draw_latents(config.gate.samples, taught.net.z_dim, torch.as_tensor(stream.labels), config.gate.seed)
    evidence = Evidence(
        material.real, material.real_labels, latents, judges.spaces, material.known, judges.looks, other
    )
    limits = config.gate
    if material.known is None:
        limits = replace(limits, kid_noise=max(limits.kid_noise, limits.samples_noise))
    judging = gate.Gate(champion, base, evidence, limits, learning=learning)
    figures["tried"] = {}
    too_far: Check | None = None
    useless = False  # even the whole lesson gains nothing
    for share in SHARES:
        candidate = part_of_the_way(champion.net, taught.net, share)
        checks = judging.judge(candidate)
        figures["share"] = share
        failed = [check for check in checks if not check.passed]
        figures["tried"][str(share)] = [str(check) for check in failed]
        costs = [check for check in failed if check.name not in gate.GAINS]
        useless |= share == 1.0 and len(costs) < len(failed)
        if not costs:  # it passed, or gained nothing: then a smaller share gains nothing either
            break
        too_far = too_far or next((check for check in costs if not check.leash), None)
    tell(1.0)
    if checks[0].passed:  # the weights are numbers
        show(champion, candidate, out)
    if costs and all(check.leash for check in costs):
        why = f"It is as far from the base release as it may go: {costs[0]} is allowed."
        return Night("rested", why, figures, checks)
    if failed and too_far and (costs or not useless):
        return Night("refused", f"{too_far} is allowed.", figures, checks)
    if failed:
        return Night("rested", f"The lesson gained nothing sure: {failed[0]} is wanted.", figures, checks)
    fields = dict(champion.card.fields) | {
        "name": name, "base": base.card.name, "base_sha256": base.card.sha256, "parent": champion.card.name,
        "votes_sha256": ballot.digest(), "night": figures | {"gate": [check.to_json() for check in checks]},
    }  # fmt: skip
    liked = None
    if taste is not None:
        liked = taste.tensors()
        fields["defaults"] = dict(fields.get("defaults") or {}) | {"best_of": BEST_OF}
    card = checkpoints.save(fields, candidate, taught.discriminator, taste=liked, root=out)
    return Night("candidate", "It passed the gate.", figures, checks, card.folder)


def base_of(champion: Model) -> Model:
    """Return the release that ``champion`` descends from; itself if it is one, or if another has its name by now."""
    named = champion.card.get("base")
    if named is None or named == champion.card.name:
        return champion
    try:
        base = checkpoints.load(str(named))
    except UnknownName as error:
        raise BrokenModel(
            f"The painter {champion.card.name} descends from {named}, which is gone; bring it back."
        ) from error
    return base if champion.card.get("base_sha256") in (None, base.card.sha256) else champion


def part_voters(chosen: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Part the pairs by voter: about two thirds teach, the others judge what came of it."""
    voters = sorted({pair.voter for pair in chosen})
    shuffled = np.random.default_rng(len(voters)).permutation(voters).tolist()
    judging = set(shuffled[: max(2, len(voters) // 3)])
    return [p for p in chosen if p.voter not in judging], [p for p in chosen if p.voter in judging]


def part_of_the_way(champion: nn.Module, taught: nn.Module, share: float) -> nn.Module:
    """Return champion + ``share`` (taught - champion), in the precision of the disk: what people will get."""
    candidate = copy.deepcopy(taught)
    before = champion.state_dict()
    for key, value in candidate.state_dict().items():
        if value.is_floating_point() and not torch.equal(value, before[key]):
            value.copy_(torch.lerp(before[key], value, share))
            if value.dim() > 1 and torch.isfinite(value.half()).all():
                value.copy_(value.half())
    return candidate


def show(champion: Model, candidate: nn.Module, out: Path) -> None:
    """Write the sheets ``BEFORE`` and ``AFTER``: the same latents, as the champion and as ``candidate`` paint them."""
    genres = list(champion.card["genres"])
    labels = torch.arange(len(genres)).repeat_interleave(SHOWN)
    z = torch.randn(len(labels), int(candidate.z_dim), generator=torch.Generator().manual_seed(3))  # type: ignore[arg-type]
    captions = [genres[int(label)].replace("-", " ") for label in labels]
    for file, net in ((BEFORE, champion.net), (AFTER, candidate)):
        small = paint(net, Latents(z, labels), PSI).float()
        painted = F.interpolate(small, scale_factor=2, mode="bicubic").clamp(0, 255)
        pictures = list(painted.round().byte().permute(0, 2, 3, 1).numpy())
        write_atomic(out / file, encode_still(grid(pictures, 2 * SHOWN, captions, text=12), "webp", {}).data)


# What was voted on


@torch.inference_mode()
def look_at(ballot: Ballot, champion: Model, looks: Look) -> dict[str, Tensor]:
    """Return the features (F,) of every work that can still be seen.

    A painting of a painter that is here is painted again as it came from the generator; the features then are those
    the lesson sees.  Another is read from its file.  What cannot be seen is told in ``ballot.left_out``.
    """
    by_model: dict[str | None, list[Work]] = {}
    for work in ballot.works.values():
        by_model.setdefault(work.model, []).append(work)
    found: dict[str, Tensor] = {}
    for sha256, works in by_model.items():
        model = champion if sha256 in (None, champion.card.sha256) else _model_of(sha256)
        for start in range(0, len(works), 16):
            some = works[start : start + 16]
            if model is not None:
                pictures = _again(model, some)
            else:
                pictures = {work.key: picture for work in some if (picture := _from_file(work, champion)) is not None}
            for key, picture in pictures.items():
                found[key] = looks(picture[None])[0].clone()
    if gone := len(ballot.works) - len(found):
        ballot.left_out["works that cannot be seen any more"] = gone
    return found


def _model_of(sha256: str | None) -> Model | None:
    for card in checkpoints.catalogue("painter"):
        if card.sha256 == sha256:
            return checkpoints.load(card.name)
    return None


def _again(model: Model, works: Sequence[Work]) -> dict[str, Tensor]:
    genres = list(model.card["genres"])
    known = [work for work in works if work.genre in genres and work.seed is not None]
    if not known:
        return {}
    net = model.net
    z = torch.stack(
        [torch.randn(int(net.z_dim), generator=torch.Generator().manual_seed(work.seed or 0)) for work in known]  # type: ignore[arg-type]
    )
    genre = F.one_hot(torch.tensor([genres.index(work.genre) for work in known]), len(genres)).float()
    painted = net(z, genre, torch.tensor([work.psi for work in known])).float().clamp(0, 1)
    return {work.key: picture for work, picture in zip(known, painted, strict=True)}


def _from_file(work: Work, champion: Model) -> Tensor | None:
    if work.file is None:
        return None
    try:
        pixels = open_photo(work.file.read_bytes(), max_side=512)
    except (OSError, UnreadableImage):
        return None
    size = int(champion.net.resolution)  # type: ignore[arg-type]
    picture = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(picture, (size, size), mode="bilinear", antialias=True)[0]


# What lessons and gate are made of


@dataclass(frozen=True)
class Material:
    """Paintings for the lesson, and others for the gate."""

    source: str  # "paintings", or "samples of the base release"
    stream: Stream
    real: Tensor  # uint8 (N, 3, S, S)
    real_labels: Tensor
    known: Tensor | None


def gather(base: Model, paintings: Path | None, cache: Path, anchors: int) -> Material:
    """Return the host's paintings, a tenth of them for the gate; where there are few, samples of the base release."""
    if paintings is not None and paintings.is_dir():
        size, genres = int(base.net.resolution), list(base.card["genres"])  # type: ignore[arg-type]
        try:
            pictures = load_pictures(paintings, size, cache)
        except InvalidRequest:  # an empty folder is a host without paintings
            pictures = None
        if pictures is not None and len(own := of_genres(pictures, genres, len(pictures))) >= ENOUGH:
            return _from_paintings(own, paintings)
    stream = lesson.anchor_stream(base, anchors)
    others = draw_latents(anchors, int(base.net.z_dim), torch.from_numpy(stream.labels), seed=2)  # type: ignore[arg-type]
    return Material("samples of the base release", stream, paint(base.net, others), others.labels, None)


def _from_paintings(own: Paintings, root: Path) -> Material:
    held = _unseen(root, own)
    kept = Paintings(own.pictures, own.rows[~held], own.labels[torch.from_numpy(~held)])
    rows = own.rows[held][:: max(1, int(held.sum()) // MOST_REAL)]
    labels = own.labels[torch.from_numpy(held)][:: max(1, int(held.sum()) // MOST_REAL)]
    some = kept.rows[:: max(1, len(kept) // MOST_REAL)]
    return Material(
        "paintings", lesson.stream_of(kept), _tensor(own.pictures, rows), labels, _tensor(own.pictures, some)
    )


def _unseen(root: Path, own: Paintings) -> np.ndarray:
    """Choose what the gate keeps: what ``dataset split`` holds out, too; of a set split already, another tenth."""
    held = np.zeros(len(own), bool)
    for salt in (b"", b"gate"):
        if not held.any():
            held = np.array(
                [is_held_out((root / own.pictures.paths[i]).read_bytes(), HELD_OUT, salt=salt) for i in own.rows]
            )
    return held


def _tensor(pictures: PictureSet, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(pictures.pixels[rows])).permute(0, 3, 1, 2).contiguous()
