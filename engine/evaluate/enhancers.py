"""An enhancer against the pictures themselves, shrunk and enlarged again, beside plain bicubic enlargement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine import media
from engine.checkpoints import Model
from engine.data.splits import HELD_OUT
from engine.errors import InvalidRequest
from engine.evaluate.painters import FEWEST, Account, Pixels
from engine.nets.vgg import VGGFeatures
from engine.pipelines.pictures import to_pixels
from engine.train.domains import load_domain
from engine.train.gatys import Yardstick, load_eyes

SHOWN = 6  # pictures in the report


def evaluate_enhancer(
    model: Model,
    data: Path,
    cache: Path,
    *,
    count: int = 50,
    size: int = 256,
    eyes: VGGFeatures | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> Account:
    """Shrink ``count`` of the pictures below ``data``, let ``model`` enlarge them again and compare.

    Where ``dataset split`` made ``data``, only its held-out part is taken.

    Args:
        count: at least 10.
        size: px, side of the squares that are compared; a multiple of 4.
        tell: told the share of the work that is done.

    Raises:
        InvalidRequest: there are fewer than 10 pictures, or ``size`` is no multiple of 4.
    """
    if size % 4:
        raise InvalidRequest(f"The size is {size} px; it must be a multiple of 4.")
    pictures = load_domain(data, HELD_OUT if (data / HELD_OUT).is_dir() else ".", "", size, cache).shown(count, size)
    if len(pictures) < FEWEST:
        raise InvalidRequest(f"There are {len(pictures)} pictures to compare; at least {FEWEST} are needed.")
    eyes = eyes or load_eyes()
    scales = [int(scale) for scale in model.card["scales"]]
    told: dict[tuple[int, str], list[Tensor]] = {}
    cells: list[Pixels] = []
    with torch.inference_mode():
        for number, picture in enumerate(pictures.split(1)):
            measure = Yardstick(picture, picture, eyes)
            for scale in scales:
                small = F.interpolate(picture, scale_factor=1 / scale, mode="bicubic", antialias=True).clamp(0, 1)
                plain = F.interpolate(small, (size, size), mode="bicubic").clamp(0, 1)
                enlarged = {"bicubic": plain, "model": model.net(small, scale).float()}
                for by, result in enlarged.items():
                    psnr = -10 * (result - picture).square().mean().log10()
                    told.setdefault((scale, by), []).append(torch.stack([psnr, *measure(result)]))
                if scale == max(scales) and len(cells) < 3 * SHOWN:
                    cells += [to_pixels(each) for each in (*enlarged.values(), picture)]
            tell((number + 1) / len(pictures))
    figures = {
        "model": model.card.name, "kind": "enhancer", "sha256": model.card.sha256, "size": size,
        "pictures": len(pictures),
        "scales": {f"x{scale}": {by: _means(told[scale, by]) for by in ("bicubic", "model")} for scale in scales},
    }  # fmt: skip
    captions = ["bicubic", "this model", "original", *[""] * (len(cells) - 3)]
    return Account(figures, {f"enlarged {max(scales)} times": media.grid(cells, 3, captions)})


def _means(rows: list[Tensor]) -> dict[str, Any]:
    names = ("psnr", "texture_distance", "content_distance")
    return {name: round(float(value), 4) for name, value in zip(names, torch.stack(rows).mean(0), strict=True)}
