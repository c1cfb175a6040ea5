"""Many styles in one feed-forward network, and any picture as a style (nets/stylenet.py).

Lessons first: what a teacher makes of a photo is copied (teacher.py), in its pixels and in the moments of its features,
because a CPU sees too few pictures to find strokes from perceptual losses alone.  Then practice: perceptual losses
(Johnson et al. 2016) against the style picture itself, which make the copies better than the teacher.

The vector of a picture's style comes from the style encoder; a curated style adds a learned offset, so that what it
learns of famous paintings carries over to pictures nobody trained on.
"""

from __future__ import annotations

import copy
import csv
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from engine import losses, nets
from engine.data.folders import slug
from engine.data.paintings import find_pictures, load_pictures
from engine.nets.stylenet import PALETTE, StyleNet, palette_of, recolour
from engine.nets.vgg import load_vgg
from engine.train import devices
from engine.train.initial import Initial
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system
from engine.train.teacher import LOOKS, SIDE, Teacher

STYLE_TAPS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1")
CONTENT_TAP = "conv3_3"
SHARP_TAPS = ("conv1_2", "conv2_2")
TEXTURE_TAPS = STYLE_TAPS[:3]  # in which a copy has its original's moments, too: pixels alone teach a blur of strokes
READ = 256  # px, short side at which a picture is read as a style
FORMS = 384  # px, short side at which its forms and strokes are wanted
ROWS = 10  # a style's own offset learns so many times faster: it is seen in one step of fifty
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

    images: int = 60_000
    batch: int = 4
    lessons: int = 40_000  # images copied from the teacher before practice begins; 0 needs no teacher
    rehearsal: float = 0.35  # share of practice that copies on: the teacher's looks would fade, and all strokes soften
    learning_rate: float = 1e-3
    content: float = 1.0  # weight against the style loss
    style: float = 1.5
    smooth: float = 0.1  # total variation
    arbitrary: float = 0.2  # share of pictures painted in the style of a random painting
    strangers: int = 400  # how many paintings serve for that
    styles: tuple[str, ...] = CURATED  # file names below <data>/styles without suffix; empty is all of them
    looks: bool = True  # learn the teacher's own looks too
    size: int = 192  # px, of the crops


Moments = dict[str, tuple[Tensor, Tensor]]  # tap -> mean (C,), covariance (C, C)


@dataclass
class Style:
    """What is known of a style picture: what the encoder reads, its palette, and the moments of its features."""

    readings: Tensor
    palette: Tensor
    moments: Moments | None = None
    taught: np.ndarray | None = None  # the teacher's own vector of it


class Offsets(nn.Module):
    """What a row of the style table adds to what the encoder reads from its picture."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)


@system("stylizer")
class Stylizer(System):
    """Trains ``stylenet`` on <data>/photos, <data>/styles and, for arbitrary styles, <data>/paintings."""

    kind = "stylizer"
    config_type = StylizerConfig

    def __init__(self, config: StylizerConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        self.photos = load_pictures(data / "photos", config.size, cache)
        self.files = {path.stem: path for path in find_pictures(data / "styles")}
        self.pictures = config.styles or tuple(sorted(self.files))
        self.titles = _titles(data / "manifest.csv")
        self.vgg = nets.channels_last(load_vgg((*STYLE_TAPS, *SHARP_TAPS, CONTENT_TAP)))
        self.teacher = Teacher() if config.lessons else None
        self.looks = LOOKS if self.teacher and config.looks else ()
        paintings = _large_paintings(data / "paintings")
        self.paintings = paintings[:: max(1, len(paintings) // config.strangers)]
        self._found: dict[Path, Style] = {}

        # The table holds the curated pictures' offsets, then the teacher's looks, which have no picture.
        net = nets.create("stylenet", styles=len(self.pictures) + len(self.looks))
        assert isinstance(net, StyleNet)
        net.features.load_state_dict(self.vgg.state_dict(), strict=False)
        nets.channels_last(net)
        table = torch.randn(net.style_table[:, :-PALETTE].shape, generator=self.torch_rng)
        table[: len(self.pictures)] = 0
        self.net, self.offsets = net, Offsets(table)
        self._standardise_readings()
        self.networks = {"G": net, "offsets": self.offsets}
        self.averages = {"G": copy.deepcopy(net).requires_grad_(False), "offsets": copy.deepcopy(self.offsets)}
        trained = [p for p in net.parameters() if p.requires_grad]
        self.optimizers = {
            "G": torch.optim.Adam(trained, config.learning_rate, betas=(0.9, 0.99), fused=True),
            "offsets": torch.optim.Adam(
                self.offsets.parameters(), ROWS * config.learning_rate, betas=(0.9, 0.99), fused=True
            ),
        }

    @property
    def data_digest(self) -> str:
        return self.photos.digest

    # What a style is

    @torch.no_grad()
    def style(self, path: Path) -> Style:
        """Return the style of the picture at ``path``: what is needed of it, computed once."""
        lesson = self.images < self.config.lessons
        known = self._found.get(path)
        if known is None:
            picture = _read(path, READ).to(self.device)
            with self.autocast():
                known = self._found[path] = Style(self.net.style_readings(picture), palette_of(picture))
        if known.taught is None and self.teacher:
            known.taught = self.teacher.read(_read(path, READ))
        if not lesson and known.moments is None:
            known.moments = self._moments(_read(path, FORMS))
        return known

    def _moments(self, picture: Tensor) -> Moments:
        with self.autocast():
            taps = self.vgg(picture.to(self.device, memory_format=torch.channels_last))
        return {tap: losses.moments(taps[tap]) for tap in STYLE_TAPS}

    def _choose(self, arbitrary: float, looks: bool) -> tuple[Path | None, int | None]:
        """Return the picture of a random style and its row in the table; a stranger has no row, a look no picture."""
        if self.paintings and self.numpy_rng.random() < arbitrary:
            return self.paintings[self.numpy_rng.integers(len(self.paintings))], None
        row = int(self.numpy_rng.integers(len(self.pictures) + (len(self.looks) if looks else 0)))
        return (self.files[self.pictures[row]] if row < len(self.pictures) else None), row

    def _vector(self, path: Path | None, row: int | None) -> Tensor:
        """Return the style vector (1, 64 + 13) with its gradient."""
        if path is None:  # a look has no palette
            vector = torch.zeros(1, self.net.style_table.shape[1], device=self.device)
        else:
            vector = self._vectors(self.net, [path])
        return vector if row is None else vector + F.pad(self.offsets.table[row], (0, PALETTE))

    def _vectors(self, net: StyleNet, paths: list[Path]) -> Tensor:
        """Return the style vectors (N, 64 + 13) of pictures as a member would bring them."""
        styles = [self.style(path) for path in paths]
        readings = torch.cat([style.readings for style in styles]).to(self.device)
        palettes = torch.cat([style.palette for style in styles]).to(self.device)
        return torch.cat([net.encode_readings(readings), palettes], dim=1)

    def _standardise_readings(self) -> None:
        """Give the encoder readings of zero mean and unit variance over the curated styles and some paintings."""
        sample = [self.files[name] for name in self.pictures] + self.paintings[:: max(1, len(self.paintings) // 64)]
        with torch.no_grad(), self.autocast():
            readings = torch.cat([self.net.style_readings(_read(path, READ)) for path in sample]).float()
        self.net.reading_mean.copy_(readings.mean(0))
        self.net.reading_std.copy_(readings.std(0).clamp_min(1e-2))

    # Training

    def step(self) -> dict[str, float]:
        """Copy the teacher, or practise, on a batch."""
        config = self.config
        progress = self.images / config.images
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:  # down to 2 % in the last quarter
                factor = ROWS if name == "offsets" else 1.0
                group["lr"] = factor * config.learning_rate * min(1.0, 4 * (1 - progress) + 0.02)
        lesson = self.images < config.lessons
        rehearse = bool(not lesson and self.teacher and self.numpy_rng.random() < config.rehearsal)
        with self.autocast():
            loss, told = self._lesson() if lesson or rehearse else self._practice()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        length = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        if not devices.anybody(not length.isfinite(), self.device):  # an empty photo has no gradient worth following
            for optimizer in self.optimizers.values():
                optimizer.step()
        decay = min(0.999, (1 + self.images / config.batch) / (10 + self.images / config.batch))
        for name, average in self.averages.items():
            ema_update(average, self.networks[name], decay)
        return numbers(told)

    def _lesson(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Every photo in a style of its own; the teacher's pixels, and sharpness and texture in a quarter of them."""
        chosen = [self._choose(self.config.arbitrary, looks=True) for _ in range(self.config.batch)]
        corners = self.numpy_rng.integers(SIDE - self.config.size + 1, size=(self.config.batch, 2)).tolist()
        vectors = torch.cat([self._vector(path, row) for path, row in chosen])
        with ThreadPoolExecutor(2) as pool:  # the teacher's networks leave Python's lock alone
            pairs = list(pool.map(self._show, self._crops(), chosen, corners))
        photo, target = (
            torch.cat(half).to(self.device, memory_format=torch.channels_last) for half in zip(*pairs, strict=True)
        )
        painted = self.net.paint_freely(photo, vectors)
        target = recolour(target, vectors[:, -PALETTE:].detach()).clamp(0, 1)
        told = {"copy": (painted - target).abs().mean()}
        seen, original = self._quarter(painted, target)
        with torch.no_grad():
            wanted = self.vgg(original, (*TEXTURE_TAPS, *SHARP_TAPS))
        found = self.vgg(seen, (*TEXTURE_TAPS, *SHARP_TAPS))
        told["sharp"] = losses.likeness([found[tap] for tap in SHARP_TAPS], [wanted[tap] for tap in SHARP_TAPS])
        told["texture"] = torch.stack(
            [losses.style_loss(moments_of(found, i), moments_of(wanted, i)) for i in range(self.config.batch)]
        ).mean()
        return 5 * told["copy"] + told["sharp"] + told["texture"], told

    def _show(
        self, photo: Tensor, chosen: tuple[Path | None, int | None], corner: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return a photo and what the teacher makes of it, (1, 3, S, S) each: all of it, or a piece of a larger one."""
        assert self.teacher
        path, row = chosen
        if path is None:
            assert row is not None
            return photo[None], self.teacher.paint(photo[None], row - len(self.pictures))
        large = F.interpolate(photo[None], size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
        top, left = corner
        window = (..., slice(top, top + self.config.size), slice(left, left + self.config.size))
        taught = self._found[path].taught
        assert taught is not None
        return large[window], self.teacher.paint_like(large, taught)[window]

    def _practice(self) -> tuple[Tensor, dict[str, Tensor]]:
        """All photos in one style, judged by perceptual losses."""
        config = self.config
        photos = self._crops().to(self.device)
        path, row = self._choose(config.arbitrary, looks=False)
        assert path is not None
        wanted = self.style(path).moments
        assert wanted is not None
        painted = self.net.paint_freely(photos, self._vector(path, row).expand(config.batch, -1))
        taps = self.vgg(painted)
        with torch.no_grad():
            target = self.vgg(photos)[CONTENT_TAP]
        found = {tap: losses.moments(taps[tap]) for tap in STYLE_TAPS}
        told = {
            "content": losses.content_loss(taps[CONTENT_TAP], target).mean(),
            "style": losses.style_loss(found, wanted),
            "smooth": losses.total_variation(painted).mean(),
            "overflow": losses.overflow(painted).mean(),
        }
        loss = config.content * told["content"] + config.style * told["style"] + config.smooth * told["smooth"]
        return loss + 100 * told["overflow"], told

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

    def _quarter(self, painted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same random quarter of both."""
        side = self.config.size // 2
        top, left = self.numpy_rng.integers(self.config.size - side + 1, size=2)
        window = (..., slice(top, top + side), slice(left, left + side))
        return painted[window], target[window]

    # Showing and releasing

    @torch.no_grad()
    def style_table(self) -> Tensor:
        """Return the averaged networks' vectors (N, S) of the curated styles and the teacher's looks."""
        average, offsets = self.averages["G"], self.averages["offsets"]
        assert isinstance(average, StyleNet) and isinstance(offsets, Offsets)
        table = F.pad(offsets.table, (0, PALETTE))
        table[: len(self.pictures)] += self._vectors(average, [self.files[name] for name in self.pictures])
        return table

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: photos; columns: the photo, every third style, two paintings as arbitrary styles."""
        net = self.averages["G"]
        assert isinstance(net, StyleNet)
        table = self.style_table()[::3]
        if self.paintings:
            strangers = [self.paintings[i * len(self.paintings) // 5] for i in (1, 3)]
            table = torch.cat([table, self._vectors(net, strangers)])
        rows = []
        for row in np.linspace(0, len(self.photos) - 1, 5).astype(int):
            photo = self.photos.batch(np.array([row])).to(memory_format=torch.channels_last)
            with self.autocast():
                painted = torch.cat([net(photo, style[None]) for style in table])
            rows.append(torch.cat([photo, painted.float()]).permute(2, 0, 3, 1).flatten(1, 2))  # (H, N*W, 3)
        return torch.cat(rows).mul(255).round().byte().numpy()

    def described(self) -> list[dict[str, str]]:
        """Return name, title and artist of every row of the style table."""
        pictures = [_describe(name, self.titles) for name in self.pictures]
        return pictures + [{"name": name, "title": _capitals(name), "artist": ""} for name in self.looks]

    def start_from(self, initial: Initial) -> None:
        """Begin with the weights of another run; of a released model the styles of the same names are kept, too."""
        super().start_from(initial)
        known = {style["name"]: row for row, style in enumerate(initial.card.get("styles", ()))}
        given = initial.networks["G"].get("style_table")
        if given is None or not known:
            return
        own = self.style_table()
        for row, style in enumerate(self.described()):
            if style["name"] in known:
                change = (given[known[style["name"]]].float() - own[row])[:-PALETTE]
                for holder in (self.offsets, self.averages["offsets"]):
                    assert isinstance(holder, Offsets)
                    holder.table.data[row] += change

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        return sheet[:, self.config.size :]

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        net = self.averages["G"]
        tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
        # The teacher's looks first: they are the stronger ones, and lists show them in this order.
        order = [*range(len(self.pictures), len(self.pictures) + len(self.looks)), *range(len(self.pictures))]
        tensors["net.style_table"] = self.style_table()[order]
        described = self.described()
        card = {
            "net": {"name": "stylenet", "config": {"styles": len(self.pictures) + len(self.looks)}},
            "styles": [described[row] for row in order],
        }
        return tensors, card


def moments_of(taps: dict[str, Tensor], picture: int) -> Moments:
    """Return the moments of one of the pictures whose features (B, C, h, w) ``taps`` are."""
    return {tap: losses.moments(taps[tap][picture : picture + 1]) for tap in TEXTURE_TAPS}


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
            if min(picture.size) >= READ:
                found.append(path)
    return found


def _titles(manifest: Path) -> dict[str, tuple[str, str, str]]:
    """Return {file stem: (title, artist, art style)} of an optional manifest.csv with columns path, title, artist and,
    if wanted, style."""
    if not manifest.exists():
        return {}
    with open(manifest, newline="") as file:
        rows = list(csv.DictReader(file))
    return {Path(row["path"]).stem: (row["title"], row["artist"], row.get("style") or "") for row in rows}


def _describe(stem: str, titles: dict[str, tuple[str, str, str]]) -> dict[str, str]:
    title, artist, movement = titles.get(stem, (stem, "", ""))
    name = re.sub(r"[^a-z0-9]+", "-", title.lower().removeprefix("the ")).strip("-")
    described = {"name": name, "title": _capitals(title), "artist": _capitals(artist)}
    return described | ({"movement": slug(movement)} if movement else {})


def _capitals(text: str) -> str:
    words = text.replace("-", " ").split()
    small = {"the", "a", "of", "on", "in", "at", "de", "la", "van", "over", "with", "off", "el"}
    return " ".join(word if i and word in small else word[:1].upper() + word[1:] for i, word in enumerate(words))
