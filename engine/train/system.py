"""The one contract of all trainings: what a system must say, so that the loop can train, resume and show it.

To add a system, write a module in engine/train with a subclass of :class:`System` under ``@system("name")``; the loop
in run.py does the rest: logging, sheets, checkpoints, exact resume, release.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_origin

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from engine.errors import InvalidRequest, UnknownName
from engine.train.initial import Initial

SYSTEMS = {  # name -> module; imported only when asked for
    "painter": "engine.train.painter",
    "gangogh": "engine.train.gangogh",
    "dcgan": "engine.train.dcgan",
    "cyclegan": "engine.train.cyclegan",
    "cut": "engine.train.cut",
    "pix2pix": "engine.train.pix2pix",
    "stylizer": "engine.train.stylizer",
    "enhancer": "engine.train.enhancer",
}


class Config(BaseModel):
    """Fields every system has; a system's own config adds its own. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int = Field(100_000, gt=0)  # budget, counted in real pictures shown
    batch: int = Field(16, gt=0)
    seed: int = 0
    bf16: bool = True  # autocast where the processor has bf16 instructions; fp32 otherwise


class System(ABC):
    """One way of training.

    A subclass fills ``networks``, ``averages`` (EMA copies) and ``optimizers`` in ``__init__``; all three and the two
    random generators are saved and restored by the loop.  Randomness comes only from ``self.torch_rng`` (or
    ``torch.default_generator``, also saved) and ``self.numpy_rng``.  Pictures and noise are drawn on the processor;
    ``step`` sends them to ``self.device``, where the loop has put all networks.
    """

    name: ClassVar[str]
    kind: ClassVar[str]  # of the released model: stylizer, painter, enhancer or brush
    config_type: ClassVar[type[Config]]
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}  # each states only its differences
    may_change: ClassVar[frozenset[str]] = frozenset({"images"})  # fields that may differ when a run is resumed

    def __init__(self, config: Any, data: Path, cache: Path) -> None:
        self.config = config
        self.images = 0  # real pictures shown so far
        self.networks: dict[str, nn.Module] = {}
        self.averages: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.torch_rng = torch.Generator().manual_seed(config.seed)
        self.numpy_rng = np.random.default_rng(config.seed)
        self.device = torch.device("cpu")  # of the networks, where steps compute
        self.dtype = torch.bfloat16 if config.bf16 and has_bf16() else torch.float32

    def move(self, device: torch.device) -> None:
        """Put all networks on ``device``, where the following steps compute."""
        self.device = device
        if device.type == "cuda":
            sound = self.config.bf16 and torch.cuda.is_bf16_supported()
            self.dtype = torch.bfloat16 if sound else torch.float32
        for net in self._modules():
            net.to(device)

    @contextmanager
    def on_processor(self) -> Iterator[None]:
        """Show and release where pictures and fixed latents are; then everything goes back to its device."""
        device = self.device
        if device.type != "cpu":
            self.move(torch.device("cpu"))
        yield
        if device.type != "cpu":
            self.move(device)

    def _modules(self) -> list[nn.Module]:
        """Return the networks, their averages and whatever else a step looks through."""
        other = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        return [*self.networks.values(), *self.averages.values(), *other]

    @property
    @abstractmethod
    def data_digest(self) -> str:
        """sha256 of what the training is shown."""

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Take one optimiser step over ``config.batch`` pictures and return the losses by name."""

    @abstractmethod
    def sheet(self) -> np.ndarray:
        """Return the sample sheet, (H, W, 3) uint8, from the averaged networks and fixed inputs."""

    def preview(self, sheet: np.ndarray) -> np.ndarray:
        """Return the part of ``sheet`` that the networks made: a model goes out without the pictures it learnt from."""
        return sheet

    @abstractmethod
    def release(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the tensors ("net.…") and this system's part of the card."""

    def release_inverse(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the same of the model that goes the other way (cyclegan); None for systems of one way."""
        return None

    def autocast(self) -> torch.autocast:
        """Return the context in which networks run."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)

    def state(self) -> dict[str, Any]:
        """Return all that an exact resume needs."""
        return {
            "images": self.images,
            "networks": {name: net.state_dict() for name, net in self.networks.items()},
            "averages": {name: net.state_dict() for name, net in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "rng": {
                "torch": self.torch_rng.get_state(),
                "global": torch.get_rng_state(),
                "numpy": self.numpy_rng.bit_generator.state,
            },
        }

    def fits(self, state: dict[str, Any]) -> bool:
        """Say whether ``state`` is of these networks and optimisers; another version of this code may have others."""

        def groups(optimizers: dict[str, Any]) -> dict[str, list[tuple[set[str], int]]]:
            return {
                name: [(set(group), len(group["params"])) for group in optimizer["param_groups"]]
                for name, optimizer in optimizers.items()
            }

        nets, given = self.networks, state["networks"]
        return (
            nets.keys() == given.keys()
            and all(
                key in given[name] and given[name][key].shape == parameter.shape
                for name, net in nets.items()
                for key, parameter in net.named_parameters()
            )
            and groups({name: optimizer.state_dict() for name, optimizer in self.optimizers.items()})
            == groups(state["optimizers"])
        )

    def load(self, state: dict[str, Any]) -> None:
        """Continue exactly where :meth:`state` was taken."""
        self.images = state["images"]
        for name, net in self.networks.items():
            net.load_state_dict(state["networks"][name])
        for name, net in self.averages.items():
            net.load_state_dict(state["averages"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            for (
                parameter,
                moments,
            ) in optimizer.state.items():  # fused Adam takes their memory to lie as the weights' does
                for key, value in moments.items():
                    if value.shape == parameter.shape:
                        moments[key] = torch.empty_like(parameter).copy_(value)
        self.torch_rng.set_state(state["rng"]["torch"])
        torch.set_rng_state(state["rng"]["global"])
        self.numpy_rng.bit_generator.state = state["rng"]["numpy"]

    def start_from(self, initial: Initial) -> None:
        """Begin a new run (images, optimisers and random numbers anew) with the weights of another, where they fit.

        Raises:
            InvalidRequest: less than half of the generator's tensors fit: it is another kind of network.
        """
        name, generator = next(iter(self.networks.items()))
        if 2 * initial.put_into({name: generator}, initial.networks) < len(generator.state_dict()):
            raise InvalidRequest(f"{initial.path} does not fit {self.name}; choose a model of the same networks.")
        initial.put_into(self.networks, initial.networks)
        initial.put_into(self.averages, initial.networks)  # an average that was not kept starts at its network
        initial.put_into(self.averages, initial.averages)


_FOUND: dict[str, type[System]] = {}
Kind = TypeVar("Kind", bound=type[System])


def system(name: str) -> Callable[[Kind], Kind]:
    """Enter the decorated system under ``name``."""

    def enter(kind: Kind) -> Kind:
        kind.name = name
        _FOUND[name] = kind
        return kind

    return enter


def find_system(name: str) -> type[System]:
    """Return the system called ``name``.

    Raises:
        UnknownName: there is no such system.
    """
    if name not in SYSTEMS:
        raise UnknownName(f"There is no system {name!r}; there are {', '.join(SYSTEMS)}.")
    importlib.import_module(SYSTEMS[name])
    return _FOUND[name]


def build_config(kind: type[System], preset: str | None = None, overrides: dict[str, str] | None = None) -> Config:
    """Return the preset's config with ``overrides`` (texts, as typed on a command line; lists by commas) applied.

    Raises:
        UnknownName: no such preset.
        InvalidRequest: unknown field or wrong value; the message names both and what is allowed.
    """
    preset = preset or next(iter(kind.presets))
    if preset not in kind.presets:
        raise UnknownName(f"{kind.name} has no preset {preset!r}; it has {', '.join(kind.presets)}.")
    fields = kind.config_type.model_fields
    for field in overrides or {}:
        if field not in fields:
            raise InvalidRequest(f"{kind.name} has no field {field!r}; it has {', '.join(sorted(fields))}.")
    typed: dict[str, Any] = {
        field: [part for part in text.split(",") if part] if get_origin(fields[field].annotation) is tuple else text
        for field, text in (overrides or {}).items()
    }
    try:
        return kind.config_type.model_validate(kind.presets[preset] | typed)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{where} is {first['input']!r}: {first['msg'].lower()}.") from error


def numbers(told: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return scalars as numbers: all at once, so that a GPU is waited for only once a step."""
    return dict(zip(told, torch.stack([value.detach().float() for value in told.values()]).tolist(), strict=True))


def has_bf16() -> bool:
    """Say whether this processor multiplies bf16 natively; without it bf16 is 40-500 times slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
