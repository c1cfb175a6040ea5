"""What every pipeline shares: models, precision, the person's cancellation, and the account of time and notes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from engine import checkpoints, media, recipes
from engine.api import Output, Request, Result
from engine.checkpoints import Model
from engine.data.intake import Decoder
from engine.errors import JobCancelled
from engine.pipelines.pictures import Pixels, from_pixels


@dataclass
class Job:
    """One request under way."""

    request: Request
    shelf: checkpoints.Shelf
    dtype: str
    decoder: Decoder
    encoder: Executor
    cancelled: Callable[[], bool]
    report: Callable[[float], None] = lambda share: None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)  # model name -> sha256, in order of use
    outputs: list[Future[Output]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def fresh(self) -> Job:
        """Return the same job, not yet begun."""
        return Job(self.request, self.shelf, self.dtype, self.decoder, self.encoder, self.cancelled, self.report)

    def check(self, share: float) -> None:
        """Report that ``share`` in [0, 1] of the work is done.

        Raises:
            JobCancelled: somebody does not want the rest.
        """
        if self.cancelled():
            raise JobCancelled("The job was cancelled.")
        self.report(min(max(share, 0.0), 1.0))

    def note(self, sentence: str) -> None:
        """Tell the person something once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def model(self, name: str, *, discriminator: bool = False) -> Model:
        """Return the model ``name`` and remember that it was used."""
        with self.timed("load"):
            model = self.shelf.get(name, discriminator=discriminator)
        self.used[name] = model.card.sha256
        return model

    def photo(self, data: bytes, max_side: int | None = None) -> torch.Tensor:
        """Decode ``data`` into a picture (1, 3, H, W)."""
        with self.timed("decode"):
            return from_pixels(self.decoder.open(data, max_side=max_side))

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds of the block to ``part``."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - before

    @contextmanager
    def network(self) -> Iterator[None]:
        """Run the block as networks run here: no gradients, the chosen precision, on the clock."""
        with self.timed("network"), inference(self.dtype):
            yield

    def recipe(self, request: Request) -> dict[str, Any]:
        """Return the recipe of an output made by ``request``, the normal form of what was asked."""
        return recipes.write(request, self.used, self.dtype)

    def deliver(self, encode: Callable[[], Output]) -> None:
        """Put what ``encode`` makes among the outputs; it runs beside the networks, on a core they leave idle."""

        def timed() -> Output:
            with self.timed("encode"):
                return encode()

        self.outputs.append(self.encoder.submit(timed))

    def deliver_still(self, pixels: Pixels, request: Request, format: str) -> None:
        """Put a still picture with its recipe among the outputs."""
        recipe = self.recipe(request)
        self.deliver(lambda: media.encode_still(pixels, format, recipe))

    def result(self) -> Result:
        """Wait for the encoder and close the account."""
        outputs = tuple(output.result() for output in self.outputs)
        self.seconds["total"] = time.perf_counter() - self.started
        return Result(
            outputs=outputs,
            notes=tuple(self.notes),
            seconds={part: round(spent, 4) for part, spent in self.seconds.items()},
        )


@contextmanager
def inference(dtype: str) -> Iterator[None]:
    """Run a block without gradients, in ``dtype`` where it is safe."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        yield
