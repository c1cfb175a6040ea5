"""A part of the pictures held out, chosen by their bytes: the same picture is on the same side in every data set."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.data.crops import apart
from engine.data.folders import place
from engine.data.paintings import find_pictures
from engine.errors import InvalidRequest

TRAIN, HELD_OUT = "train", "held-out"


def is_held_out(data: bytes, share: float, *, salt: bytes = b"") -> bool:
    """Say whether the file ``data`` belongs to the ``share`` in [0, 1] that no training sees; ``salt`` makes others."""
    return int.from_bytes(hashlib.sha256(salt + data).digest()[:8], "big") < share * 2**64


def split_folder(source: Path, out: Path, *, share: float = 0.1) -> dict[str, int]:
    """Put every picture of ``source`` into ``out``/train or ``out``/held-out, in its own folders; return the counts.

    Raises:
        InvalidRequest: ``share`` is not strictly between 0 and 1.
    """
    if not 0 < share < 1:
        raise InvalidRequest(f"The share held out is {share:g}; it must lie between 0 and 1.")
    apart(source, out)
    counts = {TRAIN: 0, HELD_OUT: 0}
    for path in find_pictures(source):
        side = HELD_OUT if is_held_out(path.read_bytes(), share) else TRAIN
        place(path, out / side / path.relative_to(source))
        counts[side] += 1
    return counts
