"""Tiny settings of every system, and pictures to train them on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from engine.train.system import Config, System, build_config, find_system

# Settings that make a step cost milliseconds.
TINY = {
    "painter": {"batch": "8", "resolution": "32", "critic_size": "32", "genres": "landscape,portrait", "width": "0.1",
                "memory": "12"},
    "stylizer": {"batch": "2", "size": "64", "styles": "dots,waves", "strangers": "4", "lessons": "0"},
    "enhancer": {"batch": "2", "size": "48", "second_stage": "0.5"},
    "cut": {"batch": "2", "load_size": "40", "crop_size": "32", "patches": "8"},
    "cyclegan": {"batch": "2", "load_size": "40", "crop_size": "32", "critic_width": "4", "pool": "3", "blocks": "1"},
    "pix2pix": {"batch": "2", "load_size": "40", "crop_size": "32", "depth": "4", "width": "4", "critic_width": "4"},
    "dcgan": {"batch": "4", "resolution": "16", "width": "4", "z_dim": "8"},
    "gangogh": {"batch": "4", "width": "4", "pretrain": "8", "critic_steps": "2"},
}  # fmt: skip
# A loss that falls in the first steps, on the same pictures.
FALLS = {"painter": "likeness", "stylizer": "content", "enhancer": "L1", "cut": "D", "cyclegan": "D_Y", "pix2pix": "L1",
         "dcgan": "D", "gangogh": "genre"}  # fmt: skip


def draw(path: Path, size: tuple[int, int], seed: int, colour: tuple[float, float, float]) -> None:
    """Write a picture of soft waves and hard dots around ``colour``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / 16
    waves = np.sin(x * rng.uniform(0.2, 2) + rng.uniform(0, 6)) * np.cos(y * rng.uniform(0.2, 2))
    pixels = 255 * np.array(colour) + 60 * waves[:, :, None] * rng.uniform(0.3, 1, 3)
    for row, column in rng.integers(0, min(size) - 12, (40, 2)):
        pixels[row : row + 9, column : column + 5] = rng.integers(0, 256, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def tiny(name: str, **overrides: str) -> tuple[type[System], Config]:
    """Return a system and its tiny config."""
    kind = find_system(name)
    return kind, build_config(kind, None, TINY[name] | {"bf16": "false"} | overrides)
