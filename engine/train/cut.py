"""The fast way to a brush: one-sided translation from photos to paintings (after Park et al. 2020, 2007.15651).

A patch of the painting must be told from other patches of the same photo by where it came from (PatchNCE, FastCUT's
half in the mirror), and no way back is learned.  Whether it looks painted is said by slim heads on the fine scales of
frozen ImageNet features (Projected GAN, as the painter's) and by the moments of a perceptual network's features, which
shall be those of a painting: a PatchGAN, which has to learn to see first, had found no stroke after 1,500 pictures and
let a lattice pass after 4,000.  Start from a stylizer (``--init``): its trunk knows how to paint already.

Which painting?  Of some random pieces of paintings the one whose colours are nearest to the photo's: a sky learns from
skies, wheat from wheat.  The mean of all paintings has the strokes of none.  Colours are no matter of learning at all
(:class:`~engine.nets.stylenet.Brush`), so the piece is recoloured as the photo will be.
"""

from __future__ import annotations

import copy
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from engine import checkpoints, losses, nets
from engine.errors import InvalidRequest
from engine.nets.canvas import Canvas, primed
from engine.nets.efficientnet import load_lite
from engine.nets.painter import ProjectedDiscriminator
from engine.nets.patchnce import PatchProjector
from engine.nets.stylenet import (
    PALETTE,
    Brush,
    StyleNet,
    Transformer,
    colours_of,
    palette_distance,
    palette_of,
    recolour,
)
from engine.nets.vgg import load_vgg
from engine.train.augment import Augmentation
from engine.train.domains import load_domain
from engine.train.initial import Initial, read_initial
from engine.train.state import ema_update
from engine.train.stylizer import CONTENT_TAP, TEXTURE_TAPS, moments_of
from engine.train.system import Config, System, numbers, system

PALETTES = 128  # of the target's paintings, at most, that the brush takes along
KINDRED = 8  # pieces of paintings among which a photo finds the one to learn strokes from
SCALES = 2  # of the discriminator's maps, strides 4 and 8: strokes, not what paintings are of


class CutConfig(Config):
    """Fields of cut."""

    images: int = 3_000
    batch: int = 2
    source: str = "photos"  # folder or pattern below the data
    target: str = "paintings"  # or "paintings/landscape", "paintings/*/monet-*"
    artist: str = ""  # of the paintings, as manifest.csv writes it: claude-monet
    strokes: str = ""  # "styles/vincent-van-gogh-*": large reproductions, to learn strokes from; "" is the target
    strokes_size: int = 512  # px, short side at which those are seen: a stroke should be some ten pixels wide
    load_size: int = 256  # px, short side of all other pictures; at 160 no stroke is left to learn from
    crop_size: int = Field(192, multiple_of=8)
    learning_rate: float = 1e-4  # a stylizer's strokes are lost at 4e-4
    critic_rate: float = 5e-4
    nce: float = 0.5  # weight of PatchNCE at the beginning ...
    nce_end: float = 0.25  # ... and at the end: first keep, then paint
    patches: int = 128  # places compared in every map
    content: float = 0.2
    texture: float = 1.0
    grain: float = Field(0.04, ge=0, le=0.5)  # of the canvas that it paints on; 0 for flat colours, such as prints'
    look_every: int = 2  # steps: the perceptual network costs more than all the rest
    style: str = ""  # of the stylizer started from; "" is the mean of the target's own paintings
    ema: float = 0.999


@system("cut")
class Cut(System):
    """Trains ``brush`` with ``projected-discriminator`` from <data>/<source> to <data>/<target>."""

    kind = "brush"
    config_type = CutConfig
    presets = {  # noqa: RUF012
        "default": {},
        "large": {"crop_size": 256},  # to end with, from a run's --init
    }

    def __init__(self, config: CutConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        for name, side in (("load_size", config.load_size), ("strokes_size", config.strokes_size)):
            if config.crop_size > side and (config.strokes or name == "load_size"):
                raise InvalidRequest(f"crop_size is {config.crop_size}; it must be at most {name}, {side}.")
        self.source = load_domain(data, config.source, "", config.load_size, cache)
        self.target = load_domain(data, config.target, config.artist, config.load_size, cache)
        self.strokes = self.target
        if config.strokes:
            self.strokes = load_domain(data, config.strokes, "", config.strokes_size, cache)
        rows = np.unique(np.linspace(0, len(self.target) - 1, PALETTES).astype(int))
        palettes = torch.cat([palette_of(self.target.pictures.batch(row[None])) for row in self.target.rows[rows]])
        self.canvas = Canvas.of_brush(config.grain)
        self.net_config = {"palettes": len(palettes), "grain": config.grain}
        brush = nets.create("brush", **self.net_config)
        critic = nets.create("projected-discriminator", genres=1, size=config.crop_size)
        assert isinstance(brush, Brush) and isinstance(critic, ProjectedDiscriminator)
        critic.features.load_state_dict(load_lite(0).state_dict())
        brush.palettes.copy_(palettes)
        self.G = nets.channels_last(brush)
        self.D = critic
        nets.channels_last(self.D.features)
        with torch.no_grad():
            maps = encoder_maps(self.G, torch.rand(1, 3, 64, 64))
        self.H = PatchProjector(tuple(x.shape[1] for x in maps))
        looks = config.content or config.texture
        self.vgg = nets.channels_last(load_vgg((*TEXTURE_TAPS, CONTENT_TAP))) if looks else None
        self.networks = {"G": self.G, "D": self.D, "H": self.H}
        self.averages = {"G": copy.deepcopy(self.G).requires_grad_(False)}
        rate = config.learning_rate
        self.optimizers = {
            "G": torch.optim.Adam([*self.G.parameters(), *self.H.parameters()], rate, betas=(0.5, 0.99), fused=True),
            "D": torch.optim.Adam(
                self.D.heads[:SCALES].parameters(), config.critic_rate, betas=(0.0, 0.99), fused=True
            ),
        }

    @property
    def data_digest(self) -> str:
        digests = (side.digest for side in (self.source, self.target, self.strokes))
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def start_from(self, initial: Initial) -> None:
        """Take over a brush, or a stylizer at one of its styles."""
        kept = initial.averages.get("G") or initial.networks.get("G", {})
        if any(name.startswith("read.") for name in kept):
            released = initial.path.with_name(checkpoints.WEIGHTS)
            if initial.state and released.is_file():  # of the same weights, with the table of styles filled in
                initial = read_initial(released)
                kept = initial.averages["G"]
            brush = brush_of(kept, self._style_of(kept, initial.card))
            initial = Initial(initial.path, {"G": brush}, {"G": brush})
        own = self.G.palettes.clone()
        super().start_from(initial)
        for net in (self.G, self.averages["G"]):
            net.get_buffer("palettes").copy_(own)

    @torch.no_grad()
    def _style_of(self, tensors: dict[str, Tensor], card: dict[str, Any]) -> Tensor:
        """Return the style vector (64 + 13,) to start at."""
        names = [style["name"] for style in card.get("styles", [])]
        if self.config.style:
            if self.config.style not in names:
                known = ", ".join(names) or "none: it is no released stylizer"
                raise InvalidRequest(f"style is {self.config.style!r}; the model has {known}.")
            return tensors["style_table"][names.index(self.config.style)].float()
        stylizer = nets.create("stylenet", styles=len(tensors["style_table"]))
        assert isinstance(stylizer, StyleNet)
        stylizer.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
        return stylizer.encode_style(self.target.shown(24, self.config.crop_size)).mean(0)

    # Training

    def step(self) -> dict[str, float]:
        """Paint a batch; D learns to tell it from paintings, G to paint so, with every patch in its place."""
        config = self.config
        self._set_rates()
        photos = self.source.crops(config.batch, config.crop_size, self.numpy_rng).to(self.device)
        canvas = primed(photos, self.canvas, seed=int(self.numpy_rng.integers(2**31)))
        real = self._kindred(photos)
        augment = Augmentation.draw(config.batch, self.torch_rng, device=self.device)
        with self.autocast():
            painted = self.G.paint_freely(canvas)
            with torch.no_grad():
                real_maps = self.D.projector(self.D.look(augment(real)))
            painted_maps = self.D.projector(self.D.look(augment(painted)))

            # D learns.
            self.D.heads.requires_grad_(True)
            on_real, on_painted = self._judge(real_maps), self._judge([x.detach() for x in painted_maps])
            loss_d = torch.stack(
                [losses.hinge_discriminator(r, f) for r, f in zip(on_real, on_painted, strict=True)]
            ).mean()
        self.optimizers["D"].zero_grad(set_to_none=True)
        loss_d.backward()
        self.optimizers["D"].step()
        self.D.heads.requires_grad_(False)

        # G learns.
        with self.autocast():
            told = {
                "G": torch.stack([losses.hinge_generator(logits) for logits in self._judge(painted_maps)]).mean(),
                "nce": self._contrast(painted, photos),
                "overflow": losses.overflow(painted).mean(),
            }
            loss = told["G"] + self._nce_weight() * told["nce"] + 100 * told["overflow"]
            if self.vgg is not None and self.images // config.batch % config.look_every == 0:
                seen = self.vgg(painted)
                with torch.no_grad():
                    shown = self.vgg(photos)[CONTENT_TAP]
                    wanted = self.vgg(real, TEXTURE_TAPS)
                told["content"] = losses.content_loss(seen[CONTENT_TAP], shown).mean()
                told["texture"] = torch.stack(
                    [losses.style_loss(moments_of(seen, i), moments_of(wanted, i)) for i in range(config.batch)]
                ).mean()
                perceived = config.content * told["content"] + config.texture * told["texture"]
                loss = loss + config.look_every * perceived
        self.optimizers["G"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers["G"].step()
        steps = self.images / config.batch
        ema_update(self.averages["G"], self.G, min(config.ema, (1 + steps) / (10 + steps)))
        return numbers(told | {"D": loss_d})

    def _judge(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the logits of the fine scales, float32; there is but one genre, so nothing is told of it."""
        labels = maps[0].new_zeros(len(maps[0]), 1)
        return [head(x, labels, 0.0).float() for head, x in zip(self.D.heads[:SCALES], maps, strict=False)]

    @torch.no_grad()
    def _kindred(self, photos: Tensor) -> Tensor:
        """Return a piece of a painting for each photo (B, 3, S, S), of about its colours and in those it will have."""
        count = self.config.batch * KINDRED
        pieces = self.strokes.crops(count, self.config.crop_size, self.numpy_rng).to(self.device)
        distance = palette_distance(palette_of(photos), palette_of(pieces)).unflatten(1, (len(photos), KINDRED))
        own = distance.diagonal().T  # (B, KINDRED): every photo has pieces of its own to choose from
        chosen = own.argmin(1) + KINDRED * torch.arange(len(photos), device=self.device)
        return recolour(pieces[chosen], self.G.choose_palette(*colours_of(photos))).clamp(0, 1)

    def _contrast(self, painted: Tensor, photos: Tensor) -> Tensor:
        """Tell each patch of the painting from others of its photo; the painting is seen in a mirror half the time."""
        with torch.no_grad():
            keys = encoder_maps(self.G, photos)
        if self.numpy_rng.random() < 0.5:
            queries = [x.flip(3) for x in encoder_maps(self.G, painted.flip(3))]
        else:
            queries = encoder_maps(self.G, painted)
        places = [
            torch.randperm(x.shape[2] * x.shape[3], generator=self.torch_rng)[: self.config.patches] for x in keys
        ]
        with torch.no_grad():
            wanted = self.H(keys, places)
        pairs = zip(self.H(queries, places), wanted, strict=True)
        return torch.stack([losses.patch_nce(query, key) for query, key in pairs]).mean()

    def _nce_weight(self) -> float:
        """Fall from ``nce`` to ``nce_end`` along a cosine."""
        config = self.config
        progress = min(1.0, self.images / config.images)
        return config.nce_end + (config.nce - config.nce_end) * 0.5 * (1 + math.cos(math.pi * progress))

    def _set_rates(self) -> None:
        """Keep the rate for 60 % of the run, then let it fall to a hundredth."""
        left = 1 - self.images / self.config.images
        for name, rate in (("G", self.config.learning_rate), ("D", self.config.critic_rate)):
            for group in self.optimizers[name].param_groups:
                group["lr"] = rate * min(1.0, max(0.01, left / 0.4))

    # Showing and releasing

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: photos, the same painted, paintings of the target."""
        photos = self.source.shown(6, self.config.crop_size)
        painted = torch.cat([self.averages["G"](primed(photo[None], self.canvas)) for photo in photos])
        real = self.target.shown(6, self.config.crop_size)
        return grid([photos, painted, real])

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        return sheet[128:256]

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{name}": value for name, value in self.averages["G"].state_dict().items()}
        return tensors, {"net": {"name": "brush", "config": self.net_config}}


def encoder_maps(net: Transformer, photo: Tensor) -> list[Tensor]:
    """Return what the brush's encoder says at strides 2, 4 and 8, and after the middle of its trunk."""
    x = net.stem(F.pixel_unshuffle(photo - 0.5, 2), None, None)
    maps = [x]
    for conv in net.down:
        x = conv(x, None, None)
        maps.append(x)
    for block in list(net.trunk)[: len(net.trunk) // 2]:
        x = block(x, None, None)
    return [*maps, x]


def brush_of(tensors: dict[str, Tensor], style: Tensor) -> dict[str, Tensor]:
    """Return a brush that paints as a stylizer's ``tensors`` do at ``style`` (64 + 13,).

    Conditional instance norm is gain and bias = W style + c; at one style that is one gain and bias.  The same holds
    for the tint: its matrix is M + V style.
    """
    found = {"palettes": style[None, -PALETTE:]}
    style = style[:-PALETTE]
    for name, value in tensors.items():
        value = value.float()
        if name.endswith("norm.affine.weight"):
            bias = tensors[name.removesuffix("weight") + "bias"].float()
            found[name.removesuffix("affine.weight") + "bias"] = value @ style + bias
        elif name == "tint.by_style.weight":
            found["tint.matrix"] = found.get("tint.matrix", tensors["tint.matrix"].float()) + value @ style
        elif name == "tint.matrix":
            found.setdefault(name, value)
        elif not name.startswith(("features.", "read", "style_table")) and ".affine." not in name:
            found[name] = value
    return found


def grid(rows: list[Tensor], side: int = 128) -> np.ndarray:
    """Return rows of pictures (N, 3, S, S) in [0, 1] as one sheet (H, W, 3) uint8, each picture ``side`` px."""
    count = max(len(row) for row in rows)
    strips = []
    for row in rows:
        row = F.interpolate(row.float(), size=(side, side), mode="bilinear", antialias=True)
        row = F.pad(row, (0, 0, 0, 0, 0, 0, 0, count - len(row)), value=1.0)
        strips.append(row.permute(2, 0, 3, 1).flatten(1, 2))  # (H, N*W, 3)
    return torch.cat(strips).clamp(0, 1).mul(255).round().byte().numpy()
