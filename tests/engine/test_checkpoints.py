"""Models on disk: what is saved comes back, what is broken says so, and nothing is half written."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from engine import checkpoints, nets
from engine.errors import BrokenModel, InvalidRequest, UnknownName

BRUSH = {"widths": [8, 12, 16], "blocks": 1}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def save(name: str = "oil", *, seed: int = 0, **extra: object) -> nn.Module:
    torch.manual_seed(seed)
    net = nets.create("brush", **BRUSH)
    fields = {"name": name, "kind": "brush", "system": "cut", "net": {"name": "brush", "config": BRUSH}}
    checkpoints.save(fields | extra, net)
    return net


def edit_card(folder: Path, **changes: object) -> None:
    fields = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**fields, **changes}))


def test_what_is_saved_is_loaded_up_to_half_precision(root: Path) -> None:
    saved = save(metrics={"kid": 0.01})
    model = checkpoints.load("oil")
    assert model.card["metrics"] == {"kid": 0.01}
    assert not model.net.training
    for key, value in model.net.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, saved.state_dict()[key], atol=1e-3, rtol=1e-3)


def test_saving_what_was_loaded_changes_nothing(root: Path) -> None:
    save()
    first = checkpoints.load("oil")
    again = checkpoints.save(first.card.fields, first.net)
    assert again.sha256 == first.card.sha256


def test_the_folder_holds_only_a_model_and_no_remains(root: Path) -> None:
    save()
    save(seed=1)
    assert [path.name for path in root.iterdir()] == ["oil"]
    assert sorted(path.name for path in (root / "oil").iterdir()) == ["card.json", "model.safetensors"]


def test_an_interrupted_save_leaves_the_old_model(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save()
    before = checkpoints.find("oil").sha256

    def die(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_write", die)
    with pytest.raises(KeyboardInterrupt):
        save(seed=1)
    assert checkpoints.load("oil").card.sha256 == before
    assert [path.name for path in root.iterdir()] == ["oil"]


def test_a_model_is_found_while_a_save_swaps_it(root: Path) -> None:
    save()
    (root / "oil").rename(root / ".oil.previous")
    assert checkpoints.load("oil").card.name == "oil"


def test_readers_see_a_whole_model_while_a_writer_replaces_it(root: Path) -> None:
    save()
    stop, broken = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                checkpoints.find("oil")
            except Exception as error:
                broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for seed in range(10):
        save(seed=seed)
    stop.set()
    reader.join()
    assert not broken


def test_nan_is_not_saved(root: Path) -> None:
    net = nets.create("brush", **BRUSH)
    next(iter(net.parameters())).data.fill_(float("nan"))
    fields = {"name": "bad", "kind": "brush", "system": "cut", "net": {"name": "brush", "config": BRUSH}}
    with pytest.raises(InvalidRequest, match="NaN"):
        checkpoints.save(fields, net)
    assert not (root / "bad").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 2}, "format 2; this engine reads 1"),
        ({"kind": "sculptor"}, "'sculptor'; there are stylizer"),
        ({"name": "acrylic"}, "calls itself 'acrylic'"),
        ({"sha256": "0" * 64}, "sha256 differs"),
        ({"net": {"name": "nonet", "config": {}}}, "does not fit its network 'nonet'"),
        ({"net": {"name": "brush", "config": {"widths": [8, 8, 8], "blocks": 1}}}, "does not fit its network 'brush'"),
        ({"net": {"name": "brush", "config": {"colour": "red"}}}, "does not fit its network 'brush'"),
    ],
)
def test_a_wrong_card_says_what_is_wrong(root: Path, changes: dict[str, object], sentence: str) -> None:
    save()
    edit_card(root / "oil", **changes)
    with pytest.raises(BrokenModel, match=sentence):
        checkpoints.load("oil")


@pytest.mark.parametrize("card", ["", "{", "[]", '{"format": 1}', "\x00"])
def test_a_broken_card_is_left_out_of_the_catalogue(root: Path, card: str) -> None:
    save("fine")
    save()
    (root / "oil" / "card.json").write_text(card)
    assert [card.name for card in checkpoints.catalogue()] == ["fine"]
    with pytest.raises(BrokenModel, match="oil"):
        checkpoints.find("oil")


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_damaged_weights_are_refused(root: Path, damage: str) -> None:
    save()
    weights = root / "oil" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    if damage == "remove":
        weights.unlink()
    else:
        data[len(data) // 2] ^= 1
        weights.write_bytes({"truncate": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    with pytest.raises(BrokenModel, match="oil"):
        checkpoints.load("oil")


def test_weights_that_are_no_safetensors_are_refused_even_with_the_right_sha256(root: Path) -> None:
    import hashlib
    import pickle

    save()
    data = pickle.dumps({"net.weight": [1]})
    (root / "oil" / "model.safetensors").write_bytes(data)
    edit_card(root / "oil", sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(BrokenModel, match="no safetensors"):
        checkpoints.load("oil")


@pytest.mark.parametrize("name", ["gouache", "", "..", "../oil", "/etc", "OIL", "a" * 65, ".oil", "oil\n"])
def test_an_unknown_name_lists_what_there_is(root: Path, name: str) -> None:
    save()
    with pytest.raises(UnknownName, match="there are oil"):
        checkpoints.find(name)


def test_the_first_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, folder in enumerate(("own", "released")):
        monkeypatch.setenv("GANVAS_MODELS", str(tmp_path / folder))
        save(seed=seed)
    monkeypatch.setenv("GANVAS_MODELS", f"{tmp_path / 'own'}:{tmp_path / 'released'}")
    assert checkpoints.find("oil").folder == tmp_path / "own" / "oil"
    assert len(checkpoints.catalogue()) == 1


def test_whoever_is_appointed_works(root: Path) -> None:
    save("a")
    save("b")
    assert checkpoints.in_office("brush").name == "a"
    checkpoints.appoint("b")
    assert checkpoints.in_office("brush").name == "b"
    with pytest.raises(UnknownName, match="no painter"):
        checkpoints.in_office("painter")


@pytest.mark.parametrize("target", ["box", "box.zip"])
def test_a_model_travels(root: Path, tmp_path: Path, target: str) -> None:
    save()
    before = checkpoints.find("oil").sha256
    written = checkpoints.export("oil", tmp_path / target)
    shutil.rmtree(root / "oil")
    assert checkpoints.import_model(written).sha256 == before
    assert checkpoints.load("oil").card.sha256 == before
    with pytest.raises(InvalidRequest, match="already"):
        checkpoints.import_model(written)
    assert checkpoints.import_model(written, replace=True).name == "oil"
    with pytest.raises(InvalidRequest, match="exists already"):
        checkpoints.export("oil", written)


def test_the_training_state_travels_when_asked(root: Path, tmp_path: Path) -> None:
    save()
    with pytest.raises(InvalidRequest, match="no training state"):
        checkpoints.export("oil", tmp_path / "a.zip", with_training_state=True)
    (root / "oil" / checkpoints.TRAINING_STATE).write_bytes(b"state")
    plain = checkpoints.export("oil", tmp_path / "b.zip")
    whole = checkpoints.export("oil", tmp_path / "c.zip", with_training_state=True)
    assert f"oil/{checkpoints.TRAINING_STATE}" not in zipfile.ZipFile(plain).namelist()
    assert f"oil/{checkpoints.TRAINING_STATE}" in zipfile.ZipFile(whole).namelist()


@pytest.mark.parametrize("target", ["box", "box.zip"])
def test_samples_travel_with_their_model_and_strays_do_not(root: Path, tmp_path: Path, target: str) -> None:
    save()
    samples = root / "oil" / checkpoints.SAMPLES
    samples.mkdir()
    (samples / "waves.webp").write_bytes(b"tile")
    (samples / "notes.txt").write_text("mine")
    box = checkpoints.export("oil", tmp_path / target)
    shutil.rmtree(root / "oil")
    taken = checkpoints.import_model(box).folder / checkpoints.SAMPLES
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == {"waves.webp": b"tile"}


def test_hostile_archives_write_nothing_outside(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../escaped.txt", "x")
        archive.writestr("oil/samples/../../escaped.webp", "x")
        archive.writestr("../card.json", "{}")
    with pytest.raises(BrokenModel):
        checkpoints.import_model(tmp_path / "evil.zip")
    (tmp_path / "none.zip").write_bytes(b"not a zip")
    with pytest.raises(BrokenModel, match="no zip"):
        checkpoints.import_model(tmp_path / "none.zip")
    with pytest.raises(BrokenModel, match="There is no model"):
        checkpoints.import_model(tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.zip", "models", "none.zip"]
    assert list(root.iterdir()) == []


def test_an_altered_model_is_not_imported(root: Path, tmp_path: Path) -> None:
    save()
    box = checkpoints.export("oil", tmp_path / "box")
    shutil.rmtree(root / "oil")
    edit_card(box, sha256="0" * 64)
    with pytest.raises(BrokenModel, match="sha256"):
        checkpoints.import_model(box)
    assert list(root.iterdir()) == []


def test_a_shelf_keeps_models_drops_the_oldest_and_notices_a_new_version(root: Path) -> None:
    for name in ("a", "b", "c"):
        save(name)
    shelf = checkpoints.Shelf(capacity=2)
    first = shelf.get("a")
    assert shelf.get("a") is first
    shelf.get("b")
    shelf.get("c")
    assert shelf.get("a") is not first
    held = shelf.get("a")
    save("a", seed=9)
    assert shelf.get("a").card.sha256 != held.card.sha256


def test_a_brush_has_no_discriminator(root: Path) -> None:
    save()
    with pytest.raises(BrokenModel, match="no discriminator"):
        checkpoints.load("oil", discriminator=True)
