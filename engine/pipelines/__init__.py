"""From request to result: stylize, paint, morph, enhance, chain, fit.

    with Pipelines() as pipelines:
        [result] = pipelines.run([StylizeRequest(photo=data, style="...")])

One object is meant for one thread; what it computes does not depend on what else ran in the same batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from engine import checkpoints
from engine.api import (
    ChainRequest,
    EnhanceRequest,
    FitRequest,
    MorphRequest,
    Output,
    PaintRequest,
    Progress,
    Request,
    Result,
    StylizeRequest,
)
from engine.data.intake import Decoder
from engine.errors import GanvasError
from engine.pipelines import chain, enhance, morph, paint, stylize
from engine.pipelines.job import Job
from engine.pipelines.precision import best_dtype


class Pipelines:
    """Runs requests on the models of `models/`.

    Args:
        shelf: the loaded models; a new one if None.
        dtype: "float32" or "bfloat16"; what suits this machine if None.
        decoder: reads the bytes of strangers, in processes of its own; a new one if None.
    """

    def __init__(
        self,
        shelf: checkpoints.Shelf | None = None,
        *,
        dtype: str | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self._shelf = shelf or checkpoints.Shelf()
        self._dtype = dtype or best_dtype()
        self._decoder = decoder or Decoder()
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")

    def close(self) -> None:
        """End the decoder's processes and the encoder's thread."""
        self._decoder.close()
        self._encoder.shutdown()

    def __enter__(self) -> Pipelines:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(
        self,
        requests: Sequence[Request],
        progress: Callable[[Progress], None] = lambda progress: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Result | GanvasError]:
        """Return an outcome for each of ``requests``: a result, or the mistake that spoiled this one and no other.

        Paint requests of one painter share the generator's batches; all else runs one by one.

        Args:
            progress: told the share of the whole work that is done, between items, tiles and frames.
            cancelled: asked as often; once it says so, the rest ends in JobCancelled.
        """
        jobs = [Job(request, self._shelf, self._dtype, self._decoder, self._encoder, cancelled) for request in requests]
        outcomes: dict[int, Result | GanvasError] = {}
        done = 0

        def report(share: float) -> None:
            progress(Progress(stage="working", share=done / len(jobs) + share * len(members) / len(jobs)))

        with torch.inference_mode():
            for _, group in itertools.groupby(range(len(jobs)), lambda index: batch_key(requests[index]) or index):
                members = list(group)
                for index in members:
                    jobs[index].report = report
                outcomes |= dict(zip(members, _run_together([jobs[index] for index in members]), strict=True))
                done += len(members)
        return [outcomes[index] for index in range(len(jobs))]


def batch_key(request: Request) -> Hashable | None:
    """Return what requests must share to be run together, or None for those that gain nothing by it."""
    return ("paint", request.model) if isinstance(request, PaintRequest) else None


def _run_together(jobs: list[Job]) -> list[Result | GanvasError]:
    try:
        if isinstance(jobs[0].request, PaintRequest):
            paint.paint_all(jobs)
        else:
            _run_alone(jobs[0], jobs[0].request)
    except GanvasError as error:
        if len(jobs) == 1 or jobs[0].cancelled():
            return [error] * len(jobs)
        # One bad request must not spoil its mates: each gets a try of its own.
        return [outcome for job in jobs for outcome in _run_together([job.fresh()])]
    return [_closed(job) for job in jobs]


def _closed(job: Job) -> Result | GanvasError:
    try:
        return job.result()
    except GanvasError as error:
        return error


def _run_alone(job: Job, request: Request) -> None:
    match request:
        case StylizeRequest():
            stylize.stylize(job, request)
        case MorphRequest():
            morph.morph(job, request)
        case EnhanceRequest():
            enhance.enhance(job, request)
        case ChainRequest():
            chain.chain(job, request)
        case FitRequest():
            job.deliver(lambda: _fit(job, request))
        case _:
            raise TypeError(f"no pipeline for {type(request).__name__}")


def _fit(job: Job, request: FitRequest) -> Output:
    output, notes = job.decoder.fit(request)
    for note in notes:
        job.note(note)
    return output
