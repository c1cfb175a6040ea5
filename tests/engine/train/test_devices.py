"""Several processes train one model, and a device that is not there is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from tiny_systems import TINY

from engine.errors import InvalidRequest
from engine.train import devices
from engine.train.state import load_state

PROGRAM = """
    import sys, hashlib, torch
    from pathlib import Path
    from engine.train import devices
    from engine.train.run import train
    from engine.train.system import build_config, find_system
    torch.set_num_threads(1)
    name, data, run, images, resume = sys.argv[1:]
    kind = find_system(name)
    made = []

    class Watched(kind):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    config = build_config(kind, None, {tiny!r} | {{"bf16": "false", "images": images}})
    device = devices.choose("cpu")
    with devices.together(device):
        train(Watched, config, Path(data), Path(run), resume=resume == "yes", device=device)
        told = hashlib.sha256()
        for net in made[0].networks.values():
            for tensor in net.state_dict().values():
                told.update(tensor.numpy().tobytes())
        print("rank", devices.rank(), told.hexdigest(), made[0].numpy_rng.integers(2**32), flush=True)
"""


def run_together(name: str, data: Path, run: Path, images: int, *, resume: bool = False) -> list[list[str]]:
    """Train in two processes; return rank, hash of all networks and next random number of each."""
    script = run.parent / "program.py"
    script.write_text(textwrap.dedent(PROGRAM).format(tiny=TINY[name]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*command, name, str(data), str(run), str(images), "yes" if resume else "no"],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return sorted(line.split() for line in done.stdout.splitlines() if line.startswith("rank"))


@pytest.mark.slow  # four processes that load PyTorch
@pytest.mark.timeout(600)
def test_two_processes_hold_the_same_weights_and_go_on_after_a_resume(data: Path, tmp_path: Path) -> None:
    name = "dcgan"
    batch = int(TINY[name]["batch"])
    for steps, resume in ((3, False), (6, True)):
        (zero, one) = run_together(name, data, tmp_path / "run", steps * batch, resume=resume)
        assert zero[1:3] == ["0", zero[2]] and one[1:3] == ["1", zero[2]]  # alike in every bit
        assert zero[3] != one[3]  # but they drew other pictures
        assert load_state(tmp_path / "run" / "state.safetensors")["images"] == steps * batch
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    assert json.loads((tmp_path / "run" / "release" / "card.json").read_text())["images_seen"] == 2 * 6 * batch


def test_a_device_that_is_not_there_is_named() -> None:
    assert devices.choose("cpu") == torch.device("cpu")
    with pytest.raises(InvalidRequest, match="device is 'tpu'; it must be one of auto, cpu, cuda"):
        devices.choose("tpu")
    if not torch.cuda.is_available():
        assert devices.choose("auto") == torch.device("cpu")
        with pytest.raises(InvalidRequest, match="finds no CUDA device here"):
            devices.choose("cuda")
