"""Sides of a translation (photos, paintings): which pictures belong to one, and random crops of them."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.paintings import PictureSet, load_pictures
from engine.errors import InvalidRequest


@dataclass(frozen=True)
class Domain:
    """Some rows of a set of pictures."""

    pictures: PictureSet
    rows: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.rows)

    def crops(self, count: int, size: int, rng: np.random.Generator) -> Tensor:
        """Return random crops (B, 3, size, size), mirrored half the time, channels last."""
        batch = self.pictures.batch(self.rows[rng.integers(len(self.rows), size=count)])
        slack = batch.shape[2] - size
        found = []
        for picture in batch:
            top, left = (int(x) for x in rng.integers(slack + 1, size=2))
            crop = picture[:, top : top + size, left : left + size]
            found.append(crop.flip(2) if rng.random() < 0.5 else crop)
        return torch.stack(found).contiguous(memory_format=torch.channels_last)

    def shown(self, count: int, size: int) -> Tensor:
        """Return the middles (N, 3, size, size) of pictures spread evenly over the domain, for sheets."""
        rows = self.rows[np.unique(np.linspace(0, len(self.rows) - 1, count).astype(int))]
        batch = self.pictures.batch(rows)
        start = (batch.shape[2] - size) // 2
        middle = batch[:, :, start : start + size, start : start + size]
        return middle.contiguous(memory_format=torch.channels_last)


def load_domain(data: Path, chosen: str, artist: str, size: int, cache: Path) -> Domain:
    """Return the pictures below ``data`` that ``chosen`` names, as squares of ``size`` px.

    Args:
        chosen: a folder ("paintings/landscape") or a pattern ("paintings/*/*.jpg").
        artist: only works whose column ``artist`` in ``data``/manifest.csv says so; "" for all.

    Raises:
        InvalidRequest: there are no such pictures.
    """
    folder = data
    for part in Path(chosen).parts:
        if not (folder / part).is_dir():
            break
        folder = folder / part
    pictures = load_pictures(folder, size, cache)
    prefix = folder.relative_to(data).as_posix()
    names = [name if prefix == "." else f"{prefix}/{name}" for name in pictures.paths]
    whole = folder == data / chosen
    wanted = [whole or fnmatch(name, chosen) for name in names]
    if artist:
        works = _works_of(data / "manifest.csv", artist)
        wanted = [yes and name in works for yes, name in zip(wanted, names, strict=True)]
    rows = np.flatnonzero(wanted)
    if not len(rows):
        by = f" by {artist}" if artist else ""
        raise InvalidRequest(f"There are no pictures {chosen!r}{by} in {data}.")
    digest = hashlib.sha256(pictures.digest.encode() + rows.tobytes()).hexdigest()
    return Domain(pictures, rows, digest)


def _works_of(manifest: Path, artist: str) -> set[str]:
    if not manifest.exists():
        raise InvalidRequest(f"To choose works by {artist}, {manifest} is needed, with columns path and artist.")
    with open(manifest, newline="") as file:
        rows = [(row["path"], row["artist"]) for row in csv.DictReader(file)]
    works = {path for path, name in rows if name == artist}
    if not works:
        raise InvalidRequest(f"{manifest} knows no works by {artist!r}; write the name as its column artist does.")
    return works
