"""Many styles in one feed-forward network, and any picture as a style (nets/stylenet.py).

Every style vector comes from the style encoder; a curated style adds a learned offset, so that what it learns of famous
paintings carries over to pictures nobody trained on.  Losses are perceptual (Johnson et al. 2016) and seen in two views
of a crop: the whole at half size (stroke and form) or a quarter of it as it is (texture), with targets from the style
picture at the matching scale.  That costs VGG passes of a quarter of the pixels and gives a 1024 px result strokes as
large as those of a 512 px reproduction.
"""

from __future__ import annotations

import copy
import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from engine import losses, nets
from engine.data.paintings import find_pictures, load_pictures
from engine.nets.stylenet import StyleNet
from engine.nets.vgg import load_vgg
from engine.train.state import ema_update
from engine.train.system import Config, System, system

STYLE_TAPS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1")
CONTENT_TAP = "conv3_3"
COARSE, FINE = 256, 512  # px, short side of the style picture for the half-size view and for the piece
CURATED = (
    "claude-monet-impression-sunrise",
    "claude-monet-water-lilies",
    "edvard-munch-the-scream",
    "el-greco-view-of-toledo",
    "francis-picabia-udnie",
    "franz-marc-the-large-blue-horses",
    "georges-seurat-a-sunday-on-la-grande-jatte",
    "gustav-klimt-the-kiss",
    "ito-jakuchu-rooster",
    "katsushika-hokusai-red-fuji",
    "katsushika-hokusai-the-great-wave-off-kanagawa",
    "paul-cezanne-mont-sainte-victoire",
    "paul-gauguin-tahitian-women-on-the-beach",
    "paul-klee-senecio",
    "utagawa-hiroshige-sudden-shower-over-shin-ohashi",
    "vincent-van-gogh-the-starry-night",
    "wassily-kandinsky-composition-viii",
    "william-turner-the-shipwreck-of-the-minotaur",
)


class StylizerConfig(Config):
    """Fields of the stylizer."""

    images: int = 100_000
    batch: int = 2  # many small steps: half the batch costs half the time and learns nearly as much
    learning_rate: float = 1e-3
    content: float = 1.0  # weight against the style loss
    style: float = 1.5
    smooth: float = 0.1  # total variation
    arbitrary: float = 0.2  # share of pictures painted in the style of a random painting
    strangers: int = 400  # how many paintings serve for that; each costs a VGG pass of its own, once
    styles: tuple[str, ...] = CURATED  # file names below <data>/styles without suffix; empty is all of them
    size: int = 192  # px, of the crops


Moments = dict[str, tuple[Tensor, Tensor]]  # tap -> mean (1, C), covariance (1, C, C)


@dataclass
class Style:
    """What is wanted of a style: moments of its features in the coarse and the fine view, and what the encoder reads."""

    coarse: Moments
    fine: Moments | None
    readings: Tensor


@system("stylizer")
class Stylizer(System):
    """Trains ``stylenet`` on <data>/photos, <data>/styles and, for arbitrary styles, <data>/paintings."""

    kind = "stylizer"
    config_type = StylizerConfig

    def __init__(self, config: StylizerConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        self.photos = load_pictures(data / "photos", config.size, cache)
        self.files = {path.stem: path for path in find_pictures(data / "styles")}
        self.styles = config.styles or tuple(sorted(self.files))
        self.titles = _titles(data / "manifest.csv")
        self.vgg = load_vgg((*STYLE_TAPS, CONTENT_TAP)).to(memory_format=torch.channels_last)
        paintings = _large_paintings(data / "paintings")
        self.paintings = paintings[:: max(1, len(paintings) // config.strangers)]
        self._found: dict[Path, Style] = {}

        net = nets.create("stylenet", styles=len(self.styles))
        assert isinstance(net, StyleNet)
        net.features.load_state_dict(self.vgg.state_dict(), strict=False)
        net.to(memory_format=torch.channels_last)
        offsets = torch.nn.Module()
        offsets.register_parameter("table", torch.nn.Parameter(torch.zeros_like(net.style_table)))
        self.net, self.offsets = net, offsets
        self._standardise_readings()
        self.networks = {"G": net, "offsets": offsets}
        self.averages = {"G": copy.deepcopy(net).requires_grad_(False), "offsets": copy.deepcopy(offsets)}
        trained = [p for p in (*net.parameters(), *offsets.parameters()) if p.requires_grad]
        self.optimizers = {"G": torch.optim.Adam(trained, config.learning_rate, betas=(0.9, 0.99))}

    @property
    def data_digest(self) -> str:
        return self.photos.digest

    # What a style is

    def style(self, path: Path, *, fine: bool) -> Style:
        """Return the targets of the picture at ``path``, computed once."""
        if path not in self._found:
            with torch.no_grad(), self.autocast():
                coarse = _read(path, COARSE)
                self._found[path] = Style(
                    coarse=self._moments(coarse),
                    fine=self._moments(_read(path, FINE)) if fine else None,
                    readings=self.net.style_readings(coarse),
                )
        return self._found[path]

    def _moments(self, picture: Tensor) -> Moments:
        taps = self.vgg(picture.to(memory_format=torch.channels_last))
        return {tap: losses.moments(taps[tap]) for tap in STYLE_TAPS}

    def _standardise_readings(self) -> None:
        """Give the encoder readings of zero mean and unit variance over the curated styles and some paintings."""
        sample = [self.files[name] for name in self.styles] + self.paintings[:: max(1, len(self.paintings) // 64)]
        with torch.no_grad(), self.autocast():
            readings = torch.cat([self.net.style_readings(_read(path, COARSE)) for path in sample]).float()
        self.net.reading_mean.copy_(readings.mean(0))
        self.net.reading_std.copy_(readings.std(0).clamp_min(1e-2))

    # Training

    def step(self) -> dict[str, float]:
        """Paint a batch of crops, each in a style of its own, and follow the perceptual losses."""
        config = self.config
        progress = self.images / config.images
        for group in self.optimizers["G"].param_groups:
            group["lr"] = config.learning_rate * min(1.0, 4 * (1 - progress) + 0.02)  # down to 2 %
        photos = self._crops()

        # Choose styles.
        chosen, offsets = [], []
        fine = bool(self.numpy_rng.random() < 0.5)
        for _ in range(config.batch):
            if not fine and self.paintings and self.numpy_rng.random() < 2 * config.arbitrary:
                path = self.paintings[self.numpy_rng.integers(len(self.paintings))]
                offsets.append(torch.zeros(self.offsets.table.shape[1]))
                chosen.append(self.style(path, fine=False))
            else:
                index = int(self.numpy_rng.integers(len(self.styles)))
                offsets.append(self.offsets.table[index])
                chosen.append(self.style(self.files[self.styles[index]], fine=True))

        # Paint.
        with self.autocast():
            style = self.net.encode_readings(torch.cat([one.readings for one in chosen])) + torch.stack(offsets)
            painted = self.net.paint_freely(photos, style)

            # Judge: the whole at half size, or a piece as it is.
            seen, original = self._view(painted, photos, fine)
            taps = self.vgg(seen)
            with torch.no_grad():
                target = self.vgg(original)[CONTENT_TAP]
        found = {tap: losses.moments(taps[tap]) for tap in STYLE_TAPS}
        wanted = _stack([(one.fine if fine else one.coarse) or {} for one in chosen])
        told = {
            "content": losses.content_loss(taps[CONTENT_TAP], target).mean(),
            "style": losses.style_loss(found, wanted).mean(),
            "smooth": losses.total_variation(painted).mean(),
            "overflow": losses.overflow(painted).mean(),
        }
        loss = config.content * told["content"] + config.style * told["style"] + config.smooth * told["smooth"]
        loss = loss + 100 * told["overflow"]

        # Learn.
        optimizer = self.optimizers["G"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
        optimizer.step()
        decay = min(0.999, (1 + self.images / config.batch) / (10 + self.images / config.batch))
        for name, average in self.averages.items():
            ema_update(average, self.networks[name], decay)
        return {name: value.item() for name, value in told.items()}

    def _crops(self) -> Tensor:
        """Return a batch of photos, a random square of each (half of it to all of it), mirrored half the time."""
        size = self.config.size
        rows = self.numpy_rng.integers(len(self.photos), size=self.config.batch)
        crops = []
        for photo in self.photos.batch(rows):
            side = int(self.numpy_rng.integers(size // 2, size + 1))
            top, left = self.numpy_rng.integers(size - side + 1, size=2)
            crop = photo[None, :, top : top + side, left : left + side]
            crop = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True)
            crops.append(crop.flip(3) if self.numpy_rng.random() < 0.5 else crop)
        return torch.cat(crops).to(memory_format=torch.channels_last)

    def _view(self, painted: Tensor, photos: Tensor, fine: bool) -> tuple[Tensor, Tensor]:
        if not fine:
            return F.avg_pool2d(painted, 2), F.avg_pool2d(photos, 2)
        view = self.config.size // 2
        top, left = self.numpy_rng.integers(self.config.size - view + 1, size=2)
        window = (..., slice(top, top + view), slice(left, left + view))
        return painted[window], photos[window]

    # Showing and releasing

    def style_table(self) -> Tensor:
        """Return the curated styles' vectors (N, S) as the averaged networks have them."""
        average, offsets = self.averages["G"], self.averages["offsets"]
        readings = torch.cat([self.style(self.files[name], fine=True).readings for name in self.styles])
        with torch.no_grad():
            return average.encode_readings(readings) + offsets.table  # type: ignore[operator]

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: photos; columns: the photo, every second curated style, two paintings as arbitrary styles."""
        net = self.averages["G"]
        table = self.style_table()[::2]
        if self.paintings:
            strangers = [self.paintings[i * len(self.paintings) // 5] for i in (1, 3)]
            readings = torch.cat([self.style(path, fine=False).readings for path in strangers])
            table = torch.cat([table, net.encode_readings(readings)])  # type: ignore[operator]
        rows = []
        for row in np.linspace(0, len(self.photos) - 1, 5).astype(int):
            photo = self.photos.batch(np.array([row])).to(memory_format=torch.channels_last)
            with self.autocast():
                painted = torch.cat([net(photo, style[None]) for style in table])
            rows.append(torch.cat([photo, painted.float()]).permute(2, 0, 3, 1).flatten(1, 2))  # (H, N*W, 3)
        return torch.cat(rows).mul(255).round().byte().numpy()

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        net = self.averages["G"]
        tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
        tensors["net.style_table"] = self.style_table()
        card = {
            "net": {"name": "stylenet", "config": {"styles": len(self.styles)}},
            "styles": [_describe(name, self.titles) for name in self.styles],
        }
        return tensors, card


def _stack(targets: list[Moments]) -> Moments:
    """Return the moments of a batch from those of its pictures."""
    return {tap: tuple(torch.cat(pair) for pair in zip(*(t[tap] for t in targets), strict=True)) for tap in STYLE_TAPS}  # type: ignore[misc]


def _read(path: Path, short_side: int) -> Tensor:
    with Image.open(path) as picture:
        width, height = picture.size
        scale = short_side / min(width, height)
        small = picture.convert("RGB").resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
    return pixels[..., : 2 * short_side, : 2 * short_side]  # very long pictures would cost more than they tell


def _large_paintings(root: Path) -> list[Path]:
    """Return the paintings of at least 256 px, the only ones whose brush strokes can be seen."""
    if not root.is_dir():
        return []
    found = []
    for path in find_pictures(root):
        with Image.open(path) as picture:
            if min(picture.size) >= COARSE:
                found.append(path)
    return found


def _titles(manifest: Path) -> dict[str, tuple[str, str]]:
    """Return {file stem: (title, artist)} of an optional manifest.csv with columns path, title and artist."""
    if not manifest.exists():
        return {}
    with open(manifest, newline="") as file:
        return {Path(row["path"]).stem: (row["title"], row["artist"]) for row in csv.DictReader(file)}


def _describe(stem: str, titles: dict[str, tuple[str, str]]) -> dict[str, str]:
    title, artist = titles.get(stem, (stem, ""))
    name = re.sub(r"[^a-z0-9]+", "-", title.lower().removeprefix("the ")).strip("-")
    return {"name": name, "title": _capitals(title), "artist": _capitals(artist)}


def _capitals(text: str) -> str:
    words = text.replace("-", " ").split()
    small = {"the", "a", "of", "on", "in", "at", "de", "la", "van", "over", "with", "off", "el"}
    return " ".join(word if i and word in small else word[:1].upper() + word[1:] for i, word in enumerate(words))
