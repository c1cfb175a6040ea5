"""Whatever people send comes out as an upright RGB picture, or as one sentence."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from engine.api import FitRequest
from engine.data.intake import Decoder, open_photo, sniff
from engine.errors import UnreadableImage
from engine.media import encode

RED, GREEN, BLUE, WHITE = (250, 20, 20), (20, 200, 20), (20, 20, 250), (250, 250, 250)
SAMPLES = Path(__file__).resolve().parents[3] / "data" / "samples"


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red and green above blue and white: it shows which way is up."""
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = np.s_[: height // 2], np.s_[: width // 2]
    bottom, right = np.s_[height // 2 :], np.s_[width // 2 :]
    pixels[top, left], pixels[top, right], pixels[bottom, left], pixels[bottom, right] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def heic(image: Image.Image) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=90)
    return out.getvalue()


def assert_quarters(pixels: np.ndarray, size: tuple[int, int] = (64, 48), tolerance: int = 12) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.shape == (size[1], size[0], 3)
    height, width = pixels.shape[:2]
    corners = [pixels[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    np.testing.assert_allclose(corners, [RED, GREEN, BLUE, WHITE], atol=tolerance)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(timeout=20) as decoder:
        yield decoder


# Every kind of picture.

KINDS = {
    "jpeg": lambda: saved(quarters(), "JPEG", quality=95),
    "progressive jpeg": lambda: saved(quarters(), "JPEG", quality=95, progressive=True),
    "cmyk jpeg": lambda: saved(quarters().convert("CMYK"), "JPEG", quality=95),
    "mpo": lambda: saved(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))], quality=95),
    "png": lambda: saved(quarters(), "PNG"),
    "palette png": lambda: saved(quarters().quantize(16), "PNG"),
    "animated png": lambda: saved(quarters(), "PNG", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    "webp": lambda: saved(quarters(), "WEBP", quality=95),
    "lossless webp": lambda: saved(quarters(), "WEBP", lossless=True),
    "animated webp": lambda: saved(quarters(), "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    "gif": lambda: saved(quarters(), "GIF"),
    "animated gif": lambda: saved(quarters(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    "bmp": lambda: saved(quarters(), "BMP"),
    "tiff": lambda: saved(quarters(), "TIFF"),
    "compressed tiff": lambda: saved(quarters(), "TIFF", compression="tiff_lzw"),
    "cmyk tiff": lambda: saved(quarters().convert("CMYK"), "TIFF"),
    "heic": lambda: heic(quarters()),
    "avif": lambda: saved(quarters(), "AVIF", quality=95),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_read(kind: str, decoder: Decoder) -> None:
    assert_quarters(decoder.open(KINDS[kind]()))


def test_the_worker_and_the_direct_call_agree(decoder: Decoder) -> None:
    photo = (SAMPLES / "china.jpg").read_bytes()
    np.testing.assert_array_equal(decoder.open(photo, max_side=200), open_photo(photo, max_side=200))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_turned_photo_stands_upright(format: str, orientation: int) -> None:
    # What a camera held that way would have stored: the inverse of what the viewer must do.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = quarters() if orientation == 1 else quarters().transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_quarters(open_photo(saved(stored, format, exif=exif)))


def test_a_photo_with_broken_exif_is_read_all_the_same() -> None:
    assert_quarters(
        open_photo(saved(quarters(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40))
    )


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparency_is_laid_on_white(format: str) -> None:
    image = quarters().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    pixels = open_photo(saved(image, format, **({"lossless": True} if format == "WEBP" else {})))
    np.testing.assert_allclose(pixels, 255, atol=3)


def test_transparent_palettes_greys_and_colour_keys_are_laid_on_white() -> None:
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert (open_photo(saved(palette, "GIF", transparency=1)) == 255).all()
    assert (open_photo(saved(Image.new("RGB", (16, 16), (1, 2, 3)), "PNG", transparency=(1, 2, 3))) == 255).all()
    assert (open_photo(saved(Image.new("L", (16, 16), 7), "PNG", transparency=7)) == 255).all()
    assert (open_photo(saved(Image.new("LA", (16, 16), (0, 128)), "PNG")) == 127).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_tones(format: str) -> None:
    tones = np.linspace(0, 65535, 64 * 16).reshape(16, 64).astype(np.uint16)
    pixels = open_photo(saved(Image.fromarray(tones), format))
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[-1, -1].tolist() == [255, 255, 255]
    np.testing.assert_allclose(pixels[..., 1], tones / 257, atol=0.6)


def test_float_and_32_bit_tiffs_keep_their_tones() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (16, 1))
    for values in (ramp, ramp * 255, (ramp * 65535).astype(np.int32), ramp * 1e6):
        np.testing.assert_allclose(open_photo(saved(Image.fromarray(values), "TIFF"))[..., 0], ramp * 255, atol=1)
    broken = ramp.copy()
    broken[0, :3] = np.nan, np.inf, -np.inf
    np.testing.assert_allclose(open_photo(saved(Image.fromarray(broken), "TIFF"))[1:, :, 0], ramp[1:] * 255, atol=1)
    assert (open_photo(saved(Image.fromarray(np.zeros((16, 16), np.float32)), "TIFF")) == 0).all()


def test_sixteen_bit_colour_png_is_read() -> None:
    rows = b"".join(b"\0" + struct.pack(">HHH", 65535, 32896, 0) * 16 for _ in range(16))
    assert open_photo(png(16, 16, rows, depth=16))[8, 8].tolist() == [255, 128, 0]


def test_one_bit_and_grey_pictures_become_rgb() -> None:
    assert open_photo(saved(Image.new("1", (16, 16), 1), "PNG")).mean() == 255
    assert open_photo(saved(Image.new("L", (16, 16), 77), "JPEG"))[3, 3].tolist() == [77, 77, 77]


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    xyz_like = swapped_channels_profile()
    image = Image.new("RGB", (16, 16), (200, 40, 40))
    swapped = open_photo(saved(image, "PNG", icc_profile=xyz_like))[8, 8]
    assert swapped[2] > 150 > swapped[0]  # the profile says that the first channel is blue
    for useless in (lab, b"no profile at all", b"\0" * 128):
        assert open_photo(saved(image, "PNG", icc_profile=useless))[8, 8].tolist() == [200, 40, 40]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert open_photo(saved(image, "PNG", icc_profile=srgb))[8, 8].tolist() == [200, 40, 40]


def swapped_channels_profile() -> bytes:
    """sRGB with the tags of red and blue exchanged: an RGB profile whose effect can't be missed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        swap = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(bytes(profile[at : at + 4]))
        profile[at : at + 4] = swap or profile[at : at + 4]
    description = profile.find("sRGB".encode("utf-16-be"))
    if description >= 0:
        profile[description : description + 8] = "BGR!".encode("utf-16-be")
    return bytes(profile).replace(b"sRGB built-in", b"BGR! built-in")


def test_max_side_shrinks_and_never_enlarges() -> None:
    photo = (SAMPLES / "flower.jpg").read_bytes()
    whole = open_photo(photo)
    assert whole.shape == (427, 640, 3)
    assert open_photo(photo, max_side=2000).shape == (427, 640, 3)
    small = open_photo(photo, max_side=160)
    assert small.shape == (107, 160, 3)
    reference = np.asarray(Image.fromarray(whole).resize((160, 107), Image.Resampling.LANCZOS))
    assert np.abs(small.astype(int) - reference).mean() < 2
    turned = Image.Exif()
    turned[0x0112] = 6
    assert open_photo(saved(quarters(640, 480), "JPEG", exif=turned), max_side=64).shape == (64, 48, 3)


# Every kind of mischief: one sentence each.


def png(width: int, height: int, rows: bytes = b"", depth: int = 8) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)

HOSTILE = {
    "empty": (lambda: b"", "empty"),
    "svg": (lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "svg posing as png": (lambda: b"\xef\xbb\xbf<svg onload='alert(1)'></svg>", "an SVG drawing"),
    "html": (lambda: b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "pdf": (lambda: b"%PDF-1.7\n", "a PDF document"),
    "mp4": (lambda: encode(NOISE, "mp4"), "a video"),
    "webm": (lambda: b"\x1a\x45\xdf\xa3" + bytes(50), "a video"),
    "wav": (lambda: b"RIFF\0\0\0\0WAVEfmt ", "a sound file"),
    "zip": (lambda: b"PK\x03\x04" + bytes(50), "a ZIP archive"),
    "text": (lambda: "Grüße aus der Galerie\n".encode(), "a text file"),
    "json": (lambda: b'{"photo": 1}', "a text file"),
    "elf": (lambda: b"\x7fELF" + bytes(50), "a program"),
    "zeros": (lambda: bytes(1000), "an unknown file"),
    "one byte": (lambda: b"\xff", "an unknown file"),
    "signature only": (lambda: b"\x89PNG\r\n\x1a\n", "PNG is broken"),
    "truncated jpeg": (lambda: (SAMPLES / "china.jpg").read_bytes()[:50_000], "JPEG is cut off"),
    "truncated png": (lambda: encode(NOISE, "png")[:6000], "PNG is cut off"),
    "truncated webp": (lambda: encode(NOISE, "webp")[:1500], "WebP is (broken|cut off)"),
    "truncated gif": (lambda: encode(NOISE, "gif")[:3000], "GIF is (broken|cut off)"),
    "truncated avif": (lambda: saved(Image.fromarray(NOISE), "AVIF")[:900], "AVIF is (broken|cut off)"),
    "truncated heic": (lambda: heic(Image.fromarray(NOISE))[:1200], "HEIC is (broken|cut off)"),
    "truncated tiff": (lambda: saved(Image.fromarray(NOISE), "TIFF")[:4000], "TIFF is (broken|cut off)"),
    "1x1": (lambda: png(1, 1, b"\0abc"), "1 x 1 px; it must have at least 8 px"),
    "7 px high": (lambda: png(80, 7, b"\0" * 241 * 7), "80 x 7 px; it must have at least 8 px"),
    "50k px wide": (lambda: png(50_000, 10), "50000 x 10 px; the long side may have at most 30000 px"),
    "51 megapixels": (lambda: png(8000, 6400), "51 megapixels; at most 50 megapixels"),
    "bomb": (lambda: png(20_000, 20_000), "PNG unpacks to far more than 50 megapixels"),
    "larger bomb": (lambda: png(2**31 - 1, 2**31 - 1), "PNG (unpacks to far more|is broken)"),
    "ribbon": (lambda: png(9000, 100), "at most 40 times as long"),
    "gif bomb": (lambda: b"GIF89a" + b"\xff" * 4 + bytes(3) + b"," + bytes(4) + b"\xff" * 4 + b"\0\x08\0;", "unpacks"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_good_picture_gets_one_clear_sentence(case: str, decoder: Decoder) -> None:
    make, sentence = HOSTILE[case]
    with pytest.raises(UnreadableImage, match=sentence) as refusal:
        decoder.open(make())
    assert re.fullmatch(r"(This|The) [^\n]*\.", str(refusal.value))
    assert len(str(refusal.value)) < 160


def test_a_file_that_is_too_large_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.intake.MAX_BYTES", 2**20)
    with pytest.raises(UnreadableImage, match="has 2 MB; at most 1 MB"):
        open_photo(b"\xff\xd8\xff" + bytes(2 * 2**20))


def test_the_name_of_a_file_does_not_matter_only_its_bytes() -> None:
    assert {kind: sniff(make()) for kind, make in KINDS.items()} == {
        kind: next(
            name for name in ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIC", "AVIF") if name.lower() in kind
        )
        if kind != "mpo"
        else "JPEG"
        for kind in KINDS
    }


def test_max_pixels_is_the_callers_to_choose(decoder: Decoder) -> None:
    with pytest.raises(UnreadableImage, match=r"at most 0\.001 megapixels"):
        decoder.open(KINDS["png"](), max_pixels=1000)


# The worker: limits, death and rebirth.


def test_a_worker_starts_at_the_first_picture_and_stays() -> None:
    with Decoder() as decoder:
        assert decoder.pids() == []
        decoder.open(KINDS["png"]())
        first = decoder.pids()
        decoder.open(KINDS["jpeg"]())
        assert decoder.pids() == first and len(first) == 1
    assert decoder.pids() == []
    with pytest.raises(ProcessLookupError):
        os.kill(first[0], 0)


def test_a_killed_worker_is_replaced_without_anyone_noticing() -> None:
    with Decoder() as decoder:
        decoder.open(KINDS["png"]())
        (pid,) = decoder.pids()
        os.kill(pid, signal.SIGKILL)
        assert_quarters(decoder.open(KINDS["png"]()))
        assert decoder.pids() != [pid]


def test_a_worker_killed_in_mid_picture_costs_one_retry() -> None:
    with Decoder() as decoder:
        decoder.open(KINDS["png"]())
        (pid,) = decoder.pids()
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        assert_quarters(decoder.open(KINDS["png"]()))


def test_a_stalled_picture_is_given_up_and_the_next_one_is_served() -> None:
    with Decoder() as decoder:
        decoder.open(KINDS["png"]())
        os.kill(decoder.pids()[0], signal.SIGSTOP)
        with pytest.raises(UnreadableImage, match=r"took longer than 0\.5 s"):
            decoder.open(KINDS["png"](), timeout=0.5)
        assert_quarters(decoder.open(KINDS["png"]()))


def test_a_picture_that_needs_too_much_memory_is_refused_and_the_next_one_is_served() -> None:
    with Decoder(memory=400 * 2**20) as decoder:
        with pytest.raises(UnreadableImage, match="memory"):
            decoder.open(saved(Image.new("RGB", (7000, 7000)), "PNG", compress_level=1))
        assert_quarters(decoder.open(KINDS["png"]()))


def test_forty_eight_megapixels_of_a_phone_fit_into_the_limits(decoder: Decoder) -> None:
    photo = saved(Image.new("RGB", (8000, 6000), (90, 120, 150)), "JPEG")
    assert decoder.open(photo, max_side=1280).shape == (960, 1280, 3)
    assert decoder.open(photo).shape == (6000, 8000, 3)


def test_many_threads_may_share_a_decoder(decoder: Decoder) -> None:
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(decoder.open(KINDS["jpeg"]()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and len({result.tobytes() for result in results}) == 1


def test_a_worker_ends_when_its_engine_is_killed() -> None:
    code = (
        "import io, os, signal, sys; from PIL import Image; from engine.data.intake import Decoder; d = Decoder();"
        "b = io.BytesIO(); Image.new('RGB', (16, 16)).save(b, 'PNG'); d.open(b.getvalue());"
        "print(d.pids()[0], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(200):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its engine by ten seconds")


def test_the_worker_knows_no_secrets_and_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "hush")
    with Decoder() as decoder:
        decoder.open(KINDS["heic"]())
        (pid,) = decoder.pids()
        assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert "torch" not in Path(f"/proc/{pid}/maps").read_text()


def test_fitting_runs_in_the_worker_too(decoder: Decoder) -> None:
    photo = (SAMPLES / "china.jpg").read_bytes()
    output, notes = decoder.fit(FitRequest(image=photo, max_side=128, formats=("webp",)))
    assert (output.format, output.width, output.height) == ("webp", 128, 85)
    assert notes == ("Sent as WebP at 128 px so that no side is over 128 px.",)
    with pytest.raises(UnreadableImage, match="a web page"):
        decoder.fit(FitRequest(image=b"<html></html>"))
