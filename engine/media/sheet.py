"""Contact sheets: many pictures in one, with captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engine.errors import InvalidRequest

Pixels = NDArray[np.uint8]


def grid(
    images: Sequence[Pixels], columns: int, captions: Sequence[str] | None = None, *, pad: int = 8, text: int = 14
) -> Pixels:
    """Lay ``images`` out in rows of ``columns`` on white, each over its caption.

    Cells are as large as the largest picture; smaller ones stand in the middle of theirs.

    Args:
        images: (H, W, 3) each, sizes may differ.
        columns: pictures in a row.
        captions: one for each picture, cut with an ellipsis where it is wider than its cell.
        pad: px between cells and around them.
        text: px, height of the letters.

    Raises:
        InvalidRequest: no pictures, no columns, or another number of captions than of pictures.
    """
    if not images or columns < 1:
        raise InvalidRequest(f"A sheet needs at least 1 picture and 1 column, not {len(images)} and {columns}.")
    if captions is not None and len(captions) != len(images):
        raise InvalidRequest(f"There are {len(captions)} captions for {len(images)} pictures.")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width, height = max(image.shape[1] for image in images), max(image.shape[0] for image in images)
    foot = 0 if captions is None else text + text // 2
    size = pad + columns * (width + pad), pad + rows * (height + foot + pad)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(text)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        x, y = pad + column * (width + pad), pad + row * (height + foot + pad)
        sheet.paste(Image.fromarray(image), (x + (width - image.shape[1]) // 2, y + (height - image.shape[0]) // 2))
        if captions is not None:
            caption = _shortened(captions[index], width, draw, font)
            draw.text((x + width / 2, y + height + foot / 2), caption, "black", font, anchor="mm")
    return np.asarray(sheet)


def _shortened(
    caption: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    caption = " ".join(caption.split())
    if draw.textlength(caption, font) <= width:
        return caption
    while caption and draw.textlength(caption + "…", font) > width:
        caption = caption[:-1]
    return caption + "…"
