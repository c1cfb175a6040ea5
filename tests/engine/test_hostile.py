"""Thousands of damaged real files: each is read, or refused in a sentence; nothing crashes, stalls or leaks through.

In this process, where a mistake shows as an exception of another class, and again through the worker, as in service.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from engine.api import FitRequest
from engine.data.intake import Decoder, open_photo
from engine.errors import GanvasError, UnreadableImage
from engine.media import encode, fit, read_recipe, without_recipe

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
RECIPE = {"ganvas": 1, "command": "paint", "options": {"seed": 7}}


def _files() -> dict[str, bytes]:
    photo = Image.open(SAMPLES / "china.jpg").convert("RGB").resize((96, 64))
    pixels = np.asarray(photo)
    frames = [pixels, pixels[::-1], pixels[:, ::-1]]
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "jpeg": encode(pixels, "jpeg", RECIPE), "png": encode(pixels, "png", RECIPE),
        "webp": encode(pixels, "webp", RECIPE), "animated webp": encode(frames, "webp", RECIPE),
        "gif": encode(frames, "gif", RECIPE), "mp4": encode(frames, "mp4", RECIPE),
    }  # fmt: skip
    for name, format, mode, options in (
        ("exif jpeg", "JPEG", "RGB", {"exif": exif}), ("cmyk jpeg", "JPEG", "CMYK", {}),
        ("progressive jpeg", "JPEG", "L", {"progressive": True}), ("palette png", "PNG", "P", {}),
        ("alpha png", "PNG", "RGBA", {}), ("lzw tiff", "TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("tiff", "TIFF", "CMYK", {}), ("bmp", "BMP", "RGB", {}), ("avif", "AVIF", "RGB", {}),
    ):  # fmt: skip
        out = io.BytesIO()
        photo.convert(mode).save(out, format, **options)
        files[name] = out.getvalue()
    out = io.BytesIO()
    pillow_heif.from_pillow(photo).save(out, quality=60)
    return files | {"heic": out.getvalue()}


FILES = _files()


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Return ``data`` cut, overwritten, repeated or shuffled somewhere; half the time near its headers."""
    file = bytearray(data)
    for _ in range(random.integers(1, 6)):
        if not file:
            break
        reach = min(len(file), 128) if random.random() < 0.5 else len(file)
        at = int(random.integers(reach))
        size = int(random.integers(1, 17))
        match random.integers(6):
            case 0:
                file[at] = int(random.integers(256))
            case 1:
                file[at : at + size] = random.bytes(size)
            case 2:
                del file[at : at + size]
            case 3:
                file[at:at] = file[at : at + size * 8]
            case 4:
                file[at : at + 4] = random.choice(
                    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"]
                )
            case _:
                del file[at:]
    return bytes(file)


def sentence(error: GanvasError) -> None:
    text = str(error)
    assert text.startswith(("This ", "The ")) and text.endswith(".") and "\n" not in text and len(text) < 200


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_a_picture_or_a_sentence(name: str) -> None:
    random = np.random.default_rng(list(FILES).index(name))
    for _ in range(60):
        try:
            pixels = open_photo(damaged(FILES[name], random), max_side=64)
        except UnreadableImage as error:
            sentence(error)
        else:
            assert pixels.dtype == np.uint8 and pixels.shape[2:] == (3,) and max(pixels.shape) <= 64


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "animated webp", "gif", "mp4"])
def test_the_recipe_of_a_damaged_file_is_a_recipe_or_nothing(name: str) -> None:
    random = np.random.default_rng(1)
    for _ in range(400):
        file = damaged(FILES[name], random)
        assert isinstance(read_recipe(file), dict | None)
        assert len(without_recipe(file)) <= len(file)


@pytest.mark.parametrize("name", ["jpeg", "png", "animated webp", "gif", "mp4"])
def test_fitting_a_damaged_file_gives_a_picture_or_a_sentence(name: str) -> None:
    random = np.random.default_rng(2)
    for _ in range(12):
        try:
            output, _ = fit(FitRequest(image=damaged(FILES[name], random), max_side=32))
        except GanvasError as error:
            sentence(error)
        else:
            assert max(output.width, output.height) <= 32


def test_one_worker_outlives_all_of_them() -> None:
    random = np.random.default_rng(3)
    with Decoder(timeout=20) as decoder:
        decoder.open(FILES["png"])
        for _ in range(10):
            for data in FILES.values():
                try:
                    decoder.open(damaged(data, random), max_side=64)
                except UnreadableImage as error:
                    sentence(error)
        assert decoder.open(FILES["png"]).shape == (64, 96, 3)
        status = Path(f"/proc/{decoder.pids()[0]}/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0])  # kB
        assert peak < 512 * 1024


@pytest.mark.parametrize("size", range(0, 64, 3))
def test_the_first_bytes_alone_are_a_sentence(size: int) -> None:
    for data in FILES.values():
        with pytest.raises(UnreadableImage) as refusal:
            open_photo(data[:size])
        sentence(refusal.value)
