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
    """<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ name }}, measured</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:72rem;padding:0 1rem;background:#faf9f7;color:#222}
img{max-width:100%;display:block}figure{margin:2rem 0}table{border-collapse:collapse;background:#fff}
td,th{border:1px solid #ddd;padding:.3rem .7rem;text-align:left;vertical-align:top}
pre{background:#fff;padding:1rem;overflow:auto}
</style><h1>{{ name }}</h1><p>{{ sentence }}</p>
<table>{% for key, value in rows %}<tr><th>{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% for caption, source in pictures.items() %}<figure><img alt="{{ caption }}" src="{{ source }}">
<figcaption>{{ caption }}</figcaption></figure>{% endfor %}
<h2>All figures</h2><pre>{{ figures }}</pre></html>
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
        rows=list(flat(account.figures)),
        pictures=pictures,
        figures=json.dumps(account.figures, indent=2),
    )
    write_atomic(path, page.encode())


def sentence(figures: dict[str, Any]) -> str:
    """Return what was compared with what, and how far it may be trusted."""
    if figures["kind"] != "painter":
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


def flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the figures as (dotted name, text), nested objects opened and lists left out."""
    rows: list[tuple[str, str]] = []
    for key, value in figures.items():
        if isinstance(value, dict) and set(value) == {"value", "low", "high"}:
            rows.append((prefix + key, f"{value['value']:g} ({value['low']:g} to {value['high']:g})"))
        elif isinstance(value, dict):
            rows += flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            rows.append((prefix + key, str(value)))
    return rows
