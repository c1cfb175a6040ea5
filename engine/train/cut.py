"""The fast way to a brush: one-sided translation from photos to paintings (Park et al. 2020, 2007.15651).

FastCUT's shape: a patch of the painting must be told from other patches of the same photo by where it came from
(PatchNCE), a PatchGAN says whether it looks painted, and no way back is learned.  Half of the batches are seen in the
mirror on one side only.  Every few steps a perceptual network looks, too: at what the photo shows, which keeps people
and trees in place, and at the moments of its features, which shall be those of the paintings; the PatchGAN alone had
found no stroke after 1,500 pictures.  Start from a stylizer (``--init``): its trunk knows how to paint already.
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
from torch import Tensor, nn

from engine import checkpoints, losses, nets
from engine.errors import InvalidRequest
from engine.nets.patchnce import PatchProjector
from engine.nets.stylenet import PALETTE, Brush, StyleNet, Transformer
from engine.nets.vgg import load_vgg
from engine.train.augment import Augmentation
from engine.train.domains import load_domain
from engine.train.initial import Initial, read_initial
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system

TEXTURE_TAPS = ("conv1_1", "conv2_1", "conv3_1")
CONTENT_TAP = "conv3_3"
MEMORY = 0.95  # of the running mean of the paintings' moments: those of four paintings are noisy


class CutConfig(Config):
    """Fields of cut."""

    images: int = 20_000
    batch: int = 4
    source: str = "photos"  # folder or pattern below the data
    target: str = "paintings"  # or "paintings/landscape", "paintings/*/monet-*"
    artist: str = ""  # of the paintings, as manifest.csv writes it: claude-monet
    load_size: int = 256  # px, short side of the pictures; at 160 no stroke is left to learn from
    crop_size: int = Field(128, multiple_of=8)
    learning_rate: float = 4e-4
    critic_width: int = 32
    nce: float = 1.0  # weight of PatchNCE at the beginning ...
    nce_end: float = 0.5  # ... and at the end: first keep, then paint
    patches: int = 128  # places compared in every map
    content: float = 0.3
    texture: float = 3.0
    look_every: int = 2  # steps: the perceptual network costs more than all the rest
    style: str = ""  # of the stylizer started from; "" is the mean of the target's own paintings
    ema: float = 0.999


@system("cut")
class Cut(System):
    """Trains ``brush`` with ``patchgan`` from <data>/<source> to <data>/<target>."""

    kind = "brush"
    config_type = CutConfig
    presets = {  # noqa: RUF012
        "default": {},
        "large": {"load_size": 256, "crop_size": 256, "batch": 1, "images": 12_000},  # to end with, from a run's --init
    }

    def __init__(self, config: CutConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        if config.crop_size > config.load_size:
            raise InvalidRequest(f"crop_size is {config.crop_size}; it must be at most load_size, {config.load_size}.")
        self.source = load_domain(data, config.source, "", config.load_size, cache)
        self.target = load_domain(data, config.target, config.artist, config.load_size, cache)
        brush = nets.create("brush")
        critic = nets.create("patchgan", width=config.critic_width)
        assert isinstance(brush, Brush)
        self.G = brush.to(memory_format=torch.channels_last)
        self.D = critic.to(memory_format=torch.channels_last)
        with torch.no_grad():
            maps = encoder_maps(self.G, torch.rand(1, 3, 64, 64))
        self.H = PatchProjector(tuple(x.shape[1] for x in maps))
        looks = config.content or config.texture
        self.vgg = load_vgg((*TEXTURE_TAPS, CONTENT_TAP)).to(memory_format=torch.channels_last) if looks else None
        self.wanted = RunningMoments()
        self.networks = {"G": self.G, "D": self.D, "H": self.H, "wanted": self.wanted}
        self.averages = {"G": copy.deepcopy(self.G).requires_grad_(False)}
        rate = config.learning_rate
        self.optimizers = {
            "G": torch.optim.Adam([*self.G.parameters(), *self.H.parameters()], rate, betas=(0.5, 0.99), fused=True),
            "D": torch.optim.Adam(self.D.parameters(), rate, betas=(0.5, 0.99), fused=True),
        }

    @property
    def data_digest(self) -> str:
        return hashlib.sha256((self.source.digest + self.target.digest).encode()).hexdigest()

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
        super().start_from(initial)

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
        photos, real = (
            side.crops(config.batch, config.crop_size, self.numpy_rng).to(self.device)
            for side in (self.source, self.target)
        )
        augment = Augmentation.draw(config.batch, self.torch_rng, device=self.device)
        with self.autocast():
            painted = self.G.paint_freely(photos)

            # D learns.
            self.D.requires_grad_(True)
            loss_d = losses.lsgan_discriminator(
                self.D(augment(real)).float(), self.D(augment(painted.detach())).float()
            )
        self.optimizers["D"].zero_grad(set_to_none=True)
        loss_d.backward()
        self.optimizers["D"].step()
        self.D.requires_grad_(False)

        # G learns.
        with self.autocast():
            told = {
                "G": losses.lsgan_generator(self.D(augment(painted)).float()),
                "nce": self._contrast(painted, photos),
                "overflow": losses.overflow(painted).mean(),
            }
            loss = told["G"] + self._nce_weight() * told["nce"] + 100 * told["overflow"]
            if self.vgg is not None and self.images // config.batch % config.look_every == 0:
                seen = self.vgg(painted)
                with torch.no_grad():
                    shown = self.vgg(photos)[CONTENT_TAP]
                    self.wanted.add(self.vgg(real, until=TEXTURE_TAPS[-1]))
                told["content"] = losses.content_loss(seen[CONTENT_TAP], shown).mean()
                told["texture"] = losses.style_loss(
                    {tap: losses.moments(seen[tap]) for tap in TEXTURE_TAPS}, self.wanted.moments()
                )
                perceived = config.content * told["content"] + config.texture * told["texture"]
                loss = loss + config.look_every * perceived
        self.optimizers["G"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers["G"].step()
        steps = self.images / config.batch
        ema_update(self.averages["G"], self.G, min(config.ema, (1 + steps) / (10 + steps)))
        return numbers(told | {"D": loss_d})

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
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * min(1.0, max(0.01, left / 0.4))

    # Showing and releasing

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: photos, the same painted, paintings of the target."""
        photos = self.source.shown(6, self.config.crop_size)
        painted = torch.cat([self.averages["G"](photo[None]) for photo in photos])
        real = self.target.shown(6, self.config.crop_size)
        return grid([photos, painted, real])

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        return sheet[128:256]

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{name}": value for name, value in self.averages["G"].state_dict().items()}
        return tensors, {"net": {"name": "brush", "config": {}}}


class RunningMoments(nn.Module):
    """A running mean of the moments of paintings' features, kept with the run."""

    def __init__(self) -> None:
        super().__init__()
        for tap, channels in zip(TEXTURE_TAPS, (64, 128, 256), strict=True):
            self.register_buffer(f"{tap}_mean", torch.zeros(channels))
            self.register_buffer(f"{tap}_covariance", torch.zeros(channels, channels))
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(()))  # how much of the zeros is forgotten

    def add(self, taps: dict[str, Tensor]) -> None:
        """Learn from the features (B, C, h, w) of some paintings."""
        for tap in TEXTURE_TAPS:
            for name, value in zip(("mean", "covariance"), losses.moments(taps[tap]), strict=True):
                self.get_buffer(f"{tap}_{name}").lerp_(value.float(), 1 - MEMORY)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - MEMORY)

    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return {tap: (mean (C,), covariance (C, C))}."""
        return {
            tap: (self.get_buffer(f"{tap}_mean") / self.weight, self.get_buffer(f"{tap}_covariance") / self.weight)
            for tap in TEXTURE_TAPS
        }


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
    found = {"palette": style[-PALETTE:]}
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
