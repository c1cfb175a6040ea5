"""Genre and seed -> painting: sample, rank, enlarge, finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from engine import checkpoints
from engine.api import PaintRequest
from engine.checkpoints import Card
from engine.errors import UnknownName
from engine.pipelines import latents, ranking
from engine.pipelines.enhance import enhancer_or_note, enlarge
from engine.pipelines.job import Job
from engine.pipelines.pictures import to_pixels, with_relief_of
from engine.pipelines.stylize import Look, find_look, paint_over

FINISH_SIZE = 1024  # px, long side at which a finish is painted: strokes of a size that suits a wall and a phone
SAMPLING = 0.2  # of the work, as far as progress goes
SOFT = 2  # times; what is enlarged more than that is blurred, and gets a relief of strokes unless a look was chosen
RELIEF, DEPTH = "monet", 0.5  # strokes like impasto; of a stylizer's styles they make every sky a restless one


@dataclass(frozen=True)
class Sample:
    """One painting to be: the latent that was chosen and the generator's small picture."""

    seed: int
    picture: Tensor


def painter_of(request: PaintRequest) -> Card:
    """Return the painter that ``request`` names, or the one in office.

    Raises:
        UnknownName: the model is no painter.
    """
    return (
        checkpoints.in_office("painter") if request.model is None else checkpoints.find_kind("painter", request.model)
    )


def paint_all(jobs: Sequence[Job]) -> None:
    """Make the outputs of all ``jobs``, which name one painter: their samples share the generator's batches.

    Each job reports shares of the whole, not of its own part.
    """
    samples = _sample(jobs)
    begin = SAMPLING
    width = (1 - SAMPLING) / sum(len(drawn) for drawn in samples)
    for job, drawn in zip(jobs, samples, strict=True):
        assert isinstance(job.request, PaintRequest)
        for sample in drawn:
            _complete(job, job.request, sample, (begin, begin + width))
            begin += width


def _sample(jobs: Sequence[Job]) -> list[list[Sample]]:
    """Return the chosen samples of each job, from common batches."""
    lead = jobs[0]
    asked = [job.request for job in jobs if isinstance(job.request, PaintRequest)]
    card = painter_of(asked[0])
    many = [request.best_of or ranking.usual(card) for request in asked]
    ranked = max(many) > 1
    models = [job.model(card.name, discriminator=ranked) for job in jobs]  # each job records what it used
    model = models[0]
    seeds = [
        [
            [latents.candidate_seed(seed, k) for k in range(1 if ranking.unranked(request, seed) else best_of)]
            for seed in (_nth(request.seed, i) for i in range(request.count))
        ]
        for request, best_of in zip(asked, many, strict=True)
    ]
    points = [
        latents.point(
            model,
            request.genre,
            seed,
            request.psi,
            latents.grid_for(model, request.width, request.height),
            request.art_style,
        )
        for request, paintings in zip(asked, seeds, strict=True)
        for candidates in paintings
        for seed in candidates
    ]
    pictures = latents.paint(lead, model, points, share=(0, SAMPLING))
    judged = ranking.Judged.of(lead, model, points, pictures) if ranked else None
    chosen: list[list[Sample]] = []
    start = 0
    for paintings in seeds:
        chosen.append([])
        for candidates in paintings:
            best = judged.best(range(start, start + len(candidates))) - start if judged else 0
            chosen[-1].append(Sample(candidates[best], pictures[start + best]))
            start += len(candidates)
    return chosen


def _nth(seed: int, index: int) -> int:
    """Return the seed of painting ``index``; seeds wrap around at 2**63."""
    return (seed + index) % 2**63


def _complete(job: Job, request: PaintRequest, sample: Sample, share: tuple[float, float]) -> None:
    """Turn a sample into an output.  Its recipe asks for this one painting alone, by the seed that was chosen."""
    card = painter_of(request)
    foreign = request.art_style if request.art_style not in latents.art_styles_of(card) else None
    finish = finish_of(request.finish, card, default=foreign is None)
    looks = [_art_style(foreign, card)] if foreign else []
    looks += [finish] if finish else []
    soft = max(request.width, request.height) > SOFT * max(sample.picture.shape[2:])
    relief = _relief() if soft and not looks and request.finish is None else None
    begin, end = share
    done = (begin + end) / 2 if relief else end
    picture = complete(job, sample.picture, (request.height, request.width), looks, (begin, done))
    if relief:
        picture = with_relief_of(paint_over(job, picture, relief, share=(done, end)), picture, DEPTH)
    told = finish.name if finish else None if relief else "none"  # a relief is what comes when nobody chose
    normal = replace(request, seed=sample.seed, count=1, best_of=1, finish=told, model=card.name)
    job.deliver_still(to_pixels(picture), normal, request.format)


def finish_of(finish: str | None, painter: Card, *, default: bool = True) -> Look | None:
    """Return the look painted over a sample: the named one, or the painter's own (if ``default``); None is raw.

    Raises:
        UnknownName: there is no such style or brush.
    """
    if finish is None and default:
        finish = painter.get("defaults", {}).get("finish")
    return None if finish in (None, "none") else find_look(str(finish))


def _art_style(name: str, painter: Card) -> Look:
    """Return the look of an art style that the painter never learned: a style, the first of a movement, or a brush."""
    styles = [(card, style) for card in checkpoints.catalogue("stylizer") for style in card["styles"]]
    for card, style in styles:
        if name in (style["name"], style.get("movement")):
            return Look(card, ((style["name"], 1.0),))
    brushes = {card.name: card for card in checkpoints.catalogue("brush")}
    if name in brushes:
        return Look(brushes[name])
    learned = latents.art_styles_of(painter)
    known = dict.fromkeys([*learned, *(style.get("movement") or style["name"] for _, style in styles), *brushes])
    raise UnknownName(f"There is no art style {name!r}; there are {', '.join(known) or 'none yet'}.")


def _relief() -> Look | None:
    """Return the look whose strokes go over what would be soft, if it is there."""
    try:
        return find_look(RELIEF)
    except UnknownName:
        return None


def complete(
    job: Job, picture: Tensor, target: tuple[int, int], looks: Sequence[Look], share: tuple[float, float] = (0, 1)
) -> Tensor:
    """Return a sample at ``target`` (height, width), with ``looks`` painted over it at a size that suits them."""
    job.check(share[0])
    enhancer = enhancer_or_note(job)
    shrink = min(1.0, FINISH_SIZE / max(target))
    canvas = target if not looks else (max(1, round(target[0] * shrink)), max(1, round(target[1] * shrink)))
    width = (share[1] - share[0]) / (len(looks) + 2)
    picture = enlarge(job, picture, canvas, enhancer, share=(share[0], share[0] + width))
    for index, look in enumerate(looks):
        begin = share[0] + width * (index + 1)
        picture = paint_over(job, picture, look, share=(begin, begin + width))
    return enlarge(job, picture, target, enhancer, share=(share[1] - width, share[1]))
