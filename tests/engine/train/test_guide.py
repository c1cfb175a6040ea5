"""The artists' guide names every system, every preset and only commands and fields that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.train.system import SYSTEMS, find_system

GUIDE = (Path(__file__).parents[3] / "docs" / "artists.md").read_text()


def row_of(name: str) -> str:
    return next(line for line in GUIDE.splitlines() if line.startswith(f"| `{name}` |"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_system_stands_with_its_presets_in_their_order(name: str) -> None:
    presets = re.findall(r"`([^`]+)`", row_of(name).rsplit("|", 2)[1])
    assert presets == list(find_system(name).presets)


def test_every_field_that_is_explained_exists() -> None:
    table = GUIDE.split("| field | of |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        names, systems, _ = (part.strip() for part in line.strip("|").split("|"))
        of = re.findall(r"`([^`]+)`", systems) or (list(SYSTEMS) if systems == "all" else [])
        for name in re.findall(r"`([^`]+)`", names):
            for system in of:
                assert name in find_system(system).config_type.model_fields, (system, name)


def test_what_is_set_in_examples_exists() -> None:
    known = {field for name in SYSTEMS for field in find_system(name).config_type.model_fields}
    for field in re.findall(r"--set ([a-z_]+)=", GUIDE):
        assert field in known
