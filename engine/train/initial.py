"""What a run may start from (``--init``): the training state of another run, or a released model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from engine import checkpoints
from engine.errors import BrokenModel, InvalidRequest
from engine.train.state import load_state


@dataclass(frozen=True)
class Initial:
    """Tensors by network ("G", "D", ...) and by tensor name; of a model also its card, of a state all the rest."""

    path: Path
    networks: dict[str, dict[str, Tensor]]
    averages: dict[str, dict[str, Tensor]]
    card: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)

    def put_into(self, nets: dict[str, nn.Module], source: dict[str, dict[str, Tensor]]) -> int:
        """Copy what has the same name and shape from ``source`` into ``nets``; return how many tensors that were."""
        count = 0
        for name, net in nets.items():
            own = net.state_dict()
            given = source.get(name, {})
            fitting = {k: v.float() if v.is_floating_point() else v for k, v in given.items()
                       if k in own and own[k].shape == v.shape}  # fmt: skip
            net.load_state_dict(fitting, strict=False)
            count += len(fitting)
        return count


def read_initial(source: Path) -> Initial:
    """Read ``source``: a state file, a folder of a run or of a model, or the name of a model.

    Raises:
        InvalidRequest: there is no such file, folder or model.
        BrokenModel: it is damaged.
    """
    if source.is_dir():
        found = [source / name for name in ("state.safetensors", checkpoints.TRAINING_STATE, checkpoints.WEIGHTS)]
        path = next((file for file in found if file.is_file()), None)
        if path is None:
            raise InvalidRequest(f"{source} holds neither a training state nor a model.")
        return read_initial(path)
    if not source.is_file():
        return read_initial(checkpoints.find(str(source)).folder)
    if source.name != checkpoints.WEIGHTS:
        state = load_state(source)
        return Initial(source, state["networks"], state["averages"], _card_beside(source), state)
    try:
        tensors = load_file(source)
    except (OSError, ValueError) as error:
        raise BrokenModel(f"{source} cannot be read: {error}.") from error
    nets = {
        key: {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for key, prefix in (("G", "net."), ("D", "discriminator."), ("E", "encoder."), ("packed", "packed."))
    }
    return Initial(source, nets, {"G": nets["G"]}, _card_beside(source))


def _card_beside(source: Path) -> dict[str, Any]:
    path = source.parent / checkpoints.CARD
    return json.loads(path.read_text()) if path.is_file() else {}
