"""Data sets: what people have comes in safely, and comes out as a training wants it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import drawn, folder, save
from PIL import Image

from engine.cli import MISTAKE, run
from engine.data.crops import tiles
from engine.data.dedupe import dhash, find_duplicates, similar_pairs
from engine.data.edges import canny
from engine.data.folders import Report
from engine.data.importing import import_pictures
from engine.data.sorting import k_means
from engine.errors import InvalidRequest


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def dataset(*arguments: object) -> int:
    return run(["dataset", *map(str, arguments)])


# import


def test_import_sorts_a_folder_by_genre_and_art_style(tmp_path: Path) -> None:
    save(drawn(1), tmp_path / "in/flowers/rose.png")
    save(drawn(2), tmp_path / "in/seascape/Impressionism/Étretat (1885).jpg")
    save(drawn(3), tmp_path / "in/loose.jpg")
    save(drawn(4), tmp_path / "in/my cats/tom.jpg")
    report = import_pictures(tmp_path / "in", tmp_path / "out")
    assert report == Report(written=4)
    found = [name.rsplit("-", 1)[0] for name in names(tmp_path / "out")]
    assert found == [
        "flower-painting/rose", "marina/impressionism/etretat-1885", "my-cats/tom", "unlabelled/loose",
    ]  # fmt: skip


def test_import_again_writes_nothing_twice(tmp_path: Path) -> None:
    folder(tmp_path / "in", landscape=2)
    import_pictures(tmp_path / "in", tmp_path / "out")
    before = names(tmp_path / "out")
    assert import_pictures(tmp_path / "in", tmp_path / "out") == Report(skipped=2)
    assert names(tmp_path / "out") == before


def test_import_takes_labels_from_a_csv(tmp_path: Path) -> None:
    save(drawn(1), tmp_path / "in/a.jpg")
    save(drawn(2), tmp_path / "in/deep/b.jpg")
    labels = tmp_path / "labels.csv"
    labels.write_text("file,genre,style,year\na.jpg,portrait,Cubism,1910\ndeep/b.jpg,still life,,\n")
    import_pictures(tmp_path / "in", tmp_path / "out", labels=labels)
    assert [name.rsplit("/", 1)[0] for name in names(tmp_path / "out")] == ["portrait/cubism", "still-life"]


def test_labels_without_the_columns_are_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "in", landscape=1)
    (tmp_path / "labels.csv").write_text("a,b\n1,2\n")
    assert dataset("import", tmp_path / "in", tmp_path / "out", "--labels", tmp_path / "labels.csv") == MISTAKE
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "genre or label" in said


def test_a_zip_cannot_write_outside_and_its_broken_members_are_told(tmp_path: Path) -> None:
    good = save(drawn(1), tmp_path / "good.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../marina/evil.png", good)
        archive.writestr("marina/__MACOSX/._good.png", b"x")
        archive.writestr("marina/torn.png", good[:40])
        archive.writestr("marina/bomb.png", b"\0" * 10_000_000)
        archive.writestr("marina/readme.txt", b"hello")
    report = import_pictures(tmp_path / "in.zip", tmp_path / "out")
    assert report.written == 1
    assert {line.split(":")[0] for line in report.broken} == {"marina/bomb.png", "marina/torn.png"}
    assert [name.rsplit("-", 1)[0] for name in names(tmp_path / "out")] == ["marina/evil"]
    assert not list(tmp_path.glob("*evil*"))


def test_a_list_names_files_relative_to_itself(tmp_path: Path) -> None:
    save(drawn(1), tmp_path / "art/abstract/a.jpg")
    save(drawn(2), tmp_path / "elsewhere/portrait/b.jpg")
    (tmp_path / "art/list.txt").write_text(f"# mine\nabstract/a.jpg\n{tmp_path}/elsewhere/portrait/b.jpg\ngone.jpg\n")
    report = import_pictures(tmp_path / "art/list.txt", tmp_path / "out")
    assert (report.written, report.broken) == (2, ["gone.jpg: there is no such file."])
    assert {name.split("/")[0] for name in names(tmp_path / "out")} == {"abstract", "portrait"}


def test_imported_pictures_are_upright_shrunk_and_without_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    (tmp_path / "in").mkdir()
    Image.fromarray(drawn(1, 300, 200)).save(tmp_path / "in/a.jpg", exif=exif)
    import_pictures(tmp_path / "in", tmp_path / "out", max_side=150)
    (path,) = (tmp_path / "out").rglob("*.jpg")
    with Image.open(path) as picture:
        assert picture.size == (100, 150)
        assert not picture.getexif()


def test_nothing_but_broken_files_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"no picture")
    assert dataset("import", tmp_path / "in", tmp_path / "out") == MISTAKE
    assert "a.jpg" in capsys.readouterr().err


# crop


def test_tiles_cover_every_pixel_at_its_own_scale() -> None:
    picture = np.arange(70 * 100 * 3, dtype=np.uint32).reshape(70, 100, 3)
    found = list(tiles(picture, 32))  # type: ignore[arg-type]
    assert {tile.shape for tile in found} == {(32, 32, 3)}
    assert set(np.concatenate([tile.ravel() for tile in found])) == set(picture.ravel())
    assert len(found) == 3 * 4
    assert list(tiles(picture, 71)) == []  # type: ignore[arg-type]


def test_crop_keeps_the_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(drawn(1, 60, 60), tmp_path / "in/portrait/cubism/a.jpg")
    save(drawn(2, 200, 60), tmp_path / "in/marina/b.jpg")
    (tmp_path / "in/marina/c.jpg").write_bytes(b"broken")
    assert dataset("crop", tmp_path / "in", tmp_path / "out", "--size", 32, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == 3 and len(told["broken"]) == 1
    assert names(tmp_path / "out") == ["marina/b-1.jpg", "marina/b-2.jpg", "portrait/cubism/a-1.jpg"]
    with Image.open(tmp_path / "out/marina/b-1.jpg") as picture:
        assert picture.size == (32, 32)


def test_output_inside_the_input_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "in", landscape=1)
    assert dataset("crop", tmp_path / "in", tmp_path / "in/out") == MISTAKE
    assert not (tmp_path / "in/out").exists()


# edges


def test_canny_draws_one_thin_line_around_a_square() -> None:
    picture = np.full((64, 64, 3), 40, np.uint8)
    picture[16:48, 16:48] = 200
    lines = canny(picture)[:, :, 0] == 0
    for row in (24, 32, 40):  # across both upright sides: one point each, at most a pixel off
        (found,) = np.nonzero(lines[row])
        assert len(found) == 2 and abs(found[0] - 15.5) <= 1 and abs(found[1] - 47.5) <= 1
    assert not lines[20:44, 20:44].any() and not lines[:12].any()


def test_canny_follows_a_fading_edge_but_not_noise() -> None:
    rng = np.random.default_rng(0)
    noise = np.clip(128 + rng.normal(0, 1.5, (64, 64, 1)), 0, 255).astype(np.uint8).repeat(3, 2)
    assert not (canny(noise) == 0).any()
    fading = np.full((64, 64, 3), 100, np.uint8)
    fading[:, 32:] += np.linspace(150, 50, 64)[:, None, None].astype(np.uint8)
    lines = canny(fading, strong=0.9)[:, :, 0] == 0
    assert lines.any(axis=1).sum() >= 60  # weak at the bottom, but it hangs on the strong top


# dedupe


def test_copies_of_other_sizes_and_qualities_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "in", landscape=6)
    large = drawn(99, 400, 300)
    save(large, tmp_path / "in/portrait/large.png")
    Image.fromarray(large).resize((120, 90)).save(tmp_path / "in/portrait/small.jpg", quality=40)
    brighter = np.clip(large.astype(int) + 12, 0, 255).astype(np.uint8)
    save(brighter[:200, :200], tmp_path / "in/portrait/detail.png")
    assert dataset("dedupe", tmp_path / "in", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    (group,) = told["groups"]
    assert Path(group["keep"]).name == "large.png" and [Path(each).name for each in group["others"]] == ["small.jpg"]
    assert len(names(tmp_path / "in")) == 9  # told, not moved
    assert dataset("dedupe", tmp_path / "in", "--move", tmp_path / "copies") == 0
    assert names(tmp_path / "copies") == ["portrait/small.jpg"]
    assert not find_duplicates(tmp_path / "in", Report())


def test_pairs_agree_with_counting_bits_one_by_one() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 600, dtype=np.uint64)
    hashes[550] = hashes[3] ^ np.uint64(0b10110)
    slow = [
        (i, j) for i in range(600) for j in range(i + 1, 600) if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 16
    ]
    assert sorted(similar_pairs(hashes, 16)) == slow and (3, 550) in slow


def test_the_hash_is_of_the_picture_not_of_the_file() -> None:
    picture = drawn(5, 200, 160)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=60)
    again = np.asarray(Image.open(file))
    assert (dhash(picture) ^ dhash(again)).bit_count() <= 2
    assert (dhash(picture) ^ dhash(drawn(6, 200, 160))).bit_count() > 16


# sort


def test_sort_by_brightness_numbers_from_dark_to_light(tmp_path: Path) -> None:
    for name, level in (("mid", 120), ("dark", 20), ("light", 230)):
        save(drawn(1, colour=(level, level, level)), tmp_path / f"in/x/{name}.png")
    assert dataset("sort", tmp_path / "in", tmp_path / "out", "--by", "brightness") == 0
    assert names(tmp_path / "out") == ["00001-dark.png", "00002-mid.png", "00003-light.png"]


def test_sort_by_colour_goes_round_the_wheel_with_grey_first(tmp_path: Path) -> None:
    colours = {"blue": (30, 40, 200), "red": (200, 60, 40), "grey": (100, 100, 100), "green": (40, 180, 60)}
    for name, value in colours.items():
        save(drawn(1, colour=value), tmp_path / f"in/{name}.png")
    assert dataset("sort", tmp_path / "in", tmp_path / "out") == 0
    assert [name[6:-4] for name in names(tmp_path / "out")] == ["grey", "red", "green", "blue"]


def test_clusters_part_what_looks_different(tmp_path: Path) -> None:
    for number in range(4):
        save(drawn(number, colour=(220, 40, 30)), tmp_path / f"in/red{number}.png")
        save(drawn(50 + number, colour=(20, 60, 220)), tmp_path / f"in/blue{number}.png")
    assert dataset("sort", tmp_path / "in", tmp_path / "out", "--by", "cluster", "--clusters", 2) == 0
    homes = {Path(name).stem[6:-1]: name.split("/")[0] for name in names(tmp_path / "out")}
    assert set(homes) == {"red", "blue"} and homes["red"] != homes["blue"]
    assert dataset("sort", tmp_path / "in", tmp_path / "out2", "--by", "cluster", "--clusters", 9) == MISTAKE
    assert dataset("sort", tmp_path / "in", tmp_path / "out2", "--by", "taste") == MISTAKE


def test_k_means_finds_three_heaps() -> None:
    rng = np.random.default_rng(1)
    heaps = np.concatenate([rng.normal(centre, 0.1, (20 + centre, 4)) for centre in (0, 5, 10)]).astype(np.float32)
    homes = k_means(heaps, 3)
    assert [len(set(part)) for part in (homes[:20], homes[20:45], homes[45:])] == [1, 1, 1]
    assert (homes[45:] == 0).all()  # the largest comes first


# split, stats, sheet


def test_split_is_the_same_whatever_the_names(tmp_path: Path) -> None:
    folder(tmp_path / "in", landscape=30, portrait=30)
    assert dataset("split", tmp_path / "in", tmp_path / "out", "--share", 0.3) == 0
    held = {(tmp_path / "out/held-out" / name).read_bytes() for name in names(tmp_path / "out/held-out")}
    assert 8 <= len(held) <= 28
    assert len(names(tmp_path / "out/train")) == 60 - len(held)
    for number, path in enumerate(sorted((tmp_path / "in/landscape").iterdir())):
        path.rename(path.with_name(f"renamed{number}.jpg"))
    assert dataset("split", tmp_path / "in", tmp_path / "again", "--share", 0.3) == 0
    again = {(tmp_path / "again/held-out" / name).read_bytes() for name in names(tmp_path / "again/held-out")}
    assert again == held


def test_stats_count_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "in", landscape=3, portrait=1)
    save(drawn(77, colour=(90, 90, 90))[:, :, :1].repeat(3, 2), tmp_path / "in/portrait/cubism/g.png")
    (tmp_path / "in/portrait/torn.png").write_bytes(b"\x89PNG")
    assert dataset("stats", tmp_path / "in", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == 5 and told["genres"] == {"landscape": 3, "portrait": 2}
    assert told["art_styles"] == {"cubism": 1} and told["without_colour"] == 1
    assert told["short_side"]["at_least"]["64"] == 5 and len(told["broken"]) == 1


def test_the_sheet_has_a_row_for_each_genre(tmp_path: Path) -> None:
    folder(tmp_path / "in", landscape=3, portrait=1)
    assert dataset("sheet", tmp_path / "in", "-o", tmp_path / "sheet.png", "--per-genre", 3, "--size", 48) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 3 * 48 and sheet.size[1] > 2 * 32


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stats", "/nowhere"), "There is no folder /nowhere"),
        (("import", "/nowhere", "/tmp/x"), "'/nowhere'"),
        (("crop", "{in}", "/tmp/x", "--size", "3"), "between 16 and 4096"),
        (("dedupe", "{in}", "--threshold", "40"), "between 0 and 32"),
        (("split", "{in}", "/tmp/x", "--share", "1.5"), "between 0 and 1"),
        (("fetch", "/tmp/x", "--genre", "dreams"), "no genre 'dreams'"),
        (("fetch", "/tmp/x", "--museum", "louvre"), "met, aic"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    home = str(folder(tmp_path / "in", landscape=1))
    assert dataset(*(home if each == "{in}" else each for each in arguments)) == MISTAKE
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and not told.out


def test_tiles_of_a_picture_too_small_are_passed_over(tmp_path: Path) -> None:
    from engine.data.crops import crop_folder

    folder(tmp_path / "in", landscape=1)
    assert crop_folder(tmp_path / "in", tmp_path / "out", size=512, tiled=True) == Report(skipped=1)
    with pytest.raises(InvalidRequest, match="between 16 and 4096"):
        crop_folder(tmp_path / "in", tmp_path / "out", size=8, tiled=True)
