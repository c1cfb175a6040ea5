"""Pictures to pictures from pairs (Isola et al. 2017, 1611.07004): edges to paintings, sketches to colour.

A pair is two files of the same name and folder, below <data>/<source> and <data>/<target>; ``dataset edges`` draws
the first from the second.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from engine import losses, nets
from engine.data.paintings import PictureSet, load_pictures
from engine.errors import InvalidRequest
from engine.nets.unet import UNet
from engine.train.cut import grid
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system


class Pix2PixConfig(Config):
    """Fields of pix2pix."""

    images: int = 200_000
    batch: int = 1
    source: str = "edges"  # folder below the data
    target: str = "paintings"
    load_size: int = 286  # px, short side of the pictures
    crop_size: int = 256
    depth: int = Field(8, ge=2, le=10)  # halvings of the generator
    width: int = 64
    critic_width: int = 64
    absolute: float = 100.0  # weight of L1 against the discriminator
    learning_rate: float = 2e-4
    ema: float = 0.999


@system("pix2pix")
class Pix2Pix(System):
    """Trains ``unet`` with a ``patchgan`` that judges pairs."""

    kind = "brush"
    config_type = Pix2PixConfig
    may_change: ClassVar[frozenset[str]] = System.may_change | {"load_size", "crop_size"}
    presets = {  # noqa: RUF012
        "256": {},
        "128": {"load_size": 143, "crop_size": 128, "depth": 7, "width": 32, "critic_width": 32, "batch": 4},
    }

    def __init__(self, config: Pix2PixConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        if config.crop_size > config.load_size:
            raise InvalidRequest(f"crop_size is {config.crop_size}; it must be at most load_size, {config.load_size}.")
        if config.crop_size % 2**config.depth:
            raise InvalidRequest(
                f"crop_size is {config.crop_size}; it must be a multiple of 2**depth, {2**config.depth}."
            )
        self.given = load_pictures(data / config.source, config.load_size, cache)
        self.wanted = load_pictures(data / config.target, config.load_size, cache)
        self.pairs = _pairs(self.given, self.wanted)
        self.net_config = {"depth": config.depth, "width": config.width}
        generator = nets.create("unet", **self.net_config)
        assert isinstance(generator, UNet)
        self.G = nets.channels_last(generator)
        critic = nets.create("patchgan", inputs=6, width=config.critic_width, norm="batch")
        self.D = nets.channels_last(critic)
        self.networks = {"G": self.G, "D": self.D}
        self.averages = {"G": copy.deepcopy(self.G).requires_grad_(False).eval()}
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.5, 0.999), fused=True)
            for name, net in self.networks.items()
        }

    @property
    def data_digest(self) -> str:
        return hashlib.sha256((self.given.digest + self.wanted.digest).encode()).hexdigest()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return what is given and what is wanted, both (B, 3, S, S) and cropped and mirrored alike."""
        size, rng = self.config.crop_size, self.numpy_rng
        rows = self.pairs[rng.integers(len(self.pairs), size=self.config.batch)]
        both = torch.cat([self.given.batch(rows[:, 0]), self.wanted.batch(rows[:, 1])], dim=1)
        crops = []
        for pair in both:
            top, left = (int(x) for x in rng.integers(both.shape[2] - size + 1, size=2))
            crop = pair[:, top : top + size, left : left + size]
            crops.append(crop.flip(2) if rng.random() < 0.5 else crop)
        given, wanted = torch.stack(crops).contiguous(memory_format=torch.channels_last).chunk(2, dim=1)
        return given, wanted

    def step(self) -> dict[str, float]:
        """D learns to tell true pairs from painted ones, G to paint what is wanted and passes for it."""
        given, wanted = (each.to(self.device) for each in self._batch())
        left = 1 - self.images / self.config.images  # the rate falls linearly in the second half, as published
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * min(1.0, 2 * left)

        with self.autocast():
            painted = self.G(given)
            on_real = self.D(torch.cat([given, wanted], dim=1)).float()
            on_fake = self.D(torch.cat([given, painted.detach()], dim=1)).float()
            loss_d = losses.vanilla_discriminator(on_real, on_fake)
        self.optimizers["D"].zero_grad(set_to_none=True)
        loss_d.backward()
        self.optimizers["D"].step()

        with self.autocast():
            adversarial = losses.vanilla_generator(self.D(torch.cat([given, painted], dim=1)).float())
        absolute = losses.absolute(painted, wanted)
        self.optimizers["G"].zero_grad(set_to_none=True)
        (adversarial + self.config.absolute * absolute).backward()
        self.optimizers["G"].step()
        steps = self.images / self.config.batch
        ema_update(self.averages["G"], self.G, min(self.config.ema, (1 + steps) / (10 + steps)))
        return numbers({"D": loss_d, "G": adversarial, "L1": absolute})

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: what is given, what is painted, what was wanted."""
        rows = self.pairs[np.unique(np.linspace(0, len(self.pairs) - 1, 6).astype(int))]
        start, size = (self.config.load_size - self.config.crop_size) // 2, self.config.crop_size
        middle = (..., slice(start, start + size), slice(start, start + size))
        given, wanted = self.given.batch(rows[:, 0])[middle], self.wanted.batch(rows[:, 1])[middle]
        return grid([given, torch.cat([self.averages["G"](picture[None]) for picture in given]), wanted])

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        return sheet[128:256]

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{name}": value for name, value in self.averages["G"].state_dict().items()}
        return tensors, {"net": {"name": "unet", "config": self.net_config}}


def _pairs(given: PictureSet, wanted: PictureSet) -> np.ndarray:
    """Return (N, 2) rows of the same name; long pictures are two squares each, paired in order."""

    def numbered(pictures: PictureSet) -> dict[tuple[str, int], int]:
        seen: Counter[str] = Counter()
        found = {}
        for row, path in enumerate(pictures.paths):
            name = PurePosixPath(path).with_suffix("").as_posix()
            found[name, seen[name]] = row
            seen[name] += 1
        return found

    left, right = numbered(given), numbered(wanted)
    common = sorted(left.keys() & right.keys())
    if not common:
        raise InvalidRequest(
            f"No file of one side has its pair on the other: {given.paths[0]} has none, nor has {wanted.paths[0]}."
        )
    return np.array([(left[key], right[key]) for key in common])
