"""Looking closely at a style nobody trained on, before painting in it.

What the style encoder reads from a picture is a first guess; a painter would look again while she works.  So does this:
some steps of gradient descent on pieces of the very photo, on the losses that the stylizer learned from (Johnson et al.
2016), move the style vector and the gain and bias of every norm.  The weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine import losses
from engine.nets.stylenet import PALETTE, StyleNet
from engine.pipelines.pictures import pad_to_stride, scaled

STEPS = 24
PIECE = 96  # px
PIECES = 3, 2  # along the long and the short side of the photo
RATE = 0.05  # of Adam, falling to nothing
STYLE = 0.5  # weight against the content; at 1.5, as in training, the strokes lie like a net over sky and house alike
READ = 512  # px, long side at which the first guess is read
STYLE_TAPS = ("conv1_1", "conv2_1", "conv3_1")
CONTENT_TAP = "conv3_3"


def study(net: StyleNet, photo: Tensor, picture: Tensor, tell: Callable[[float], None] = lambda share: None) -> Tensor:
    """Return the style vector (1, 64 + C + 13) in which ``net`` paints ``photo`` (1, 3, H, W) most like ``picture``.

    Args:
        picture: (1, 3, h, w), the style.
        tell: told the share of the work that is done; what it raises ends the study.
    """
    with torch.inference_mode(False), torch.enable_grad():
        small = pad_to_stride(pieces_of(photo.clone()), net.stride)
        picture = pad_to_stride(picture.clone(), net.stride)
        with torch.no_grad():
            wanted = {tap: losses.moments(x) for tap, x in net.features(picture, STYLE_TAPS).items()}
            shown = net.features(small, (CONTENT_TAP,))[CONTENT_TAP]
            first = net.uncorrected(net.encode_style(pad_to_stride(scaled(picture, READ), net.stride)))
        palette = first[:, -PALETTE:]
        vector = first[:, :-PALETTE].clone().requires_grad_(True)
        optimizer = torch.optim.Adam([vector], RATE, betas=(0.9, 0.99))
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            painted = net.paint_freely(small, torch.cat([vector, palette], dim=1))
            seen = net.features(painted, (*STYLE_TAPS, CONTENT_TAP))
            found = {tap: losses.moments(seen[tap]) for tap in STYLE_TAPS}
            content = losses.content_loss(seen[CONTENT_TAP], shown).mean()
            loss = content + STYLE * losses.style_loss(found, wanted) + 100 * losses.overflow(painted).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tell((step + 1) / STEPS)
        return torch.cat([vector.detach(), palette], dim=1)


def pieces_of(photo: Tensor) -> Tensor:
    """Return a picture of evenly spaced pieces of ``photo`` (1, 3, H, W), each as large as in it; a small photo whole.

    A small copy would not do: what was learned from one for 224 px lies at 1280 px like a net over every sky.
    """
    wide = photo.shape[3] >= photo.shape[2]
    counts = PIECES[::-1] if wide else PIECES
    for axis, count in zip((2, 3), counts, strict=True):
        length = photo.shape[axis]
        if length > count * PIECE:
            starts = [round(i * (length - PIECE) / (count - 1)) for i in range(count)]
            photo = torch.cat([photo.narrow(axis, start, PIECE) for start in starts], dim=axis)
    return photo
