"""Walks every registered net; a new one is tested by being registered."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine import nets
from engine.errors import InvalidRequest, UnknownName

# Smaller than released, where a net's own defaults would make the walk slow.
SMALL: dict[str, dict[str, Any]] = {
    "painter": {"genres": 3, "art_styles": 2, "resolution": 32, "width": 0.1},
    "projected-discriminator": {"genres": 3, "art_styles": 2, "size": 64, "widths": [8, 8, 8, 8]},
    "packed-discriminator": {"genres": 3, "channels": 8, "width": 8},
    "dcgan-generator": {"resolution": 32, "width": 4},
    "dcgan-discriminator": {"resolution": 32, "width": 4},
    "gangogh-generator": {"genres": 3, "width": 4},
    "gangogh-discriminator": {"genres": 3, "width": 4},
    "resnet": {"blocks": 1, "width": 8},
    "unet": {"depth": 5, "width": 4},
    "stylenet": {"styles": 3},
}
each_net = pytest.mark.parametrize("name", nets.names())


def build(name: str) -> nn.Module:
    """Return the small net in eval mode, with what starts at zero moved away from it."""
    torch.manual_seed(1)
    net = nets.create(name, **SMALL.get(name, {}))
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return net.eval()


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor within ``value``."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def flat(value: Any) -> Tensor:
    return torch.cat([x.float().flatten() for x in tensors(value)])


def alone(value: Any, row: int) -> Any:
    """Return ``value`` with only one sample of each batch; indices and numbers stay."""
    if isinstance(value, Tensor):
        return value[row : row + 1] if value.is_floating_point() else value
    if isinstance(value, list | tuple):
        return type(value)(alone(item, row) for item in value)
    return value


@each_net
def test_its_example_fits_and_gives_finite_numbers(name: str) -> None:
    net = build(name)
    with torch.no_grad():
        for size in (64, 67, 96):
            inputs = net.example(size // 8 * 8 if hasattr(net, "stride") else size)
            outputs = list(tensors(net(*inputs)))
            assert outputs and all(x.isfinite().all() for x in outputs)
            assert all(len(x) == 2 for x in outputs)


@each_net
def test_pictures_come_out_as_pictures(name: str) -> None:
    net = build(name)
    inputs = net.example(64)
    with torch.no_grad():
        painted = net(*inputs)
    if hasattr(net, "stride"):  # a brush or a stylizer
        assert painted.shape == inputs[0].shape
    elif hasattr(net, "synthesize"):  # a painter
        assert painted.shape == (2, 3, net.resolution, net.resolution)
        again = net.synthesize(net.condition(*inputs, torch.ones(2)))
        torch.testing.assert_close(again, painted)
    elif name == "enhancer":
        assert painted.shape == (2, 3, 128, 128)
    else:
        return  # a discriminator, or a part of one
    assert painted.min() >= 0 and painted.max() <= 1


@each_net
def test_the_same_input_gives_the_same_bits(name: str) -> None:
    net = build(name)
    inputs = net.example(64)
    with torch.no_grad():
        assert flat(net(*inputs)).equal(flat(net(*inputs)))
    again = build(name)
    with torch.no_grad():
        assert flat(again(*inputs)).equal(flat(net(*inputs)))


@each_net
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    net = build(name)
    inputs = net.example(64)
    with torch.no_grad():
        together = net(*inputs)
        for row in range(2):
            single = net(*alone(inputs, row))
            torch.testing.assert_close(flat(single), flat(alone(together, row)), rtol=1e-3, atol=1e-4)


@each_net
def test_it_survives_the_disk(name: str, tmp_path: Path) -> None:
    net = build(name)
    inputs = net.example(64)
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, tmp_path / "net.safetensors")
    torch.manual_seed(99)
    other = nets.create(name, **SMALL.get(name, {})).eval()
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    with torch.no_grad():
        assert flat(other(*inputs)).equal(flat(net(*inputs)))


@each_net
def test_every_weight_gets_a_gradient(name: str) -> None:
    net = build(name).train()
    torch.manual_seed(2)
    reached: set[str] = set()
    for inputs in variants(net):
        net.zero_grad()
        output = flat(net(*inputs))
        (output * torch.randn(output.shape)).sum().backward()
        for key, parameter in net.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), key
                if parameter.grad.any():
                    reached.add(key)
    trained = {key for key, parameter in net.named_parameters() if parameter.requires_grad}
    # The style encoder is trained through encode_style, whose result is an input here.
    assert trained - reached == {key for key in trained if key.startswith("read.")}


def variants(net: nn.Module) -> list[tuple[Any, ...]]:
    """Return examples that between them use every part of the net."""
    inputs = net.example(64)
    return [inputs] if not isinstance(inputs[-1], int) else [(*inputs[:-1], 2), (*inputs[:-1], 4)]


@each_net
def test_pictures_get_a_gradient(name: str) -> None:
    net = build(name)
    inputs = copy.deepcopy(net.example(64))
    leaves = [x.requires_grad_(True) for x in tensors(inputs) if x.is_floating_point()]
    output = flat(net(*inputs))
    (output * torch.randn(output.shape)).sum().backward()
    for leaf in leaves[:1]:
        assert leaf.grad is not None and leaf.grad.isfinite().all()
        if name != "dcgan-generator":
            assert leaf.grad.abs().amax(tuple(range(1, leaf.dim()))).min() > 0


@each_net
def test_its_constructor_takes_plain_json(name: str) -> None:
    for parameter in list(inspect.signature(type(build(name)).__init__).parameters.values())[1:]:
        assert parameter.default is not inspect.Parameter.empty, parameter
        assert isinstance(parameter.default, int | float | str | bool | tuple), parameter


# What single nets promise


@pytest.mark.parametrize("size", [(16, 24), (17, 31), (1, 1), (5, 64)])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_enhancer_takes_any_size(size: tuple[int, int], scale: int) -> None:
    net = build("enhancer")
    with torch.no_grad():
        assert net(torch.rand(1, 3, *size), scale).shape == (1, 3, size[0] * scale, size[1] * scale)


def test_a_tile_of_the_enhancer_with_its_margin_is_a_part_of_the_whole() -> None:
    net = build("enhancer")
    margin, picture = int(net.margin), torch.rand(1, 3, 80, 90)  # type: ignore[arg-type]
    tile = picture[:, :, 30 - margin : 50 + margin, 40 - margin : 60 + margin]
    with torch.no_grad():
        whole, part = net(picture, 4), net(tile, 4)
    inside = part[:, :, 4 * margin : -4 * margin, 4 * margin : -4 * margin]
    torch.testing.assert_close(inside, whole[:, :, 120:200, 160:240], rtol=1e-3, atol=1e-4)


def test_an_untrained_enhancer_is_a_bilinear_enlargement() -> None:
    net, picture = nets.create("enhancer"), torch.rand(1, 3, 12, 12)
    plain = nn.functional.interpolate(picture, scale_factor=2.0, mode="bilinear")
    torch.testing.assert_close(net(picture, 2), plain)


def test_the_enhancers_quick_prelu_is_the_plain_one() -> None:
    prelu = nets.create("enhancer", width=5, depth=1).trunk[1]  # type: ignore[index]
    nn.init.normal_(prelu.weight)
    x = torch.randn(2, 5, 7, 6)
    with torch.no_grad():
        assert prelu(x).equal(nn.functional.prelu(x, prelu.weight))


@pytest.mark.parametrize(("depth", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_of_the_patchgan_is_as_large_as_its_name(depth: int, field: int) -> None:
    net = nets.create("patchgan", width=2, depth=depth).eval()
    picture = torch.rand(1, 3, 160, 160, requires_grad=True)
    logits = net(picture)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert picture.grad is not None
    seen = picture.grad.abs().sum((0, 1))
    assert int(seen.any(0).sum()) == field and int(seen.any(1).sum()) == field


@pytest.mark.parametrize("name", ["painter", "gangogh-generator"])
def test_latent_and_genre_change_the_painting(name: str) -> None:
    net = build(name).train()  # untrained running averages would let nothing through
    z, genre = net.example(64)
    with torch.no_grad():
        first, second = net(z, genre), net(z.flip(0), genre)
        other = net(z, genre.flip(0))
    assert (first - second).abs().mean() > 1e-3 and (first - other).abs().mean() > 1e-5


def test_the_uniform_latent_of_the_first_article_stays_within_its_bounds() -> None:
    net = nets.create("dcgan-generator", resolution=16, width=2, uniform=True)
    w = net.condition(torch.randn(4000, 5), torch.ones(4000, 1))
    assert w.abs().max() <= 1 and abs(float(w.mean())) < 0.05
    assert float(w.std()) == pytest.approx(3**-0.5, abs=0.03)


def test_statistics_of_the_whole_make_a_resnets_tile_paint_alike() -> None:
    net, photo = build("resnet"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(photo, None, net.statistics(photo)), net(photo), rtol=1e-4, atol=1e-5)


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownName, match=r"no net 'transformer'; there are .*enhancer"):
        nets.create("transformer")
    with pytest.raises(InvalidRequest, match="norm is 'layer'"):
        nets.create("patchgan", norm="layer")
    with pytest.raises(InvalidRequest, match="norm is 'none'"):
        nets.create("resnet", norm="none")
    with pytest.raises(InvalidRequest, match="resolution is 100"):
        nets.create("dcgan-generator", resolution=100)
