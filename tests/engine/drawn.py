"""Photos drawn here, for the tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def photo_bytes(width: int, height: int, *, format: str = "PNG") -> bytes:
    """Return a picture with a gradient, an edge and some texture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    channels = [x / width * 255, y / height * 255, 127 + 100 * np.sin(x / 7) * np.cos(y / 5)]
    pixels = np.stack(channels, axis=-1)
    pixels[height // 4 : height // 2, width // 3 : width // 2] = (200, 40, 30)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format)
    return file.getvalue()
