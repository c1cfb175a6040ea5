"""Files that open everywhere, carry their recipe, and fit any limit."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.api import FitRequest, Output
from engine.data.intake import open_photo
from engine.errors import InvalidRequest, UnreadableImage
from engine.media import encode, encode_animation, encode_still, fit, grid, read_recipe, without_recipe
from engine.media.gif import delays

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
FORMATS = ("png", "webp", "jpeg", "gif", "mp4")
MOVING = ("gif", "webp", "mp4")
RECIPE = {
    "ganvas": 1,
    "command": "paint",
    "options": {"seed": 7, "genre": "flower-painting", "style": "\"<&>'\\ é 夜 --> ]]>"},
    "models": {"painter": "0" * 64},
}


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return open_photo((SAMPLES / "flower.jpg").read_bytes(), max_side=240)  # (160, 240, 3)


@pytest.fixture(scope="module")
def glide() -> list[np.ndarray]:
    """12 frames of one photo turning into another, with one corner that stands still."""
    first, last = (
        np.asarray(Image.open(SAMPLES / name).convert("RGB").resize((192, 128))).astype(np.float32)
        for name in ("china.jpg", "flower.jpg")
    )
    frames = [np.uint8(first + (last - first) * share) for share in np.linspace(0, 1, 12)]
    for frame in frames:
        frame[:32, :32] = frames[0][:32, :32]
    return frames


def decoded(data: bytes) -> list[np.ndarray]:
    if data[4:8] == b"ftyp":
        with av.open(io.BytesIO(data)) as film:
            return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    with Image.open(io.BytesIO(data)) as image:
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
        return frames


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


# Encoders.


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_comes_back_as_it_was(format: str, photo: np.ndarray) -> None:
    output = encode_still(photo, format, RECIPE)
    (pixels,) = decoded(output.data)
    assert (output.width, output.height, output.format, output.recipe) == (240, 160, format, RECIPE)
    assert pixels.shape == photo.shape
    assert psnr(pixels, photo) > {"png": 99, "webp": 33, "jpeg": 36, "gif": 33, "mp4": 33}[format]


@pytest.mark.parametrize("format", MOVING)
def test_an_animation_comes_back_as_it_was(format: str, glide: list[np.ndarray]) -> None:
    output = encode_animation(glide, 24, format, RECIPE)
    frames = decoded(output.data)
    assert output.frames == len(frames) == 12
    assert min(psnr(*pair) for pair in zip(frames, glide, strict=True)) > 29


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_pixels_are_the_same_bytes(format: str, glide: list[np.ndarray]) -> None:
    pixels = glide if format in MOVING else glide[0]
    assert len({encode(pixels, format, RECIPE, quality=70) for _ in range(4)}) == 1


@pytest.mark.parametrize("format", MOVING)
@pytest.mark.parametrize("fps", [7, 24, 30])
def test_an_animation_lasts_as_long_as_it_should(format: str, fps: int, glide: list[np.ndarray]) -> None:
    data = encode(glide, format, fps=fps)
    if format == "mp4":
        with av.open(io.BytesIO(data)) as film:
            seconds = float(film.duration or 0) / av.time_base
    else:
        with Image.open(io.BytesIO(data)) as image:
            seconds = 0.0
            for index in range(12):
                image.seek(index)
                image.load()
                seconds += image.info["duration"] / 1000
    assert seconds == pytest.approx(12 / fps, abs=0.02)


def test_no_gif_frame_is_so_short_that_browsers_slow_it_down() -> None:
    assert delays(6, 24) == [4, 4, 4, 5, 4, 4]
    assert min(delays(100, 60)) == 2


@pytest.mark.parametrize("format", ["gif", "webp"])
@pytest.mark.parametrize("loop", [True, False])
def test_an_animation_loops_only_if_asked(format: str, loop: bool, glide: list[np.ndarray]) -> None:
    with Image.open(io.BytesIO(encode(glide, format, loop=loop))) as image:
        assert image.info.get("loop") == (0 if loop else {"gif": None, "webp": 1}[format])


def test_mp4_has_even_sides_plays_everywhere_and_starts_before_it_has_arrived(glide: list[np.ndarray]) -> None:
    output = encode_animation([frame[:-1, :-1] for frame in glide], 24, "mp4")
    assert (output.width, output.height) == (190, 126)
    with av.open(io.BytesIO(output.data)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (190, 126)
    assert output.data.index(b"moov") < output.data.index(b"mdat")


def test_what_stands_still_in_a_gif_is_not_stored_again_and_does_not_shimmer(glide: list[np.ndarray]) -> None:
    corners = [frame[:32, :32] for frame in decoded(encode(glide, "gif"))]
    assert all((corner == corners[0]).all() for corner in corners)
    still = encode([glide[0]] * 12, "gif")
    assert len(still) < len(encode(glide[0], "gif")) + 12 * 60


def test_a_gif_is_smaller_than_pillows_own_and_looks_like_its_frames(glide: list[np.ndarray]) -> None:
    out = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in glide)
    first.save(out, "GIF", save_all=True, append_images=others, duration=42, loop=0)
    ours = encode(glide, "gif")

    def seen(data: bytes) -> float:  # the eye takes in a few pixels at once, so does a box
        frames = [np.asarray(Image.fromarray(frame).reduce(2)) for frame in decoded(data)]
        truth = [np.asarray(Image.fromarray(frame).reduce(2)) for frame in glide]
        return float(np.mean([psnr(*pair) for pair in zip(frames, truth, strict=True)]))

    assert len(ours) < len(out.getvalue())
    assert seen(ours) > 36


def test_a_gif_of_few_colours_is_exact() -> None:
    flat = np.zeros((64, 64, 3), np.uint8)
    flat[16:48, 16:48] = (200, 30, 40)
    flat[20:30, 20:30] = (201, 30, 40)
    np.testing.assert_array_equal(decoded(encode(flat, "gif"))[0], flat)


def test_what_a_format_can_not_hold_is_refused(photo: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="png holds 1 frame, not 2; choose one of gif, webp, mp4"):
        encode([photo, photo], "png")
    with pytest.raises(InvalidRequest, match="no format 'tga'"):
        encode(photo, "tga")
    with pytest.raises(InvalidRequest, match="of one size"):
        encode([photo, photo[1:]], "gif")
    with pytest.raises(InvalidRequest, match="uint8"):
        encode(photo.astype(np.float32), "png")  # type: ignore[arg-type]


# Recipes.


@pytest.mark.parametrize("format", FORMATS)
def test_a_recipe_is_read_back_and_can_be_taken_out_without_touching_a_pixel(
    format: str, glide: list[np.ndarray]
) -> None:
    pixels = glide if format in MOVING else glide[0]
    data = encode(pixels, format, RECIPE)
    assert read_recipe(data) == RECIPE
    bare = without_recipe(data)
    assert read_recipe(bare) is None and b"flower-painting" not in bare
    assert without_recipe(bare) == bare
    for one, other in zip(decoded(bare), decoded(data), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("format", FORMATS)
def test_a_recipe_of_the_greatest_length_survives(format: str, photo: np.ndarray) -> None:
    recipe = {"ganvas": 1, "options": "x" * 59_900}
    assert read_recipe(encode(photo, format, recipe)) == recipe
    with pytest.raises(InvalidRequest, match="holds at most 60000"):
        encode(photo, format, {"options": "x" * 60_000})


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_without_a_recipe_says_so(format: str, photo: np.ndarray) -> None:
    assert read_recipe(encode(photo, format)) is None


def test_other_peoples_comments_are_not_recipes() -> None:
    image, out = Image.new("RGB", (16, 16)), io.BytesIO()
    info = PngInfo()
    info.add_itxt("parameters", json.dumps(RECIPE))
    image.save(out, "PNG", pnginfo=info)
    assert read_recipe(out.getvalue()) is None
    for format in ("JPEG", "GIF"):
        out = io.BytesIO()
        image.save(out, format, comment=json.dumps(RECIPE).encode())
        assert read_recipe(out.getvalue()) is None
    assert read_recipe(b"") is None and read_recipe(b"hello") is None


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[1]", b"null", b'"text"', b'{"a":NaN}', b'{"a":Infinity}', b"[" * 50_000, b'{"a":' * 20_000,
        b"\xff\xfe", b'{"a":"\\ud800"}', b'{"a":' + b"9" * 5000 + b"}", b'{"a":"' + b"x" * 500_000 + b'"}',
    ],
)  # fmt: skip
def test_a_hostile_recipe_is_no_recipe(text: bytes, photo: np.ndarray) -> None:
    body = b"ganvas-recipe\0\0\0\0\0" + text
    chunk = len(body).to_bytes(4, "big") + b"iTXt" + body + zlib.crc32(b"iTXt" + body).to_bytes(4, "big")
    data = encode(photo, "png")
    assert read_recipe(data[:33] + chunk + data[33:]) is None


# The size ladder.


def limits(data: bytes, request: FitRequest) -> Output:
    output, notes = fit(request)
    assert len(output.data) <= request.max_bytes
    assert max(output.width, output.height) <= request.max_side
    assert output.format in request.formats
    frames = decoded(output.data)
    assert (frames[0].shape[1], frames[0].shape[0], len(frames)) == (output.width, output.height, output.frames)
    assert len(notes) == 1 and notes[0].endswith(".") and "\n" not in notes[0]
    return output


@pytest.mark.parametrize("format", FORMATS)
def test_what_fits_comes_back_untouched(format: str, glide: list[np.ndarray]) -> None:
    made = encode_animation(glide, 24, format, RECIPE) if format in MOVING else encode_still(glide[0], format, RECIPE)
    output, notes = fit(FitRequest(image=made.data))
    assert output == made and notes == ()
    bare, notes = fit(FitRequest(image=made.data, strip=True))
    assert bare.data == without_recipe(made.data) and bare.recipe == {} and notes == ()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("formats", [FORMATS, ("jpeg", "gif"), ("mp4", "webp")])
def test_anything_fits_into_a_small_limit(format: str, formats: tuple[str, ...], glide: list[np.ndarray]) -> None:
    data = encode(glide[:6] if format in MOVING else glide[0], format, RECIPE)
    request = FitRequest(image=data, max_bytes=5_000, formats=formats)
    if len(data) > request.max_bytes or format not in formats:
        output = limits(data, request)
        assert output.recipe == read_recipe(output.data) == RECIPE


def test_the_ladder_keeps_size_as_long_as_a_better_format_does(glide: list[np.ndarray]) -> None:
    data = encode(glide, "gif", RECIPE)
    webp, (note,) = fit(FitRequest(image=data, max_bytes=len(data) - 1))
    assert (webp.format, webp.width, webp.frames) == ("webp", 192, 12)
    assert note.startswith("Sent as WebP so that it fits ")
    assert fit(FitRequest(image=data, max_bytes=len(data) - 1))[0].data == webp.data
    smaller, (note,) = fit(FitRequest(image=data, max_bytes=len(data) // 2, formats=("gif",)))
    assert smaller.format == "gif" and 90 < smaller.width < 192
    assert note.startswith(f"Sent as GIF at {smaller.width} px so that it fits ")


def test_notes_say_what_was_done_and_why(photo: np.ndarray, glide: list[np.ndarray]) -> None:
    png = encode(photo, "png")
    assert fit(FitRequest(image=png, max_side=100))[1] == ("Sent as PNG at 100 px so that no side is over 100 px.",)
    assert fit(FitRequest(image=png, formats=("webp",)))[1] == ("Sent as WebP because PNG is not accepted here.",)
    assert fit(FitRequest(image=encode(glide, "gif"), formats=("png",)))[1] == (
        "Sent as PNG, its first frame only, because GIF is not accepted here.",
    )


def test_a_photos_whereabouts_do_not_travel_on(photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "JPEG", quality=95, exif=exif)
    output, notes = fit(FitRequest(image=out.getvalue()))
    assert b"Exif" not in output.data and (output.width, output.height) == (160, 240)
    assert notes == ("Sent as JPEG without what the camera wrote into it (EXIF).",)


def test_animations_keep_their_pace_when_they_change_format(glide: list[np.ndarray]) -> None:
    data = encode(glide, "gif", fps=12)
    output, _ = fit(FitRequest(image=data, formats=("mp4",)))
    with av.open(io.BytesIO(output.data)) as film:
        assert float(film.duration or 0) / av.time_base == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: d[:40]])
@pytest.mark.parametrize("format", ["png", "webp", "jpeg", "mp4"])
def test_a_broken_file_does_not_pass_for_one_that_fits(
    format: str, damage: Callable[[bytes], bytes], photo: np.ndarray
) -> None:
    with pytest.raises(UnreadableImage):
        fit(FitRequest(image=damage(encode(photo, format))))


def test_what_can_not_fit_is_said_plainly() -> None:
    recipe = {"options": "x" * 5000}
    data = encode(np.zeros((64, 64, 3), np.uint8), "png", recipe)
    with pytest.raises(InvalidRequest, match=r"PNG can't be made to fit 1\.95 kB as png or webp"):
        fit(FitRequest(image=data, max_bytes=2000, formats=("png", "webp")))
    assert len(fit(FitRequest(image=data, max_bytes=2000, strip=True))[0].data) <= 2000


# Contact sheets.


def test_a_sheet_shows_every_picture_in_its_cell_over_its_caption() -> None:
    images = [np.full((40, 60, 3), shade, np.uint8) for shade in (10, 60, 110, 160, 210)]
    sheet = grid(images, 3, ["one", "two", "three", "four", "a caption that is far too long for its cell"], pad=10)
    assert sheet.shape == (10 + 2 * (40 + 21 + 10), 10 + 3 * (60 + 10), 3)
    assert [sheet[30, 40, 0], sheet[30, 110, 0], sheet[30, 180, 0], sheet[100, 40, 0]] == [10, 60, 110, 160]
    assert (sheet[100, 170:200] == 255).all()  # the sixth cell is empty
    assert (sheet[50:71, 10:70] < 128).any() and (sheet[121:142, :10] == 255).all()  # captions, inside their cells
    assert grid(images[:2], 5, pad=0).shape == (40, 120, 3)


def test_a_sheet_without_pictures_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least 1 picture"):
        grid([], 3)
    with pytest.raises(InvalidRequest, match="1 captions for 2 pictures"):
        grid([np.zeros((8, 8, 3), np.uint8)] * 2, 2, ["one"])
