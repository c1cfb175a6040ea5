"""`models`: what is on the shelf, and the way in and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from engine import checkpoints
from engine.api import FitRequest, PaintRequest, Request, StylizeRequest, parse_seed
from engine.checkpoints import Card
from engine.cli.console import Json, tell, tell_json
from engine.errors import GanvasError, InvalidRequest

app = typer.Typer(add_completion=False, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="A model's name.", show_default=False)]


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models."""
    if context.invoked_subcommand is not None:
        return
    described = _described()
    if as_json:
        tell_json({"models": list(described.values())})
        return
    if not described:
        tell(f"There are no models in {' or '.join(map(str, checkpoints.folders()))}.")
        return
    table = Table("name", "kind", "what it knows", "MB", box=None, pad_edge=False)
    for name, each in described.items():
        card = checkpoints.find(name)
        size = (card.folder / checkpoints.WEIGHTS).stat().st_size / 1e6
        table.add_row(name, card.kind + (" *" if each["in_office"] else ""), _knows(card), f"{size:.1f}")
    Console().print(table)
    tell("* works when no model is named")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show the card of one model, as JSON."""
    tell_json(_described()[checkpoints.find(name).name])


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A model's folder, or a zip of one.", show_default=False)
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a model of the same name.")] = False,
    as_json: Json = False,
) -> None:
    """Take in a model after verifying it."""
    card = checkpoints.import_model(source, replace=replace)
    if as_json:
        tell_json(_described()[card.name])
    else:
        tell(f"{card.name} ({card.kind}) is in {card.folder}.")


@app.command()
def export(
    name: Name,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new folder or .zip; NAME.zip by default.")] = None,
    with_training_state: Annotated[bool, typer.Option("--with-training-state", help="Take it along.")] = False,
    as_json: Json = False,
) -> None:
    """Copy a model out, to be imported elsewhere."""
    written = checkpoints.export(name, out or Path(f"{name}.zip"), with_training_state=with_training_state)
    if as_json:
        tell_json({"path": str(written)})
    else:
        tell(f"{name} is in {written}.")


@app.command()
def appoint(name: Name, as_json: Json = False) -> None:
    """Put a model in office: it works when nobody names one."""
    card = checkpoints.appoint(name)
    if as_json:
        tell_json({"kind": card.kind, "name": card.name})
    else:
        tell(f"{card.name} is the {card.kind} in office.")


@app.command()
def mix(
    first: Name,
    second: Annotated[str, typer.Argument(help="One that it became by training on, or a sister.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder; its name is the model's.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="How much of it is the second.")] = 0.5,
    as_json: Json = False,
) -> None:
    """Average the weights of two models, one trained on from the other or both from a third."""
    if out.exists():
        raise InvalidRequest(f"{out} exists already; choose a new name.")
    from engine.mixing import mix as mixed

    fields, tensors = mixed(checkpoints.find(first), checkpoints.find(second), share, out.name)
    card = checkpoints.save_tensors(fields, tensors, out)
    if as_json:
        tell_json(card.fields)
    else:
        tell(f"{card.name} ({card.kind}) is in {card.folder}.")


@app.command()
def samples(
    name: Name,
    photo: Annotated[Path | None, typer.Option(help="The photo that a stylizer's samples paint over.")] = None,
    seed: Annotated[str, typer.Option(help="Of a painter's samples: a number or any text.")] = "0",
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the squares in px.")] = 256,
) -> None:
    """Make the small pictures by which people choose: one for each style or genre, in the model's folder."""
    card = checkpoints.find(name)
    if card.kind == "stylizer" and photo is None:
        raise InvalidRequest("A stylizer's samples need a photo: --photo FILE.")
    data = photo.read_bytes() if photo else b""
    twice = 2 * size  # strokes as fine as in a real result
    wanted: dict[str, Request] = {
        style: StylizeRequest(photo=data, style=style, size=twice, format="webp") for style in card.styles
    }
    wanted |= {
        genre: PaintRequest(
            genre=genre, seed=parse_seed(seed), best_of=8, model=name, width=twice, height=twice, format="webp"
        )
        for genre in card.get("genres", ())
    }
    if not wanted:
        raise InvalidRequest(f"The model {name} is a {card.kind}, which has neither styles nor genres.")
    from engine.pipelines import Pipelines

    folder = card.folder / checkpoints.SAMPLES
    folder.mkdir(exist_ok=True)
    with Pipelines() as pipelines:

        def made(request: Request) -> bytes:
            (outcome,) = pipelines.run([request])
            if isinstance(outcome, GanvasError):
                raise outcome
            return outcome.outputs[0].data

        for sample, request in wanted.items():
            tile = FitRequest(image=made(request), max_side=size, max_bytes=24_000, formats=("webp",))
            checkpoints.write_atomic(folder / f"{sample}.webp", made(tile))
    tell(f"{len(wanted)} samples are in {folder}.")


def _described() -> dict[str, dict[str, Any]]:
    """Return the cards of all models by name, each with its folder and whether it is in office."""
    return {
        each["name"]: each | {"folder": str(checkpoints.find(each["name"]).folder)} for each in checkpoints.described()
    }


def _knows(card: Card) -> str:
    if card.kind == "stylizer":
        return f"{len(card.styles)} styles"
    if card.kind == "painter":
        return f"{len(card['genres'])} genres at {card.get('resolution')} px"
    return ", ".join(f"x{scale}" for scale in card.get("scales", ())) or str(card.get("system", ""))
