"""`bench`: how fast every model runs on this machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from engine import checkpoints
from engine.checkpoints import Model
from engine.cli.console import Json, progress, tell, tell_json

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 3  # the best counts: what else the machine does only ever adds
SIDES = {"stylizer": (256, 512, 1024), "brush": (256, 512, 1024), "enhancer": (128, 256, 512)}  # px that go in
PRODUCT = 2048  # side of the matrices whose product is the machine's peak
BATCHES = (1, 8)  # of a painter


def bench(as_json: Json = False) -> None:
    """Measure every model in float32 and, where this processor has it, in bfloat16, against the machine's peak."""
    import torch

    from engine.pipelines.precision import best_dtype

    cards = checkpoints.catalogue()
    peaks = {dtype: _peak(dtype) for dtype in dict.fromkeys(("float32", best_dtype()))}
    rows: list[dict[str, Any]] = []
    with progress("bench") as show:
        for index, card in enumerate(cards):
            show(index / len(cards))
            rows += _measure(checkpoints.load(card.name), peaks)
    machine: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "peak_gflop_per_second": peaks,
    }
    if as_json:
        tell_json(machine | {"torch": torch.__version__, "dtype": best_dtype(), "models": rows})
        return
    tell(f"torch {torch.__version__}, {machine['threads']} threads, pipelines run in {best_dtype()}")
    told = ", ".join(f"{peak:.0f} GFLOP/s in {dtype}" for dtype, peak in peaks.items())
    tell(f"the peak, a product of {PRODUCT} x {PRODUCT} matrices: {told}")
    table = Table("model", "input", "precision", "ms", "GFLOP/s", "of the peak", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["model"], row["input"], row["dtype"], f"{row['seconds'] * 1e3:.0f}", f"{row['gflop_per_second']:.0f}",
            f"{row['of_peak']:.0%}",
        )  # fmt: skip
    Console().print(table)


def _peak(dtype: str) -> float:
    """Return the GFLOP/s of a product of two large matrices: what no network can exceed."""
    import torch

    a, b = (torch.rand(PRODUCT, PRODUCT, dtype=getattr(torch, dtype)) for _ in range(2))
    return round(2 * PRODUCT**3 / 1e9 / min(_seconds(lambda: a @ b) for _ in range(ROUNDS)), 1)


def _measure(model: Model, peaks: dict[str, float]) -> list[dict[str, Any]]:
    from torch.utils.flop_counter import FlopCounterMode

    from engine.pipelines.job import inference

    rows = []
    for label, call in _calls(model).items():
        for dtype, peak in peaks.items():
            with inference(dtype):
                with FlopCounterMode(display=False) as counter:
                    call()
                best = min(_seconds(call) for _ in range(ROUNDS))
            gflop = counter.get_total_flops() / 1e9
            rows.append(
                {
                    "model": model.card.name, "input": label, "dtype": dtype, "seconds": round(best, 5),
                    "gflop": round(gflop, 2), "gflop_per_second": round(gflop / best, 1),
                    "of_peak": round(gflop / best / peak, 3),
                }
            )  # fmt: skip
    return rows


def _calls(model: Model) -> dict[str, Callable[[], Tensor]]:
    """Return what to measure of a model, by the size of what goes in."""
    import torch

    net: Any = model.net
    if model.card.kind == "painter":
        genre = torch.eye(net.genres)[:1]

        def paint(batch: int) -> Callable[[], Tensor]:
            z, psi = torch.zeros(batch, net.z_dim), torch.ones(batch)
            return lambda: net(z, genre.expand(batch, -1), psi)

        return {f"{batch} x {net.resolution} px": paint(batch) for batch in BATCHES}

    def over(side: int) -> Callable[[], Tensor]:
        picture = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
        if model.card.kind == "enhancer":
            return lambda: net(picture, 2)
        style = net.style_table[:1] if model.card.kind == "stylizer" else None
        return lambda: net(picture, style)

    return {f"{side} x {side} px": over(side) for side in SIDES[model.card.kind]}


def _seconds(call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before
