"""`python -m engine evaluate MODEL --data DIR`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from engine import checkpoints
from engine.cli.console import Json, progress, tell, tell_json


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name.", show_default=False)],
    data: Annotated[
        Path,
        typer.Option(help="Paintings, split or not; for stylizers photos/, styles/; for brushes photos/, paintings/."),
    ],
    count: Annotated[
        int | None,
        typer.Option(min=2, help="Samples of a painter (2000), photos of a stylizer (3), others' pictures (50)."),
    ] = None,
    target: Annotated[str, typer.Option(help="A brush's paintings below --data: a folder or a pattern.")] = "paintings",
    psi: Annotated[float, typer.Option(min=0, max=1, help="Truncation of a painter's samples.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents.")] = 2026,
    size: Annotated[int | None, typer.Option(min=32, max=512, help="Side of the pictures compared, in px.")] = None,
    report: Annotated[Path | None, typer.Option(help="A page (.html) with pictures, or the figures (.json).")] = None,
    cache: Annotated[Path, typer.Option(help="Folder for decoded pictures.")] = Path("runs/cache"),
    as_json: Json = False,
) -> None:
    """Measure painters and brushes against paintings, stylizers against neural style transfer, enhancers."""
    card = checkpoints.find(model)
    from engine.evaluate import report as reports

    if report is not None:
        reports.check_target(report)
    started = time.monotonic()
    loaded = checkpoints.load(model)
    with progress("evaluate") as show:
        if card.kind == "painter":
            from engine.evaluate import painters, spaces

            side = size or int(card["resolution"])
            count = count or 2000
            references = painters.load_references(data, card["genres"], side, cache, most=2 * count)
            account = painters.evaluate_painter(
                loaded, references, spaces.judges(), count=count, psi=psi, seed=seed, tell=show
            )
        elif card.kind == "enhancer":
            from engine.evaluate import enhancers

            account = enhancers.evaluate_enhancer(loaded, data, cache, count=count or 50, size=size or 256, tell=show)
        elif card.kind == "brush":
            from engine.evaluate import brushes, spaces

            account = brushes.evaluate_brush(
                loaded, data, spaces.judges(), cache, target=target, count=count or 50, size=size or 512, tell=show
            )
        else:
            from engine.evaluate import stylizers

            account = stylizers.evaluate_stylizer(loaded, data, photos=count or 3, size=size or 256, tell=show)
    account.figures["seconds"] = round(time.monotonic() - started, 1)
    if report is not None:
        reports.write_report(account, report)
    if as_json:
        tell_json(account.figures)
        return
    tell(reports.sentence(account.figures))
    for name, value in reports.flat(account.figures):
        tell(f"{name:40} {value}")
    if report is not None:
        tell(f"The report is in {report}.")
