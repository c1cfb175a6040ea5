"""Enlarging with drawn-in detail, to any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine import checkpoints
from engine.api import MAX_SIDE, EnhanceRequest
from engine.checkpoints import Card
from engine.errors import UnknownName
from engine.pipelines.job import Job
from engine.pipelines.pictures import cover, to_pixels

TILE = 256  # px of the picture that goes in, without its margin
SLACK = 1.1  # the last tenth of an enlargement is left to plain resizing


def enhance(job: Job, request: EnhanceRequest) -> None:
    """Make the one output of ``request``; results are never longer than MAX_SIDE."""
    picture = job.photo(request.image, MAX_SIDE)
    height, width = picture.shape[2:]
    if request.scale is None:
        assert request.width is not None and request.height is not None  # the request saw to it
        target = (request.height, request.width)
    else:
        factor = min(float(request.scale), MAX_SIDE / max(height, width))
        if factor < request.scale:
            job.note(
                f"{request.scale} times {width} x {height} is more than {MAX_SIDE} px; this is {factor:.2g} times."
            )
        target = (round(height * factor), round(width * factor))
    card = checkpoints.in_office("enhancer")
    enlarged = enlarge(job, picture, target, card, strength=request.strength)
    job.deliver_still(to_pixels(enlarged), request, request.format)


def enhancer_or_note(job: Job) -> Card | None:
    """Return the enhancer in office, or None and tell the person what that means."""
    try:
        return checkpoints.in_office("enhancer")
    except UnknownName:
        job.note("There is no enhancer among the models, so the picture was enlarged plainly.")
        return None


def enlarge(
    job: Job,
    picture: Tensor,
    target: tuple[int, int],
    card: Card | None,
    *,
    strength: float = 1.0,
    share: tuple[float, float] = (0, 1),
) -> Tensor:
    """Return ``picture`` (1, 3, H, W) at ``target`` (height, width): covering it, the middle of that.

    Runs the enhancer ``card`` (plain bicubic if None) at x4 and x2 as often as needed; ``strength`` blends it with the
    plain enlargement; reports progress within ``share`` of the job.
    """
    needed = max(target[0] / picture.shape[2], target[1] / picture.shape[3])
    if card is None or strength == 0 or needed <= SLACK:
        return cover(picture, *target)
    picture = _trimmed(picture, target)
    detailed = picture
    steps = _steps(needed)
    for index, scale in enumerate(steps):
        begin, end = (share[0] + (share[1] - share[0]) * part / len(steps) for part in (index, index + 1))
        detailed = _double(job, detailed, scale, card, (begin, end))
    detailed = cover(detailed, *target)
    return detailed if strength == 1 else torch.lerp(cover(picture, *target), detailed, strength)


def _trimmed(picture: Tensor, target: tuple[int, int]) -> Tensor:
    """Cut off what :func:`cover` would throw away anyway, so that it is not computed."""
    height, width = picture.shape[2:]
    factor = max(target[0] / height, target[1] / width)
    keep_height, keep_width = (
        min(side, round(goal / factor) + 2) for side, goal in zip((height, width), target, strict=True)
    )
    top, left = (height - keep_height) // 2, (width - keep_width) // 2
    return picture[:, :, top : top + keep_height, left : left + keep_width]


def _steps(needed: float) -> list[int]:
    """Return the scales whose product reaches ``needed``, within SLACK.

    The network works at the size that goes in, so x2 comes first: 64 -> 128 -> 512 px costs a
    third of 64 -> 256 -> 512.
    """
    doublings = math.ceil(math.log2(needed / SLACK))
    return [2] * (doublings % 2) + [4] * (doublings // 2)


def _double(job: Job, picture: Tensor, scale: int, card: Card, share: tuple[float, float]) -> Tensor:
    """Run the network once, in tiles with a margin wide enough that no seam can be."""
    net = job.model(card.name).net
    height, width = picture.shape[2:]
    margin = int(net.margin)  # type: ignore[arg-type]
    large = picture.new_empty(1, 3, height * scale, width * scale)
    corners = [(top, left) for top in range(0, height, TILE) for left in range(0, width, TILE)]
    for index, (top, left) in enumerate(corners):
        job.check(share[0] + (share[1] - share[0]) * index / len(corners))
        up, back = min(top, margin), min(left, margin)
        tile = picture[:, :, top - up : top + TILE + margin, left - back : left + TILE + margin]
        with job.network():
            painted = net(tile, scale).float()
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        large[:, :, top * scale : bottom * scale, left * scale : right * scale] = painted[
            :, :, up * scale : (up + bottom - top) * scale, back * scale : (back + right - left) * scale
        ]
    job.check(share[1])
    return large.clamp_(0, 1)
