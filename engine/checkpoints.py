"""Models on disk: one folder a model, `model.safetensors` with its `card.json` (docs/architecture.md).

Reading cards costs no torch; only :func:`load` and :func:`save` import it.  Weights are stored in half precision,
verified against the card's sha256 and used in float32.  Nothing here ever loads a pickle.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import __version__
from engine.api import Appointment
from engine.errors import BrokenModel, InvalidRequest, UnknownName

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

FORMAT = 1  # of card.json
KINDS = ("stylizer", "brush", "painter", "enhancer")
WEIGHTS, CARD, PREVIEW = "model.safetensors", "card.json", "preview.webp"
TRAINING_STATE = "training.safetensors"  # optimisers and RNG, kept beside a model that may be trained further
OFFICE = "office.json"  # {"painter": NAME, ...}: which model of a kind works when nobody names one
FILES = (CARD, WEIGHTS, PREVIEW, TRAINING_STATE)
SAMPLES = "samples"  # folder of small pictures by which people choose a style or genre: NAME.webp
SWAPS = 3  # saves in a row that a reader may run into
MAX_MEMBER = 8 * 2**30  # bytes, of one file in an imported archive

_REPOSITORY = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SAMPLE = re.compile(rf"{SAMPLES}/{_NAME.pattern}\.webp")


@dataclass(frozen=True)
class Card:
    """What `card.json` says about the model in ``folder``; ``card["genres"]`` reads any of its fields."""

    folder: Path
    fields: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.fields[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the field ``key`` or ``default``."""
        return self.fields.get(key, default)

    @property
    def name(self) -> str:
        """The model's name, which is its folder's too."""
        return str(self.fields["name"])

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        return str(self.fields["kind"])

    @property
    def sha256(self) -> str:
        """Hex digest of the weights."""
        return str(self.fields["sha256"])

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of a stylizer's styles, in the order of its table; empty for other kinds."""
        return tuple(style["name"] for style in self.fields.get("styles", ()))


@dataclass(frozen=True)
class Model:
    """A loaded model: networks in eval mode, float32, without gradients."""

    card: Card
    net: torch.nn.Module
    discriminator: torch.nn.Module | None = None
    taste: Mapping[str, torch.Tensor] | None = None  # of the community it learned from, loaded with the discriminator


def folders() -> tuple[Path, ...]:
    """Return where models are looked for; the first folder that has a name wins, and new models go to the first.

    That is GANVAS_MODELS (several separated as in PATH), or what this host made, then what was released.
    """
    if chosen := os.environ.get("GANVAS_MODELS"):
        return tuple(Path(part) for part in chosen.split(os.pathsep) if part)
    return (_REPOSITORY / "data" / "var" / "models", _REPOSITORY / "models")


def catalogue(kind: str | None = None) -> list[Card]:
    """Return the cards of all models (of ``kind``) by name; a broken card is logged and left out."""
    cards: dict[str, Card] = {}
    for root in folders():
        for path in sorted(root.glob(f"*/{CARD}")):
            if path.parent.name in cards or path.parent.name.startswith("."):
                continue
            try:
                cards[path.parent.name] = _read_card(path.parent)
            except BrokenModel as error:
                log.warning("%s", error)
    return [card for _, card in sorted(cards.items()) if kind in (None, card.kind)]


def find(name: str) -> Card:
    """Return the card of the model called ``name``.

    Raises:
        UnknownName: there is no such model; the message lists those there are.
        BrokenModel: there is, but its card cannot be used.
    """
    broken = None
    if _NAME.fullmatch(name):
        for root in folders():
            # While a save swaps two versions the name is missing for a moment, the old one stands aside and then goes.
            for folder in (root / name, root / f".{name}.previous") * SWAPS:
                try:
                    if folder.is_dir():
                        return _read_card(folder)
                except BrokenModel as error:
                    broken = error
    if broken is not None:
        raise broken
    known = ", ".join(card.name for card in catalogue()) or "none yet"
    raise UnknownName(f"There is no model {name!r}; there are {known}.")


def in_office(kind: str) -> Card:
    """Return the model of ``kind`` that works when nobody names one: the appointed, else the first by name.

    Raises:
        UnknownName: there is no model of that kind at all.
    """
    if (appointed := _appointed(kind)) is not None:
        return find(appointed)
    if cards := catalogue(kind):
        return cards[0]
    raise UnknownName(f"There is no {kind} among the models in {' or '.join(map(str, folders()))}.")


def _appointed(kind: str) -> str | None:
    for root in folders():
        if (name := _offices(root).get(kind)) is not None:
            return str(name)
    return None


def _offices(root: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((root / OFFICE).read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise BrokenModel(f"{root / OFFICE} is no JSON object of kinds and model names: {error}.") from error


def appointments() -> list[Appointment]:
    """Return who is in office for every kind there is, and what is wrong with them, if anything."""
    found = []
    for kind in KINDS:
        name = _appointed(kind)
        try:
            card = in_office(kind)
            verify(card)
            found.append(Appointment(kind=kind, name=card.name))
        except (BrokenModel, UnknownName) as error:
            if name is not None:
                found.append(Appointment(kind=kind, name=name, fault=str(error)))
    return found


def described() -> list[dict[str, Any]]:
    """Return all cards as JSON, each saying whether its model is in office."""
    cards = catalogue()
    chosen = {kind: _appointed(kind) or in_office(kind).name for kind in {card.kind for card in cards}}
    return [dict(card.fields) | {"in_office": card.name == chosen[card.kind]} for card in cards]


def find_kind(kind: str, name: str) -> Card:
    """Return the card of the model called ``name``, which must be of ``kind``.

    Raises:
        UnknownName: it is unknown, or of another kind; the message lists the models of that kind.
    """
    card = find(name)
    if card.kind != kind:
        known = ", ".join(each.name for each in catalogue(kind)) or "none yet"
        raise UnknownName(f"The model {name!r} is a {card.kind}, not a {kind}; there are {known}.")
    return card


def appoint(name: str) -> Card:
    """Put the model ``name`` in office for its kind: one atomic pointer swap, so a rollback is the same call."""
    card = find(name)
    root = folders()[0]
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(root / OFFICE, _dump(_offices(root) | {card.kind: name}))
    return card


def is_name(text: str) -> bool:
    """Whether a model may be called so."""
    return _NAME.fullmatch(text) is not None


def verify(card: Card) -> None:
    """Check that the weights on disk are those the card names; a file that did not change is read once.

    Raises:
        BrokenModel: they are not, or cannot be read.
    """
    try:
        now = (card.folder / WEIGHTS).stat()
        if _digest(card.folder / WEIGHTS, now.st_mtime_ns, now.st_size) == card.sha256:
            return
    except OSError as error:
        raise BrokenModel(f"The model {card.name} has no readable {WEIGHTS}: {error.strerror}.") from error
    raise BrokenModel(f"The weights of the model {card.name} are not those its card names (sha256 differs).")


@functools.lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prune(keep: Collection[str]) -> list[str]:
    """Delete painters that lessons made here, all but ``keep`` and the one in office; returns their names.

    What was released or trained by hand is never touched.
    """
    root = folders()[0]
    spared = {*keep, _appointed("painter")}
    gone = [
        card.name
        for card in catalogue("painter")
        if card.get("night") is not None and card.folder.parent == root and card.name not in spared
    ]
    for name in gone:
        aside = root / f".{name}.gone"
        (root / name).replace(aside)  # it is no model any more from this moment, whatever happens
        shutil.rmtree(aside, ignore_errors=True)
    return gone


def load(name: str, *, discriminator: bool = False) -> Model:
    """Build the model ``name`` with its weights, and a painter's discriminator where that is asked for.

    Raises:
        UnknownName: there is no such model.
        BrokenModel: weights that are missing, altered, or of another network than the card says.
    """
    return _load(find(name), discriminator)


def load_folder(folder: Path, *, discriminator: bool = False) -> Model:
    """Build the model in ``folder``, which need not be on a shelf: a candidate, for instance."""
    return _load(_read_card(folder), discriminator)


def _load(card: Card, discriminator: bool) -> Model:
    tensors = read_tensors(card)
    net = _build(card, card["net"], "net.", tensors)
    if not discriminator:
        return Model(card, net)
    if "discriminator" not in card.fields:
        raise BrokenModel(f"The model {card.name} has no discriminator, so it cannot rank its paintings.")
    taste = {key.removeprefix("taste."): _whole(value) for key, value in tensors.items() if key.startswith("taste.")}
    return Model(card, net, _build(card, card["discriminator"], "discriminator.", tensors), taste or None)


def save(
    fields: Mapping[str, Any],
    net: torch.nn.Module,
    discriminator: torch.nn.Module | None = None,
    *,
    taste: Mapping[str, torch.Tensor] | None = None,
    root: Path | None = None,
    preview: bytes | None = None,
    training_state: bytes | None = None,
) -> Card:
    """Write a model folder, wholly or not at all; a model of the same name is replaced.

    Args:
        fields: of the card: name, kind, system, net and whatever else architecture.md lists; format, engine, dtype and
            sha256 are filled in here.
        taste: what its community likes, for ranking.
        root: the models folder; the first of :func:`folders` if None.
        preview: WebP bytes.
        training_state: safetensors bytes, kept beside the weights.
    """
    tensors = {f"net.{key}": value for key, value in net.state_dict().items()}
    if discriminator is not None:
        tensors |= {f"discriminator.{key}": value for key, value in discriminator.state_dict().items()}
    tensors |= {f"taste.{key}": value for key, value in (taste or {}).items()}
    root = folders()[0] if root is None else root
    return save_tensors(fields, tensors, root / str(fields.get("name")), preview=preview, training_state=training_state)


def save_tensors(
    fields: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    folder: Path,
    *,
    preview: bytes | None = None,
    training_state: bytes | None = None,
) -> Card:
    """Write ``tensors`` ("net.…", "discriminator.…") as the model ``folder``, as :func:`save` does."""
    import safetensors.torch

    weights = safetensors.torch.save({key: _half(key, value) for key, value in tensors.items()})
    filled = {
        **fields, "format": FORMAT, "engine": __version__, "dtype": "float16",
        "sha256": hashlib.sha256(weights).hexdigest(),
    }  # fmt: skip
    _check_fields(filled, folder)
    extras = {PREVIEW: preview, TRAINING_STATE: training_state}
    files = {WEIGHTS: weights, CARD: _dump(filled)} | {key: data for key, data in extras.items() if data is not None}
    with _new_folder(folder.parent, folder.name) as new:
        for file, data in files.items():
            _write(new / file, data)
    return Card(folder, filled)


def export(name: str, target: Path, *, with_training_state: bool = False) -> Path:
    """Copy the verified model ``name`` to ``target``, a new folder or a `.zip`.

    Raises:
        InvalidRequest: ``target`` exists already, or there is no training state to take along.
    """
    card = find(name)
    read_tensors(card)
    wanted = [file for file in _belongings(card.folder) if file != TRAINING_STATE]
    if with_training_state:
        if not (card.folder / TRAINING_STATE).is_file():
            raise InvalidRequest(f"The model {name} keeps no training state; export it without.")
        wanted.append(TRAINING_STATE)
    if target.exists():
        raise InvalidRequest(f"{target} exists already; choose a new name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".zip":
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        with zipfile.ZipFile(temporary, "x") as archive:
            for file in wanted:
                archive.write(card.folder / file, f"{name}/{file}")
        _publish(temporary, target)
    else:
        with _new_folder(target.parent, target.name) as folder:
            _copy(wanted, card.folder, folder)
    return target


def import_model(source: Path, *, replace: bool = False) -> Card:
    """Take the model in ``source``, a folder or a `.zip`, into the first models folder, after loading it once.

    Raises:
        BrokenModel: there is no whole model in ``source``.
        InvalidRequest: another model has its name and ``replace`` is False.
    """
    root = folders()[0]
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".import-") as unpacked:
        folder = _unzip(source, Path(unpacked)) if source.is_file() else source
        if not folder.is_dir():
            raise BrokenModel(f"There is no model in {source}; give a model folder or a zip of one.")
        fields = _read_fields(folder)
        card = Card(folder, fields)
        _check_fields(fields, folder)
        _build(card, card["net"], "net.", read_tensors(card))
        if (root / card.name).exists() and not replace:
            raise InvalidRequest(f"There is a model {card.name} in {root} already; remove it first, or replace it.")
        with _new_folder(root, card.name) as new:
            _copy(_belongings(folder), folder, new)
    return find(card.name)


class Shelf:
    """Loaded models, the ``capacity`` last used; safe to share between threads.

    A model whose folder was replaced since (another sha256) is loaded anew.
    """

    def __init__(self, capacity: int = 8) -> None:
        self._capacity = capacity
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, *, discriminator: bool = False) -> Model:
        """Return the model ``name``, from memory if it is there."""
        with self._lock:
            card = find(name)
            held = self._models.get(name)
            if held is None or held.card.sha256 != card.sha256 or (discriminator and held.discriminator is None):
                held = load(name, discriminator=discriminator)
            self._models[name] = held
            self._models.move_to_end(name)
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
            return held


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds all of it or what it held before, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(temporary, data)
        _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_fields(folder: Path) -> dict[str, Any]:
    try:
        fields = json.loads((folder / CARD).read_bytes())
    except FileNotFoundError as error:
        raise BrokenModel(f"The model in {folder} has no {CARD}.") from error
    except (OSError, ValueError) as error:
        raise BrokenModel(f"{folder / CARD} cannot be read: {error}.") from error
    if not isinstance(fields, dict):
        raise BrokenModel(f"{folder / CARD} holds no JSON object.")
    return fields


def _read_card(folder: Path) -> Card:
    fields = _read_fields(folder)
    _check_fields(fields, folder)
    if folder.name not in (fields["name"], f".{fields['name']}.previous"):
        raise BrokenModel(f"The model in {folder} calls itself {fields['name']!r}; folder and name must agree.")
    return Card(folder, fields)


def _check_fields(fields: Mapping[str, Any], folder: Path) -> None:
    if fields.get("format") != FORMAT:
        raise BrokenModel(f"The model in {folder} has format {fields.get('format')!r}; this engine reads {FORMAT}.")
    if missing := [key for key in ("name", "kind", "net", "sha256") if key not in fields]:
        raise BrokenModel(f"The card of the model in {folder} lacks {', '.join(missing)}.")
    if not _NAME.fullmatch(str(fields["name"])):
        raise BrokenModel(f"{fields['name']!r} is no name for a model; use small letters, digits, dots and dashes.")
    if fields["kind"] not in KINDS:
        raise BrokenModel(f"The model in {folder} is of kind {fields['kind']!r}; there are {', '.join(KINDS)}.")


def read_tensors(card: Card) -> dict[str, torch.Tensor]:
    """Return the verified tensors of a model by their names in the file ("net.…", "discriminator.…").

    Raises:
        BrokenModel: they are missing, damaged, or not those that the card names.
    """
    import safetensors
    import safetensors.torch

    try:
        data = (card.folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise BrokenModel(f"The model {card.name} has no readable {WEIGHTS}: {error.strerror}.") from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise BrokenModel(f"The weights of the model {card.name} are not those its card names (sha256 differs).")
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise BrokenModel(f"The weights of the model {card.name} are no safetensors: {error}.") from error
    return dict(sorted(tensors.items()))  # safetensors hands them out in an order that changes from run to run


def _build(card: Card, spec: Mapping[str, Any], prefix: str, tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    import torch

    from engine import nets

    try:
        with torch.inference_mode(False):  # gradients may be asked of what it computes, whoever loads it
            net = nets.channels_last(nets.create(spec["name"], **spec.get("config", {})))
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            net.load_state_dict({key: _whole(value) for key, value in own.items()})
    except (UnknownName, KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BrokenModel(f"The model {card.name} does not fit its network {spec.get('name')!r}: {reason}") from error
    return net.eval().requires_grad_(False)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _half(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Halve what weighs: matrices and kernels.  Biases and running variances are small and delicate: whole."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    if not torch.isfinite(tensor).all():
        raise InvalidRequest(f"The tensor {key} holds NaN or infinity; such a model is not saved.")
    halved = tensor.half()
    return halved if tensor.dim() > 1 and torch.isfinite(halved).all() else tensor.float()


@contextmanager
def _new_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder that becomes ``root``/``name`` when the block ends well and vanishes when it does not."""
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=f".{name}.new-"))
    previous = root / f".{name}.previous"
    try:
        yield temporary
        temporary.chmod(0o755)
        _sync(temporary)
        if (root / name).exists():
            shutil.rmtree(previous, ignore_errors=True)
            (root / name).replace(previous)
        temporary.replace(root / name)
        _sync(root)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _belongings(folder: Path) -> list[str]:
    """Return what of a model is in ``folder``, as paths within it; anything else there is nobody's business."""
    samples = sorted(f"{SAMPLES}/{path.name}" for path in (folder / SAMPLES).glob("*.webp"))
    found = [*FILES, *(sample for sample in samples if _SAMPLE.fullmatch(sample))]
    return [file for file in found if (folder / file).is_file()]


def _copy(files: Iterable[str], source: Path, target: Path) -> None:
    for file in files:
        (target / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / file, target / file)
        _sync(target / file)


def _unzip(source: Path, into: Path) -> Path:
    """Unpack the known files of a model, wherever in the archive they lie, and nothing else."""
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                path = Path(member.filename)
                file = path.name if path.parent.name != SAMPLES else f"{SAMPLES}/{path.name}"
                if (file in FILES or _SAMPLE.fullmatch(file)) and member.file_size <= MAX_MEMBER:
                    (into / file).parent.mkdir(exist_ok=True)
                    with archive.open(member) as packed, (into / file).open("wb") as out:
                        shutil.copyfileobj(packed, out)
    except zipfile.BadZipFile as error:
        raise BrokenModel(f"{source} is no zip of a model: {error}.") from error
    return into


def _dump(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _publish(temporary: Path, path: Path) -> None:
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
