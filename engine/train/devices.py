"""Where a training computes: the processor or a CUDA device, alone or as one of several processes under torchrun.

    torchrun --nproc-per-node 2 -m engine train painter --data DIR

Every process shows its own ``images`` in batches of its own; before each step of an optimiser the gradients are
averaged over all processes, and then the running statistics follow the first one: all hold the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import InvalidRequest

if TYPE_CHECKING:
    from engine.train.system import System

DEVICES = ("auto", "cpu", "cuda")


def choose(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA where there is any.

    Raises:
        InvalidRequest: another name, or CUDA without a device that PyTorch can use.
    """
    if name not in DEVICES:
        raise InvalidRequest(f"device is {name!r}; it must be one of {', '.join(DEVICES)}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("device is 'cuda', but PyTorch finds no CUDA device here; choose 'cpu' or 'auto'.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    torch.set_float32_matmul_precision("high")  # TF32 wherever autocast leaves float32
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # crops have one size
    return device


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Join the other processes that torchrun started, if it did."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def world() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this is; number 0 writes the run."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def first_alone() -> Iterator[None]:
    """Let process 0 do this before the others: it decodes the pictures, they find them decoded."""
    if rank() == 0:
        yield
    if world() > 1:
        dist.barrier()
    if rank() != 0:
        yield


def anybody(yes: bool, device: torch.device) -> bool:
    """Say whether any process says yes; all get the same answer, so that all turn the same way."""
    if world() == 1:
        return yes
    told = torch.tensor(float(yes), device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told)


def train_alike(system: System) -> None:
    """Start from the weights of process 0 but draw other pictures; average gradients before an optimiser's step."""
    if world() == 1:
        return
    nets = [*system.networks.values(), *system.averages.values()]
    _follow([tensor.data for net in nets for tensor in (*net.parameters(), *net.buffers())])
    for optimizer in system.optimizers.values():
        optimizer.register_step_pre_hook(_average)
    if rank():
        own = [system.config.seed, rank(), system.images]
        system.numpy_rng = np.random.default_rng(own)
        system.torch_rng.manual_seed(int(system.numpy_rng.integers(2**62)))
        torch.manual_seed(int(system.numpy_rng.integers(2**62)))


def follow_first(system: System) -> None:
    """Take over the running statistics of process 0: norms and whatever else is measured instead of learned."""
    if world() > 1:
        _follow([buffer for net in system.networks.values() for buffer in net.buffers()])


def _follow(tensors: list[Tensor]) -> None:
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    flat = torch.cat([tensor.flatten() for tensor in floats])
    dist.broadcast(flat, 0)
    _spread(flat, floats)


def _average(optimizer: torch.optim.Optimizer, *_: object) -> None:
    gradients = []
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        if parameter.grad is None:  # a style that only another process painted, for instance
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    _spread(flat / world(), gradients)


def _spread(flat: Tensor, tensors: list[Tensor]) -> None:
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
