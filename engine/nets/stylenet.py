"""Feed-forward style transfer: one small network, many styles, any picture as a style.

Shape of Johnson et al. 2016 (1603.08155) at stride 8 behind a pixel-unshuffle, styled by conditional instance norm
(Dumoulin et al. 2017, 1610.07629) whose gains come from one style vector, as in Ghiasi et al. 2017 (1705.06830):
the encoder sees only the photo, style acts in the residual blocks and the decoder.  1.1 M parameters and 52 GFLOP at
1024 px, against 1.7 M and 322 GFLOP of Johnson's net.  Colours are not left to the network, which learns dull ones, the
mean of what might be: :func:`recolour` sets them in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import register
from engine.nets.enlarge import reach_of
from engine.nets.normalise import Normalise
from engine.nets.vgg import VGGFeatures, channel_statistics

EPS = 1e-3  # of the variances; 1e-5 lets the gradient of an empty white photo grow 300-fold in every layer
READ_TAPS = ("conv1_2", "conv2_2", "conv3_3")  # what a style is read from
PALETTE = 13  # numbers at the end of a style vector: mean and covariance of its colours, and how much they count
AXES = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])  # luma, two opponent axes
NEAR = 0.01  # squared distance at which a palette counts e times less: two or three of a hundred are mixed
CALM = 3e-4  # variance added to each colour axis of a painting: a nearly grey one is not blown up into noise
HUES = 0.8  # of a brush's colours that are the photo's own, in the palette; of its network's alone, trees were brown
ENOUGH = 64  # places along the shorter side that moments are measured on; all of them cost a third of the time


@dataclass
class Statistics:
    """What every norm and the colours were measured as, in order of use, so that tiles share one global look."""

    moments: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    reading: bool = False  # False while they are measured, True when tiles use them
    cursor: int = 0

    def once(self, measured: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return what ``measured`` says now, or said at this place before."""
        if not self.reading:
            self.moments.append(measured())
            return self.moments[-1]
        self.cursor += 1
        return self.moments[self.cursor - 1]

    def rewind(self) -> Statistics:
        """Return self, ready for the next tile."""
        self.reading, self.cursor = True, 0
        return self


def places_of(x: Tensor) -> Tensor:
    """Return the values of x (B, C, H, W) on a grid of places, (B, P, C), float32: a tenth of var_mean's time."""
    step = max(1, min(x.shape[2:]) // ENOUGH)
    return x[:, :, ::step, ::step].permute(0, 2, 3, 1).flatten(1, 2).float()


def measure(x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Tensor]:
    """Return mean and 1/std (B, C) of x (B, C, H, W): measured, into ``statistics`` too, or as they were measured."""

    def measured() -> tuple[Tensor, Tensor]:
        places = places_of(x)
        mean = places.mean(1)
        variance = (places - mean[:, None]).square().mean(1)
        return mean, (variance + EPS).rsqrt()

    return statistics.once(measured) if statistics is not None else measured()


def colours_of(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (B, 3) and covariance (B, 3, 3) of the colours of ``picture`` (B, 3, H, W), float32."""
    places = places_of(picture)
    mean = places.mean(1)
    centred = places - mean[:, None]
    return mean, centred.mT @ centred / centred.shape[1]


def palette_of(picture: Tensor) -> Tensor:
    """Return the palette (B, 13) of ``picture`` (B, 3, H, W).  Weighted means of palettes are palettes."""
    with torch.autocast(picture.device.type, enabled=False):
        mean, covariance = colours_of(picture.float())
        return torch.cat([mean, covariance.flatten(1), torch.ones_like(mean[:, :1])], dim=1)


def palette_distance(palettes: Tensor, others: Tensor) -> Tensor:
    """Return how far palettes (N, 13) lie from others (M, 13), (N, M): squared distance of means and spreads.

    In luma and three times the opponent axes, which spread a third as far in pictures: hue counts as brightness does.
    """

    def place(palette: Tensor) -> Tensor:
        axes = AXES.to(palette.device)
        mean, covariance = palette[:, :3].float() @ axes.T, axes @ palette[:, 3:12].float().view(-1, 3, 3) @ axes.T
        spread = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        return torch.cat([mean, spread], dim=1) * palette.new_tensor([1, 3, 3, 1, 3, 3])

    return torch.cdist(place(palettes), place(others)).square()


def colours_in(palette: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how much a palette (B, 13) counts (B, 1), 0 where a style has no picture, its mean (B, 3) and covariance
    (B, 3, 3)."""
    share = palette[:, 12:].float().clamp(0, 1)
    amount = share.clamp_min(1e-6)
    return share, palette[:, :3].float() / amount, (palette[:, 3:12].float() / amount).view(-1, 3, 3)


def recolour(painting: Tensor, palette: Tensor, statistics: Statistics | None = None) -> Tensor:
    """Give ``painting`` (B, 3, H, W) the mean and covariance of the colours of ``palette`` (B, 13).

    One affine map M = L_t L_s^-1 (Reinhard et al. 2001, with covariances), L L^T the covariances in luma and two
    opponent axes: what was darker stays darker, and the hue may depend on brightness as it does in the style.
    """
    share, wanted, spread = colours_in(palette)
    if not share.any():
        return painting
    with torch.autocast(painting.device.type, enabled=False):
        painting = painting.float()
        mean, covariance = statistics.once(lambda: colours_of(painting)) if statistics else colours_of(painting)
        opponent = AXES.to(painting.device)
        calm = CALM * torch.eye(3, device=painting.device)
        theirs = torch.linalg.cholesky(opponent @ spread @ opponent.T + calm / 3)  # a rounded covariance stays positive
        ours = torch.linalg.cholesky(opponent @ covariance @ opponent.T + calm)
        turned = torch.linalg.solve_triangular(ours, theirs, upper=False, left=False)  # L_t L_s^-1
        matrix = torch.linalg.inv(opponent) @ turned @ opponent
        matrix = torch.lerp(torch.eye(3, device=painting.device).expand_as(matrix), matrix, share[:, :, None])
        offset = share * wanted + (1 - share) * mean - (matrix @ mean[:, :, None])[:, :, 0]
        return torch.baddbmm(offset[:, :, None], matrix, painting.flatten(2)).view(painting.shape)


def with_hues_of(photo: Tensor, painting: Tensor, own: tuple[Tensor, Tensor], palette: Tensor) -> Tensor:
    """Return ``painting`` (B, 3, H, W) with most of its hues from ``photo``, as far apart as in the palette.

    The opponent axes of the photo get mean and spread of those of the palette, each by itself (Reinhard et al. 2001):
    what was greener than the rest stays so.  Brightness is the painting's.

    Args:
        own: mean (B, 3) and covariance (B, 3, 3) of the photo's colours.
        palette: (B, 13).
    """
    share, wanted, theirs = colours_in(palette)
    if not share.any():
        return painting
    with torch.autocast(painting.device.type, enabled=False):
        axes = AXES.to(painting.device)
        spread, has = ((axes @ each @ axes.T).diagonal(dim1=1, dim2=2) for each in (theirs, own[1]))  # (B, 3)
        stretch = ((spread.clamp_min(0) + CALM / 3) / (has.clamp_min(0) + CALM)).sqrt()
        hues = HUES * share * stretch.new_tensor([0, 1, 1])  # (B, 3), how much of each axis
        back = torch.linalg.inv(axes)
        of_photo = back @ ((hues * stretch)[:, :, None] * axes)
        of_painting = torch.eye(3, device=painting.device) - back @ (hues[:, :, None] * axes)
        offset = back @ (hues[:, :, None] * (axes @ wanted[:, :, None])) - of_photo @ own[0][:, :, None]
        mixed = torch.baddbmm(offset, of_photo, photo.float().flatten(2))
        return torch.baddbmm(mixed, of_painting, painting.float().flatten(2)).view(painting.shape)


def frame(x: Tensor, mode: str) -> Tensor:
    """Pad x (B, C, H, W) by one all around, in its own precision: autocast would make it float32, and slow."""
    with torch.autocast(x.device.type, enabled=False):
        return F.pad(x, (1, 1, 1, 1), mode=mode)


def convolve_twice_as_large(x: Tensor, weight: Tensor) -> Tensor:
    """Enlarge x (B, C, H, W) twice (nearest), reflect pad, convolve with ``weight`` (O, C, 3, 3): (B, O, 2H, 2W)."""
    return F.conv_transpose2d(frame(x, "replicate"), reach_of(weight), stride=2, padding=3)


class InstanceNorm(nn.Module):
    """Conditional instance norm: (x - mean) / std * gain + bias, with gain and bias linear in the style vector.

    ``style_dim=0`` learns one gain and bias (an ordinary instance norm, for brushes).  A style vector may go on with
    corrections of the gains and biases of all norms; ``corrections`` says which are this one's.
    """

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.channels = channels
        self.corrections = slice(0, 0)
        if style_dim:
            self.affine = nn.Linear(style_dim, 2 * channels)
            nn.init.normal_(self.affine.weight, std=0.05)  # styles differ from the first step
            nn.init.zeros_(self.affine.bias)
        else:
            self.bias = nn.Parameter(torch.zeros(2 * channels))

    def forward(self, x: Tensor, style: Tensor | None, statistics: Statistics | None) -> Tensor:
        """Normalise x (B, C, H, W); measure into ``statistics`` or use what was measured."""
        gain, bias = self._gain_and_bias(style).float().chunk(2, dim=1)
        if statistics is None and min(x.shape[2:]) < 2 * ENOUGH:  # every place is measured
            return Normalise.apply(x, 1 + gain, bias, EPS)
        mean, inverse = measure(x, statistics)
        scale = (1 + gain) * inverse
        shift = bias - mean * scale
        return torch.addcmul(shift[:, :, None, None].to(x.dtype), x, scale[:, :, None, None].to(x.dtype))

    def _gain_and_bias(self, style: Tensor | None) -> Tensor:
        if style is None:
            return self.bias[None]
        known: int = self.affine.in_features
        linear: Tensor = self.affine(style[:, :known])
        return linear + style[:, self.corrections] if style.shape[1] > known else linear


class Conv(nn.Module):
    """Reflect pad -> 3x3 convolution -> conditional instance norm -> ReLU; ``grow`` enlarges twice before all that."""

    def __init__(
        self, inputs: int, outputs: int, style_dim: int, *, stride: int = 1, grow: bool = False, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, bias=False)
        self.norm = InstanceNorm(outputs, style_dim)
        self.grow = grow
        self.relu = relu

    def forward(self, x: Tensor, style: Tensor | None, statistics: Statistics | None) -> Tensor:
        x = convolve_twice_as_large(x, self.conv.weight) if self.grow else self.conv(frame(x, "reflect"))
        x = self.norm(x, style, statistics)
        return F.relu(x, inplace=True) if self.relu else x


class Residual(nn.Module):
    """Two convolutions and the way around them; no ReLU after the sum, so that the trunk can subtract."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels, style_dim)
        self.second = Conv(channels, channels, style_dim, relu=False)

    def forward(self, x: Tensor, style: Tensor | None, statistics: Statistics | None) -> Tensor:
        return x + self.second(self.first(x, style, statistics), style, statistics)


def blur(picture: Tensor) -> Tensor:
    """Blur a picture (B, C, H, W) by [1 2 1] / 4 both ways: no lattice of sub-pixels passes, it is 0 at Nyquist."""
    return F.avg_pool2d(F.avg_pool2d(frame(picture, "reflect"), 2, 1), 2, 1)


def blur_of_sub_pixels() -> Tensor:
    """Return the kernel (12, 12, 3, 3) that does before a pixel-shuffle what :func:`blur` does after it.

    A tenth of the time.  It is found by blurring one sub-pixel at a time; replicate padding of the sub-pixels is
    reflect padding of the picture.
    """
    single = torch.zeros(4, 4, 3, 3)
    single[range(4), range(4), 1, 1] = 1
    spread = F.pixel_unshuffle(blur(F.pixel_shuffle(single, 2)), 2)  # (from, to, 3, 3), as seen from the centre
    one_colour = spread.transpose(0, 1).flip(2, 3)
    return torch.einsum("cd,tfyx->ctdfyx", torch.eye(3), one_colour).reshape(12, 12, 3, 3)


class Tint(nn.Module):
    """The photo's own colours, normalised, through a 3x3 matrix and an offset, both linear in the style.

    A way from photo to painting around the network: without it, 1,700 images had not taught the network to keep the
    photo's colours; without the normalisation, every photo's own contrast goes through and drowns the styles.
    """

    def __init__(self, style_dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.cat([0.2 * torch.eye(3).flatten(), torch.zeros(3)]))
        self.by_style = nn.Linear(style_dim, 12, bias=False) if style_dim else None
        if self.by_style is not None:
            nn.init.zeros_(self.by_style.weight)

    def forward(self, photo: Tensor, style: Tensor | None, statistics: Statistics | None) -> Tensor:
        """Tint ``photo`` (B, 3, H, W); the result lies around 0."""
        mean, inverse = measure(photo, statistics)
        values = self.matrix[None].expand(len(photo), 12)
        if self.by_style is not None and style is not None:
            values = values + self.by_style(style[:, : self.by_style.in_features])
        matrix = values[:, :9].view(-1, 3, 3).float() * inverse[:, None, :]  # (B, 3, 3)
        offset = values[:, 9:].float() - (matrix * mean[:, None]).sum(2)
        with torch.autocast("cpu", enabled=False):  # bf16 would show bands in skies
            return torch.baddbmm(offset[:, :, None], matrix, photo.float().flatten(2)).view(photo.shape)


class Transformer(nn.Module):
    """The picture-to-picture network; with ``style_dim=0`` it is a brush of one look.

    Args:
        style_dim: length of the style vector; 0 for none.
        widths: channels at stride 2, 4 and 8.
        blocks: residual blocks at stride 8.
    """

    stride = 8
    margin = 96  # px of context beyond which a tile's pixel hardly sees, at shared statistics

    def __init__(self, style_dim: int = 0, widths: tuple[int, int, int] = (32, 48, 96), blocks: int = 6) -> None:
        super().__init__()
        low, middle, high = widths
        self.stem = Conv(12, low, 0)
        self.down = nn.ModuleList([Conv(low, middle, 0, stride=2), Conv(middle, high, 0, stride=2)])
        self.trunk = nn.ModuleList([Residual(high, style_dim) for _ in range(blocks)])
        self.up = nn.ModuleList([Conv(high, middle, style_dim, grow=True), Conv(middle, low, style_dim, grow=True)])
        self.paint = nn.Conv2d(low, 12, 3)
        with (
            torch.no_grad()
        ):  # texture of about 0.15: from none, strokes start at a saddle point; alike in all sub-pixels: no lattice
            self.paint.weight.copy_(0.4 * self.paint.weight[::4].repeat_interleave(4, dim=0))
            self.paint.bias.zero_()  # type: ignore[union-attr]
        self.soften: Tensor
        self.register_buffer("soften", blur_of_sub_pixels(), persistent=False)
        self.tint = Tint(style_dim)

    def forward(self, photo: Tensor, style: Tensor | None = None, statistics: Statistics | None = None) -> Tensor:
        """Paint ``photo`` (B, 3, H, W) in [0, 1], H and W multiples of 8; the result is of the same kind."""
        return self.paint_freely(photo, style, statistics).clamp(0, 1)

    def paint_freely(self, photo: Tensor, style: Tensor | None = None, statistics: Statistics | None = None) -> Tensor:
        """Paint without bounds, for training.

        Behind a sigmoid, what overshoots is white, has no gradient and stays: blobs after 600 images (measured).
        """
        x = F.pixel_unshuffle(photo - 0.5, 2)
        x = self.stem(x, None, statistics)
        for conv in self.down:
            x = conv(x, None, statistics)
        for block in self.trunk:
            x = block(x, style, statistics)
        for conv in self.up:
            x = conv(x, style, statistics)
        x = self.paint(frame(x, "reflect"))
        x = F.conv2d(frame(x, "replicate"), self.soften)
        return 0.5 + F.pixel_shuffle(x, 2).float() + self.tint(photo, style, statistics)

    def statistics(self, photo: Tensor, style: Tensor | None = None) -> Statistics:
        """Measure the instance norms on a small copy of the picture, to be used by its tiles."""
        measured = Statistics()
        self(photo, style, measured)
        return measured.rewind()

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return valid inputs of ``size`` px."""
        return (torch.rand(2, 3, size, size),)


@register("brush")
class Brush(Transformer):
    """One look, learned from a folder of paintings (systems ``cut`` and ``cyclegan``).

    It owns the palettes of some of those paintings, and every photo gets the one nearest to its own colours: a sunset
    one of the artist's evenings, a meadow one of his meadows.  With one palette for all, every strawberry was brown.
    Of no palettes (zeros, as ``cyclegan`` leaves them) the network sets all colours itself.

    Args:
        palettes: how many palettes.
        grain: standard deviation of the canvas that photos were ``primed`` with (nets/canvas.py) while it learned, and
            have to be when it paints.
    """

    def __init__(
        self, widths: tuple[int, int, int] = (32, 48, 96), blocks: int = 6, palettes: int = 1, grain: float = 0.0
    ) -> None:
        super().__init__(0, widths, blocks)
        self.grain = grain
        self.palettes: Tensor
        self.register_buffer("palettes", torch.zeros(palettes, PALETTE))

    def paint_freely(self, photo: Tensor, style: Tensor | None = None, statistics: Statistics | None = None) -> Tensor:
        """Paint without bounds."""
        own = statistics.once(lambda: colours_of(photo)) if statistics else colours_of(photo)
        palette = self.choose_palette(*own)
        painting = recolour(super().paint_freely(photo, None, statistics), palette, statistics)
        return with_hues_of(photo, painting, own, palette)

    def choose_palette(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """Return the palettes (B, 13) nearest to a photo's colours (B, 3) and (B, 3, 3), mixed where about as near."""
        own = torch.cat([mean, covariance.flatten(1)], dim=1)
        with torch.autocast(mean.device.type, enabled=False):
            return torch.softmax(-palette_distance(own, self.palettes) / NEAR, dim=1) @ self.palettes


@register("stylenet")
class StyleNet(Transformer):
    """Many styles in one network, and any picture as a style.

    A style vector is what :meth:`encode_style` reads from a picture: 64 numbers for the norms (channel statistics of a
    frozen VGG through a small MLP, for the curated styles plus a learned offset) and 13 for its palette.
    ``style_table`` holds the curated ones, ready for use; weighted means of style vectors are style vectors.  A studied
    vector (pipelines/study.py) has ``corrections`` numbers more between the two, (B, 64 + C + 13).
    """

    def __init__(
        self,
        styles: int = 24,
        style_dim: int = 64,
        widths: tuple[int, int, int] = (32, 48, 96),
        blocks: int = 6,
    ) -> None:
        super().__init__(style_dim, widths, blocks)
        self.features = VGGFeatures(READ_TAPS).requires_grad_(False)
        self.read = nn.Sequential(
            nn.Linear(2 * (64 + 128 + 256), 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, style_dim),
            nn.LayerNorm(style_dim, elementwise_affine=False),
        )
        self.corrections = 0
        for norm in self.modules():
            if isinstance(norm, InstanceNorm) and hasattr(norm, "affine"):
                start = style_dim + self.corrections
                norm.corrections = slice(start, start + 2 * norm.channels)
                self.corrections += 2 * norm.channels
        self.style_table: Tensor
        self.reading_mean: Tensor
        self.reading_std: Tensor
        self.register_buffer("style_table", torch.zeros(styles, style_dim + PALETTE))
        self.register_buffer("reading_mean", torch.zeros(2 * (64 + 128 + 256)))
        self.register_buffer("reading_std", torch.ones(2 * (64 + 128 + 256)))

    def paint_freely(self, photo: Tensor, style: Tensor | None = None, statistics: Statistics | None = None) -> Tensor:
        """Paint without bounds, with the style's colours; ``style`` is (B, 64 + 13)."""
        if style is None:
            return super().paint_freely(photo, None, statistics)
        painting = super().paint_freely(photo, style[:, :-PALETTE], statistics)
        return recolour(painting, style[:, -PALETTE:], statistics)

    def style_readings(self, picture: Tensor) -> Tensor:
        """Return what the frozen features say of ``picture`` (B, 3, h, w): means and stds, (B, 896)."""
        with torch.no_grad():
            return torch.cat([channel_statistics(tap) for tap in self.features(picture).values()], dim=1)

    def uncorrected(self, vector: Tensor) -> Tensor:
        """Return style vectors (B, 64 + 13) with corrections of nothing: (B, 64 + C + 13)."""
        none = vector.new_zeros(len(vector), self.corrections)
        return torch.cat([vector[:, :-PALETTE], none, vector[:, -PALETTE:]], dim=1)

    def encode_readings(self, readings: Tensor) -> Tensor:
        """Return the part of style vectors that the norms use, (B, 64), of :meth:`style_readings`."""
        return self.read((readings - self.reading_mean) / self.reading_std)

    def encode_style(self, picture: Tensor) -> Tensor:
        """Return the style vector (B, 64 + 13) of any picture (B, 3, h, w) in [0, 1]; best at 256-512 px."""
        return torch.cat([self.encode_readings(self.style_readings(picture)).float(), palette_of(picture)], dim=1)

    def example(self, size: int) -> tuple[Tensor, ...]:
        """Return a photo and a style vector."""
        vector = torch.randn(2, self.style_table.shape[1] - PALETTE)
        return (torch.rand(2, 3, size, size), torch.cat([vector, palette_of(torch.rand(2, 3, 8, 8))], dim=1))
