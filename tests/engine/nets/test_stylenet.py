"""The stylizer's quick ways compute what the plain ones do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.nets.stylenet import (
    AXES,
    ENOUGH,
    EPS,
    HUES,
    Brush,
    Statistics,
    Transformer,
    blur,
    colours_of,
    convolve_twice_as_large,
    measure,
    palette_of,
    recolour,
    with_hues_of,
)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (16, 9)])
def test_convolving_twice_as_large_is_enlarging_and_then_convolving(size: tuple[int, int]) -> None:
    x, weight = torch.randn(2, 5, *size), torch.randn(4, 5, 3, 3)
    large = F.interpolate(x, scale_factor=2.0, mode="nearest")
    plain = F.conv2d(F.pad(large, (1, 1, 1, 1), mode="reflect"), weight)
    torch.testing.assert_close(convolve_twice_as_large(x, weight), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (10, 7)])
def test_blurring_the_sub_pixels_is_blurring_the_picture(size: tuple[int, int]) -> None:
    kernel, x = Transformer().soften, torch.randn(2, 12, *size)
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel)
    torch.testing.assert_close(F.pixel_shuffle(blurred, 2), blur(F.pixel_shuffle(x, 2)))
    assert kernel.bfloat16().float().equal(kernel)  # nothing of it is lost in bfloat16


@pytest.mark.parametrize("side", [24, 2 * ENOUGH])
def test_moments_are_those_of_a_grid_of_places(side: int) -> None:
    x = 3 * torch.randn(2, 4, side, side) + 50
    mean, inverse = measure(x, None)
    step = max(1, side // ENOUGH)
    variance, expected = torch.var_mean(x[:, :, ::step, ::step], dim=(2, 3), correction=0)
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(inverse, (variance + EPS).rsqrt())


def test_the_whole_network_is_the_plain_one_up_to_rounding() -> None:
    torch.manual_seed(1)
    net, photo = Transformer(8, (8, 12, 16), 1).eval(), torch.rand(2, 3, 40, 56)
    style = torch.randn(2, 8)

    def plain() -> torch.Tensor:
        x = F.pixel_unshuffle(photo - 0.5, 2)
        for conv in (net.stem, *net.down):
            x = conv(x, None, None)
        for block in net.trunk:
            x = block(x, style, None)
        for conv in net.up:
            x = F.pad(F.interpolate(x, scale_factor=2.0, mode="nearest"), (1, 1, 1, 1), mode="reflect")
            x = F.relu(conv.norm(F.conv2d(x, conv.conv.weight), style, None))  # type: ignore[operator, union-attr, arg-type]
        x = F.pixel_shuffle(net.paint(F.pad(x, (1, 1, 1, 1), mode="reflect")), 2)
        return (0.5 + blur(x) + net.tint(photo, style, None)).clamp(0, 1)

    with torch.no_grad():
        torch.testing.assert_close(net(photo, style), plain(), rtol=1e-4, atol=1e-4)


def coloured(seed: int, *, spread: float = 0.2) -> torch.Tensor:
    """Return a picture whose channels go together, as those of pictures do."""
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(3, 3, generator=rng) * spread + spread
    return 0.5 + torch.einsum("cd,bdhw->bchw", mix, torch.randn(1, 3, 48, 48, generator=rng))


def test_a_recoloured_painting_has_mean_and_covariance_of_the_palette() -> None:
    painting, style = coloured(1), coloured(2)
    found, wanted = colours_of(recolour(painting, palette_of(style))), colours_of(style)
    torch.testing.assert_close(found, wanted, atol=3e-3, rtol=2e-2)


def test_what_was_darker_stays_darker() -> None:
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    painting = coloured(1)
    before, after = ((x[0] * weights).sum(0).flatten() for x in (painting, recolour(painting, palette_of(coloured(2)))))
    assert after[before.argsort()].diff().min() > -1e-4


def test_a_grey_painting_is_not_blown_up_into_coloured_noise() -> None:
    grey = 0.5 + 0.2 * torch.randn(1, 1, 48, 48).expand(1, 3, 48, 48) + 0.001 * torch.randn(1, 3, 48, 48)
    vivid = palette_of(coloured(2, spread=0.5))
    (mean, covariance), (_, given) = colours_of(recolour(grey, vivid)), colours_of(coloured(2, spread=0.5))
    assert mean.isfinite().all() and covariance.diagonal(dim1=1, dim2=2).sum() <= given.diagonal(dim1=1, dim2=2).sum()


def test_a_style_without_a_picture_leaves_the_colours_alone_and_half_of_one_moves_them_half_the_way() -> None:
    painting, palette = coloured(1), palette_of(coloured(2))
    none = torch.zeros_like(palette)
    assert recolour(painting, none).equal(painting)
    half = recolour(painting, (palette + none) / 2)
    torch.testing.assert_close(half, (painting + recolour(painting, palette)) / 2, atol=1e-4, rtol=1e-3)


def test_a_tile_gets_the_colours_that_the_whole_was_measured_for() -> None:
    painting, palette, statistics = coloured(1), palette_of(coloured(2)), Statistics()
    whole = recolour(painting, palette, statistics)
    tile = recolour(painting[..., :16], palette, statistics.rewind())
    torch.testing.assert_close(tile, whole[..., :16])


def opponent(picture: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", AXES, picture)


def test_hues_are_the_photos_spread_as_in_the_palette_and_brightness_is_the_paintings() -> None:
    photo, painting, palette = coloured(1), coloured(2), palette_of(coloured(3))
    axes = opponent(with_hues_of(photo, painting, colours_of(photo), palette))
    torch.testing.assert_close(axes[:, 0], opponent(painting)[:, 0])
    of_photo = (axes - (1 - HUES) * opponent(painting))[:, 1:] / HUES
    wanted = opponent(coloured(3))[:, 1:]
    torch.testing.assert_close(of_photo.mean((2, 3)), wanted.mean((2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(of_photo.std((2, 3)), wanted.std((2, 3)), atol=2e-3, rtol=0.05)
    for hue, own in zip(of_photo[0], opponent(photo)[0, 1:], strict=True):  # what was greener stays so
        assert torch.corrcoef(torch.stack([hue.flatten(), own.flatten()]))[0, 1] > 0.999


def test_hues_are_left_alone_without_a_palette() -> None:
    photo, painting, palette = coloured(1), coloured(2), palette_of(coloured(3))
    none = torch.zeros_like(palette)
    assert with_hues_of(photo, painting, colours_of(photo), none).equal(painting)


def test_a_brush_gives_each_photo_the_palette_nearest_to_its_own_colours() -> None:
    torch.manual_seed(4)
    brush = Brush(widths=(8, 8, 16), blocks=1, palettes=2)
    warm, cold = torch.tensor([0.8, 0.4, 0.2])[:, None, None], torch.tensor([0.2, 0.4, 0.8])[:, None, None]
    brush.palettes.copy_(
        torch.cat([palette_of((each + 0.2 * (coloured(5) - 0.5)).clamp(0, 1)) for each in (warm, cold)])
    )
    photos = torch.cat([(each * 0.9 + 0.1 * coloured(seed)).clamp(0, 1) for seed, each in ((6, warm), (7, cold))])
    with torch.no_grad():
        mean, _ = colours_of(brush.paint_freely(photos))
        torch.testing.assert_close(mean, brush.palettes[:, :3], atol=0.02, rtol=0)
        torch.testing.assert_close(brush(photos[1:]), brush(photos)[1:])


def test_a_brush_without_palettes_sets_its_colours_itself() -> None:
    brush, photo = Brush(widths=(8, 8, 16), blocks=1), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert brush.paint_freely(photo).equal(Transformer.paint_freely(brush, photo))
