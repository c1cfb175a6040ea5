"""Neural style transfer by optimisation (Gatys et al. 2016): slow, and the yardstick for what paints in one pass.

The pixels themselves are what is learned, starting from the photo.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from engine import losses
from engine.cli.console import Json, Out, describe, format_of, progress, read_file, summary, tell, tell_json
from engine.nets import channels_last
from engine.nets.vgg import VGGFeatures, load_vgg
from engine.train.system import has_bf16

STYLE_TAPS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1")
CONTENT_TAP = "conv3_3"
STYLE_WEIGHT = 1.5  # of the style loss against the content loss; from 4 on the photo is lost
RATE = 0.03  # of Adam, in units of full white
STEPS = 120


def load_eyes() -> VGGFeatures:
    """Return the frozen network that style and content are seen through."""
    return channels_last(load_vgg((*STYLE_TAPS, CONTENT_TAP)))


class Yardstick:
    """Style and content distance, both normalised, of any painting from a photo (1, 3, H, W) and a style picture."""

    def __init__(self, photo: Tensor, style: Tensor, eyes: VGGFeatures) -> None:
        self.eyes = eyes
        with torch.no_grad(), _precision():
            self.content = eyes(photo)[CONTENT_TAP]
            taps = eyes(style)
            self.moments = {tap: losses.moments(taps[tap]) for tap in STYLE_TAPS}

    def __call__(self, painting: Tensor) -> tuple[Tensor, Tensor]:
        """Return (style, content) distances, scalars; 0 is the style picture's texture and the photo's form."""
        with _precision():
            taps = self.eyes(painting)
            style = losses.style_loss({tap: losses.moments(taps[tap]) for tap in STYLE_TAPS}, self.moments)
            return style.mean(), losses.content_loss(taps[CONTENT_TAP], self.content).mean()


def _precision() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16())


def gatys(
    photo: Tensor,
    style: Tensor,
    *,
    eyes: VGGFeatures | None = None,
    steps: int = STEPS,
    style_weight: float = STYLE_WEIGHT,
    on_step: Callable[[float], None] | None = None,
) -> Tensor:
    """Return ``photo`` (1, 3, H, W) painted in the style of ``style`` (1, 3, h, w), all in [0, 1].

    Args:
        eyes: from :func:`load_eyes`, to load it only once.
        on_step: told the share of the work that is done.
    """
    measure = Yardstick(photo, style, eyes or load_eyes())
    canvas = photo.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([canvas], RATE)
    for step in range(steps):
        in_style, in_content = measure(canvas)
        optimizer.zero_grad(set_to_none=True)
        (in_content + style_weight * in_style).backward()
        optimizer.step()
        with torch.no_grad():
            canvas.clamp_(0, 1)
        if on_step:
            on_step((step + 1) / steps)
    return canvas.detach()


def command(
    photo: Annotated[Path, typer.Argument(help="A photo.", show_default=False)],
    style: Annotated[Path, typer.Argument(help="A picture in the style that is wanted.", show_default=False)],
    out: Out,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Long side of the result in px.")] = 384,
    steps: Annotated[int, typer.Option(min=1, max=5000, help="Steps of Adam.")] = STEPS,
    style_weight: Annotated[float, typer.Option(min=0, max=1000, help="Style against content.")] = STYLE_WEIGHT,
    as_json: Json = False,
) -> None:
    """Paint over a photo by optimisation: minutes for one picture, the yardstick of quality."""
    from engine import media
    from engine.api import STILL_FORMATS
    from engine.checkpoints import write_atomic
    from engine.data.intake import open_photo
    from engine.pipelines.pictures import from_pixels, to_pixels

    kind = format_of(out, STILL_FORMATS)
    pictures = [from_pixels(open_photo(read_file(path), max_side=size)) for path in (photo, style)]
    with progress("gatys") as show:
        painted = gatys(*pictures, steps=steps, style_weight=style_weight, on_step=show)
    made = media.encode_still(to_pixels(painted), kind, {})
    write_atomic(out, made.data)
    if as_json:
        tell_json({"outputs": [describe(out, made)]})
    else:
        tell(summary(out, made))
