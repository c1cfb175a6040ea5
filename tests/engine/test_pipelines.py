"""From request to result, on tiny networks with random weights."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import photo_bytes
from numpy.typing import NDArray
from PIL import Image

from engine import checkpoints, media, recipes
from engine.api import (
    PSI,
    ChainRequest,
    EnhanceRequest,
    FitRequest,
    MorphRequest,
    PaintRequest,
    Progress,
    Request,
    Result,
    Stop,
    StylizeRequest,
)
from engine.errors import GanvasError, InvalidRequest, JobCancelled, UnknownName, UnreadableImage
from engine.nets.painter import EMPHASIS
from engine.pipelines import Pipelines, enhance, latents, paint, stylize
from engine.pipelines.pictures import cover, pad_to_stride, with_colours_of
from engine.pipelines.precision import best_dtype


@pytest.fixture(scope="module")
def pipelines() -> Iterator[Pipelines]:
    with Pipelines(dtype="float32") as made:
        yield made


@pytest.fixture(autouse=True)
def models(tiny_models: Path) -> Path:
    return tiny_models


def one(pipelines: Pipelines, request: Request) -> Result:
    [outcome] = pipelines.run([request])
    if isinstance(outcome, GanvasError):
        raise outcome
    return outcome


def pixels(result: Result, index: int = 0) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(result.outputs[index].data)).convert("RGB")).astype(np.int16)


PHOTO = photo_bytes(90, 70)
REQUESTS = {
    "stylize": StylizeRequest(photo=PHOTO, style="waves", size=96),
    "mix": StylizeRequest(photo=PHOTO, style="waves:2+dots", size=96, strength=0.7, format="webp"),
    "style image": StylizeRequest(photo=PHOTO, style_image=photo_bytes(64, 80), size=96),
    "brush": StylizeRequest(photo=PHOTO, model="tiny-brush", size=96, keep_colours=True),
    "paint": PaintRequest(genre="flowers", seed=7, width=96, height=64, format="jpeg"),
    "finish": PaintRequest(genre="portrait", seed=7, width=64, height=64, finish="dots"),
    "art style": PaintRequest(genre="portrait", seed=7, width=64, height=64, art_style="pointillism", finish="none"),
    "learned art style": PaintRequest(genre="portrait", seed=7, width=64, height=64, art_style="baroque", best_of=2),
    "best": PaintRequest(genre="landscape", seed=7, width=64, height=64, best_of=5),
    "gif": MorphRequest(stops=(Stop("portrait", 1), Stop("landscape", 2)), frames=5, size=48, loop=True),
    "styled": MorphRequest(stops=(Stop("portrait", 1, "baroque"), Stop("landscape", 2)), frames=5, size=48),
    "mp4": MorphRequest(stops=(Stop("portrait", 1), Stop("landscape", 2)), frames=5, size=48, format="mp4"),
    "enhance": EnhanceRequest(image=PHOTO, scale=2, strength=0.8),
    "wall": EnhanceRequest(image=PHOTO, width=160, height=90),
    "chain": ChainRequest(image=PHOTO, models=("waves", "tiny-brush", "tiny-enhancer"), size=96),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recipe_makes_the_same_bytes_again(pipelines: Pipelines, name: str) -> None:
    request = REQUESTS[name]
    [output] = one(pipelines, request).outputs
    embedded = media.read_recipe(output.data)
    assert embedded == output.recipe
    sources = {recipes.digest(value): value for value in vars(request).values() if isinstance(value, bytes)}
    with Pipelines(dtype=embedded["dtype"]) as fresh:
        [again] = one(fresh, recipes.read(embedded, sources.get)).outputs
    assert again.data == output.data


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recipe_names_the_models_and_no_content(pipelines: Pipelines, name: str) -> None:
    [output] = one(pipelines, REQUESTS[name]).outputs
    for model, digest in output.recipe["models"].items():
        assert checkpoints.find(model).sha256 == digest
    assert output.recipe["models"]
    assert "base64" not in str(output.recipe)


def test_bytes_do_not_depend_on_the_batch(pipelines: Pipelines) -> None:
    requests = [
        PaintRequest(genre=genre, seed=seed, count=count, best_of=best_of, width=width, height=height)
        for genre, seed, count, best_of, width, height in [
            ("flowers", 1, 1, 1, 64, 64), ("portrait", 2, 3, 1, 64, 64), ("landscape", 3, 1, 4, 112, 64),
            ("flowers", 4, 2, 3, 64, 64), ("flowers", 5, 1, 2, 64, 96), ("landscape", 6, 2, 1, 112, 64),
        ]
    ]  # fmt: skip
    together = pipelines.run(requests)
    for request, outcome in zip(requests, together, strict=True):
        assert isinstance(outcome, Result)
        alone = one(pipelines, request)
        assert [output.data for output in outcome.outputs] == [output.data for output in alone.outputs]


def test_painting_i_uses_seed_plus_i(pipelines: Pipelines) -> None:
    several = one(pipelines, PaintRequest(genre="flowers", seed=2**63 - 2, count=3, width=64, height=64))
    seeds = [output.recipe["options"]["seed"] for output in several.outputs]
    assert seeds == [2**63 - 2, 2**63 - 1, 0]
    third = one(pipelines, PaintRequest(genre="flowers", seed=0, width=64, height=64))
    assert several.outputs[2].data == third.outputs[0].data
    assert len({output.sha256 for output in several.outputs}) == 3


def test_an_art_style_is_painted_where_it_was_learned_and_painted_over_where_not(pipelines: Pipelines) -> None:
    request = PaintRequest(genre="portrait", seed=7, width=64, height=64)
    plain = one(pipelines, request)
    pictures = [pixels(plain)]
    for art_style, models in (
        ("baroque", {"tiny-painter"}), ("dots", {"tiny-painter", "tiny-stylizer"}),
        ("pointillism", {"tiny-painter", "tiny-stylizer"}), ("tiny-brush", {"tiny-painter", "tiny-brush"}),
    ):  # fmt: skip
        result = one(pipelines, replace(request, art_style=art_style))
        assert set(result.outputs[0].recipe["models"]) - {"tiny-enhancer"} == models
        pictures.append(pixels(result))
    baroque, dots, pointillism, brush = pictures[1:]
    assert np.array_equal(dots, pointillism)
    for one_of, other in itertools.combinations((pictures[0], baroque, dots, brush), 2):
        assert np.abs(one_of - other).mean() > 0.5


def test_a_morph_begins_in_the_art_style_of_its_first_stop(pipelines: Pipelines) -> None:
    painted = one(pipelines, PaintRequest(genre="portrait", seed=1, width=48, height=48, art_style="baroque"))
    stop = recipes.stop_of(painted.outputs[0].recipe)
    assert stop == Stop("portrait", 1, "baroque")
    model = checkpoints.load("tiny-painter")
    glide = latents.path(model, (stop, Stop("portrait", 2, "never learned")), 3, 0.8, loop=False)
    assert [point.labels.tolist() for point in glide] == [[0, 0, 1, EMPHASIS], [0, 0, 1, EMPHASIS / 2], [0, 0, 1, 0]]


def test_the_best_is_what_the_discriminator_likes_best(pipelines: Pipelines) -> None:
    request = PaintRequest(genre="portrait", seed=11, best_of=6, width=64, height=64)
    [output] = one(pipelines, request).outputs
    model = checkpoints.load("tiny-painter", discriminator=True)
    seeds = [latents.candidate_seed(11, k) for k in range(6)]
    points = [latents.point(model, "portrait", seed, PSI) for seed in seeds]
    z, genre = torch.stack([p.z for p in points]), torch.stack([p.labels for p in points])
    with torch.no_grad():
        scores = model.discriminator.score(model.net(z, genre, torch.full((6,), PSI)), genre)  # type: ignore[union-attr, operator]
    assert output.recipe["options"]["seed"] == seeds[int(scores.argmax())]


def test_what_would_be_soft_gets_strokes_in_its_own_colours(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = PaintRequest(genre="landscape", seed=2, width=480, height=270)
    plain = one(pipelines, wall)  # no style here has the name of the relief
    monkeypatch.setattr(paint, "RELIEF", "waves")
    rich = one(pipelines, wall)
    assert plain.outputs[0].recipe["options"]["finish"] == "none"
    assert "finish" not in rich.outputs[0].recipe["options"]
    assert "tiny-stylizer" in rich.outputs[0].recipe["models"]
    difference = pixels(rich) - pixels(plain)
    assert np.abs(difference).mean() > 0.2
    assert np.abs(difference - difference.mean(axis=2, keepdims=True)).mean() < 0.3 * np.abs(difference).mean()
    [again] = one(pipelines, recipes.read(rich.outputs[0].recipe, lambda _: None)).outputs
    assert again.data == rich.outputs[0].data
    small = one(pipelines, replace(wall, width=64, height=36))
    assert small.outputs[0].recipe["options"]["finish"] == "none"
    chosen = one(pipelines, replace(wall, finish="none"))
    assert chosen.outputs[0].data == plain.outputs[0].data


@pytest.mark.parametrize(
    ("size", "grid"),
    [((512, 512), (4, 4)), ((1920, 1080), (4, 7)), ((768, 512), (4, 6)), ((512, 768), (6, 4)), ((4096, 16), (4, 16))],
)
def test_a_canvas_that_is_no_square_is_painted_wider_or_taller(size: tuple[int, int], grid: tuple[int, int]) -> None:
    model = checkpoints.load("tiny-painter")
    assert latents.grid_for(model, *size) == grid
    with Pipelines(dtype="float32") as pipelines:
        [output] = one(pipelines, PaintRequest(genre="landscape", seed=2, width=size[0], height=size[1])).outputs
    assert (output.width, output.height) == size


def test_a_painter_that_knows_squares_only_gets_squares() -> None:
    model = checkpoints.load("tiny-painter")
    crude = replace(model, net=torch.nn.Linear(1, 1))
    assert latents.grid_for(crude, 1920, 1080) == (4, 4)


def test_the_middle_of_a_wide_canvas_is_the_painting_and_its_sides_are_not_each_others_mirror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = checkpoints.load("tiny-painter")
    given: list[torch.Tensor] = []
    monkeypatch.setattr(model.net, "synthesize", lambda w, layout: given.append(layout) or torch.zeros(8, 3, 32, 80))
    wide = latents.point(model, "portrait", 7, 0.8, (4, 10))
    with torch.no_grad():
        latents._painted(model, [wide])
        z, genre, psi = latents.stacked([wide])
        own = model.net.layout(model.net.condition(z, genre, psi))  # type: ignore[operator]
    [canvas] = given
    assert canvas.shape == (8, own.shape[1], 4, 10)
    torch.testing.assert_close(canvas[..., 3:7], own)
    distances = [float((canvas[..., 3 - step] - own[..., step]).norm()) for step in (1, 2, 3)]
    assert 0 < distances[0] < distances[2]
    assert not torch.allclose(canvas[..., :3], canvas[..., 7:].flip(3))


def test_psi_zero_is_the_genres_own_mean(pipelines: Pipelines) -> None:
    first, second = (
        one(pipelines, PaintRequest(genre="portrait", seed=seed, psi=0, width=64, height=64)) for seed in (1, 2)
    )
    assert (pixels(first) == pixels(second)).all()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (160, 90), (50, 130), (17, 16)])
def test_paintings_have_the_size_asked_for(pipelines: Pipelines, width: int, height: int) -> None:
    result = one(pipelines, PaintRequest(genre="flowers", seed=1, width=width, height=height, finish="waves"))
    assert pixels(result).shape == (height, width, 3)
    assert (result.outputs[0].width, result.outputs[0].height) == (width, height)


@pytest.mark.parametrize(
    ("size", "photo", "expected"),
    [
        (96, (200, 120), (96, 58)), (200, (200, 120), (200, 120)), (256, (200, 120), (256, 154)),
        (1280, (40, 20), (80, 40)), (64, (9, 200), (3, 64)), (33, (31, 57), (18, 33)),
    ],
)  # fmt: skip
def test_a_painted_photo_keeps_its_shape(
    pipelines: Pipelines, size: int, photo: tuple[int, int], expected: tuple[int, int]
) -> None:
    result = one(pipelines, StylizeRequest(photo=photo_bytes(*photo), style="waves", size=size))
    assert (result.outputs[0].width, result.outputs[0].height) == expected
    assert bool(result.notes) == (expected == (80, 40))


def test_strength_goes_from_the_photo_to_the_full_style(pipelines: Pipelines, photo: bytes) -> None:
    original = np.asarray(Image.open(io.BytesIO(photo))).astype(np.int16)
    for look in ({"style": "waves"}, {"model": "tiny-brush"}):
        distances = [
            np.abs(pixels(one(pipelines, StylizeRequest(photo=photo, size=200, strength=s, **look))) - original).mean()
            for s in (0, 0.01, 0.25, 0.5, 1)
        ]
        assert distances[0] == 0
        assert distances[1] < 3
        assert distances[:3] == sorted(distances[:3])
        assert distances[4] > distances[2]


def test_kept_colours_change_brightness_alone(pipelines: Pipelines, photo: bytes) -> None:
    grey = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("L").save(grey, "PNG")
    result = one(pipelines, StylizeRequest(photo=grey.getvalue(), style="dots", size=200, keep_colours=True))
    painted = pixels(result)
    assert (np.ptp(painted, axis=2) <= 1).all()
    assert painted.std() > 0


def test_a_mix_lies_between_its_styles_and_order_does_not_matter(pipelines: Pipelines, photo: bytes) -> None:
    def painted(style: str) -> NDArray[np.int16]:
        return pixels(one(pipelines, StylizeRequest(photo=photo, style=style, size=200)))

    waves, dots, mixed = painted("waves"), painted("dots"), painted("waves+dots")
    assert np.abs(mixed - waves).mean() < np.abs(dots - waves).mean()
    assert np.abs(painted("dots:3+waves:3") - mixed).max() <= 1
    assert (painted("waves:1") == waves).all()


def test_tiles_show_no_seams(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    request = StylizeRequest(photo=photo_bytes(400, 300), style="waves", size=400)
    monkeypatch.setattr(stylize, "WHOLE", 0)
    monkeypatch.setattr(stylize, "TILE", 10_000)
    whole = pixels(one(pipelines, request))  # one tile, with the same statistics of a small copy
    monkeypatch.setattr(stylize, "TILE", 128)
    tiled = pixels(one(pipelines, request))
    assert np.abs(whole - tiled).max() <= 2


def test_an_enhanced_picture_has_no_seams_either(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    request = EnhanceRequest(image=photo_bytes(200, 150), scale=2)
    whole = pixels(one(pipelines, request))
    monkeypatch.setattr(enhance, "TILE", 64)
    assert np.abs(whole - pixels(one(pipelines, request))).max() <= 1


def test_without_strength_enhancing_is_a_plain_enlargement(pipelines: Pipelines, photo: bytes) -> None:
    plain = pixels(one(pipelines, EnhanceRequest(image=photo, scale=2, strength=0)))
    bicubic = Image.open(io.BytesIO(photo)).resize((400, 240), Image.Resampling.BICUBIC)
    assert np.abs(plain - np.asarray(bicubic).astype(np.int16)).mean() < 2


def test_an_enhanced_picture_ends_at_the_largest_side_and_says_so(pipelines: Pipelines) -> None:
    result = one(pipelines, EnhanceRequest(image=photo_bytes(3000, 80), scale=4, strength=0))
    assert (result.outputs[0].width, result.outputs[0].height) == (4096, 109)
    assert "4096" in result.notes[0]


def test_a_morph_begins_and_ends_at_its_stops(pipelines: Pipelines) -> None:
    stops = (Stop("portrait", 1), Stop("flowers", 2), Stop("landscape", 3))
    result = one(pipelines, MorphRequest(stops=stops, frames=9, size=64, format="gif"))
    film = Image.open(io.BytesIO(result.outputs[0].data))
    assert film.n_frames == result.outputs[0].frames == 9  # type: ignore[attr-defined]
    for frame, stop in ((0, stops[0]), (8, stops[2])):
        still = pixels(one(pipelines, PaintRequest(genre=stop.genre, seed=stop.seed, width=64, height=64)))
        film.seek(frame)
        assert np.abs(np.asarray(film.convert("RGB")).astype(np.int16) - still).mean() < 8  # a palette's error


def test_a_morph_that_would_not_fit_into_memory_is_refused(pipelines: Pipelines) -> None:
    stops = (Stop("portrait", 1), Stop("flowers", 2))
    with pytest.raises(InvalidRequest, match="frames is 300; at 1024 px it must be at most 256"):
        one(pipelines, MorphRequest(stops=stops, frames=300, size=1024))


def test_paths_go_in_equal_steps_and_loops_close(tiny_models: Path) -> None:
    model = checkpoints.load("tiny-painter")
    stops = [Stop("portrait", 1), Stop("portrait", 2), Stop("portrait", 3)]
    points = [point.z / point.z.norm() for point in latents.path(model, stops, 41, 1.0, loop=False)]
    steps = torch.tensor([float((a - b).norm()) for a, b in itertools.pairwise(points)])
    assert float(steps.median()) == pytest.approx(float(steps.max()), rel=0.02)
    loop = latents.path(model, stops, 40, 1.0, loop=True)
    gap = float((loop[-1].z / loop[-1].z.norm() - points[0]).norm())
    assert 0 < gap < 2 * float((loop[0].z / loop[0].z.norm() - loop[1].z / loop[1].z.norm()).norm())
    still = latents.path(model, stops[:1] * 2, 5, 1.0, loop=False)
    assert all(torch.equal(point.z, still[0].z) for point in still)


def test_slerp_keeps_to_the_sphere() -> None:
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.equal(latents.slerp(a, b, 0), a)
    assert torch.equal(latents.slerp(a, b, 1), b)
    half = latents.slerp(a, b, 0.5)
    assert float(half.norm()) == pytest.approx(2.0)
    assert float(half[0]) == pytest.approx(float(half[1]))
    assert torch.allclose(latents.slerp(a, -a, 0.5), torch.zeros(2))


def test_fit_makes_a_smaller_copy_with_its_recipe(pipelines: Pipelines) -> None:
    painted = one(pipelines, PaintRequest(genre="flowers", seed=1)).outputs[0]
    small = one(pipelines, FitRequest(image=painted.data, max_side=64, formats=("webp",))).outputs[0]
    assert max(small.width, small.height) == 64
    assert media.read_recipe(small.data) == painted.recipe


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        (StylizeRequest(photo=PHOTO, style="oil"), UnknownName, "'oil'; there are waves, dots, tiny-brush"),
        (StylizeRequest(photo=PHOTO, style="waves:x+dots"), InvalidRequest, "weight of a style is 'x'"),
        (StylizeRequest(photo=PHOTO, model="oil"), UnknownName, "no model 'oil'"),
        (StylizeRequest(photo=PHOTO, model="tiny-painter"), InvalidRequest, "takes a stylizer or a brush"),
        (StylizeRequest(photo=b"GIF89a"), UnreadableImage, "GIF"),
        (PaintRequest(genre="marina", seed=1), InvalidRequest, "does not paint marina; it paints flower-painting"),
        (PaintRequest(genre="portrait", seed=1, model="tiny-brush"), UnknownName, "is a brush, not a painter"),
        (PaintRequest(genre="portrait", seed=1, finish="oil"), UnknownName, "no style 'oil'"),
        (PaintRequest(genre="portrait", seed=1, art_style="oil"), UnknownName, "no art style 'oil'; there are"),
        (ChainRequest(image=PHOTO, models=("waves", "tiny-painter")), InvalidRequest, "is a painter"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_spoils_no_other(
    pipelines: Pipelines, wrong: Request, error: type[GanvasError], sentence: str
) -> None:
    right = PaintRequest(genre="portrait", seed=3, width=64, height=64)
    before, outcome, after = pipelines.run([right, wrong, right])
    assert type(outcome) is error
    assert sentence in str(outcome)
    assert isinstance(before, Result)
    assert isinstance(after, Result)
    assert before.outputs[0].data == after.outputs[0].data


def test_progress_grows_from_nothing_to_all(pipelines: Pipelines) -> None:
    seen: list[Progress] = []
    requests = [
        PaintRequest(genre="portrait", seed=1, count=3, width=64, height=64, finish="waves"),
        PaintRequest(genre="flowers", seed=1, width=64, height=64),
        StylizeRequest(photo=PHOTO, style="waves", size=96),
        MorphRequest(stops=(Stop("portrait", 1), Stop("landscape", 2)), frames=12, size=32),
    ]
    pipelines.run(requests, seen.append)
    shares = [progress.share for progress in seen]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert 0.9 < shares[-1] <= 1
    assert len(shares) > 12


@pytest.mark.parametrize("name", ["stylize", "finish", "gif", "enhance", "chain"])
def test_a_cancelled_job_ends_at_the_next_step(pipelines: Pipelines, name: str) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    [outcome] = pipelines.run([REQUESTS[name]], cancelled=cancelled)
    assert isinstance(outcome, JobCancelled)
    assert asked == 2


def test_seconds_say_where_the_time_went(pipelines: Pipelines) -> None:
    seconds = one(pipelines, REQUESTS["stylize"]).seconds
    assert set(seconds) == {"decode", "load", "network", "encode", "total"}
    assert seconds["total"] >= max(seconds.values())


def test_bfloat16_gives_nearly_the_same_picture(photo: bytes) -> None:
    request = StylizeRequest(photo=photo, style="waves", size=200)
    made = {}
    for dtype in ("float32", "bfloat16"):
        with Pipelines(dtype=dtype) as pipelines:
            result = one(pipelines, request)
        made[dtype] = pixels(result)
        assert result.outputs[0].recipe["dtype"] == dtype
    assert np.abs(made["float32"] - made["bfloat16"]).mean() < 2


def test_the_precision_can_be_chosen_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    best_dtype.cache_clear()
    monkeypatch.setenv("GANVAS_DTYPE", "float16")
    with pytest.raises(InvalidRequest, match="float32, bfloat16"):
        best_dtype()
    monkeypatch.delenv("GANVAS_DTYPE")
    assert best_dtype() in ("float32", "bfloat16")
    best_dtype.cache_clear()


def test_without_an_enhancer_paintings_are_enlarged_plainly(
    pipelines: Pipelines, tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny-painter").symlink_to(tiny_models / "tiny-painter")
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path))
    result = one(pipelines, PaintRequest(genre="flowers", seed=1, width=64, height=64))
    assert "no enhancer" in result.notes[0]
    with pytest.raises(UnknownName, match="no enhancer"):
        one(pipelines, EnhanceRequest(image=PHOTO, scale=2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 300), (63, 65), (64, 64), (100, 8)])
def test_padding_reaches_the_stride_and_keeps_the_picture(height: int, width: int) -> None:
    picture = torch.rand(1, 3, height, width)
    padded = pad_to_stride(picture, 8)
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    assert min(padded.shape[2:]) >= 64
    assert torch.equal(padded[:, :, :height, :width], picture)


def test_covering_keeps_the_middle() -> None:
    picture = torch.zeros(1, 3, 40, 40)
    picture[:, :, 15:25, 15:25] = 1
    covered = cover(picture, 20, 80)
    assert covered.shape == (1, 3, 20, 80)
    assert float(covered[0, 0, 10, 40]) == pytest.approx(1)


def test_the_photos_colours_survive_a_grey_painting() -> None:
    photo = torch.rand(1, 3, 8, 8) * 0.2 + 0.4
    painting = torch.full((1, 3, 8, 8), 0.5)
    mixed = with_colours_of(painting, photo)
    assert torch.allclose(mixed[:, 0] - mixed[:, 1], photo[:, 0] - photo[:, 1], atol=1e-6)


@pytest.mark.parametrize("style", [style for card in checkpoints.catalogue("stylizer") for style in card.styles])
def test_every_released_style_paints(style: str, pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANVAS_MODELS")
    result = one(pipelines, StylizeRequest(photo=photo_bytes(160, 120), style=style, size=160))
    assert pixels(result).std() > 5


@pytest.mark.parametrize("name", [card.name for card in checkpoints.catalogue()])
def test_every_released_model_runs(name: str, pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANVAS_MODELS")
    card = checkpoints.find(name)
    photo = photo_bytes(160, 120)
    request: Request
    match card.kind:
        case "painter":
            request = PaintRequest(
                genre=card["genres"][0], seed=1, best_of=2, count=2, width=128, height=96, model=name
            )
        case "enhancer":
            request = ChainRequest(image=photo, models=(name,))
        case _:
            request = StylizeRequest(photo=photo, model=name, size=160)
    result = one(pipelines, request)
    assert pixels(result).std() > 5
    again = one(pipelines, replace(request))
    assert [output.data for output in again.outputs] == [output.data for output in result.outputs]
