"""Photos painted over by the studio's own styles and brushes: paintings for a genre that has few.

A painter learned no animal from 208 paintings of as many kinds; three hundred photos of cats, dogs and birds, each
painted three times, are a genre.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from engine.api import StylizeRequest, parse_seed
from engine.data.crops import apart
from engine.data.folders import Report, slug, write_picture
from engine.data.intake import open_photo
from engine.data.paintings import find_pictures
from engine.errors import GanvasError
from engine.pipelines import Pipelines
from engine.pipelines.stylize import Look, find_look

# Looks in which a photo becomes a painting and stays what it shows; chosen by eye from all that are released.
PAINTERLY = (
    "fresco", "golden-canvas", "impression-sunrise", "japanese-print", "large-blue-horses", "mont-sainte-victoire",
    "parchment", "pastel", "shipwreck-of-the-minotaur", "starry-night", "tahitian-women-on-the-beach", "terracotta",
    "van-gogh", "view-of-toledo", "water-lilies",
)  # fmt: skip
STRENGTHS = 0.55, 0.9  # below it stays a photo, above it small forms are lost
OWN_COLOURS = 0.6  # share of the paintings in a style that keep the photo's colours; brushes always choose theirs


def paint_folder(
    source: Path,
    out: Path,
    *,
    looks: Sequence[str] = PAINTERLY,
    each: int = 3,
    size: int = 256,
    seed: int = 0,
    on_file: Callable[[int], None] | None = None,
) -> Report:
    """Paint every photo of ``source`` in ``each`` of the ``looks``, into the same folders below ``out``.

    Which ones, how strongly and whether in the photo's colours is drawn from ``seed`` and the photo's name, so running
    it again paints only what is missing.

    Args:
        looks: names of styles, mixes of styles and brushes.
        size: px, long side of the paintings.

    Raises:
        InvalidRequest: ``out`` lies in ``source``, or a look is a model that paints over nothing.
        UnknownName: nobody knows one of the ``looks``.
    """
    apart(source, out)
    known = [find_look(name) for name in looks]
    report = Report()
    with Pipelines() as pipelines:
        for done, path in enumerate(find_pictures(source), 1):
            name = path.relative_to(source)
            drawn = {out / name.with_name(f"{path.stem}-{slug(look.name)}.jpg"): (look, strength, keep)
                     for look, strength, keep in _draw(name, known, each, seed)}  # fmt: skip
            missing = [target for target in drawn if not target.exists()]
            report.skipped += len(drawn) - len(missing)
            try:
                photo = path.read_bytes() if missing else b""
                for target in missing:
                    (outcome,) = pipelines.run([_request(photo, size, *drawn[target])])
                    if isinstance(outcome, GanvasError):
                        raise outcome
                    write_picture(open_photo(outcome.outputs[0].data), target)
                    report.written += 1
            except (GanvasError, OSError) as error:
                report.broken.append(f"{path}: {error}")
            if on_file:
                on_file(done)
    return report


def _draw(name: Path, looks: Sequence[Look], each: int, seed: int) -> Iterator[tuple[Look, float, bool]]:
    """Yield looks, strengths and whether the photo's colours stay."""
    rng = np.random.default_rng(parse_seed(f"{seed} {name.as_posix()}"))
    for number in rng.permutation(len(looks))[:each]:
        yield looks[number], float(rng.uniform(*STRENGTHS)), bool(rng.random() < OWN_COLOURS)


def _request(photo: bytes, size: int, look: Look, strength: float, keep_colours: bool) -> StylizeRequest:
    if look.card.kind == "brush":
        return StylizeRequest(photo=photo, size=size, strength=strength, model=look.name)
    return StylizeRequest(photo=photo, size=size, strength=strength, keep_colours=keep_colours, style=look.name)
