"""Networks, registered by name: ``@register("stylenet")`` on a class, ``create("stylenet", **config)`` anywhere.

A registered class is a ``torch.nn.Module`` whose constructor takes keyword arguments of plain JSON types (they stand in
card.json), and which has ``example(size) -> tuple`` of valid inputs, so that the tests can walk every net.
Pictures are float tensors (B, 3, H, W) in [0, 1] at every public boundary.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from engine.errors import UnknownName

_NETS: dict[str, type[nn.Module]] = {}
Net = TypeVar("Net", bound=type[nn.Module])
Module = TypeVar("Module", bound=nn.Module)


def register(name: str) -> Callable[[Net], Net]:
    """Enter the decorated class under ``name``."""

    def enter(net: Net) -> Net:
        if name in _NETS:
            raise ValueError(f"the net {name!r} is registered twice")
        _NETS[name] = net
        return net

    return enter


def names() -> list[str]:
    """Return the names of all nets, sorted."""
    _import_families()
    return sorted(_NETS)


def create(name: str, **config: Any) -> nn.Module:
    """Build the net called ``name``.

    Raises:
        UnknownName: there is no such net.
    """
    if name not in _NETS:
        _import_families()
    if name not in _NETS:
        raise UnknownName(f"There is no net {name!r}; there are {', '.join(sorted(_NETS))}.")
    return _NETS[name](**config)


def channels_last(net: Module) -> Module:
    """Return ``net``, its convolutions' weights laid out with the channels last: what processors compute fastest."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]  # torch < 2.14


def _import_families() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
