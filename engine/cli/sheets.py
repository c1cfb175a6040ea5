"""`sheet`: contact sheets, to judge models by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from engine import checkpoints
from engine.api import (
    STILL_FORMATS,
    ChainRequest,
    EnhanceRequest,
    PaintRequest,
    Request,
    StylizeRequest,
    parse_seed,
)
from engine.checkpoints import Card
from engine.cli.console import Json, Out, describe, format_of, read_file, summary, tell, tell_json, work
from engine.errors import InvalidRequest, UnknownName

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Photo = Annotated[Path, typer.Argument(help="A photo.", show_default=False)]
ModelName = Annotated[str, typer.Option("--model", help="The model to show.", show_default=False)]
Seed = Annotated[str, typer.Option(help="The first seed of each row: a number or any text.")]
Size = Annotated[int, typer.Option(help="Long side of each picture in px.")]

PER_GENRE = 6  # paintings


@app.command()
def styles(photo: Photo, out: Out, size: Size = 384, as_json: Json = False) -> None:
    """Show a photo in every style."""
    format_of(out, STILL_FORMATS)
    data = read_file(photo)
    titles = {style["name"]: style.get("title") or style["name"] for style in _styles()}
    if not titles:
        raise UnknownName("There are no styles yet: no stylizer is among the models.")
    paintings = [StylizeRequest(photo=data, style=name, size=size) for name in titles]
    _sheet([_as_it_is(data, size), *paintings], ["photo", *titles.values()], 5, out, as_json)


@app.command()
def genres(
    out: Out,
    seed: Seed = "0",
    model: Annotated[str | None, typer.Option(help="A painter; the one in office by default.")] = None,
    size: Size = 256,
    as_json: Json = False,
) -> None:
    """Show some paintings of every genre, a row each."""
    card = checkpoints.find_kind("painter", model) if model else checkpoints.in_office("painter")
    _genres(card, seed, size, out, as_json)


@app.command()
def cycle(photo: Photo, model: ModelName, out: Out, size: Size = 512, as_json: Json = False) -> None:
    """Show a photo, what a brush makes of it, and what the brush's inverse makes of that again (cyclegan)."""
    format_of(out, STILL_FORMATS)
    data = read_file(photo)
    card = checkpoints.find_kind("brush", model)
    if "inverse" not in card.fields:
        raise InvalidRequest(f"The brush {model} has no inverse; only those of the system cyclegan go both ways.")
    there = ChainRequest(image=data, models=(model,), size=size)
    back = ChainRequest(image=data, models=(model, card["inverse"]), size=size)
    _sheet([_as_it_is(data, size), there, back], ["photo", model, card["inverse"]], 3, out, as_json)


@app.command()
def samples(
    model: ModelName,
    out: Out,
    photo: Annotated[list[Path] | None, typer.Option(help="A picture for models that need one; repeatable.")] = None,
    seed: Seed = "0",
    size: Size = 256,
    as_json: Json = False,
) -> None:
    """Show what a model makes: a painter's samples, or pictures before and after any other model."""
    card = checkpoints.find(model)
    if card.kind == "painter":
        _genres(card, seed, size, out, as_json)
        return
    format_of(out, STILL_FORMATS)
    if not photo:
        raise InvalidRequest(f"The model {model} is a {card.kind}, which needs pictures; give some with --photo.")
    requests: list[Request] = []
    for data in map(read_file, photo):
        if card.kind == "enhancer":
            requests += [EnhanceRequest(image=data, scale=2, strength=strength) for strength in (0, 1)]
        else:
            requests += [_as_it_is(data, size), StylizeRequest(photo=data, model=model, size=size)]
    _sheet(requests, ["before", "after"] * len(photo), 2, out, as_json)


def _styles() -> list[dict[str, str]]:
    return [style for card in checkpoints.catalogue("stylizer") for style in card["styles"]]


def _as_it_is(data: bytes, size: int) -> StylizeRequest:
    return StylizeRequest(photo=data, strength=0, size=size)


def _genres(card: Card, seed: str, size: int, out: Path, as_json: bool) -> None:
    format_of(out, STILL_FORMATS)
    requests = [
        PaintRequest(genre=genre, seed=parse_seed(seed), count=PER_GENRE, width=size, height=size, model=card.name)
        for genre in card["genres"]
    ]
    captions = [caption for genre in card["genres"] for caption in (genre, *[""] * (PER_GENRE - 1))]
    _sheet(requests, captions, PER_GENRE, out, as_json)


def _sheet(requests: Sequence[Request], captions: Sequence[str], columns: int, out: Path, as_json: bool) -> None:
    """Run ``requests``, lay out what comes in a grid of ``columns`` and write that."""
    from engine import media
    from engine.data.intake import open_photo

    results = work(requests, label="sheet")
    pictures = [open_photo(output.data) for result in results for output in result.outputs]
    sheet = media.encode_still(media.grid(pictures, columns, captions), format_of(out, STILL_FORMATS), {})
    checkpoints.write_atomic(out, sheet.data)
    if as_json:
        tell_json({"outputs": [describe(out, sheet)]})
    else:
        tell(summary(out, sheet))
