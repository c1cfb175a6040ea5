"""The flagship: a genre-conditional painter that learns layout by drawing from memory, then finish from a critic.

A GAN alone, at the tens of thousands of pictures a CPU can show it, gave one layout per genre for every z (see
docs/decisions.md).  So the generator starts as the decoder of a variational autoencoder (Kingma and Welling 2014) whose
encoder reads frozen features of the painting: z is tied to layout before the first adversarial step.  Then it becomes a
VAE-GAN (Larsen et al. 2016, 1512.09300): the projected discriminator judges paintings from the prior and from memory
alike, and what is drawn from memory is compared with its original in the discriminator's own features.  A packed
discriminator judges four works of a genre together, because one at a time nothing tells that all are alike.  The prior
of each genre is the Gaussian that fits its paintings' latents: under N(0, 1) a painter draws where no painting lies.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from engine import losses, nets
from engine.api import GENRES, PSI, parse_genre
from engine.data.folders import art_style_of
from engine.data.paintings import load_pictures
from engine.errors import InvalidRequest
from engine.nets.efficientnet import load_lite
from engine.nets.packed import PackedDiscriminator
from engine.nets.painter import Painter, ProjectedDiscriminator, measure_norms
from engine.train.augment import Augmentation
from engine.train.initial import Initial
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system

# Genres with enough pictures and few nudes in the data sets at hand; religious and mythological works are left out
# because a public bot should not have to screen them.
RELEASED_GENRES = ("abstract", "animal-painting", "cityscape", "flower-painting", "genre-painting", "landscape",
                   "marina", "portrait", "still-life")  # fmt: skip


PACK = 4  # pictures of one genre that are judged together
PACKED_SCALE = 2  # of the discriminator's maps, where packs are judged: 16 px a place, what is where and no stroke
KEPT_BACK = 0.3  # share of the art styles that are not told, so that paintings without one are learned, too
ROWS = 10  # an art style's embedding learns so many times faster: it starts at nothing and is seen in few steps
WARM_UP = 200  # steps: Adam's first ones are whole steps whatever the gradient, and shake a painter that goes on
REFIT = 100  # steps after which each genre's prior is fitted anew


class PainterConfig(Config):
    """Fields of the painter."""

    images: int = 200_000
    batch: int = Field(16, multiple_of=2 * PACK)
    resolution: int = 64
    critic_size: int = 96  # px, what the discriminator's features see
    genres: tuple[str, ...] = RELEASED_GENRES
    art_styles: int = Field(60, ge=0)  # paintings that an art style (folder below a genre's) needs; 0: learn none
    width: float = 1.0  # factor on the generator's channels
    learning_rate: float = 2e-4
    memory_rate: float = 1e-3  # learning rate while only drawing from memory
    memory: int = 12_000  # images drawn from memory before the discriminator joins
    rate: float = 28.0  # nats that z tells of its painting
    telling: float = 0.01  # weight of a nat that a painting from the prior does not tell of its z
    telling_every: int = Field(2, ge=1)  # steps: asked every second time, and twice as loudly, half its cost is saved
    packed: float = 0.5  # weight of the judgement on packs of one genre against the one on single pictures; 0: no packs
    likeness: float = 4.0  # weight of the likeness to the original against the adversarial loss
    fade: tuple[float, float] = (0.1, 0.3)  # shares of the run between which the critic learns of genres
    ema: float = 0.999


class Encoder(nn.Module):
    """Frozen features of a painting -> mean and log variance of its latent."""

    def __init__(self, inputs: int, z_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, 512), nn.LayerNorm(512), nn.LeakyReLU(0.2), nn.Linear(512, 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 2 * z_dim),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.net(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)


def _readings(maps: list[Tensor], pictures: Tensor) -> Tensor:
    """Return what an encoder reads of ``pictures`` (B, 3, R, R): their pooled feature ``maps``, and 8 px thumbnails."""
    pooled = [F.adaptive_avg_pool2d(maps[2].float(), 4), F.adaptive_avg_pool2d(maps[3].float(), 2)]
    return torch.cat([x.flatten(1) for x in (*pooled, F.adaptive_avg_pool2d(pictures.float(), 8))], dim=1)


@system("painter")
class PainterSystem(System):
    """Trains ``painter`` with ``projected-discriminator`` and ``packed-discriminator`` on <data>/<genre>/."""

    kind = "painter"
    config_type = PainterConfig
    presets = {  # noqa: RUF012
        "64": {},
        "128": {"resolution": 128, "critic_size": 128, "memory": 4_000, "images": 150_000},
        "256": {"resolution": 256, "critic_size": 160, "memory": 2_000, "images": 150_000},
    }

    def __init__(self, config: PainterConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        torch.manual_seed(config.seed)
        root = data / "paintings" if (data / "paintings").is_dir() else data
        self.pictures = load_pictures(root, config.resolution, cache)
        self.genres = tuple(parse_genre(genre) for genre in config.genres)
        self._sort_by_genre()
        self._find_art_styles()

        count, art_styles = len(self.genres), len(self.art_styles)
        self.net_config = {
            "genres": count, "art_styles": art_styles, "resolution": config.resolution, "width": config.width,
        }  # fmt: skip
        self.critic_config = {"genres": count, "art_styles": art_styles, "size": config.critic_size}
        generator = nets.create("painter", **self.net_config)
        critic = nets.create("projected-discriminator", **self.critic_config)
        assert isinstance(generator, Painter) and isinstance(critic, ProjectedDiscriminator)
        critic.features.load_state_dict(load_lite(0).state_dict())
        packed = nets.create(
            "packed-discriminator", genres=count, channels=critic.projector.across[PACKED_SCALE].out_channels
        )
        assert isinstance(packed, PackedDiscriminator)
        self.G = nets.channels_last(generator)
        self.D = critic  # its heads' weights lie as they are: spectral norms would copy them otherwise
        nets.channels_last(self.D.features)  # a fourteenth of a step's time
        self.packed = packed
        self.known = self._read_paintings()  # (2, N, F): each painting and its mirror image
        self.E = Encoder(self.known.shape[2], self.G.z_dim)
        self.controls = nn.Module()  # the weight of the KL term, steered so that z tells config.rate nats
        self.controls.register_buffer("log_beta", torch.tensor(math.log(1e-3)))

        self.networks = {"G": self.G, "D": self.D, "packed": self.packed, "E": self.E, "controls": self.controls}
        self.averages = {"G": copy.deepcopy(self.G).requires_grad_(False)}
        critics = [p for p in (*self.D.parameters(), *self.packed.parameters()) if p.requires_grad]
        rows = [p for name, p in self.G.named_parameters() if name.startswith("embed_style")]
        rest = [p for net in (self.G, self.E) for p in net.parameters() if all(p is not row for row in rows)]
        groups: list[dict[str, Any]] = [{"params": rest, "factor": 1.0}]
        groups += [{"params": rows, "factor": ROWS}] if rows else []
        self.optimizers = {
            "G": torch.optim.Adam(groups, config.memory_rate, betas=(0.5, 0.99), fused=True),
            "D": torch.optim.Adam(critics, config.learning_rate, betas=(0.0, 0.99), fused=True),
        }
        fixed = torch.Generator().manual_seed(2026)
        self.fixed_z = torch.randn(8, self.G.z_dim, generator=fixed)

    @property
    def data_digest(self) -> str:
        return self.pictures.digest

    def _sort_by_genre(self) -> None:
        """Find the rows of each genre, and draw a genre with p ~ n^0.5: rare ones more often than they come."""
        folders = {parse_genre(name): i for i, name in enumerate(self.pictures.genres) if name not in ("unlabelled",)}
        missing = [genre for genre in self.genres if genre not in folders]
        if missing:
            found = ",".join(folders)
            way_on = (
                f"those of {found} are learned with --set genres={found}" if found else f"known are {', '.join(GENRES)}"
            )
            raise InvalidRequest(f"There are no paintings of {', '.join(missing)}; {way_on}.")
        self.rows = [np.flatnonzero(self.pictures.labels == folders[genre]) for genre in self.genres]
        weights = np.sqrt([len(rows) for rows in self.rows])
        self.genre_odds = weights / weights.sum()

    def _find_art_styles(self) -> None:
        """Find the art style of each painting, -1 where it has none of those that are learned."""
        named = {path: art_style_of(path) for path in self.pictures.paths}  # a long painting is two pictures, one file
        count = Counter(named[path] for path in {self.pictures.paths[row] for rows in self.rows for row in rows})
        del count[""]
        least = self.config.art_styles or math.inf
        self.art_styles = sorted(name for name in count if count[name] >= least)
        place = {name: number for number, name in enumerate(self.art_styles)}
        self.own_art_style = np.array([place.get(named[path], -1) for path in self.pictures.paths])

    def _labels(self, genres: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return labels (B, G + S); some art styles are kept back."""
        told = np.where(rng.random(len(rows)) < KEPT_BACK, -1, self.own_art_style[rows])
        genre = F.one_hot(torch.from_numpy(genres), len(self.genres))
        art_style = F.one_hot(torch.from_numpy(told) + 1, len(self.art_styles) + 1)[:, 1:]
        return torch.cat([genre, art_style], dim=1).float()

    @torch.no_grad()
    def _read_paintings(self) -> Tensor:
        """Return what the encoder is told of every painting: pooled features and an 8 px thumbnail, standardised."""
        told = []
        for mirrored in (False, True):
            parts = []
            for start in range(0, len(self.pictures), 64):
                batch = self.pictures.batch(np.arange(start, min(start + 64, len(self.pictures))))
                batch = batch.flip(3) if mirrored else batch
                with self.autocast():
                    maps = self.D.look(batch.to(memory_format=torch.channels_last))
                parts.append(_readings(maps, batch))
            told.append(torch.cat(parts))
        known = torch.stack(told)
        self.usual, self.spread = known.mean((0, 1)), known.std((0, 1)) + 1e-3
        return ((known - self.usual) / self.spread).half()

    def start_from(self, initial: Initial) -> None:
        """Begin with the weights of another run; of a released painter the art styles of the same names are kept."""
        super().start_from(initial)
        known = list(initial.card.get("art_styles") or ())
        if not known or known == self.art_styles:
            return
        given = initial.networks["G"]["embed_style.weight"].float()
        for net in (self.G, self.averages["G"]):
            assert isinstance(net, Painter)
            for row, name in enumerate(self.art_styles):
                kept = given[:, known.index(name)] if name in known else torch.zeros(len(given))
                net.embed_style.weight.data[:, row] = kept.to(self.device)  # type: ignore[union-attr]

    # Training

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return paintings (B, 3, R, R), PACK of a genre after each other, labels (B, G + S), what E is told (B, F)."""
        count = self.config.batch
        genres, rows = self._draw(count, self.numpy_rng)
        mirror = torch.from_numpy(self.numpy_rng.random(count) < 0.5)
        real = self.pictures.batch(rows)
        real = torch.where(mirror[:, None, None, None], real.flip(3), real).to(memory_format=torch.channels_last)
        labels = self._labels(genres, rows, self.numpy_rng)
        return real, labels, self.known[mirror.long(), torch.from_numpy(rows)].float()

    def _draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return genres (B,), PACK times each after itself, and rows (B,) of paintings of them."""
        genres = rng.choice(len(self.genres), size=count // PACK, p=self.genre_odds).repeat(PACK)
        return genres, np.array([rng.choice(self.rows[genre]) for genre in genres])

    def step(self) -> dict[str, float]:
        """Draw half of a batch from memory and half from the prior; D judges all, then G learns from D and likeness."""
        config = self.config
        alone = self.images < config.memory
        self._set_rates(alone)
        real, labels, told = (each.to(self.device) for each in self._batch())
        remembered = config.batch if alone else config.batch // 2

        # Draw z: from memory, and from the prior.
        if self.images % (REFIT * config.batch) == 0:
            self._fit_prior()
        mean, log_variance = self.E(told[:remembered])
        noise = torch.randn(config.batch, self.G.z_dim, generator=self.torch_rng).to(self.device)
        from_prior = self.G.place(noise[remembered:], labels[remembered:])
        z = torch.cat([mean + noise[:remembered] * (log_variance / 2).exp(), from_prior])
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()

        # Paint, and let the frozen features look at both with the same augmentation.
        augment = Augmentation.draw(config.batch, self.torch_rng, device=self.device)
        with self.autocast():
            fake = self.G.synthesize(self.G.condition_placed(z, labels))
            with torch.no_grad():
                real_maps = self.D.look(augment(real))
            fake_maps = self.D.look(augment(fake))
            fake_mixed = self.D.projector(fake_maps) if not alone else []
        told_losses: dict[str, Tensor] = {}

        # D learns.
        conditioning = self._conditioning()
        if not alone:
            self._critics_learn(True)
            with self.autocast(), cached():  # the spectral norms serve both
                on_real = self._judge(self.D.projector(real_maps), labels, conditioning)
                on_fake = self._judge([m.detach() for m in fake_mixed], labels, conditioning)
            loss_d = self._weighed(
                [losses.hinge_discriminator(r.float(), f.float()) for r, f in zip(on_real, on_fake, strict=True)]
            )
            self.optimizers["D"].zero_grad(set_to_none=True)
            loss_d.backward()
            self.optimizers["D"].step()
            told_losses["D"] = loss_d.detach()

        # G and E learn.
        likeness = losses.likeness([m[:remembered] for m in fake_maps], [m[:remembered] for m in real_maps])
        likeness = likeness + 4 * (F.avg_pool2d(fake[:remembered], 4) - F.avg_pool2d(real[:remembered], 4)).abs().mean()
        loss_g = config.likeness * (likeness + self.controls.log_beta.exp() * kl)  # type: ignore[operator]
        if not alone:
            self._critics_learn(False)
            with self.autocast():
                judged = self._judge(fake_mixed, labels, conditioning)
            adversarial = self._weighed([losses.hinge_generator(logits.float()) for logits in judged])
            loss_g = loss_g + adversarial
            told_losses["G"] = adversarial.detach()
            if config.telling and self.images // config.batch % config.telling_every == 0:
                untold = losses.surprise(from_prior, *self._read(fake[remembered:])).mean()
                loss_g = loss_g + config.telling_every * config.telling * untold
                told_losses["untold"] = untold.detach()
        self.optimizers["G"].zero_grad(set_to_none=True)
        loss_g.backward()
        torch.nn.utils.clip_grad_norm_([*self.G.parameters(), *self.E.parameters()], 5.0)
        self.optimizers["G"].step()

        # Steer the KL weight towards the wanted rate (Shao et al. 2020, ControlVAE), and average.
        with torch.no_grad():
            self.controls.log_beta += 0.01 * torch.sign(kl - config.rate)  # type: ignore[operator]
        steps = self.images / config.batch
        ema_update(self.averages["G"], self.G, min(config.ema, (1 + steps) / (10 + steps)))
        told_losses |= {"likeness": likeness.detach(), "kl": kl.detach()}
        return numbers(told_losses)

    def _critics_learn(self, learn: bool) -> None:
        self.D.heads.requires_grad_(learn)
        self.packed.requires_grad_(learn)

    def _judge(self, mixed: list[Tensor], labels: Tensor, conditioning: float) -> list[Tensor]:
        """Return the logits of each scale for each picture, then, if they count, those of the packs."""
        judged = self.D.judge_mixed(mixed, labels, conditioning)
        if self.config.packed:
            packs = mixed[PACKED_SCALE].unflatten(0, (-1, PACK))
            judged.append(self.packed(packs, labels[::PACK, : len(self.genres)]))
        return judged

    def _weighed(self, told: list[Tensor]) -> Tensor:
        """Return the mean over the scales, and what the packs add to it."""
        scales = len(self.D.heads)
        return torch.stack(told[:scales]).mean() + self.config.packed * sum(told[scales:])

    def _read(self, paintings: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder, which does not learn from it, reads of ``paintings``: mean and log variance of z.

        The generator has to show what it was told.  Without that it lets z choose the colours and paints one
        arrangement for each genre, which a discriminator that sees one picture at a time never notices.
        """
        self.E.requires_grad_(False)
        with self.autocast():
            maps = self.D.look(paintings)
        usual, spread = self.usual.to(self.device), self.spread.to(self.device)
        read = self.E((_readings(maps, paintings) - usual) / spread)
        self.E.requires_grad_(True)
        return read

    @torch.no_grad()
    def _fit_prior(self) -> None:
        """Fit each genre's prior to where its paintings are: the Gaussian of their latents' means and variances.

        The prior of an art style is the genre's, moved by as much as its paintings lie from their genres' centres.
        """
        from_centre = torch.zeros(len(self.art_styles) + 1, self.G.z_dim)
        for label, rows in enumerate(self.rows):
            mean, log_variance = self.E(self.known[:, torch.from_numpy(rows)].flatten(0, 1).float().to(self.device))
            scatter = torch.cov(mean.T) + log_variance.exp().mean(0).diag()
            sizes, directions = torch.linalg.eigh(scatter)
            self.G.centre[label] = mean.mean(0)
            self.G.spread[label] = (directions * sizes.clamp_min(0).sqrt()) @ directions.T
            art_style = torch.from_numpy(self.own_art_style[rows])
            from_centre.index_add_(0, art_style + 1, (mean.unflatten(0, (2, -1)).mean(0) - self.G.centre[label]).cpu())
        if self.art_styles:
            count = np.bincount(self.own_art_style[np.concatenate(self.rows)] + 1, minlength=len(from_centre))
            self.G.style_centre.copy_(from_centre[1:] / torch.from_numpy(count[1:, None]))

    def _set_rates(self, alone: bool) -> None:
        config = self.config
        warm = min(1.0, (1 + self.images / config.batch) / WARM_UP)
        late = 0.3 if self.images > 0.85 * config.images else 1.0
        rate = warm * (config.memory_rate if alone else config.learning_rate * late)
        for group in self.optimizers["G"].param_groups:
            group["lr"] = group["factor"] * rate
        for group in self.optimizers["D"].param_groups:
            group["lr"] = warm * config.learning_rate * late

    def _conditioning(self) -> float:
        """Fade genres in (Shahbazi et al. 2022): conditioned from the first step, each genre collapses to a pattern."""
        start, end = (share * self.config.images for share in self.config.fade)
        return min(1.0, max(0.0, (self.images - start) / (end - start)))

    # Showing and releasing

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: genres, then art styles of the commonest genre; columns: eight fixed latents, then two paintings and
        how they are drawn from memory."""
        net = self.averages["G"].eval()
        assert isinstance(net, Painter)
        genres = torch.eye(len(self.genres), len(self.genres) + len(self.art_styles))
        art_styles = torch.eye(len(self.genres) + len(self.art_styles))[len(self.genres) :]
        commonest = int(np.argmax([len(rows) for rows in self.rows]))
        shown = list(zip(self.rows, genres, strict=True))
        for art_style, labels in enumerate(art_styles):
            own = [row for rows in self.rows for row in rows if self.own_art_style[row] == art_style]
            shown.append((np.array(own), genres[commonest] + labels))
        strips = []
        for rows, labels in shown:
            painted = net(self.fixed_z, labels.expand(8, -1))
            two = rows[[0, len(rows) // 2]]
            mean, _ = self.E(self.known[0, torch.from_numpy(two)].float())
            drawn = net.synthesize(net.condition_placed(mean, labels.expand(2, -1)))
            strip = torch.cat([painted, self.pictures.batch(two), drawn])
            strips.append(F.interpolate(strip, scale_factor=128 / strip.shape[2]).permute(2, 0, 3, 1).flatten(1, 2))
        return torch.cat(strips).mul(255).round().byte().numpy()

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        return sheet[:, : 128 * len(self.fixed_z)]

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        net = copy.deepcopy(self.averages["G"])
        rng, noise = np.random.default_rng(self.config.seed), torch.Generator().manual_seed(self.config.seed)
        measure_norms(
            net,
            (
                (torch.randn(32, self.G.z_dim, generator=noise), self._labels(*self._draw(32, rng), rng))
                for _ in range(100)
            ),
        )
        tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
        tensors |= {f"discriminator.{name}": value for name, value in self.D.state_dict().items()}
        for name, other in (("encoder", self.E), ("packed", self.packed)):  # for --init: they know z, and the genres
            tensors |= {f"{name}.{key}": value for key, value in other.state_dict().items()}
        card = {
            "net": {"name": "painter", "config": self.net_config},
            "discriminator": {"name": "projected-discriminator", "config": self.critic_config},
            "genres": list(self.genres),
            "art_styles": self.art_styles,
            "resolution": self.config.resolution,
            "defaults": {"psi": PSI},
        }
        return tensors, card
