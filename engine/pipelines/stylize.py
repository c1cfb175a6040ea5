"""Photo -> painting, by a named style, any picture as the style, a mix of styles, or a brush."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine import checkpoints
from engine.api import StylizeRequest
from engine.checkpoints import Card, Model
from engine.errors import InvalidRequest, UnknownName
from engine.nets.canvas import GRAIN, Canvas, primed
from engine.nets.stylenet import StyleNet
from engine.pipelines.job import Job
from engine.pipelines.pictures import pad_to_stride, scaled, to_pixels, with_colours_of
from engine.pipelines.study import study

WHOLE = 2048 * 2048  # px; a larger picture is painted in tiles (the activations of this one take about 1.5 GB)
TILE = 1024  # px, of the kept part
OVERLAP = 32  # px over which neighbouring tiles are cross-faded
SMALL = 512  # px, long side of the copy that a tiled picture's statistics are measured on
STYLE_SIZE = 768  # px, long side at which a picture is studied as a style: strokes as large as in the picture itself
OWN_SIZE = 512  # px, long side at which the photo's own style is read
STUDY = 0.8  # share of the time that an unknown style is studied for
GROW = 2  # a photo smaller than the size asked for is enlarged at most so many times


@dataclass(frozen=True)
class Look:
    """How to paint over a picture: a stylizer with weighted styles of its table or a style picture, or a brush."""

    card: Card
    styles: tuple[tuple[str, float], ...] = ()  # names with their weights
    picture: Tensor | None = None

    @property
    def name(self) -> str:
        """What to write into a recipe, understood by :func:`find_look`."""
        if self.card.kind == "brush":
            return self.card.name
        weighted = len({weight for _, weight in self.styles}) > 1
        return "+".join(f"{style}:{weight:.15g}" if weighted else style for style, weight in self.styles)

    @property
    def canvas(self) -> Canvas:
        """The canvas that it is painted on (nets/canvas.py)."""
        if self.card.kind == "brush":
            return Canvas.of_brush(float(self.card["net"]["config"].get("grain", 0)))
        if self.picture is not None:
            return Canvas()
        known = {style["name"]: float(style.get("grain", GRAIN)) for style in self.card["styles"]}
        weights = sum(weight for _, weight in self.styles)
        return Canvas(sum(weight * known[style] for style, weight in self.styles) / weights)


def find_look(name: str) -> Look:
    """Return the look called ``name``: a style, a mix such as ``monet:2+hokusai``, or a model (brush or stylizer).

    Raises:
        UnknownName: the message lists styles and brushes.
    """
    try:
        return find_style(name)
    except UnknownName as error:
        try:
            return look_of(checkpoints.find(name))
        except UnknownName:
            raise error from None


def find_style(name: str) -> Look:
    """Return the look of a named style or of a mix; all styles of a mix belong to one stylizer."""
    parts = tuple(_weighted(part) for part in name.split("+"))
    for card in _stylizers():
        if all(style in card.styles for style, _ in parts):
            return Look(card, parts)
    known = [style for card in _stylizers() for style in card.styles]
    wrong = next((style for style, _ in parts if style not in known), name)
    brushes = [card.name for card in checkpoints.catalogue("brush")]
    raise UnknownName(f"There is no style {wrong!r}; there are {', '.join(known + brushes) or 'none yet'}.")


def look_of(card: Card) -> Look:
    """Return the look of a whole model: a brush, or a stylizer's default style.

    Raises:
        InvalidRequest: the model paints over nothing.
    """
    if card.kind == "brush":
        return Look(card)
    if card.kind != "stylizer":
        raise InvalidRequest(
            f"The model {card.name} is a {card.kind}; painting over a photo takes a stylizer or a brush."
        )
    return Look(card, ((card.get("defaults", {}).get("style", card.styles[0]), 1.0),))


def _weighted(part: str) -> tuple[str, float]:
    name, colon, weight = part.strip().partition(":")
    try:
        value = float(weight) if colon else 1.0
    except ValueError:
        value = 0.0
    if not 0 < value <= 100:
        raise InvalidRequest(f"The weight of a style is {weight!r}; it must be a number above 0, up to 100.")
    return name, value


def _stylizers() -> list[Card]:
    """Return all stylizers, the one in office first."""
    cards = checkpoints.catalogue("stylizer")
    if not cards:
        return []
    first = checkpoints.in_office("stylizer").name
    return sorted(cards, key=lambda card: card.name != first)


def stylize(job: Job, request: StylizeRequest) -> None:
    """Make the one output of ``request``."""
    photo = job.photo(request.photo, request.size)
    long_side = max(photo.shape[2:])
    if long_side < request.size:
        grown = min(request.size, GROW * long_side)
        if grown < request.size:
            job.note(f"The photo is only {long_side} px long, so the painting is {grown} px instead of {request.size}.")
        photo = scaled(photo, grown)
    look = _asked_look(job, request)
    painting = paint_over(job, photo, look, strength=request.strength)
    if request.keep_colours and request.strength > 0:
        painting = with_colours_of(painting, photo)
    normal = request if request.style_image is not None else _normal(request, look)
    job.deliver_still(to_pixels(painting), normal, request.format)


def _asked_look(job: Job, request: StylizeRequest) -> Look:
    if request.style_image is not None:
        return Look(checkpoints.in_office("stylizer"), picture=job.photo(request.style_image, STYLE_SIZE))
    if request.style is not None:
        return find_style(request.style)
    return look_of(checkpoints.find(request.model) if request.model else checkpoints.in_office("stylizer"))


def _normal(request: StylizeRequest, look: Look) -> StylizeRequest:
    if look.card.kind == "brush":
        return replace(request, style=None, model=look.name)
    return replace(request, style=look.name, model=None)


def paint_over(
    job: Job, photo: Tensor, look: Look, *, strength: float = 1.0, share: tuple[float, float] = (0, 1)
) -> Tensor:
    """Return ``photo`` (1, 3, H, W) painted in ``look``; reports progress within ``share`` of the job.

    Below full strength the style vector moves towards the photo's own, which softens the look without double
    contours, the canvas gets finer, and in the lower half the photo itself shines through, so that strength 0 is the
    photo.
    """
    if strength == 0:
        return photo
    model = job.model(look.card.name)
    start, end = share
    job.check(start)
    with job.network():
        canvas = primed(photo, look.canvas, strength)
        vector = None
        if isinstance(model.net, StyleNet):
            studied = start + STUDY * (end - start) if look.picture is not None else start
            vector = style_vector(model.net, look, canvas, lambda done: job.check(start + (studied - start) * done))
            start = studied
            if strength < 1:
                own = model.net.encode_style(scaled(photo, min(OWN_SIZE, max(photo.shape[2:]))))
                own = own if own.shape == vector.shape else model.net.uncorrected(own)
                vector = torch.lerp(own.float(), vector.float(), strength)
        padded = pad_to_stride(canvas, int(model.net.stride))  # type: ignore[arg-type]
        painting = _apply(model, padded, vector, lambda done: job.check(start + (end - start) * done))
        painting = painting[:, :, : photo.shape[2], : photo.shape[3]].float()
    job.check(share[1])
    opacity = strength if vector is None else min(1.0, 2 * strength)
    return torch.lerp(photo, painting, opacity).clamp_(0, 1)


def style_vector(
    net: StyleNet, look: Look, canvas: Tensor, tell: Callable[[float], None] = lambda done: None
) -> Tensor:
    """Return the style vector (1, S) of ``look``: of named styles, or of its picture, studied to paint ``canvas``."""
    if look.picture is not None:
        return study(net, canvas, look.picture, tell)
    table, names = net.style_table, look.card.styles
    rows = [table[names.index(style)] * weight for style, weight in look.styles]
    return torch.stack(rows).sum(0)[None] / sum(weight for _, weight in look.styles)


def _apply(model: Model, photo: Tensor, vector: Tensor | None, done: Callable[[float], None]) -> Tensor:
    """Run the network on the whole picture, or tile by tile with the statistics of a small copy."""
    net = model.net
    height, width = photo.shape[2:]
    if height * width <= WHOLE:
        return net(photo, vector)
    stride, margin = int(net.stride), int(net.margin)  # type: ignore[arg-type]
    statistics = net.statistics(pad_to_stride(scaled(photo, SMALL), stride), vector)  # type: ignore[operator]
    painting = torch.zeros_like(photo)
    weight = photo.new_zeros(1, 1, height, width)
    corners = [(top, left) for top in range(0, height, TILE) for left in range(0, width, TILE)]
    for index, (top, left) in enumerate(corners):
        rows, columns = _window(top, height, margin, stride), _window(left, width, margin, stride)
        tile = net(photo[:, :, rows, columns], vector, statistics.rewind()).float()
        fade = _fade(top, height, rows)[:, None] * _fade(left, width, columns)[None]
        painting[:, :, rows, columns] += tile * fade
        weight[:, :, rows, columns] += fade
        done((index + 1) / len(corners))
    return painting / weight


def _window(start: int, length: int, margin: int, stride: int) -> slice:
    """Return the part of an axis that the tile at ``start`` looks at: with its margin, in multiples of the stride."""
    margin = -(-margin // stride) * stride
    return slice(max(0, start - margin), min(length, start + TILE + margin))


def _fade(start: int, length: int, window: slice) -> Tensor:
    """Return the weights along an axis: 1 inside the tile, falling to 0 over OVERLAP px beyond its inner edges."""
    place = torch.arange(window.start, window.stop).float() + 0.5
    left = torch.ones_like(place) if start == 0 else (place - (start - OVERLAP / 2)) / OVERLAP
    right = torch.ones_like(place) if start + TILE >= length else (start + TILE + OVERLAP / 2 - place) / OVERLAP
    return torch.minimum(left, right).clamp_(0, 1)
