"""Stops in latent space -> an animation that glides through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine import checkpoints, media
from engine.api import MorphRequest
from engine.checkpoints import Card
from engine.errors import InvalidRequest
from engine.pipelines import latents
from engine.pipelines.job import Job
from engine.pipelines.paint import complete, finish_of
from engine.pipelines.pictures import Pixels, to_pixels
from engine.pipelines.stylize import Look

PIXELS = 2**28  # of all frames together: 800 MB


def morph(job: Job, request: MorphRequest) -> None:
    """Make the one output of ``request``.

    Raises:
        InvalidRequest: all frames together would not fit into memory.
    """
    most = PIXELS // request.size**2
    if request.frames > most:
        raise InvalidRequest(f"frames is {request.frames}; at {request.size} px it must be at most {most}.")
    card = checkpoints.find_kind("painter", request.model) if request.model else checkpoints.in_office("painter")
    finish = finish_of(request.finish, card)
    normal = replace(request, finish=finish.name if finish else "none", model=card.name)
    frames = list(_frames(job, request, card, finish))
    recipe = job.recipe(normal)
    job.deliver(lambda: media.encode_animation(frames, request.fps, request.format, recipe))


def _frames(job: Job, request: MorphRequest, card: Card, finish: Look | None) -> Iterator[Pixels]:
    """Yield the frames: samples from the generator in batches, each enlarged and finished in the same way."""
    model = job.model(card.name)
    looks = [finish] if finish else []
    points = latents.path(model, request.stops, request.frames, request.psi, loop=request.loop)
    for start in range(0, len(points), latents.BATCH):
        pictures = latents.paint(job, model, points[start : start + latents.BATCH], share=(start / len(points),) * 2)
        for index, picture in enumerate(pictures, start):
            share = (index / len(points), (index + 1) / len(points))
            yield to_pixels(complete(job, picture, (request.size, request.size), looks, share))
