"""Requests, results and recipes: the one vocabulary of both sides.  Standard library only, no torch.

A request is validated when it is built; whoever holds one may trust it.  A recipe is plain JSON that makes the same
bytes again (design, section 2) and never holds a user's name or a photo's content, only the photo's sha256.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from engine.errors import GanvasError, InvalidRequest, UnknownName

PROTOCOL = 2  # bumped whenever client and engine of different releases could misunderstand each other

GENRES = (
    "abstract", "animal-painting", "cityscape", "figurative", "flower-painting", "genre-painting", "landscape",
    "marina", "mythological-painting", "nude-painting", "portrait", "religious-painting", "still-life",
    "symbolic-painting",
)  # fmt: skip

ALIASES = {
    "abstracts": "abstract", "animal": "animal-painting", "animals": "animal-painting", "city": "cityscape",
    "cities": "cityscape", "figures": "figurative", "flower": "flower-painting", "flowers": "flower-painting",
    "genre": "genre-painting", "scene": "genre-painting", "everyday": "genre-painting", "landscapes": "landscape",
    "marine": "marina", "sea": "marina", "seascape": "marina", "seascapes": "marina", "ships": "marina",
    "mythological": "mythological-painting", "mythology": "mythological-painting", "myth": "mythological-painting",
    "nude": "nude-painting", "portraits": "portrait", "face": "portrait", "faces": "portrait",
    "religious": "religious-painting", "religion": "religious-painting", "stilllife": "still-life",
    "still life": "still-life", "symbolic": "symbolic-painting", "symbolist": "symbolic-painting",
}  # fmt: skip

STILL_FORMATS = ("png", "webp", "jpeg")
MOVING_FORMATS = ("gif", "webp", "mp4")
MAX_SIDE = 4096  # px, of anything made here
MAX_BYTES = 2**30  # of one picture or animation
WALL = (1920, 1080)
PSI = 0.9  # usual truncation: a painter's KID at 0.8 is nearly twice that at 1, where a few samples are strange


def parse_genre(text: str) -> str:
    """Return the genre that ``text`` names, by its full name or a short alias.

    Raises:
        UnknownName: nobody knows it; the message lists the genres.
    """
    name = " ".join(text.strip().lower().replace("_", "-").split())
    name = ALIASES.get(name, ALIASES.get(name.replace("-", " "), name.replace(" ", "-")))
    if name not in GENRES:
        raise UnknownName(f"There is no genre {text!r}; choose one of {', '.join(GENRES)}.")
    return name


def parse_seed(text: str | int) -> int:
    """Return a seed in [0, 2**63): a decimal number as it is, any other text by its sha256."""
    if isinstance(text, int):
        number = text
    else:
        text = text.strip()
        number = int(text) if text.isdecimal() and len(text) < 19 else _text_seed(text)
    if not 0 <= number < 2**63:
        raise InvalidRequest(f"The seed {text} is out of range; it must lie between 0 and 2**63 - 1.")
    return number


def _text_seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidRequest(f"{name} is {value!r}; it must lie between {low:g} and {high:g}.")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidRequest(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests share: JSON in, JSON out, ``bytes`` as base64."""

    command: ClassVar[str]

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON; :func:`request_from_wire` is the way back."""
        return {"command": self.command} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Stop):
        return {name: each for name, each in vars(value).items() if each is not None}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, kw_only=True)
class StylizeRequest(Request):
    """Paint over a photo: with a named style, any picture as the style, or a brush (a cut/cyclegan model)."""

    command: ClassVar[str] = "stylize"
    photo: bytes
    style: str | None = None
    style_image: bytes | None = None
    model: str | None = None
    strength: float = 1.0  # 0 keeps the photo, 1 is the full style
    keep_colours: bool = False  # take only the luminance of the painting
    size: int = 1280  # px, long side of the result
    format: str = "png"

    def __post_init__(self) -> None:
        _within("strength", self.strength, 0, 1)
        _within("size", self.size, 16, MAX_SIDE)
        _one_of("format", self.format, STILL_FORMATS)
        if sum(choice is not None for choice in (self.style, self.style_image, self.model)) > 1:
            raise InvalidRequest("Choose one of a style, a style image or a model, not several.")


@dataclass(frozen=True, kw_only=True)
class PaintRequest(Request):
    """Sample ``count`` paintings of a genre; painting i uses seed + i."""

    command: ClassVar[str] = "paint"
    genre: str
    seed: int
    art_style: str | None = None  # one that the painter learned, else a style or brush to paint over it
    count: int = 1
    psi: float = PSI  # truncation towards the genre's mean: 0 the mean itself, 1 no truncation
    best_of: int = 0  # sample so many for each painting and keep the best; 0: as many as the painter is used to
    finish: str | None = None  # a style or brush to paint over it; None is the model's own default, "none" is raw
    width: int = 512
    height: int = 512
    model: str | None = None  # None is the painter in office
    format: str = "png"

    def __post_init__(self) -> None:
        object.__setattr__(self, "genre", parse_genre(self.genre))
        object.__setattr__(self, "seed", parse_seed(self.seed))
        _within("count", self.count, 1, 16)
        _within("psi", self.psi, 0, 1)
        _within("best_of", self.best_of, 0, 32)
        _within("width", self.width, 16, MAX_SIDE)
        _within("height", self.height, 16, MAX_SIDE)
        _one_of("format", self.format, STILL_FORMATS)


@dataclass(frozen=True)
class Stop:
    """One stop of a morph: a point in latent space.  A painter that never learned its art style leaves that out."""

    genre: str
    seed: int
    art_style: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "genre", parse_genre(self.genre))
        object.__setattr__(self, "seed", parse_seed(self.seed))
        if not isinstance(self.art_style, str | None):
            raise InvalidRequest(f"The art style of a stop is {self.art_style!r}; it must be a name.")


@dataclass(frozen=True, kw_only=True)
class MorphRequest(Request):
    """Glide through latent space from stop to stop (slerp), as an animation."""

    command: ClassVar[str] = "morph"
    stops: tuple[Stop, ...]
    frames: int = 72
    fps: int = 24
    size: int = 512  # px, square
    psi: float = PSI
    loop: bool = False  # glide back to the first stop, so that the animation has no cut
    finish: str | None = None
    model: str | None = None
    format: str = "gif"

    def __post_init__(self) -> None:
        stops = tuple(Stop(**stop) if isinstance(stop, Mapping) else stop for stop in self.stops)
        object.__setattr__(self, "stops", stops)
        if not 2 <= len(stops) <= 16:
            raise InvalidRequest(f"A morph needs 2 to 16 stops, not {len(stops)}.")
        _within("frames", self.frames, 2, 600)
        _within("fps", self.fps, 1, 60)
        _within("size", self.size, 16, 1024)
        _within("psi", self.psi, 0, 1)
        _one_of("format", self.format, MOVING_FORMATS)


@dataclass(frozen=True, kw_only=True)
class EnhanceRequest(Request):
    """Enlarge a picture with drawn-in detail: by ``scale``, or to ``width`` x ``height`` (covering, then cropped)."""

    command: ClassVar[str] = "enhance"
    image: bytes
    scale: int | None = None  # 2 or 4; None with width and height
    width: int | None = None
    height: int | None = None
    strength: float = 1.0  # 0 is a plain bicubic enlargement
    format: str = "png"

    def __post_init__(self) -> None:
        _within("strength", self.strength, 0, 1)
        _one_of("format", self.format, STILL_FORMATS)
        if (self.scale is None) == (self.width is None or self.height is None):
            raise InvalidRequest("Give either a scale (2 or 4) or a width and a height.")
        if self.scale is not None and self.scale not in (2, 4):
            raise InvalidRequest(f"scale is {self.scale!r}; it must be 2 or 4.")
        for name in ("width", "height"):
            if getattr(self, name) is not None:
                _within(name, getattr(self, name), 16, MAX_SIDE)


@dataclass(frozen=True, kw_only=True)
class ChainRequest(Request):
    """One model's output feeds the next: styles, brushes and enhancers in any order."""

    command: ClassVar[str] = "chain"
    image: bytes
    models: tuple[str, ...]
    size: int = 1280
    format: str = "png"

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(self.models))
        _within("size", self.size, 16, MAX_SIDE)
        _one_of("format", self.format, STILL_FORMATS)
        if not 1 <= len(self.models) <= 8:
            raise InvalidRequest(f"A chain needs 1 to 8 models, not {len(self.models)}.")


@dataclass(frozen=True, kw_only=True)
class FitRequest(Request):
    """Re-encode a picture or animation into at most ``max_bytes`` and ``max_side`` px, keeping its recipe.

    The front ends never decode pictures: thumbnails and smaller copies for upload limits are made here.
    """

    command: ClassVar[str] = "fit"
    image: bytes
    max_bytes: int = 10 * 2**20
    max_side: int = MAX_SIDE
    formats: tuple[str, ...] = ("png", "webp", "jpeg", "gif", "mp4")  # what may come back
    strip: bool = False  # leave the recipe out

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", tuple(self.formats))
        _within("max_bytes", self.max_bytes, 2_000, 2**31)
        _within("max_side", self.max_side, 16, MAX_SIDE)
        for name in self.formats:
            _one_of("formats", name, (*STILL_FORMATS, "gif", "mp4"))


_REQUESTS: dict[str, type[Request]] = {
    kind.command: kind
    for kind in (StylizeRequest, PaintRequest, MorphRequest, EnhanceRequest, ChainRequest, FitRequest)
}
_HINTS = {command: get_type_hints(kind) for command, kind in _REQUESTS.items()}


def request_from_wire(wire: Mapping[str, Any]) -> Request:
    """Build the request that ``wire`` describes.

    Raises:
        InvalidRequest: unknown command, unknown or missing option, or a value out of range.
    """
    kind = _REQUESTS.get(str(wire.get("command")))
    if kind is None:
        raise InvalidRequest(f"There is no command {wire.get('command')!r}; there are {', '.join(_REQUESTS)}.")
    known = {f.name for f in fields(kind)}
    options: dict[str, Any] = {}
    for name, value in wire.items():
        if name == "command":
            continue
        if name not in known:
            raise InvalidRequest(f"{kind.command} has no option {name!r}; it has {', '.join(sorted(known))}.")
        if isinstance(value, Mapping) and "base64" in value:
            try:
                value = base64.b64decode(value["base64"], validate=True)
            except (TypeError, ValueError) as error:
                raise InvalidRequest(f"{name} is not base64: {error}.") from error
        options[name] = tuple(value) if isinstance(value, list) else value
    try:
        request = kind(**options)
    except GanvasError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest(f"{kind.command} was not understood: {error}.") from error
    for name, hint in _HINTS[kind.command].items():
        value = getattr(request, name)
        if name != "command" and not _is_a(value, hint):
            raise InvalidRequest(f"{name} is a {type(value).__name__}, which {kind.command} can't use.")
    return request


def _is_a(value: Any, hint: Any) -> bool:
    """Return whether ``value`` is of the type ``hint``: a class, a union of such, or ``tuple[item, ...]``."""
    if isinstance(hint, UnionType):
        return any(_is_a(value, choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_a(item, get_args(hint)[0]) for item in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


@dataclass(frozen=True, kw_only=True)
class Output:
    """One finished picture or animation."""

    data: bytes
    format: str  # png, webp, jpeg, gif or mp4
    width: int
    height: int
    frames: int = 1
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hex digest of ``data``."""
        return hashlib.sha256(self.data).hexdigest()

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON that says how many bytes ``data`` has; they travel behind it as they are."""
        return vars(self) | {"data": {"bytes": len(self.data)}}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any], data: bytes) -> Output:
        """Invert :meth:`to_wire`."""
        return cls(**(dict(wire) | {"data": data}))


@dataclass(frozen=True, kw_only=True)
class Result:
    """All outputs of one request, what had to be adapted (``notes``), and where the seconds went."""

    outputs: tuple[Output, ...]
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # e.g. decode, network, encode, total

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON; the bytes of the outputs travel behind it, in their order."""
        return {"outputs": [o.to_wire() for o in self.outputs], "notes": list(self.notes), "seconds": self.seconds}

    @staticmethod
    def sizes(wire: Mapping[str, Any]) -> list[int]:
        """Return how many bytes of each output come behind ``wire``.

        Raises:
            ValueError: it is no result, or its sizes are none.
        """
        try:
            sizes = [output["data"]["bytes"] for output in wire["outputs"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"the result lacks {error}") from error
        for size in sizes:
            if not isinstance(size, int) or not 0 <= size <= MAX_BYTES:
                raise ValueError(f"a picture of {size!r} bytes; it must have 0 to {MAX_BYTES}")
        return sizes

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any], pictures: Iterable[bytes]) -> Result:
        """Invert :meth:`to_wire`; ``pictures`` are what came behind it."""
        return cls(
            outputs=tuple(map(Output.from_wire, wire["outputs"], pictures)),
            notes=tuple(wire.get("notes", ())),
            seconds=dict(wire.get("seconds", {})),
        )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is: its place in line while it waits, then a share in [0, 1] of the work."""

    stage: str  # "queued", "working" or "done"
    place: int = 0  # jobs before this one
    share: float = 0.0


# Learning


@dataclass(frozen=True, kw_only=True)
class LessonPlan:
    """How a lesson is to be held."""

    name: str  # of the lesson, and of the candidate
    painter: str  # it begins from
    minutes: float = 60.0  # of learning; waiting does not count
    steps: int = 60  # at most
    threads: int = 0  # 0: half of the processors
    seed: int = 0
    held: bool = False  # it stands still from the beginning
    paintings: str | None = None  # a folder as the engine sees it; None is the engine's own

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON."""
        return dict(vars(self))

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> LessonPlan:
        """Invert :meth:`to_wire`.

        Raises:
            InvalidRequest: an option is unknown, missing or of a wrong type.
        """
        try:
            plan = cls(**wire)
        except TypeError as error:
            raise InvalidRequest(f"The plan of a lesson was not understood: {error}.") from error
        for name, hint in get_type_hints(cls).items():
            if not _is_a(getattr(plan, name), hint):
                raise InvalidRequest(f"{name} is {getattr(plan, name)!r}, which a lesson can't use.")
        return plan


@dataclass(frozen=True, kw_only=True)
class LessonStatus:
    """How a lesson stands."""

    name: str
    state: str  # learning, interrupted, or at last: rested, refused, candidate, failed, cancelled
    share: float = 0.0  # of the work that is done, in [0, 1]
    waiting: bool = False  # it stands still: held, or people are served first
    why: str = ""
    night: dict[str, Any] = field(default_factory=dict)  # what the gate and the lesson tell
    pictures: tuple[str, ...] = ()  # files it left, before.webp and after.webp

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON."""
        return vars(self) | {"pictures": list(self.pictures)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> LessonStatus:
        """Invert :meth:`to_wire`."""
        return cls(**(dict(wire) | {"pictures": tuple(wire["pictures"])}))


@dataclass(frozen=True, kw_only=True)
class Appointment:
    """Who works when nobody is named."""

    kind: str
    name: str
    fault: str | None = None  # why it cannot work, one sentence

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON."""
        return dict(vars(self))
