"""``index.html`` of a run: sheets newest first, losses as small charts; opens from disk, needs nothing."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Template

NO_LOSSES = ("images", "images/s", "cpu_seconds")  # the columns of log.jsonl that are not drawn

_PAGE = Template(
    """<!doctype html><meta charset="utf-8"><title>{{ run.system }}</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:72rem;padding:0 1rem;background:#faf9f7;color:#222}
img{max-width:100%;display:block}figure{margin:0 0 2rem}svg{width:18rem;height:6rem;background:#fff}
.charts{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}pre{background:#fff;padding:1rem;overflow:auto}</style>
<h1>{{ run.system }}</h1>
<p>{{ "{:,}".format(images) }} images shown{% if speed %}, {{ speed }} images/s{% endif %}.</p>
<div class="charts">{% for name, points in charts.items() %}<figure>
<figcaption>{{ name }}: {{ "%.4g"|format(points[1]) }}</figcaption>
<svg viewBox="0 0 300 100" preserveAspectRatio="none">
<polyline fill="none" stroke="#a33" stroke-width="1.5" points="{{ points[0] }}"/></svg></figure>{% endfor %}</div>
{% for sheet in sheets %}<figure>
<img src="sheets/{{ sheet }}" loading="lazy" alt="samples after {{ sheet[:8]|int }} images">
<figcaption>{{ "{:,}".format(sheet[:8]|int) }} images</figcaption></figure>{% endfor %}
<h2>Settings</h2><pre>{{ settings }}</pre>
""",
    autoescape=True,
)


def write_page(run: Path) -> None:
    """Write ``run/index.html`` from what the run has logged so far."""
    card = json.loads((run / "run.json").read_text())
    journal = run / "log.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    names = [name for name in (rows[-1] if rows else {}) if name not in NO_LOSSES]
    sheets = sorted((path.name for path in (run / "sheets").glob("*.png")), reverse=True)
    page = _PAGE.render(
        run=card,
        settings=json.dumps(card, indent=2),
        images=int(sheets[0][:8]) if sheets else 0,
        speed=rows[-1]["images/s"] if rows else None,
        charts={name: _chart([row[name] for row in rows if name in row]) for name in names},
        sheets=sheets,
    )
    (run / "index.html").write_text(page)


def _chart(values: list[float]) -> tuple[str, float]:
    """Return SVG points in a 300 x 100 box, and the last value."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = 300 / max(1, len(values) - 1)
    points = (f"{i * step:.1f},{95 - 90 * (value - low) / span:.1f}" for i, value in enumerate(values))
    return " ".join(points), values[-1]
