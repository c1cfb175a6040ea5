"""Photos to paintings and back without pairs (Zhu et al. 2017, 1703.10593).

Names as in the paper: G paints (X -> Y), F goes back (Y -> X), D_Y knows paintings, D_X photos.  A little noise on
the painting before its way back keeps G from hiding the photo in it (Chu et al. 2017).  The default generators are
``brush`` nets, which a CPU can train; the presets with ``resnet`` are the published ones.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from engine import losses, nets
from engine.errors import InvalidRequest
from engine.train.cut import grid
from engine.train.domains import load_domain
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system


class CycleGANConfig(Config):
    """Fields of cyclegan."""

    images: int = 140_000
    batch: int = 4  # in seven processor minutes no worse than 2, and the way back a tenth nearer
    source: str = "photos"  # folder or pattern below the data
    target: str = "paintings"  # or "paintings/landscape", "paintings/*/monet-*"
    artist: str = ""  # of the paintings, as manifest.csv writes it
    load_size: int = 160  # px, short side of the pictures; may change on resume, as crop_size may
    crop_size: int = Field(128, multiple_of=8)
    generator: Literal["brush", "resnet"] = "brush"
    blocks: int = 6  # residual blocks
    width: int = 64  # channels of resnet at the full size; brush has its own
    norm: Literal["instance", "batch"] = "instance"  # of resnet
    critic_width: int = 32
    critic_norm: Literal["spectral", "instance", "batch"] = "spectral"
    adversarial: Literal["lsgan", "bce"] = "lsgan"
    cycle: float = 10.0
    identity: float = 0.5  # of the weight of the cycle
    identity_every: int = Field(2, ge=1)  # steps, with as many times the weight: the same pull, seldomer
    pool: int = Field(50, ge=0)  # former paintings that D is shown again, half the time
    noise: float = 0.02  # sd of what is added to the painting before its way back
    learning_rate: float = 2e-4
    ema: float = 0.999


class Pool(nn.Module):
    """The last paintings, as bytes; D sees one of them half the time (Shrivastava et al. 2017)."""

    def __init__(self, size: int, side: int) -> None:
        super().__init__()
        self.kept: Tensor
        self.filled: Tensor
        self.register_buffer("kept", torch.zeros(size, 3, side, side, dtype=torch.uint8))
        self.register_buffer("filled", torch.tensor(0))

    def forward(self, pictures: Tensor, rng: np.random.Generator) -> Tensor:
        """Return ``pictures`` or, in their stead, former ones."""
        if not len(self.kept):
            return pictures
        shown = []
        for picture in pictures.clamp(0, 1):
            place = int(self.filled)
            if place < len(self.kept):
                self.filled += 1
                shown.append(picture)
            elif rng.random() < 0.5:
                place = int(rng.integers(len(self.kept)))
                shown.append(self.kept[place].float() / 255)
            else:
                shown.append(picture)
                continue
            self.kept[place] = picture.mul(255).round().byte()
        return torch.stack(shown).contiguous(memory_format=torch.channels_last)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Start empty where the pictures have another size now."""
        if state_dict.get(prefix + "kept", self.kept).shape != self.kept.shape:
            state_dict = state_dict | {prefix + "kept": self.kept, prefix + "filled": torch.tensor(0)}
        super()._load_from_state_dict(state_dict, prefix, *rest)


@system("cyclegan")
class CycleGAN(System):
    """Trains two generators and two discriminators between <data>/<source> and <data>/<target>."""

    kind = "brush"
    config_type = CycleGANConfig
    may_change: ClassVar[frozenset[str]] = System.may_change | {"load_size", "crop_size"}
    presets = {  # noqa: RUF012
        "default": {},
        "resnet-6": {
            "generator": "resnet", "blocks": 6, "critic_width": 64, "critic_norm": "instance", "batch": 1,
            "load_size": 143, "crop_size": 128, "noise": 0.0, "identity_every": 1,
        },
        "resnet-9": {
            "generator": "resnet", "blocks": 9, "critic_width": 64, "critic_norm": "instance", "batch": 1,
            "load_size": 286, "crop_size": 256, "noise": 0.0, "identity_every": 1,
        },
        "resnet-9-batch": {
            "generator": "resnet", "blocks": 9, "norm": "batch", "critic_width": 64, "critic_norm": "batch", "batch": 4,
            "load_size": 286, "crop_size": 256, "adversarial": "bce", "noise": 0.0, "identity_every": 1,
        },
    }  # fmt: skip

    def __init__(self, config: CycleGANConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        if config.crop_size > config.load_size:
            raise InvalidRequest(f"crop_size is {config.crop_size}; it must be at most load_size, {config.load_size}.")
        self.photos = load_domain(data, config.source, "", config.load_size, cache)
        self.paintings = load_domain(data, config.target, config.artist, config.load_size, cache)

        self.net_config: dict[str, Any] = {"blocks": config.blocks}
        if config.generator == "resnet":
            self.net_config |= {"width": config.width, "norm": config.norm}
        generators = (nets.create(config.generator, **self.net_config) for _ in range(2))
        critics = (nets.create("patchgan", width=config.critic_width, norm=config.critic_norm) for _ in range(2))
        self.G, self.F = (nets.channels_last(net) for net in generators)
        self.D_Y, self.D_X = (nets.channels_last(net) for net in critics)
        self.pool_Y, self.pool_X = (Pool(config.pool, config.crop_size) for _ in range(2))
        self.networks = {"G": self.G, "F": self.F, "D_Y": self.D_Y, "D_X": self.D_X,
                         "pool_Y": self.pool_Y, "pool_X": self.pool_X}  # fmt: skip
        self.averages = {name: copy.deepcopy(self.networks[name]).requires_grad_(False).eval() for name in ("G", "F")}
        sides = {"G": (self.G, self.F), "D": (self.D_Y, self.D_X)}
        self.optimizers = {
            name: torch.optim.Adam(nn.ModuleList(both).parameters(), config.learning_rate, (0.5, 0.999), fused=True)
            for name, both in sides.items()
        }

    @property
    def data_digest(self) -> str:
        return hashlib.sha256((self.photos.digest + self.paintings.digest).encode()).hexdigest()

    # Training

    def step(self) -> dict[str, float]:
        """Go there and back from both sides; G and F learn first, then both discriminators."""
        config = self.config
        self._set_rates()
        discriminator_loss, generator_loss = losses.ADVERSARIAL[config.adversarial]
        x, y = (
            side.crops(config.batch, config.crop_size, self.numpy_rng).to(self.device)
            for side in (self.photos, self.paintings)
        )

        # There, back, and in some steps what is already there (lazily, as StyleGAN2 regularises, 1912.04958).
        identity = config.identity and int(self.images / config.batch) % config.identity_every == 0
        self._critics_learn(False)
        with self.autocast():
            fake_y, same_y = self._paint(self.G, x, y if identity else None)
            fake_x, same_x = self._paint(self.F, y, x if identity else None)
            back_x = self.F.paint_freely(self._noisy(fake_y))  # type: ignore[operator]
            back_y = self.G.paint_freely(self._noisy(fake_x))  # type: ignore[operator]
            told = {
                "G": generator_loss(self.D_Y(fake_y).float()),
                "F": generator_loss(self.D_X(fake_x).float()),
                "cycle": losses.absolute(back_x, x) + losses.absolute(back_y, y),
                "overflow": losses.overflow(fake_y).mean() + losses.overflow(fake_x).mean(),
            }
            if same_y is not None and same_x is not None:
                told["identity"] = losses.absolute(same_y, y) + losses.absolute(same_x, x)
        loss = told["G"] + told["F"] + config.cycle * told["cycle"] + 100 * told["overflow"]
        if "identity" in told:
            loss = loss + config.cycle * config.identity * config.identity_every * told["identity"]
        self.optimizers["G"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers["G"].step()

        # D_Y and D_X learn, from former paintings too.
        self._critics_learn(True)
        with self.autocast():
            shown_y = self.pool_Y(fake_y.detach(), self.numpy_rng)
            shown_x = self.pool_X(fake_x.detach(), self.numpy_rng)
            told["D_Y"] = discriminator_loss(*self._judge(self.D_Y, y, shown_y))
            told["D_X"] = discriminator_loss(*self._judge(self.D_X, x, shown_x))
        self.optimizers["D"].zero_grad(set_to_none=True)
        (told["D_Y"] + told["D_X"]).backward()
        self.optimizers["D"].step()

        steps = self.images / config.batch
        for name, average in self.averages.items():
            ema_update(average, self.networks[name], min(config.ema, (1 + steps) / (10 + steps)))
        return numbers(told)

    def _paint(self, net: nn.Module, there: Tensor, already: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return what ``net`` makes of both batches."""
        paint: Callable[[Tensor], Tensor] = net.paint_freely  # type: ignore[assignment]
        if already is None:
            return paint(there), None
        if self.net_config.get("norm") == "batch":  # whose moments are those of one domain
            return paint(there), paint(already)
        painted, same = paint(torch.cat([there, already])).split(len(there))
        return painted, same

    def _judge(self, critic: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``critic`` says of both, in one pass where no norm mixes them."""
        if self.config.critic_norm == "batch":
            return critic(real).float(), critic(fake).float()
        return critic(torch.cat([real, fake])).float().split(len(real))

    def _noisy(self, fake: Tensor) -> Tensor:
        return fake + self.config.noise * torch.randn(fake.shape, generator=self.torch_rng).to(self.device)

    def _critics_learn(self, yes: bool) -> None:
        self.D_Y.requires_grad_(yes)
        self.D_X.requires_grad_(yes)

    def _set_rates(self) -> None:
        """Keep the rate for the first half of the run, then fall linearly to nothing, as published."""
        left = 1 - self.images / self.config.images
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * min(1.0, 2 * left)

    # Showing and releasing

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: photos, painted, and back; paintings, as photos, and back; and each given to the wrong generator."""
        there, back = self.averages["G"], self.averages["F"]
        x, y = (side.shown(6, self.config.crop_size) for side in (self.photos, self.paintings))
        fake_y, fake_x = _one_by_one(there, x), _one_by_one(back, y)
        right = [x, fake_y, _one_by_one(back, fake_y), y, fake_x, _one_by_one(there, fake_x)]
        return grid([*right, _one_by_one(back, x), _one_by_one(there, y)])

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        return sheet[128:256]

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._release("G")

    def release_inverse(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._release("F")

    def _release(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{key}": value for key, value in self.averages[name].state_dict().items()}
        return tensors, {"net": {"name": self.config.generator, "config": self.net_config}}


def _one_by_one(net: nn.Module, pictures: Tensor) -> Tensor:
    return torch.cat([net(picture[None]) for picture in pictures])
