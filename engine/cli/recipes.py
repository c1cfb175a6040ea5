"""`recipe` and `replay`: what is inside a picture, and the proof that it makes the same bytes again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine import __version__, checkpoints, recipes
from engine.cli.console import SUFFIXES, Json, Out, describe, format_of, read_file, say, summary, tell, tell_json, work
from engine.errors import InvalidRequest, UnknownName

File = Annotated[Path, typer.Argument(help="A picture or animation made here.", show_default=False)]


def recipe(file: File) -> None:
    """Print the recipe inside a picture as JSON."""
    tell_json(_recipe_of(file, read_file(file)))


def replay(
    file: File,
    out: Out,
    source: Annotated[
        list[Path] | None,
        typer.Option(help="The photo it began with, or a folder to look in; by default the folder of FILE."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a picture again from its recipe and say whether the bytes agree; exits 1 if they do not."""
    original = read_file(file)
    found = _recipe_of(file, original)
    places = source or [file.resolve().parent]
    request = recipes.read(found, lambda digest: _find_source(digest, places))
    if format_of(out, tuple(SUFFIXES.values())) != getattr(request, "format", None):
        raise InvalidRequest(
            f"{str(out)!r} has another format than the recipe, which is {getattr(request, 'format', None)}."
        )
    [output] = work([request], label="replay", dtype=found.get("dtype"))[0].outputs
    checkpoints.write_atomic(out, output.data)
    same = output.data == original
    reasons = [] if same else _differences(found)
    if as_json:
        tell_json({"outputs": [describe(out, output)], "same_bytes": same, "differences": reasons})
    else:
        tell(summary(out, output))
        tell("The bytes agree." if same else "The bytes differ.")
        for reason in reasons:
            say(reason)
    if not same:
        raise typer.Exit(1)


def _recipe_of(file: Path, data: bytes) -> dict[str, Any]:
    from engine import media

    found = media.read_recipe(data)
    if found is None:
        raise InvalidRequest(f"{str(file)!r} holds no recipe; only pictures made here do.")
    return found


def _find_source(digest: str, places: list[Path]) -> bytes | None:
    """Return the file with that sha256 among ``places``, files or folders of files."""
    for place in places:
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            if path.is_file():
                data = read_file(path)
                if recipes.digest(data) == digest:
                    return data
    return None


def _differences(recipe: dict[str, Any]) -> list[str]:
    """Return sentences on what is not as it was when the recipe was written."""
    found = []
    if recipe.get("engine") != __version__:
        found.append(f"It was made by engine {recipe.get('engine')}; this is {__version__}.")
    for name, digest in recipe.get("models", {}).items():
        try:
            if checkpoints.find(name).sha256 != digest:
                found.append(f"The model {name} is not the one it was made with.")
        except UnknownName:
            found.append(f"The model {name}, which it was made with, is not here.")
    return found or ["Engine and models are the same; the file was altered, or made on another kind of machine."]
