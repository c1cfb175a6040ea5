"""What the painter promises beyond what every net does."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from engine import nets
from engine.nets.efficientnet import LiteFeatures
from engine.nets.efficientnet import _Conv as Conv
from engine.nets.painter import convolve_twice_as_large


def test_a_grown_painter_begins_as_the_smaller_one_enlarged() -> None:
    torch.manual_seed(0)
    small = nets.create("painter", genres=3, resolution=64, width=0.1).eval()
    large = nets.create("painter", genres=3, resolution=128, width=0.1).eval()
    large.load_state_dict(small.state_dict(), strict=False)
    z, genre = torch.randn(2, 128), F.one_hot(torch.tensor([0, 2]), 3).float()
    assert torch.allclose(F.avg_pool2d(large(z, genre), 2), small(z, genre), atol=0.05)


def test_every_block_of_a_grown_painter_learns() -> None:
    torch.manual_seed(0)
    net = nets.create("painter", genres=3, resolution=128, width=0.1)
    z, genre = torch.randn(2, 128), F.one_hot(torch.tensor([0, 2]), 3).float()
    for _ in range(2):  # the finest block's own gradient arrives once its zero-initialised end has moved
        loss = (net(z, genre) - torch.rand(2, 3, 128, 128)).square().mean()
        net.zero_grad()
        loss.backward()
        torch.optim.SGD(net.parameters(), 1.0).step()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_a_genre_has_its_own_place_whatever_else_is_in_the_batch() -> None:
    torch.manual_seed(0)
    net = nets.create("painter", genres=2, resolution=64, width=0.1).eval()
    net.centre.copy_(torch.randn(2, 128))  # type: ignore[union-attr, operator]
    net.spread.copy_(torch.rand(2, 128, 128) / 11)  # type: ignore[union-attr, operator]
    z, genre = torch.randn(4000, 128), F.one_hot(torch.arange(4000) % 2, 2).float()
    placed = net.place(z, genre)  # type: ignore[operator]
    for label in range(2):
        mine = placed[label::2]
        assert (mine.mean(0) - net.centre[label]).abs().max() < 0.15  # type: ignore[index]
        wanted = net.spread[label] @ net.spread[label].T  # type: ignore[index]
        assert (torch.cov(mine.T) - wanted).abs().max() < 0.4
    assert torch.equal(net.place(z[5:6], genre[5:6]), placed[5:6])  # type: ignore[operator]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net.place(z, genre), placed)  # type: ignore[operator]


def test_a_painter_from_before_there_were_places_paints_as_it_did() -> None:
    torch.manual_seed(0)
    net = nets.create("painter", genres=2, resolution=64, width=0.1).eval()
    old = {name: value for name, value in net.state_dict().items() if name not in ("centre", "spread")}
    again = nets.create("painter", genres=2, resolution=64, width=0.1).eval()
    again.load_state_dict(old)
    z, genre = torch.randn(2, 128), torch.eye(2)
    assert torch.equal(again(z, genre), net.synthesize(net.condition_placed(z, genre)))  # type: ignore[operator]


def test_enlarging_and_convolving_in_one_step_is_the_same() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(5, 4, 3, padding=1)
    x = torch.randn(2, 5, 3, 7)
    naive = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(convolve_twice_as_large(x, conv), naive)


def test_frozen_features_are_padded_as_tensorflow_pads() -> None:
    torch.manual_seed(0)
    features = LiteFeatures()
    for name in ("stem", "stages.1.0.depthwise", "stages.2.1.depthwise"):
        conv = features.get_submodule(name)
        assert isinstance(conv, Conv)
        x = torch.randn(1, conv.conv.in_channels, 11, 14, requires_grad=True)
        kernel, stride = conv.conv.kernel_size[0], conv.conv.stride[0]
        down, right = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        padded = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        plain = F.conv2d(padded, conv.conv.weight, conv.conv.bias, stride, groups=conv.conv.groups)
        torch.testing.assert_close(conv(x), plain)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            quick = conv(x.bfloat16())
        assert quick.dtype == torch.bfloat16
        torch.testing.assert_close(quick.float(), plain, rtol=0.02, atol=0.02)
    assert [tuple(found.shape[2:]) for found in features(torch.rand(1, 3, 35, 48))] == [(9, 12), (5, 6), (3, 3), (2, 2)]


def test_a_painter_begins_to_learn_art_styles_as_it_was() -> None:
    torch.manual_seed(0)
    before = nets.create("painter", genres=3, resolution=64, width=0.1).eval()
    after = nets.create("painter", genres=3, art_styles=2, resolution=64, width=0.1).eval()
    after.load_state_dict(before.state_dict(), strict=False)
    z, genre = torch.randn(2, 128), torch.eye(3)[:2]
    asked = torch.cat([genre, torch.eye(2)], dim=1)
    for labels in (genre, asked):
        assert torch.equal(after(z, labels), before(z, genre))


def test_no_art_style_is_the_same_as_one_left_out() -> None:
    torch.manual_seed(0)
    net = nets.create("painter", genres=3, art_styles=2, resolution=64, width=0.1).eval()
    torch.nn.init.normal_(net.embed_style.weight)  # type: ignore[union-attr, arg-type]
    net.style_centre.normal_()  # type: ignore[union-attr, operator]
    critic = nets.create("projected-discriminator", genres=3, art_styles=2, size=64, widths=[8, 8, 8, 8]).eval()
    z, genre = torch.randn(2, 128), torch.eye(3)[:2]
    nothing, asked = F.pad(genre, (0, 2)), torch.cat([genre, torch.eye(2)], dim=1)
    picture = net(z, genre)
    assert torch.equal(net(z, nothing), picture)
    assert (net(z, asked) - picture).abs().max() > 0.01
    assert torch.allclose(critic(picture, nothing), critic(picture, genre))
    assert (critic(picture, asked) - critic(picture, genre)).abs().max() > 1e-4
