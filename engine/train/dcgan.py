"""DCGAN with the tricks of both articles: soft labels, labels swapped now and then, real and fake in batches apart."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from engine import losses, nets
from engine.api import parse_genre
from engine.data.paintings import PictureSet, load_pictures
from engine.errors import InvalidRequest, UnknownName
from engine.nets.dcgan import DCGANGenerator
from engine.train.cut import grid
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system


class DCGANConfig(Config):
    """Fields of dcgan."""

    images: int = 1_000_000
    batch: int = Field(64, ge=2)
    resolution: int = 64
    genres: tuple[str, ...] = ()  # only paintings of these; empty is all of them
    z_dim: int = 100
    latent: Literal["uniform", "gaussian"] = "uniform"
    width: int = 64  # ngf and ndf
    learning_rate: float = 2e-4
    softness: float = Field(0.3, ge=0, lt=0.5)  # real labels lie in [1 - softness, 1], fake ones in [0, softness]
    swaps: float = Field(0.05, ge=0, le=0.5)  # share of D's steps with real and fake labels swapped
    ema: float = 0.0  # neither article averaged


@system("dcgan")
class DCGAN(System):
    """Trains ``dcgan-generator`` and ``dcgan-discriminator`` on <data>/paintings or <data>."""

    kind = "painter"
    config_type = DCGANConfig
    presets = {  # noqa: RUF012
        "64": {},
        "64-gaussian": {"z_dim": 200, "latent": "gaussian"},
        "256": {"resolution": 256, "z_dim": 200, "latent": "gaussian", "batch": 32, "width": 32},
    }

    def __init__(self, config: DCGANConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        root = data / "paintings" if (data / "paintings").is_dir() else data
        self.pictures = load_pictures(root, config.resolution, cache)
        self.rows, self.genres = self._chosen()
        self.net_config = {
            "resolution": config.resolution, "z_dim": config.z_dim, "width": config.width,
            "uniform": config.latent == "uniform", "genres": len(self.genres),
        }  # fmt: skip
        self.critic_config = {"resolution": config.resolution, "width": config.width}
        generator = nets.create("dcgan-generator", **self.net_config)
        assert isinstance(generator, DCGANGenerator)
        self.G = nets.channels_last(generator)
        self.D = nets.channels_last(nets.create("dcgan-discriminator", **self.critic_config))
        self.networks = {"G": self.G, "D": self.D}
        self.averages = {"G": copy.deepcopy(self.G).requires_grad_(False).eval()}
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.5, 0.999), fused=True)
            for name, net in self.networks.items()
        }
        self.fixed_z = torch.randn(48, config.z_dim, generator=torch.Generator().manual_seed(2026))

    def _chosen(self) -> tuple[np.ndarray, list[str]]:
        """Return the rows to train on and the genres they are of."""
        known = genres_of(self.pictures)
        if not self.config.genres:
            # A folder without genres is painted under whatever name; abstract promises least.
            return np.arange(len(self.pictures)), list(known) or ["abstract"]
        asked = [parse_genre(genre) for genre in self.config.genres]
        if missing := [genre for genre in asked if genre not in known]:
            raise InvalidRequest(
                f"There are no paintings of {', '.join(missing)}; there are {', '.join(known) or 'none labelled'}."
            )
        return np.concatenate([known[genre] for genre in asked]), asked

    @property
    def data_digest(self) -> str:
        return self.pictures.digest

    def step(self) -> dict[str, float]:
        """D learns from a batch of paintings, then from one of fakes; G learns from what D now says of those."""
        config, count = self.config, self.config.batch
        real = self.pictures.batch(self.rows[self.numpy_rng.integers(len(self.rows), size=count)])
        mirror = torch.from_numpy(self.numpy_rng.random(count) < 0.5)[:, None, None, None]
        real = torch.where(mirror, real.flip(3), real).to(self.device, memory_format=torch.channels_last)
        z = torch.randn(count, config.z_dim, generator=self.torch_rng).to(self.device)
        genre = torch.ones(count, len(self.genres), device=self.device) / len(self.genres)
        real_label = 1 - config.softness * torch.rand(count, generator=self.torch_rng)
        fake_label = config.softness * torch.rand(count, generator=self.torch_rng)
        if self.numpy_rng.random() < config.swaps:
            real_label, fake_label = fake_label, real_label
        real_label, fake_label = real_label.to(self.device), fake_label.to(self.device)

        with self.autocast():
            fake = self.G(z, genre)
            on_real = self.D(real).float()
            on_fake = self.D(fake.detach()).float()
            loss_d = losses.cross_entropy(on_real, real_label) + losses.cross_entropy(on_fake, fake_label)
        self.optimizers["D"].zero_grad(set_to_none=True)
        loss_d.backward()
        self.optimizers["D"].step()

        with self.autocast():
            loss_g = losses.vanilla_generator(self.D(fake).float())
        self.optimizers["G"].zero_grad(set_to_none=True)
        loss_g.backward()
        self.optimizers["G"].step()
        steps = self.images / count
        ema_update(self.averages["G"], self.G, min(config.ema, (1 + steps) / (10 + steps)))
        return numbers({"D": loss_d, "G": loss_g})

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Return 48 fixed latents painted."""
        genre = torch.ones(len(self.fixed_z), len(self.genres)) / len(self.genres)
        return grid(list(self.averages["G"](self.fixed_z, genre).split(8)), max(64, self.config.resolution))

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{name}": value for name, value in self.averages["G"].state_dict().items()}
        tensors |= {f"discriminator.{name}": value for name, value in self.D.state_dict().items()}
        return tensors, {
            "net": {"name": "dcgan-generator", "config": self.net_config},
            "discriminator": {"name": "dcgan-discriminator", "config": self.critic_config},
            "genres": self.genres,
            "resolution": self.config.resolution,
            "defaults": {"psi": 1.0},
        }


def genres_of(pictures: PictureSet) -> dict[str, np.ndarray]:
    """Return the rows of every folder whose name is a genre or an alias of one, by genre."""
    found: dict[str, np.ndarray] = {}
    for label, folder in enumerate(pictures.genres):
        try:
            found[parse_genre(folder)] = np.flatnonzero(pictures.labels == label)
        except UnknownName:
            continue  # "unlabelled", or a folder that is no genre
    return found
