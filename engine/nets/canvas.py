"""A canvas whose grain flows along the forms of a picture, for strokes to hold on to.

A network that paints over an empty sky is told nothing there, and answers with a weave of its own in one direction
(seen in every style and brush).  Primed with a little noise that was smeared along the contours nearby (line integral
convolution, Cabral and Leedom 1993, along the smoothed structure tensor of Kang et al. 2007), the same network lays its
strokes around a tower and lets them sweep through the sky.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.nets.stylenet import AXES

GRAIN = 0.05  # usual deviation of a canvas: at 0.03 few strokes turn, at 0.12 petals are scratched
FINE = 3  # px of the picture to a place of the grain: as wide as the networks' own strokes
MOST = 320  # places along the longer side: a larger picture gets coarser grain and bolder strokes
STEPS, STEP = 8, 1.8  # of the way that noise is smeared to either side, and their length in places
DABS, CHROMA = 4, 0.4  # a brush's steps, and colours of its own: see Canvas
REACHES = 2, 6, 18, 54  # places over which directions are averaged; ...
FAR = 0.3  # ... the farther ones count less, so that they decide only where nothing is near
HUSHED = 0.03  # contrast below which the picture says nothing, and strokes run across it in ...
WAVE = 0.6  # ... waves, turned by so many radians; any directions at all would meet in stars
BUSY = 0.07  # local contrast beyond which the picture has grain enough of its own
SEED = 2026  # of the noise, wherever the same photo shall get the same painting
DARK = 0.3  # share of the grain that black has: on it as much noise is seen as a grey streak


@dataclass(frozen=True)
class Canvas:
    """How a look wants its photos primed.

    Attributes:
        grain: standard deviation of the brightness where a photo is empty; 0 is no canvas at all.
        chroma: share of that deviation that each opponent colour has of its own, for strokes of broken colour.
        steps: of the way that noise is smeared to either side: strokes are long or dabs.
    """

    grain: float = GRAIN
    chroma: float = 0.0
    steps: int = STEPS

    @classmethod
    def of_brush(cls, grain: float) -> Canvas:
        """Return one for dabs of broken colour, which brushes paint on: nearer to their paintings than long strokes."""
        return cls(grain, CHROMA, DABS)


def primed(photo: Tensor, canvas: Canvas, strength: float = 1.0, seed: int = SEED) -> Tensor:
    """Return ``photo`` (B, 3, H, W) in [0, 1] on ``canvas``, whose grain counts ``strength`` times."""
    grain = strength * canvas.grain
    return photo.add(flowing(photo, canvas, seed), alpha=grain) if grain else photo


@torch.no_grad()
def flowing(photo: Tensor, canvas: Canvas, seed: int = SEED) -> Tensor:
    """Return the grain for ``photo`` (B, 3, H, W): of unit deviation or less: the busier, the less.

    The same picture has the same grain, in any batch: each is smeared of the noise of ``seed``.

    Returns:
        (B, 1, H, W), or (B, 3, H, W) where the canvas has chroma.
    """
    height, width = photo.shape[2:]
    scale = min(1 / FINE, MOST / max(height, width))
    rim = math.ceil(canvas.steps * STEP)  # beyond the edges, or the smear would pile up there
    rows, columns = max(2, round(scale * height)), max(2, round(scale * width))
    with torch.autocast(photo.device.type, enabled=False):
        small = F.interpolate(photo.float(), (rows, columns), mode="bilinear", antialias=True)
        axes = AXES.to(small.device)
        luma = (small * axes[0][:, None, None]).sum(1, keepdim=True)
        fields = 3 if canvas.chroma else 1
        framed = (F.pad(each[None], [rim] * 4, mode="replicate") for each in luma)
        grain = torch.stack([smear(each, fields, canvas.steps, seed) for each in framed])[:, :, rim:-rim, rim:-rim]
        seen = (1 - _busy(luma)) * (DARK + (1 - DARK) * _soft(luma, 3))
        grain = seen * grain / grain.std((2, 3), keepdim=True)
        grain = F.interpolate(grain, (height, width), mode="bicubic")
        if canvas.chroma:
            mixed = torch.linalg.inv(axes) * axes.new_tensor([1, canvas.chroma, canvas.chroma])
            grain = (mixed @ grain.flatten(2)).view(photo.shape)
        return grain.to(photo.dtype)


def smear(luma: Tensor, fields: int, steps: int, seed: int) -> Tensor:
    """Return ``fields`` of noise smeared along the contours of ``luma`` (1, 1, h, w): (fields, h, w)."""
    height, width = luma.shape[2:]
    rng = torch.Generator().manual_seed(seed)

    def blots(count: int) -> Tensor:
        drawn = torch.randn(count, 1, height + 1, width + 1, generator=rng)
        return F.avg_pool2d(drawn, 2, 1).flatten(1).to(luma.device)

    noise = blots(1)  # drawn first, the colours' last: brightness is the same with and without them
    turned = WAVE * torch.randn(1, 1, 4, 5, generator=rng).to(luma.device)
    noise = torch.cat([noise, blots(fields - 1)])
    turned = 2 * F.interpolate(turned, (height, width), mode="bicubic")[0, 0]
    waves = torch.stack([-turned.cos(), -turned.sin()])  # as if all changes were up and down, or nearly
    steep = contrasts(luma)[0] + HUSHED**2 * waves
    along = (torch.atan2(steep[1], steep[0]) / 2 + math.pi / 2).flatten()  # across the steepest change
    east, south = along.cos(), along.sin()

    # Both ways at once, a row for each; plain arithmetic, as complex numbers take twice the time.
    x = torch.arange(width, device=luma.device).float().repeat(height).repeat(2, 1)
    y = torch.arange(height, device=luma.device).float().repeat_interleave(width).repeat(2, 1)
    to_east, to_south = torch.stack([east, -east]), torch.stack([south, -south])
    total = noise.clone()
    for _ in range(steps):
        x = (x + STEP * to_east).clamp_(0, width - 1)
        y = (y + STEP * to_south).clamp_(0, height - 1)
        here = (y.round() * width + x.round()).int().flatten()
        total += noise.index_select(1, here).view(fields, 2, -1).sum(1)
        ahead_east, ahead_south = (each.index_select(0, here).view(2, -1) for each in (east, south))
        sign = (ahead_east * to_east + ahead_south * to_south).sign()  # a contour has none: go on, never back
        to_east, to_south = sign * ahead_east, sign * ahead_south
    return total.view(fields, height, width)


def contrasts(luma: Tensor) -> Tensor:
    """Return the structure tensor of ``luma`` (B, 1, h, w), smoothed: (B, 2, h, w).

    Its angle is twice that of the steepest change, its length the contrast squared.
    """
    framed = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    x = framed[:, :, 1:-1, 2:] - framed[:, :, 1:-1, :-2]
    y = framed[:, :, 2:, 1:-1] - framed[:, :, :-2, 1:-1]
    steep = torch.cat([x * x - y * y, 2 * x * y], dim=1)
    near, *far = (_soft(steep, reach) for reach in REACHES)
    return near + FAR * torch.stack(far).sum(0)


def _busy(luma: Tensor) -> Tensor:
    """Return how much grain ``luma`` (B, 1, h, w) has of its own, in [0, 1)."""
    variance = _soft((luma - _soft(luma, 3)).square(), 5).clamp_min(0)
    return variance / (variance + BUSY**2)


def _soft(x: Tensor, reach: int) -> Tensor:
    """Blur ``x`` (B, C, h, w) over ``reach`` places: shrunk and enlarged, at any reach as cheap."""
    small = [max(1, round(side / reach)) for side in x.shape[2:]]
    return F.interpolate(F.interpolate(x, small, mode="bilinear", antialias=True), x.shape[2:], mode="bicubic")
