"""The report of an evaluation: JSON for programs, one HTML page with the pictures inside for people."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Template

from engine import media
from engine.checkpoints import write_atomic
from engine.errors import InvalidRequest
from engine.evaluate.painters import Account

SUFFIXES = (".html", ".json")

_PAGE = Template(
    """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ name }}, measured</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:72rem;padding:0 1rem;background:#faf9f7;color:#222}
img{max-width:100%;display:block;border-radius:4px}figure{margin:2rem 0}figcaption{color:#666;margin-bottom:.5rem}
table{border-collapse:collapse;background:#fff}.wide{overflow-x:auto}
td,th{border:1px solid #ddd;padding:.3rem .8rem;text-align:left;vertical-align:top}td{font-variant-numeric:tabular-nums}
summary{cursor:pointer;margin:1rem 0}
</style><h1>{{ name }}</h1><p>{{ sentence }}</p>
<div class="wide"><table><tr>{% for cell in headline[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in headline[1:] %}<tr><th>{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% for caption, source in pictures.items() %}<figure><figcaption>{{ caption }}</figcaption>
<img alt="{{ caption }}" src="{{ source }}"></figure>{% endfor %}
<details><summary>All figures</summary><div class="wide"><table>
{% for key, value in rows %}<tr><th>{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}</table></div></details></html>
""",
    autoescape=True,
)


def check_target(path: Path) -> None:
    """See that a report can be written to ``path``, before any work.

    Raises:
        InvalidRequest: another suffix than .html or .json, or no such folder.
    """
    if path.suffix not in SUFFIXES or not path.parent.is_dir():
        raise InvalidRequest(f"The report {str(path)!r} must be a .html or .json file in a folder that exists.")


def write_report(account: Account, path: Path) -> None:
    """Write the account to ``path``, wholly or not at all."""
    if path.suffix == ".json":
        write_atomic(path, (json.dumps(account.figures, indent=2) + "\n").encode())
        return
    pictures = {}
    for caption, pixels in account.pictures.items():
        encoded = media.encode_still(pixels, "webp", {})
        pictures[caption] = f"data:image/webp;base64,{base64.b64encode(encoded.data).decode()}"
    page = _PAGE.render(
        name=account.figures["model"],
        sentence=sentence(account.figures),
        headline=headline(account.figures),
        rows=flat(account.figures),
        pictures=pictures,
    )
    write_atomic(path, page.encode())


def sentence(figures: dict[str, Any]) -> str:
    """Return what was compared with what, and how far it may be trusted."""
    if figures["kind"] == "enhancer":
        return f"{figures['pictures']} pictures, shrunk and enlarged again, against themselves."
    if figures["kind"] == "brush":
        return f"{figures['photos']} photos, painted, against {figures['paintings']} paintings; low is like them."
    if figures["kind"] == "stylizer":
        means = figures["mean"]
        beside = (
            "; the optimisation {style_distance} and {content_distance}".format(**means["gatys"])
            if "gatys" in means
            else ""
        )
        return (
            "Style distance {style_distance}, content distance {content_distance}".format(**means["model"])
            + beside
            + "."
        )
    reference = figures["reference"]
    seen = "that no training saw" if reference["held_out"] else "which it may have been trained on"
    return f"{figures['samples']} samples at psi {figures['psi']:g} against {reference['paintings']} paintings {seen}."


def headline(figures: dict[str, Any]) -> list[list[str]]:
    """Return the figures that matter as a table: a row of names, then rows that begin with what is measured."""
    if figures["kind"] == "enhancer":
        header = ["", "PSNR in dB (high)", "texture distance (low)", "content distance (low)"]
        return [header] + [
            [f"{scale}, {'this model' if by == 'model' else by}", *map(str, mean.values())]
            for scale, both in figures["scales"].items()
            for by, mean in both.items()
        ]
    if figures["kind"] == "brush":
        spaces = figures["spaces"]
        return [
            ["", *spaces],
            ["KID of the photos themselves", *(_text(space["kid_of_photos"]) for space in spaces.values())],
            ["KID, painted", *(_text(space["kid"]) for space in spaces.values())],
            ["content distance (low is recognisable)", str(figures["content_distance"]), *[""] * (len(spaces) - 1)],
        ]
    if figures["kind"] == "stylizer":
        names = {"photo": "the photo itself", "model": "this model", "gatys": "optimisation"}
        header = ["", "style distance (low is painted)", "content distance (low is recognisable)"]
        return [header] + [[names[by], *map(str, mean.values())] for by, mean in figures["mean"].items()]
    spaces, genre, memory = figures["spaces"], figures["genre_accuracy"], figures["memory"]

    def row(title: str, *path: str) -> list[str]:
        values = []
        for space in spaces.values():
            for key in path:
                space = space[key]
            values.append(_text(space))
        return [title, *values]

    one = [""] * (len(spaces) - 1)  # figures of one space only

    def beside(found: dict[str, Any]) -> str:
        return f"{found['painter']} (paintings {found['paintings']}, chance {found['chance']})"

    copies = f"{memory['ratio']} of that of held-out paintings" if "ratio" in memory else str(memory["nearest"])
    styled = figures.get("art_style_accuracy")
    of_styles = [["art style accuracy", beside(styled), *one]] if styled else []
    return [
        ["", *spaces],
        row("KID (low)", "kid"),
        row("Frechet distance (low)", "frechet"),
        row("precision: samples that could be paintings", "precision"),
        row("recall: paintings that could be samples", "recall"),
        row("coverage", "coverage"),
        row("diversity within a genre, of that of paintings", "diversity", "of_paintings"),
        ["genre accuracy", beside(genre), *one],
        *of_styles,
        ["distance to the nearest known painting", copies, *one],
    ]


def _text(value: Any) -> str:
    if isinstance(value, dict):  # an interval
        return f"{value['value']:g} ({value['low']:g} to {value['high']:g})"
    return str(value)


def flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the figures as (dotted name, text), nested objects opened and lists left out."""
    rows: list[tuple[str, str]] = []
    for key, value in figures.items():
        if isinstance(value, dict) and set(value) == {"value", "low", "high"}:
            rows.append((prefix + key, _text(value)))
        elif isinstance(value, dict):
            rows += flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            rows.append((prefix + key, str(value)))
    return rows
