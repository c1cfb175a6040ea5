"""One model's output feeds the next."""

from __future__ import annotations

from engine import checkpoints
from engine.api import MAX_SIDE, ChainRequest
from engine.checkpoints import Card
from engine.errors import InvalidRequest, UnknownName
from engine.pipelines.enhance import enlarge
from engine.pipelines.job import Job
from engine.pipelines.pictures import to_pixels
from engine.pipelines.stylize import Look, find_look, look_of, paint_over


def chain(job: Job, request: ChainRequest) -> None:
    """Make the one output of ``request``: styles, brushes, stylizers and enhancers (twice the size) in any order."""
    links = [_link(name) for name in request.models]  # all names are looked up before any work is done
    picture = job.photo(request.image, request.size)
    for index, link in enumerate(links):
        share = (index / len(links), (index + 1) / len(links))
        if isinstance(link, Look):
            picture = paint_over(job, picture, link, share=share)
        else:
            factor = min(2.0, MAX_SIDE / max(picture.shape[2:]))
            height, width = (round(side * factor) for side in picture.shape[2:])
            picture = enlarge(job, picture, (height, width), link, share=share)
    job.deliver_still(to_pixels(picture), request, request.format)


def _link(name: str) -> Look | Card:
    try:
        card = checkpoints.find(name)
    except UnknownName:
        return find_look(name)
    if card.kind == "painter":
        raise InvalidRequest(
            f"The model {name} is a painter, which takes no picture; chain styles, brushes and enhancers."
        )
    return card if card.kind == "enhancer" else look_of(card)
