"""A brush against its paintings: does it bring photos nearer to them, and what is left of the photo?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine import losses, media
from engine.checkpoints import Model
from engine.errors import InvalidRequest
from engine.evaluate import metrics
from engine.evaluate.metrics import Scale
from engine.evaluate.painters import FEWEST, Account
from engine.evaluate.spaces import SIZE, Space, seen
from engine.nets.canvas import primed
from engine.nets.vgg import VGGFeatures
from engine.pipelines.pictures import to_pixels
from engine.pipelines.stylize import look_of
from engine.train.domains import load_domain
from engine.train.gatys import CONTENT_TAP, load_eyes

MOST = 150  # paintings compared with
SEEN = 256  # px at which all are compared, in pieces of 128: strokes count more there than what is shown
SHOWN = 8  # pictures in a row of the report


def evaluate_brush(
    model: Model,
    data: Path,
    spaces: Sequence[Space],
    cache: Path,
    *,
    target: str = "paintings",
    count: int = 50,
    size: int = 512,
    eyes: VGGFeatures | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> Account:
    """Paint ``count`` of <data>/photos with ``model``; compare them, and the photos themselves, with <data>/<target>.

    Args:
        target: a folder or a pattern, as ``train cut --set target`` takes it.
        count: at least 10.
        size: px, side of the squares that are painted; at least 256.
        tell: told the share of the work that is done.

    Raises:
        InvalidRequest: a side has fewer than 10 pictures, or ``count`` or ``size`` is too small.
    """
    if size < SEEN:
        raise InvalidRequest(f"The size is {size} px; photos are painted at {SEEN} px or more to measure a brush.")
    if count < FEWEST:
        raise InvalidRequest(f"The count is {count}; a brush is measured on at least {FEWEST} photos.")
    originals = _shown(data, "photos", count, size, cache)
    photos, paintings = seen(originals, SEEN), _shown(data, target, MOST, SEEN, cache)
    canvas, eyes = look_of(model.card).canvas, eyes or load_eyes()
    painted, lost = [], []
    with torch.inference_mode():
        for number, photo in enumerate(originals.split(1)):
            painted.append(seen(model.net(primed(photo, canvas)).float(), SEEN))
            kept, shown = eyes(painted[-1])[CONTENT_TAP], eyes(photos[number : number + 1])[CONTENT_TAP]
            lost.append(losses.content_loss(kept, shown).mean())
            tell(0.7 * (number + 1) / len(photos))
    found = {}
    for space in spaces:
        real, before, after = (space(map(pieces, side)) for side in (paintings.split(8), photos.split(8), painted))
        scale = Scale.of(real)
        found[space.name] = {
            "kid_of_photos": metrics.kid_interval(scale(real), scale(before)).to_json(),
            "kid": metrics.kid_interval(scale(real), scale(after)).to_json(),
        }
    figures = {
        "model": model.card.name, "kind": "brush", "sha256": model.card.sha256, "size": size,
        "photos": len(photos), "paintings": len(paintings),
        "content_distance": round(float(torch.stack(lost).mean()), 4), "spaces": found,
    }  # fmt: skip
    rows = (photos.split(1), painted, paintings.split(1))
    cells = [to_pixels(side[len(side) * column // SHOWN]) for side in rows for column in range(SHOWN)]
    return Account(figures, {"photos, painted, and paintings": media.grid(cells, SHOWN)})


def pieces(pictures: Tensor) -> Tensor:
    """Return the pieces (B * (S // 128)^2, 3, 128, 128) of square pictures (B, 3, S, S)."""
    tiles = pictures.unfold(2, SIZE, SIZE).unfold(3, SIZE, SIZE)  # (B, 3, n, n, 128, 128)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def _shown(data: Path, side: str, most: int, size: int, cache: Path) -> Tensor:
    """Return at most ``most`` pictures (N, 3, S, S) of <data>/<side>, evenly taken."""
    pictures = load_domain(data, side, "", size, cache).shown(most, size)
    if len(pictures) < FEWEST:
        raise InvalidRequest(f"There are {len(pictures)} pictures in {data / side}; at least {FEWEST} are needed.")
    return pictures
