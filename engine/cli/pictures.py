"""`stylize`, `paint`, `morph`, `enhance` and `chain`: one request each."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from engine.api import (
    MOVING_FORMATS,
    PSI,
    STILL_FORMATS,
    ChainRequest,
    EnhanceRequest,
    MorphRequest,
    PaintRequest,
    Stop,
    StylizeRequest,
    parse_seed,
)
from engine.cli.console import Json, Out, deliver, format_of, parse_size, read_file, work
from engine.errors import InvalidRequest

Style = Annotated[str | None, typer.Option(help="A named style, or a mix such as monet:2+hokusai.", show_default=False)]
Psi = Annotated[float, typer.Option(help="Boldness: 0 is the genre's average, 1 the whole range.")]
Finish = Annotated[str | None, typer.Option(help="A style or brush to paint over it; none leaves it raw.")]
Painter = Annotated[str | None, typer.Option("--model", help="A painter; the one in office by default.")]


def stylize(
    photo: Annotated[Path, typer.Argument(help="The photo to paint over.", show_default=False)],
    out: Out,
    style: Style = None,
    style_image: Annotated[Path | None, typer.Option(help="Any picture to take the style from.")] = None,
    model: Annotated[str | None, typer.Option(help="A brush (a cut or cyclegan model), or a stylizer.")] = None,
    strength: Annotated[float, typer.Option(help="0 keeps the photo, 1 is the full style.")] = 1.0,
    keep_colours: Annotated[bool, typer.Option("--keep-colours", help="Keep the photo's colours.")] = False,
    size: Annotated[int, typer.Option(help="Long side of the result in px.")] = 1280,
    as_json: Json = False,
) -> None:
    """Paint over a photo: with a named style, any picture as the style, or a brush."""
    request = StylizeRequest(
        format=format_of(out, STILL_FORMATS), photo=read_file(photo), style=style, model=model, strength=strength,
        style_image=read_file(style_image) if style_image else None, keep_colours=keep_colours, size=size,
    )  # fmt: skip
    deliver(work([request], label="stylize")[0], out, as_json=as_json)


def paint(
    genre: Annotated[str, typer.Option(help="Such as landscape, portrait, flowers.", show_default=False)],
    out: Out,
    art_style: Annotated[str | None, typer.Option(help="An art style, such as impressionism; or a style.")] = None,
    count: Annotated[int, typer.Option(help="How many; several files are numbered.")] = 1,
    seed: Annotated[str | None, typer.Option(help="A number or any text; random by default.")] = None,
    psi: Psi = PSI,
    best_of: Annotated[int, typer.Option(help="Sample so many and keep the best; 0: as the painter is used to.")] = 0,
    finish: Finish = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT, one number of px, or wall.")] = "512",
    model: Painter = None,
    as_json: Json = False,
) -> None:
    """Sample paintings of a genre; the same seed gives the same painting."""
    width, height = parse_size(size)
    number = secrets.randbelow(2**31) if seed is None else parse_seed(seed)
    request = PaintRequest(
        format=format_of(out, STILL_FORMATS), genre=genre, seed=number, art_style=art_style, count=count, psi=psi,
        best_of=best_of, finish=finish, width=width, height=height, model=model,
    )  # fmt: skip
    deliver(work([request], label="paint")[0], out, as_json=as_json)


def morph(
    stops: Annotated[
        list[str], typer.Argument(metavar="STOP STOP [STOP ...]", help="genre:seed, a seed, or a painting.")
    ],
    out: Out,
    genre: Annotated[str | None, typer.Option(help="The genre of stops that are seeds alone.")] = None,
    frames: Annotated[int, typer.Option(help="Frames in all.")] = 72,
    fps: Annotated[int, typer.Option(help="Frames a second.")] = 24,
    size: Annotated[int, typer.Option(help="Side of the square in px.")] = 512,
    loop: Annotated[bool, typer.Option("--loop", help="Glide back to the first stop.")] = False,
    psi: Psi = PSI,
    finish: Finish = None,
    model: Painter = None,
    as_json: Json = False,
) -> None:
    """Glide through latent space from stop to stop, as a .gif, .webp or .mp4."""
    request = MorphRequest(
        format=format_of(out, MOVING_FORMATS), stops=tuple(_stop(text, genre) for text in stops), frames=frames,
        fps=fps, size=size, psi=psi, loop=loop, finish=finish, model=model,
    )  # fmt: skip
    deliver(work([request], label="morph")[0], out, as_json=as_json)


def _stop(text: str, genre: str | None) -> Stop:
    if Path(text).is_file():
        from engine import media, recipes

        recipe = media.read_recipe(read_file(Path(text)))
        if recipe is None:
            raise InvalidRequest(f"{text!r} holds no recipe, so it cannot be a stop; give genre:seed instead.")
        return recipes.stop_of(recipe)
    name, colon, seed = text.partition(":")
    if colon:
        return Stop(name, parse_seed(seed))
    if genre is None:
        raise InvalidRequest(f"The stop {text!r} has no genre; write it as genre:seed, or give --genre.")
    return Stop(genre, parse_seed(text))


def enhance(
    image: Annotated[Path, typer.Argument(help="The picture to enlarge.", show_default=False)],
    out: Out,
    scale: Annotated[int | None, typer.Option(help="2 or 4; 2 by default.", show_default=False)] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, one number of px, or wall.")] = None,
    strength: Annotated[float, typer.Option(help="0 is a plain enlargement, 1 the full detail.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Enlarge a picture with drawn-in detail."""
    width, height = parse_size(size) if size else (None, None)
    if scale is None and size is None:
        scale = 2
    request = EnhanceRequest(
        format=format_of(out, STILL_FORMATS), image=read_file(image), scale=scale, width=width, height=height,
        strength=strength,
    )  # fmt: skip
    deliver(work([request], label="enhance")[0], out, as_json=as_json)


def chain(
    image: Annotated[Path, typer.Argument(help="The picture to begin with.", show_default=False)],
    models: Annotated[list[str], typer.Argument(help="Styles, brushes and enhancers, in order.", show_default=False)],
    out: Out,
    size: Annotated[int, typer.Option(help="Long side of the picture that the first model gets, in px.")] = 1280,
    as_json: Json = False,
) -> None:
    """Let one model's output feed the next."""
    request = ChainRequest(
        format=format_of(out, STILL_FORMATS), image=read_file(image), models=tuple(models), size=size
    )
    deliver(work([request], label="chain")[0], out, as_json=as_json)
