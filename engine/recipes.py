"""Recipes: the plain JSON inside every picture that makes it again, and the way back to a request.

    {"ganvas": 1, "engine": "0.1.0", "command": "stylize", "options": {"style": "...", "size": 1280, ...},
     "sources": {"photo": "<sha256>"}, "models": {"<name>": "<sha256>"}, "dtype": "float32"}

``options`` are those of the request in normal form (defaults resolved, one painting with its own seed), so a painting's
``options.genre`` and ``options.seed`` are a stop of a morph.  No user's name and no photo's content is ever in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from engine import __version__
from engine.api import Request, Stop, request_from_wire
from engine.errors import InvalidRequest

FORMAT = 1


def digest(data: bytes) -> str:
    """Return the sha256 by which a recipe knows a source picture."""
    return hashlib.sha256(data).hexdigest()


def write(request: Request, models: Mapping[str, str], dtype: str) -> dict[str, Any]:
    """Return the recipe of ``request``, made with ``models`` (name -> sha256) in ``dtype``."""
    options = request.to_wire()
    command = options.pop("command")
    sources = {f.name: getattr(request, f.name) for f in fields(request) if isinstance(getattr(request, f.name), bytes)}
    return {
        "ganvas": FORMAT,
        "engine": __version__,
        "command": command,
        "options": {name: value for name, value in options.items() if value is not None and name not in sources},
        "sources": {name: digest(data) for name, data in sources.items()},
        "models": dict(models),
        "dtype": dtype,
    }


def read(recipe: Mapping[str, Any], find_source: Callable[[str], bytes | None]) -> Request:
    """Return the request that ``recipe`` describes; ``find_source`` turns a sha256 into the source picture's bytes.

    Raises:
        InvalidRequest: this is no recipe, it is of another format, or a source picture is missing.
    """
    if recipe.get("ganvas") != FORMAT:
        raise InvalidRequest(f"The recipe has format {recipe.get('ganvas')!r}; this engine reads {FORMAT}.")
    wire = {"command": recipe.get("command"), **_mapping(recipe, "options")}
    for name, sha256 in _mapping(recipe, "sources").items():
        data = find_source(sha256)
        if data is None:
            raise InvalidRequest(f"The recipe starts from a picture ({name}) that is not here; its sha256 is {sha256}.")
        wire[name] = data
    return request_from_wire(wire)


def stop_of(recipe: Mapping[str, Any]) -> Stop:
    """Return the point in latent space that a painting's recipe names.

    Raises:
        InvalidRequest: the recipe is not a painting's.
    """
    options = recipe.get("options")
    if recipe.get("command") != "paint" or not isinstance(options, Mapping):
        raise InvalidRequest(f"Only a painting can be a stop of a morph, not the result of {recipe.get('command')!r}.")
    return Stop(str(options.get("genre")), options.get("seed", ""), options.get("art_style"))


def _mapping(recipe: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = recipe.get(key, {})
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"The recipe's {key} are {value!r}; they must be an object.")
    return value
