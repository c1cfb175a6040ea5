"""GANGogh (Jones and Bonafilia 2017): AC-GAN and WGAN-GP at 64 px, a genre's gates in every layer.

The critic is trained alone first, on paintings and what the untrained generator makes, so that G meets a critic that
knows genres.  Each critic step shows a new batch; G moves at every fifth.  Everything runs in fp32: the gradient
penalty is differentiated twice.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from engine import losses, nets
from engine.api import parse_genre
from engine.data.paintings import load_pictures
from engine.errors import InvalidRequest
from engine.nets.gangogh import RESOLUTION, GANGoghDiscriminator, GANGoghGenerator
from engine.train.cut import grid
from engine.train.dcgan import genres_of
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system

HELD_OUT = 10  # one painting of so many is kept for the genre accuracy
MEASURED = 64  # held-out paintings looked at while training


class GANGoghConfig(Config):
    """Fields of gangogh."""

    images: int = 84_000_000  # 200,000 steps of G; use --minutes to stop earlier
    batch: int = Field(84, ge=2)
    pretrain: int = 168_000  # images shown to the critic alone: 2,000 steps
    genres: tuple[str, ...] = ()  # empty is every genre there is
    width: int = 64  # DIM in the article's code
    critic_steps: int = Field(5, gt=0)
    penalty: float = 10.0  # weight of the gradient penalty
    classes: float = 1.0  # weight of the genre loss
    learning_rate: float = 1e-4
    ema: float = 0.0  # the article did not average


@system("gangogh")
class GANGogh(System):
    """Trains ``gangogh-generator`` and ``gangogh-discriminator`` on <data>/paintings/<genre>/ or <data>/<genre>/."""

    kind = "painter"
    config_type = GANGoghConfig
    presets = {  # noqa: RUF012
        "published": {},
        "evening": {"images": 400_000, "batch": 32, "pretrain": 20_000, "width": 32, "ema": 0.999},
    }

    def __init__(self, config: GANGoghConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        root = data / "paintings" if (data / "paintings").is_dir() else data
        self.pictures = load_pictures(root, RESOLUTION, cache)
        self._split()
        count = len(self.genres)
        self.net_config = {"genres": count, "width": config.width}
        generator = nets.create("gangogh-generator", **self.net_config)
        critic = nets.create("gangogh-discriminator", **self.net_config)
        assert isinstance(generator, GANGoghGenerator) and isinstance(critic, GANGoghDiscriminator)
        self.G = nets.channels_last(generator)
        self.D = nets.channels_last(critic)
        self.networks = {"G": self.G, "D": self.D}
        self.averages = {"G": copy.deepcopy(self.G).requires_grad_(False).eval()}
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.5, 0.9), fused=True)
            for name, net in self.networks.items()
        }
        self.fixed_z = torch.randn(8, self.G.z_dim, generator=torch.Generator().manual_seed(2026))

    @property
    def data_digest(self) -> str:
        return self.pictures.digest

    def _split(self) -> None:
        """Sort rows by genre and keep one picture of HELD_OUT, chosen by its name, out of the training."""
        known = genres_of(self.pictures)
        asked = [parse_genre(genre) for genre in self.config.genres] or list(known)
        missing = [genre for genre in asked if genre not in known]
        if missing or not asked:
            raise InvalidRequest(
                f"There are no paintings of {', '.join(missing) or 'any genre'}; "
                f"there are {', '.join(known) or 'no folders named like genres'}."
            )
        self.genres = asked
        kept = np.array([hashlib.sha256(name.encode()).digest()[0] % HELD_OUT == 0 for name in self.pictures.paths])
        rows = [(row, label) for label, genre in enumerate(asked) for row in known[genre]]
        self.trained = np.array([pair for pair in rows if not kept[pair[0]]], dtype=np.int64).reshape(-1, 2)
        self.held_out = np.array([pair for pair in rows if kept[pair[0]]], dtype=np.int64).reshape(-1, 2)
        if not len(self.trained):
            raise InvalidRequest("There are too few paintings to keep a tenth of them for the genre accuracy.")

    # Training

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return paintings (B, 3, 64, 64) and genres (B, G)."""
        rows, labels = self.trained[self.numpy_rng.integers(len(self.trained), size=self.config.batch)].T
        real = self.pictures.batch(rows)
        mirror = torch.from_numpy(self.numpy_rng.random(len(rows)) < 0.5)[:, None, None, None]
        real = torch.where(mirror, real.flip(3), real).contiguous(memory_format=torch.channels_last)
        return real, self._one_hot(labels)

    def _one_hot(self, labels: np.ndarray) -> Tensor:
        return F.one_hot(torch.from_numpy(labels.copy()), len(self.genres)).float()

    def step(self) -> dict[str, float]:
        """Teach the critic a batch; at every fifth batch, once it knows something, teach the generator too."""
        config = self.config
        real, genre = (each.to(self.device) for each in self._batch())
        z = torch.randn(config.batch, self.G.z_dim, generator=self.torch_rng).to(self.device)
        with torch.no_grad():
            fake = self.G(z, genre)

        # D learns: Wasserstein distance, gradient penalty, and genres of real paintings.
        on_real, classes = self.D(real)
        on_fake, _ = self.D(fake)
        share = torch.rand(config.batch, 1, 1, 1, generator=self.torch_rng).to(self.device)
        told = {
            "D": losses.wasserstein(on_real, on_fake),
            "penalty": losses.gradient_penalty(lambda x: self.D(x)[0], real, fake, share),
            "genre": losses.genre_loss(classes, genre),
        }
        loss = told["D"] + config.penalty * told["penalty"] + config.classes * told["genre"]
        self.optimizers["D"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers["D"].step()

        # G learns: to please the critic, and to be of its genre.
        turn = self.images // config.batch + 1
        if self.images >= config.pretrain and turn % config.critic_steps == 0:
            self.D.requires_grad_(False)
            other_z = torch.randn(z.shape, generator=self.torch_rng).to(self.device)
            value, classes = self.D(self.G(other_z, genre))
            told["G"], told["genre of fakes"] = -value.mean(), losses.genre_loss(classes, genre)
            self.optimizers["G"].zero_grad(set_to_none=True)
            (told["G"] + config.classes * told["genre of fakes"]).backward()
            self.optimizers["G"].step()
            self.D.requires_grad_(True)
            steps = (self.images - config.pretrain) / (config.batch * config.critic_steps)
            ema_update(self.averages["G"], self.G, min(config.ema, (1 + steps) / (10 + steps)))
        found = numbers(told)
        if turn % 50 == 0 and len(self.held_out):
            found["genre accuracy"] = self.genre_accuracy(self.held_out[:: max(1, len(self.held_out) // MEASURED)])
        return found

    @torch.no_grad()
    def genre_accuracy(self, rows: np.ndarray) -> float:
        """Return the share of the paintings ``rows`` (N, 2: row, label) whose genre the discriminator names."""
        right = 0
        for part in np.array_split(rows, max(1, len(rows) // 64)):
            _, classes = self.D(self.pictures.batch(part[:, 0]).to(self.device))
            right += int((classes.argmax(1).cpu().numpy() == part[:, 1]).sum())
        return right / len(rows)

    # Showing and releasing

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: genres; columns: the same eight latents for every genre."""
        rows = [np.full(len(self.fixed_z), label) for label in range(len(self.genres))]
        return grid([self.averages["G"](self.fixed_z, self._one_hot(labels)) for labels in rows], RESOLUTION)

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{name}": value for name, value in self.averages["G"].state_dict().items()}
        tensors |= {f"discriminator.{name}": value for name, value in self.D.state_dict().items()}
        metrics = {"genre_accuracy": round(self.genre_accuracy(self.held_out), 4)} if len(self.held_out) else {}
        return tensors, {
            "net": {"name": "gangogh-generator", "config": self.net_config},
            "discriminator": {"name": "gangogh-discriminator", "config": self.net_config},
            "genres": self.genres,
            "resolution": RESOLUTION,
            "defaults": {"psi": 1.0},
            "metrics": metrics,
        }
