"""Many nights with a made-up community: does the painter go where a hidden taste pulls it, and nowhere else?"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jinja2 import Template
from PIL import Image
from torch import Tensor

from engine.api import PSI
from engine.checkpoints import Model, load_folder, write_atomic
from engine.data.intake import open_photo
from engine.errors import InvalidRequest, UnknownName
from engine.evaluate import metrics
from engine.evaluate.metrics import Scale
from engine.evaluate.painters import Latents, batches, draw_latents, paint
from engine.nightly.looks import HAND, Look, hand_features
from engine.nightly.night import Judges, NightConfig, base_of, gather, hold_night
from engine.nightly.votes import collect

Utility = Callable[[Tensor], Tensor]  # pictures (B, 3, H, W) in [0, 1] -> how much they please (B,)

ATTACKS: Final = ("none", "sockpuppets", "one-voter", "single-image", "all-down", "random")
PUPPETS = 10
WORKS_PER_GENRE = 16  # that people see in a night
TURNOUT = 0.5  # share of the works on which a voter votes
DECIDED = 2.5  # how surely a voter tells good from bad, in spreads of the taste
COMPARED = 400  # latents on which painters are compared
REMEMBERED = 3000  # batches, of each frozen network


def find_taste(text: str) -> Utility:
    """Return the taste called ``text``, or the taste for what looks like the picture in that file.

    Raises:
        UnknownName: it is neither.
    """
    tastes: dict[str, Utility] = {
        "warm": lambda x: x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2)),
        "blue": lambda x: x[:, 2].mean((1, 2)) - x[:, :2].mean((1, 2, 3)),
        "bright": lambda x: x.mean((1, 2, 3)),
        "random": lambda x: torch.zeros(len(x)),
    }
    if text in tastes:
        return tastes[text]
    if not Path(text).is_file():
        raise UnknownName(f"There is no taste {text!r}; there are {', '.join(tastes)}, or give a picture's file.")
    pixels = open_photo(Path(text).read_bytes(), max_side=256)
    model = hand_features(torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255)
    unit = torch.full((len(HAND),), 0.1)
    return lambda x: -((hand_features(x) - model) / unit).norm(dim=1)


@dataclass(frozen=True)
class Community:
    """Voters with one hidden taste in common, each a little different and never quite sure."""

    voters: int
    taste: Utility
    attack: str
    seed: int

    def vote(self, works: Sequence[dict[str, Any]], pictures: Tensor, night: int) -> Iterator[dict[str, Any]]:
        """Yield the votes of a night on ``works`` with their ``pictures`` (N, 3, H, W), and those of the attackers."""
        liked = within_genres(self.taste(pictures), [work["recipe"]["options"]["genre"] for work in works])
        for voter in range(self.voters):
            rng = np.random.default_rng([self.seed, voter, night])
            leaning = np.random.default_rng([self.seed, voter]).normal(0, 0.3)
            for i in np.flatnonzero(rng.random(len(works)) < TURNOUT).tolist():
                if self.attack == "random":
                    up = rng.random() < 0.5
                else:
                    up = rng.random() < 1 / (1 + np.exp(-DECIDED * (liked[i] + leaning)))
                if self.attack == "single-image":
                    i, up = 0, True
                yield works[i] | {
                    "voter": f"voter-{voter}",
                    "value": "up" if up and self.attack != "all-down" else "down",
                }
        if self.attack == "sockpuppets":
            for puppet in range(PUPPETS):
                for i, work in enumerate(works):
                    yield work | {"voter": f"puppet-{puppet}", "value": "down" if liked[i] > 0 else "up"}
        if self.attack == "one-voter":
            for i, work in enumerate(works):
                yield work | {"voter": "mallory", "value": "down" if liked[i] > 0 else "up"}


def within_genres(values: Tensor, genres: Sequence[str]) -> np.ndarray:
    """Return values (N,) less their genre's median, in units of their spread."""
    found = values.double().numpy().copy()
    names = np.array(genres)
    for genre in set(genres):
        found[names == genre] -= np.median(found[names == genre])
    return found / max(float(found.std()), 1e-9)


def simulate(
    painter: Model,
    community: Community,
    nights: int,
    out: Path,
    judges: Judges,
    config: NightConfig,
    *,
    paintings: Path | None = None,
    cache: Path = Path("runs/cache"),
    tell: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Hold ``nights``; return what became of taste, KID and diversity, with simulation.json and chart.svg in ``out``.

    Whatever passes the gate is promoted at once: there is no canary here, so the gate stands alone.
    """
    if out.exists() and any(out.iterdir()):
        raise InvalidRequest(f"{str(out)!r} is not empty; choose a new folder.")
    judges = remembering(judges)
    base = base_of(painter)
    material = gather(base, paintings, cache, config.anchors)
    latents = draw_latents(COMPARED, int(base.net.z_dim), torch.as_tensor(material.stream.labels), seed=7)  # type: ignore[arg-type]
    compare = Comparison(base, latents, material.real, judges, community.taste)
    champion, lines = painter, []
    told: list[dict[str, Any]] = [{"night": 0, "state": "start"} | compare(champion)]
    for number in range(1, nights + 1):
        works, pictures = exhibit(champion, out / f"night-{number}" / "works", out, seed=1000 * number)
        lines += list(community.vote(works, pictures, number))
        night = hold_night(
            collect(lines, out), champion, out / f"night-{number}", judges,
            replace(config, seed=number, lesson=replace(config.lesson, seed=number)), name=f"night-{number}",
            paintings=paintings, cache=cache, tell=lambda share, n=number: tell((n - 1 + share) / nights),  # type: ignore[misc]
        )  # fmt: skip
        if night.candidate is not None:
            champion = load_folder(night.candidate, discriminator=True)
        told.append({"night": number, "state": night.state, "why": night.why} | compare(champion))
        report = {
            "painter": painter.card.name, "voters": community.voters, "attack": community.attack,
            "real": material.source, "promoted": sum(row["state"] == "candidate" for row in told), "nights": told,
        }  # fmt: skip
        write_atomic(out / "simulation.json", (json.dumps(report, indent=2) + "\n").encode())
        write_atomic(out / "chart.svg", chart(told).encode())
    return report


class Remembered:
    """A frozen network that looks at the same pictures once: nights show paintings and base release again and again."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._seen: OrderedDict[bytes, Tensor] = OrderedDict()  # batches, those of long ago first

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return what ``look`` returns for pictures (B, 3, H, W)."""
        if pictures.requires_grad:
            return self._look(pictures)
        key = hashlib.blake2b(pictures.numpy().tobytes(), digest_size=16).digest()
        if key not in self._seen:
            self._seen[key] = self._look(pictures)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return self._seen[key]


def remembering(judges: Judges) -> Judges:
    """Return judges that see the same and look once; measured: half of a simulated night was looking again."""
    spaces = tuple(replace(space, look=Remembered(space.look)) for space in judges.spaces)
    return Judges(Remembered(judges.looks), spaces)


def exhibit(painter: Model, folder: Path, root: Path, seed: int) -> tuple[list[dict[str, Any]], Tensor]:
    """Return what people see tonight: lines of votes still without voter and value, and the pictures (N, 3, R, R)."""
    genres = list(painter.card["genres"])
    labels = torch.arange(len(genres)).repeat_interleave(WORKS_PER_GENRE)
    seeds = [seed + i for i in range(len(labels))]
    z = torch.stack(
        [torch.randn(int(painter.net.z_dim), generator=torch.Generator().manual_seed(one)) for one in seeds]  # type: ignore[arg-type]
    )
    painted = paint(painter.net, Latents(z, labels), PSI)
    folder.mkdir(parents=True, exist_ok=True)
    works = []
    for i, picture in enumerate(painted):
        path = folder / f"{i}.png"
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
        options = {"genre": genres[int(labels[i])], "seed": seeds[i], "psi": PSI, "model": painter.card.name}
        recipe = {"command": "paint", "options": options, "models": {painter.card.name: painter.card.sha256}}
        works.append({"file": path.relative_to(root).as_posix(), "recipe": recipe})
    return works, painted.float() / 255


class Comparison:
    """A painter against the base release, on the same latents."""

    def __init__(self, base: Model, latents: Latents, real: Tensor, judges: Judges, taste: Utility) -> None:
        self._latents, self._taste = latents, taste
        self._space = judges.spaces[0]
        self._size = real.shape[2]
        self._pictures = paint(base.net, latents, PSI)
        self._utility = taste(self._pictures.float() / 255)
        features = self._space(batches(real))
        self._scale = Scale.of(features)
        self._real = self._scale(features)
        self._before = self._figures(self._pictures)

    def _figures(self, pictures: Tensor) -> tuple[float, float]:
        seen = self._scale(self._space(batches(pictures, self._size)))
        varied = metrics.diversity(seen, self._latents.labels)
        return metrics.kid(self._real, seen), sum(varied.values()) / len(varied)

    def _of_any(self, utility: Tensor) -> float:
        shares = []
        for label in self._latents.labels.unique():
            mine = self._latents.labels == label
            ours, theirs = utility[mine][:, None], self._utility[mine][None]
            shares.append((ours > theirs).float().mean() + 0.5 * (ours == theirs).float().mean())
        return float(torch.stack(shares).mean())

    def __call__(self, painter: Model) -> dict[str, Any]:
        """Return how often it wins under the hidden taste, taste in spreads, KID and diversity against the base's.

        ``win_rate`` compares pictures of the same latent, where a small change wins every time; ``win_rate_of_any``
        compares any two pictures of a genre, as a duel would.
        """
        pictures = paint(painter.net, self._latents, PSI)
        utility = self._taste(pictures.float() / 255)
        better = (utility > self._utility).float() + 0.5 * (utility == self._utility).float()
        kid, varied = self._figures(pictures)
        gain = (utility - self._utility).mean() / self._utility.std().clamp_min(1e-9)
        return {
            "win_rate": round(float(better.mean()), 4),
            "win_rate_of_any": round(self._of_any(utility), 4),
            "taste": round(float(gain), 4),
            "kid": round(kid, 5),
            "kid_of_base": round(self._before[0], 5),
            "diversity_of_base": round(varied / self._before[1], 4),
        }


_CHART = Template(
    """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" font-family="system-ui" font-size="13">
<rect width="640" height="360" fill="#faf9f7"/>
{% for y, text in ticks %}<path d="M50 {{ y }}H530" stroke="#ddd"/>
<text x="44" y="{{ y + 4 }}" text-anchor="end">{{ text }}</text>
{% endfor %}{% for line in lines %}<polyline points="{{ line.points }}" fill="none"
stroke="{{ line.colour }}" stroke-width="2"/>
<text x="536" y="{{ line.y }}" fill="{{ line.colour }}">{{ line.name }}</text>
{% endfor %}<text x="290" y="350" text-anchor="middle">nights</text></svg>
"""
)


def chart(rows: Sequence[dict[str, Any]]) -> str:
    """Return an SVG with win rate and diversity over the nights, both shares of 1 and drawn from 0 to 1.2."""

    def y(value: float) -> float:
        return round(320 - 250 * min(max(value, 0), 1.2), 1)

    lines = []
    for key, name, colour in (("win_rate", "win rate", "#a33"), ("diversity_of_base", "diversity", "#36a")):
        step = 480 / max(1, len(rows) - 1)
        points = " ".join(f"{50 + i * step:.1f},{y(row[key])}" for i, row in enumerate(rows))
        lines.append({"points": points, "colour": colour, "name": name, "y": y(rows[-1][key]) + 4})
    return _CHART.render(lines=lines, ticks=[(y(value), f"{value:.2f}") for value in (0, 0.25, 0.5, 0.75, 1)])
