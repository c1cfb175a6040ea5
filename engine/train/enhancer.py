"""Enlarging paintings and photos by 2 and 4 (nets/enhancer.py), in two stages within one run.

Stage 1 learns the mean of what could be there (L1 and its spectrum), stage 2 commits to strokes (perceptual distance,
liveliness, and a U-Net discriminator).  Inputs are targets made small and harmed; for a part of them as a small GAN
harms: soft, with smooth coloured noise and a faint lattice.  Canvas and brush noise stay in the target, so they are
drawn, not wiped off.  The released weights lie between those of the two stages: crisp without rings.
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor

from engine import losses, nets
from engine.data.paintings import find_pictures
from engine.errors import InvalidRequest
from engine.nets.enhancer import SCALES, Enhancer
from engine.nets.vgg import load_vgg
from engine.train.state import ema_update
from engine.train.system import Config, System, numbers, system

log = logging.getLogger(__name__)
SOURCES = {"paintings": 0.4, "styles": 0.35, "photos": 0.25}  # folder of the data -> share of the crops
SHARP = 256  # px, smaller pictures have no strokes to learn from
TAPS = ("conv1_2", "conv2_2", "conv3_3")
SHOWN = 6  # pictures kept out of the training, for the sheet


class EnhancerConfig(Config):
    """Fields of the enhancer."""

    images: int = 200_000
    batch: int = 8
    size: int = Field(96, multiple_of=8, le=SHARP)  # px, of the target crops
    learning_rate: float = 5e-4
    spectral: float = 0.1  # weight of the FFT loss against L1
    perceptual: float = 0.2
    texture: float = 0.0
    adversarial: float = 0.05
    # Two runs with critic_rate 1e-3 and texture 0.1 and 0.2 drew dotted edges within 3,000 images; which of the two did
    # it was not told apart.
    critic_rate: float = 4e-4  # learning rate of the discriminator
    second_stage: float = Field(0.5, ge=0, le=1)  # share of the run after which stage 2 begins
    strong: float = Field(0.4, ge=0, le=1)  # share of the x4 inputs harmed as by a small GAN
    blend: float = Field(0.2, ge=0, le=1)  # share of stage 1 in the released weights
    ema: float = 0.998


@system("enhancer")
class EnhancerSystem(System):
    """Trains ``enhancer`` on <data>/paintings, <data>/styles and <data>/photos, or on the pictures of a flat folder."""

    kind = "enhancer"
    config_type = EnhancerConfig

    def __init__(self, config: EnhancerConfig, data: Path, cache: Path) -> None:
        super().__init__(config, data, cache)
        self.sources = _sharp_pictures(data)
        self._digest = _digest(data, self.sources)
        largest = max(self.sources, key=lambda paths: len(paths[1]))[1]
        step = max(1, len(largest) // SHOWN)
        self.shown = largest[::step][:SHOWN]
        if len(largest) > 2 * SHOWN:
            del largest[: SHOWN * step : step]

        net = nets.create("enhancer")
        assert isinstance(net, Enhancer)
        self.G = nets.channels_last(net)
        self.D = nets.channels_last(nets.create("unet-discriminator"))
        self.vgg = nets.channels_last(load_vgg(TAPS))
        self.networks = {"G": self.G, "D": self.D}
        averages = (copy.deepcopy(self.G).requires_grad_(False) for _ in range(2))
        self.averages = dict(zip(("G", "plain"), averages, strict=True))  # plain: as stage 1 left it
        self.optimizers = {
            "G": torch.optim.Adam(self.G.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=True),
            "D": torch.optim.Adam(self.D.parameters(), config.critic_rate, betas=(0.0, 0.99), fused=True),
        }

    @property
    def data_digest(self) -> str:
        return self._digest

    # Training

    def step(self) -> dict[str, float]:
        """Enlarge a batch of harmed crops by one scale, and follow the losses of the stage."""
        config = self.config
        second = self.images >= config.second_stage * config.images
        self._set_rates(second)
        scale = SCALES[int(self.numpy_rng.integers(len(SCALES)))]
        target = torch.cat([self._crop() for _ in range(config.batch)])
        small = torch.cat([self._harm(picture[None], scale) for picture in target])
        target, small = (x.to(self.device, memory_format=torch.channels_last) for x in (target, small))

        with self.autocast():
            drawn = self.G.draw(small, scale)
        told = {"L1": losses.absolute(drawn, target), "spectral": losses.spectral(drawn, target)}
        loss = told["L1"] + config.spectral * told["spectral"]
        if second:
            with self.autocast():
                told["D"] = self._train_critic(drawn.detach(), target)
                taps = self.vgg(drawn)
                with torch.no_grad():
                    wanted = self.vgg(target)
                self.D.requires_grad_(False)  # only the picture's gradient is wanted here
                told["G"] = losses.hinge_generator(self.D(drawn).float())
            maps, targets = list(taps.values()), list(wanted.values())
            told["perceptual"] = losses.likeness(maps, targets)
            told["texture"] = losses.texture(maps, targets)
            loss = loss + config.perceptual * told["perceptual"] + config.texture * told["texture"]
            loss = loss + config.adversarial * told["G"]

        self.optimizers["G"].zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.G.parameters(), 1.0)
        self.optimizers["G"].step()
        steps = self.images / config.batch
        for name in ("G",) if second else ("G", "plain"):
            ema_update(self.averages[name], self.G, min(config.ema, (1 + steps) / (10 + steps)))
        return numbers(told)

    def _train_critic(self, drawn: Tensor, target: Tensor) -> Tensor:
        self.D.requires_grad_(True)
        loss = losses.hinge_discriminator(self.D(target).float(), self.D(drawn).float())
        self.optimizers["D"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers["D"].step()
        return loss.detach()

    def _set_rates(self, second: bool) -> None:
        """Fall along a cosine to a twentieth within each stage; stage 2 begins at half the rate."""
        turn = self.config.second_stage
        progress = self.images / self.config.images
        done = (progress - turn) / (1 - turn) if second else progress / turn
        fall = 0.525 + 0.475 * math.cos(math.pi * min(1, done))
        for group in self.optimizers["G"].param_groups:
            group["lr"] = (0.5 if second else 1.0) * self.config.learning_rate * fall
        for group in self.optimizers["D"].param_groups:
            group["lr"] = self.config.critic_rate * fall

    # Pictures

    def _crop(self) -> Tensor:
        """Return a crop (1, 3, S, S) of a random picture, half of them scaled down first, half of them mirrored."""
        size, rng = self.config.size, self.numpy_rng
        picture = self._picture()
        low = max(SHARP / min(picture.size), 0.25)
        if low < 1 and rng.random() < 0.5:
            scale = rng.uniform(low, 1)
            picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
        left, top = (int(rng.integers(side - size + 1)) for side in picture.size)
        crop = _tensor(picture.crop((left, top, left + size, top + size)))
        return crop.flip(3) if rng.random() < 0.5 else crop

    def _picture(self) -> Image.Image:
        """Return a random picture of a random source; one that turns out broken is reported and drawn again."""
        shares = np.array([share for share, _ in self.sources])
        while True:
            paths = self.sources[int(self.numpy_rng.choice(len(shares), p=shares / shares.sum()))][1]
            path = paths[int(self.numpy_rng.integers(len(paths)))]
            try:
                return _open(path)
            except (OSError, ValueError, SyntaxError) as error:
                log.warning("skipped a broken picture: %s: %s", path, error)

    def _harm(self, target: Tensor, scale: int) -> Tensor:
        """Return ``target`` (1, 3, S, S) at 1/scale of its size, harmed as pictures of that size are."""
        rng = self.numpy_rng
        strong = scale == 4 and rng.random() < self.config.strong
        x = target
        if rng.random() < 0.7:
            x = _blur(x, rng.uniform(0.2, 1.6) * scale / 4)
        side = target.shape[2] // scale
        mode = ("bilinear", "bicubic", "area")[int(rng.integers(3))]
        x = F.interpolate(x, size=(side, side), mode=mode, antialias=mode != "area")
        if rng.random() < (0.9 if strong else 0.3):  # soft: no detail at the size it has
            lost = max(8, round(side * rng.uniform(0.45 if strong else 0.6, 0.95)))
            x = F.interpolate(x, size=(lost, lost), mode="bilinear", antialias=True)
            x = F.interpolate(x, size=(side, side), mode="bicubic")
        if strong:
            x = x + self._gan_noise(side)
        if rng.random() < 0.5:
            x = x + rng.uniform(0, 8 / 255) * torch.randn(x.shape, generator=self.torch_rng)
        return _jpeg(x, int(rng.integers(50, 96))) if rng.random() < 0.6 else x.clamp(0, 1)

    def _gan_noise(self, side: int) -> Tensor:
        """Return what small generators leave: coloured noise of spectrum f^-a, and a faint lattice of 2 or 4 px."""
        rng = self.numpy_rng
        white = torch.fft.rfft2(torch.randn(1, 3, side, side, generator=self.torch_rng))
        frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]).clamp_min(1 / side)
        noise = torch.fft.irfft2(white * frequency ** -rng.uniform(0, 1.5), s=(side, side))
        line = torch.arange(side)
        period = int(rng.choice([2, 4]))
        lattice = ((line[:, None] + int(rng.integers(2)) * line[None]) % period < period / 2).float() - 0.5
        return noise / noise.std() * rng.uniform(0, 0.04) + lattice * rng.uniform(0, 0.03)

    # Showing and releasing

    def _blended(self) -> Enhancer:
        """Return the averaged weights of stage 2, moved ``blend`` of the way towards those of stage 1."""
        net = copy.deepcopy(self.averages["G"])
        ema_update(net, self.averages["plain"], 1 - self.config.blend)
        assert isinstance(net, Enhancer)
        return net

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: 64 px thumbnails x4 (every second softened), 128 px x2; columns: input, bicubic, ours, original."""
        net, rows = self._blended(), []
        for index, path in enumerate(self.shown):
            picture = ImageOps.fit(_open(path), (SHARP, SHARP), Image.Resampling.LANCZOS)
            target = _tensor(picture)
            scale = 4 if index < 2 * len(self.shown) / 3 else 2
            side = SHARP // scale
            small = F.interpolate(target, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
            if scale == 4 and index % 2:
                small = _jpeg(_blur(small, 0.7), 85)
            plain = F.interpolate(small, size=(SHARP, SHARP), mode="bicubic").clamp(0, 1)
            strip = [F.interpolate(small, size=(SHARP, SHARP), mode="nearest"), plain, net(small, scale), target]
            rows.append(torch.cat(strip, dim=3)[0].permute(1, 2, 0))
        return torch.cat(rows).mul(255).round().byte().numpy()

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        return sheet[:, 2 * SHARP : 3 * SHARP]

    def release(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{name}": value for name, value in self._blended().state_dict().items()}
        return tensors, {"net": {"name": "enhancer", "config": {}}, "scales": list(SCALES)}


def _sharp_pictures(data: Path) -> list[tuple[float, list[Path]]]:
    """Return (share, paths) of each source that is there: pictures of at least SHARP px."""
    folders = {data / name: share for name, share in SOURCES.items() if (data / name).is_dir()} or {data: 1.0}
    found = []
    for folder, share in folders.items():
        sharp = []
        for path in find_pictures(folder):
            try:
                with Image.open(path) as picture:
                    if min(picture.size) >= SHARP:
                        sharp.append(path)
            except OSError as error:
                log.warning("skipped a broken picture: %s: %s", path, error)
        if sharp:
            found.append((share, sharp))
    if not found:
        raise InvalidRequest(f"No picture in {data} has a short side of {SHARP} px; smaller ones show no strokes.")
    return found


def _digest(data: Path, sources: list[tuple[float, list[Path]]]) -> str:
    told = hashlib.sha256()
    for _, paths in sources:
        for path in paths:
            told.update(f"{path.relative_to(data).as_posix()}\0{path.stat().st_size}\0".encode())
    return told.hexdigest()


def _open(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian of ``sigma`` px, reflecting at the border."""
    radius = math.ceil(3 * sigma)
    line = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (line / sigma).square())
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    x = F.pad(x, (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(x, kernel, groups=3), kernel.mT, groups=3)


def _jpeg(x: Tensor, quality: int) -> Tensor:
    """Send ``x`` (1, 3, h, w) through a JPEG of ``quality``."""
    pixels = x[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return _tensor(Image.open(file))
