"""A stylizer or a brush against the slow yardstick: style and content distance, beside neural style transfer itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import media
from engine.checkpoints import Model
from engine.data.intake import open_photo
from engine.data.paintings import find_pictures
from engine.errors import InvalidRequest
from engine.evaluate.painters import Account, Pixels
from engine.nets.canvas import primed
from engine.nets.stylenet import StyleNet
from engine.nets.vgg import VGGFeatures
from engine.pipelines.pictures import from_pixels, resize, to_pixels
from engine.pipelines.stylize import Look, style_vector
from engine.train.gatys import Yardstick, gatys, load_eyes


def evaluate_stylizer(
    model: Model,
    data: Path,
    *,
    photos: int = 3,
    styles: int = 4,
    size: int = 256,
    steps: int = 60,
    eyes: VGGFeatures | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> Account:
    """Paint ``photos`` of <data>/photos in ``styles`` of <data>/styles, with ``model`` and by optimisation.

    A style is the vector of the model's table if a style's name ends the file's, else the picture is studied.

    Args:
        size: px, side of the squares that are painted.
        steps: of the optimisation; 0 leaves it out.
        tell: told the share of the work that is done.

    Raises:
        InvalidRequest: ``data`` lacks one of the two folders.
    """
    originals = [square(path, size) for path in evenly(_pictures(data / "photos"), photos)]
    pictures = evenly(_pictures(data / "styles"), styles)
    eyes = eyes or load_eyes()
    cells: list[Pixels] = []
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(pictures):
        style = square(path, size)
        for index, photo in enumerate(originals):
            measure = Yardstick(photo, style, eyes)
            with torch.inference_mode():
                ours = painted_in(model, path.stem, style, photo)
            painted = {"photo": photo, "model": ours}
            if steps:
                painted["gatys"] = gatys(photo, style, eyes=eyes, steps=steps)
            for name, picture in painted.items():
                with torch.inference_mode():
                    in_style, in_content = measure(picture)
                rows.append({"style": path.stem, "by": name, "style_distance": float(in_style),
                             "content_distance": float(in_content)})  # fmt: skip
            cells += [to_pixels(each) for each in (style, *painted.values())]
            tell((number * len(originals) + index + 1) / (len(pictures) * len(originals)))
    figures = {
        "model": model.card.name, "kind": model.card.kind, "sha256": model.card.sha256, "size": size, "steps": steps,
        "mean": {name: _means(rows, name) for name in dict.fromkeys(row["by"] for row in rows)},
        "pairs": [row | {key: round(row[key], 4) for key in ("style_distance", "content_distance")} for row in rows],
    }  # fmt: skip
    columns = len(cells) // (len(pictures) * len(originals))
    names = ["style", "photo", "model", "gatys"][:columns]
    captions = [*names, *[""] * (len(cells) - columns)]
    return Account(figures, {"style, photo, this model, optimisation": media.grid(cells, columns, captions)})


def _means(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    mine = [row for row in rows if row["by"] == name]
    return {key: round(float(np.mean([row[key] for row in mine])), 4) for key in ("style_distance", "content_distance")}


def _pictures(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InvalidRequest(f"There is no folder {root}; a stylizer is measured on DIR/photos and DIR/styles.")
    return find_pictures(root)


def evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """Return ``count`` of ``paths``, or all if there are fewer, in equal steps from the first to the last."""
    return [paths[int(row)] for row in np.linspace(0, len(paths) - 1, min(count, len(paths)))]


def square(path: Path, size: int) -> Tensor:
    """Return the middle of a picture at ``size`` px, (1, 3, S, S)."""
    picture = from_pixels(open_photo(path.read_bytes(), max_side=4 * size))
    side = min(picture.shape[2:])
    top, left = (picture.shape[2] - side) // 2, (picture.shape[3] - side) // 2
    return resize(picture[:, :, top : top + side, left : left + side], size, size)


def row_of(model: Model, stem: str) -> int | None:
    """Return the row of the style that the picture file ``stem`` is, by the end of its name; None for a stranger."""
    for row, style in enumerate(model.card["styles"]):
        if stem == style["name"] or (style.get("artist") and stem.endswith(style["name"])):
            return row
    return None


def painted_in(model: Model, stem: str, style: Tensor, photo: Tensor) -> Tensor:
    """Return ``photo`` (1, 3, H, W) in the style of a picture (1, 3, h, w), as a job paints it.

    If the picture's name is in the model's table, by the table's vector and on its canvas, else studied.
    """
    assert isinstance(model.net, StyleNet)
    row = row_of(model, stem)
    look = Look(model.card, picture=style) if row is None else Look(model.card, ((model.card.styles[row], 1.0),))
    canvas = primed(photo, look.canvas)
    return model.net(canvas, style_vector(model.net, look, canvas)).float().clamp(0, 1)
