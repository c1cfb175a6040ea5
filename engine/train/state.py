"""Training states on disk: nested dicts of tensors and plain values as one safetensors file and no pickle.

Tensors are stored under their path ("optimizers/G/state/3/exp_avg"), everything else as JSON in the file's metadata.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import BrokenModel, GanvasError

FORMAT = 1


class StateNotSaved(GanvasError):
    """The disk is full or not writable; the former state is still there."""

    code = "state_not_saved"


class StateNotFinite(GanvasError):
    """The state holds NaN or infinity; the former state is still there."""

    code = "state_not_finite"


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` to ``path`` atomically; whatever goes wrong leaves the former file.

    Raises:
        StateNotFinite: a tensor holds NaN or infinity: losses of one step more would have told.
        StateNotSaved: the disk is full or not writable.
    """
    tensors: dict[str, Tensor] = {}
    plain = _strip(state, "", tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise StateNotFinite(f"{name.strip('/')} is no longer finite; the last good state is kept in {path}.")
    part = path.with_suffix(".part")
    try:
        save_file(tensors, part, metadata={"format": str(FORMAT), "plain": json.dumps(plain)})
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise StateNotSaved(f"The training state could not be written to {path}: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Any]:
    """Return what :func:`save_state` wrote.

    Raises:
        BrokenModel: the file is damaged or of another format.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(FORMAT):
                raise BrokenModel(f"{path} has format {metadata.get('format')!r}; this version reads {FORMAT}.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise BrokenModel(f"{path} is no complete training state: {error}.") from error
    return _fill(json.loads(metadata["plain"]), tensors)


def _strip(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, dict):
        # Keys may be numbers (optimizer states count their parameters), which JSON would turn into text.
        return {"dict": [[key, _strip(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_strip(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    return {"value": value}


def _fill(value: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _fill(item, tensors) for key, item in content}
    if kind == "list":
        return [_fill(item, tensors) for item in content]
    return content


def ema_update(average: torch.nn.Module, source: torch.nn.Module, decay: float) -> None:
    """Move ``average`` towards ``source``: a <- decay * a + (1 - decay) * s; buffers are copied."""
    with torch.no_grad():
        mine: list[Tensor] = [p for p in average.parameters() if p.dtype.is_floating_point]
        theirs: list[Tensor] = [p for p in source.parameters() if p.dtype.is_floating_point]
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for copy, buffer in zip(average.buffers(), source.buffers(), strict=True):
            copy.copy_(buffer)
