"""The arrows of docs/architecture.md: discord, web -> studio -> engine.client -> engine.api, and none back."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRONT_OF_ENGINE = {"engine", "engine.api", "engine.client", "engine.errors"}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that the file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module == "engine":
                yield from (f"engine.{alias.name}" for alias in node.names if not alias.name.startswith("_"))


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", files("bot"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_bot_reaches_the_engine_only_through_its_front(path: Path) -> None:
    for module in imports(path):
        assert not within(module, "torch"), f"{path} imports torch"
        assert not within(module, "engine") or module in FRONT_OF_ENGINE, f"{path} imports {module}"


@pytest.mark.parametrize("path", files("bot/studio"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_studio_knows_no_front_end(path: Path) -> None:
    forbidden = ("discord", "aiohttp", "jinja2", "bot.discord", "bot.web")
    for module in imports(path):
        assert not any(within(module, name) for name in forbidden), f"{path} imports {module}"


@pytest.mark.parametrize("path", files("engine"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_engine_knows_no_bot(path: Path) -> None:
    for module in imports(path):
        assert not within(module, "bot"), f"{path} imports {module}"


@pytest.mark.parametrize("module", ["engine.client", "bot.__main__", "bot.discord.client", "bot.web.app"])
def test_torch_never_enters_the_process_of_the_bot(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


MODULES = {"discord.py": "discord", "pillow": "PIL", "tensorboard": "torch.utils.tensorboard"}
DATA_ALONE = {"tzdata"}  # zoneinfo reads it where the system has no time zones


def test_every_package_that_a_host_installs_is_imported() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=\[;]", entry)[0] for entry in wanted} - DATA_ALONE
    used = {module for folder in ("bot", "engine") for path in files(folder) for module in imports(path)}
    idle = {name for name in names if not any(within(m, MODULES.get(name, name.replace("-", "_"))) for m in used)}
    assert not idle, f"nobody imports {', '.join(sorted(idle))}"
