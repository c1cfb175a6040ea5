"""Pictures from anywhere into ``<root>/<genre>/[<art style>/]*.jpg``: a folder, a zip, or a list of paths.

Every file is decoded in a process with limits, so that a hostile archive can spoil nothing but itself, and is written
anew: upright, in sRGB, without metadata.  The same bytes get the same name, so an import can be repeated or go on.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from engine.data.folders import UNLABELLED, Report, content_name, genre_folder, slug, write_picture
from engine.data.intake import MAX_BYTES, Decoder
from engine.data.paintings import SUFFIXES, find_pictures
from engine.errors import InvalidRequest, UnreadableImage

MAX_MEMBERS: Final = 200_000  # files in an archive
MAX_UNPACKED: Final = 64 * 2**30  # bytes, all members together
MAX_RATIO: Final = 100  # unpacked to packed; pictures hardly shrink, bombs do

LABEL_COLUMNS: Final = {"path": ("path", "file", "filename", "image"), "genre": ("genre", "label"),
                        "style": ("style", "art_style", "movement")}  # fmt: skip


@dataclass(frozen=True)
class Label:
    """Where a picture belongs."""

    genre: str
    style: str = ""


@dataclass(frozen=True)
class Found:
    """A file to be imported: its name inside the source, and how to read it."""

    name: PurePosixPath
    read: Callable[[], bytes]


def import_pictures(
    source: Path,
    root: Path,
    *,
    genre: str | None = None,
    labels: Path | None = None,
    max_side: int = 1024,
    on_file: Callable[[int], None] | None = None,
) -> Report:
    """Take all pictures of ``source`` into ``root``.

    A picture's genre is that of the csv ``labels``, else ``genre``, else the first folder it lies in inside the source
    (a second folder is its art style), else "unlabelled".

    Args:
        source: a folder, a zip, or a text file with one path a line, relative to the file's own folder.
        genre: for every picture that the csv does not name.
        labels: csv with columns path, genre and, if wanted, style; paths as in the source, or file names alone.
        max_side: px; larger pictures are shrunk to this long side.
        on_file: told how many files are done.

    Raises:
        InvalidRequest: there is no such source, it holds no pictures, or the csv has other columns.
    """
    known = {} if labels is None else read_labels(labels)
    report = Report()
    files = _files(source, report)
    with Decoder() as decoder:
        for done, found in enumerate(files, 1):
            label = _label(found.name, known, genre)
            try:
                data = found.read()
                folder = root / genre_folder(label.genre) / (slug(label.style) if label.style else "")
                path = folder / content_name(found.name.name, data)
                if path.exists():
                    report.skipped += 1
                    continue
                write_picture(decoder.open(data, max_side=max_side), path)
                report.written += 1
            except UnreadableImage as error:
                report.broken.append(f"{found.name}: {error}")
            except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
                report.broken.append(f"{found.name}: it cannot be read: {error}.")
            finally:
                if on_file:
                    on_file(done)
    return report


def read_labels(path: Path) -> dict[str, Label]:
    """Return {path or file name: label} of a csv.

    Raises:
        InvalidRequest: it lacks the columns for a path and a genre.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"The labels {str(path)!r} cannot be read: {error}.") from error
    present = set(rows[0]) if rows else set()
    column = {what: next((name for name in names if name in present), "") for what, names in LABEL_COLUMNS.items()}
    if not column["path"] or not column["genre"]:
        wanted = " and ".join(" or ".join(LABEL_COLUMNS[what]) for what in ("path", "genre"))
        raise InvalidRequest(f"The labels {str(path)!r} need rows with the columns {wanted}.")
    labels: dict[str, Label] = {}
    for row in rows:
        label = Label(row[column["genre"]] or "", row.get(column["style"]) or "")
        where = PurePosixPath(row[column["path"]] or "")
        labels[str(where)] = label
        labels.setdefault(where.name, label)
    return labels


def _label(name: PurePosixPath, known: dict[str, Label], genre: str | None) -> Label:
    if found := known.get(str(name)) or known.get(name.name):
        return found
    folders = [part for part in name.parts[:-1] if part not in ("..", "/")]
    if genre is not None:
        return Label(genre)
    if not folders:
        return Label(UNLABELLED)
    return Label(folders[0], folders[1] if len(folders) > 1 else "")


def _files(source: Path, report: Report) -> Iterator[Found]:
    if source.is_dir():
        for path in find_pictures(source):
            yield Found(PurePosixPath(path.relative_to(source).as_posix()), path.read_bytes)
    elif zipfile.is_zipfile(source):
        yield from _members(source, report)
    elif source.is_file():
        yield from _listed(source, report)
    else:
        raise InvalidRequest(f"There is no {str(source)!r}; give a folder, a zip or a text file of paths.")


def _members(source: Path, report: Report) -> Iterator[Found]:
    """Yield the pictures of an archive.  Their names never become paths, so "../" in one is harmless."""
    with zipfile.ZipFile(source) as archive:
        members = [
            member
            for member in archive.infolist()
            if PurePosixPath(member.filename).suffix.lower() in SUFFIXES and not _is_shadow(member.filename)
        ]
        if not members:
            raise InvalidRequest(f"There are no pictures in {str(source)!r}; known are {', '.join(sorted(SUFFIXES))}.")
        total = sum(member.file_size for member in members)
        if len(members) > MAX_MEMBERS or total > MAX_UNPACKED:
            raise InvalidRequest(
                f"{str(source)!r} holds {len(members)} pictures of {total / 2**30:.1f} GB; "
                f"at most {MAX_MEMBERS} of {MAX_UNPACKED >> 30} GB are unpacked."
            )
        for member in members:
            if member.file_size > MAX_BYTES or member.file_size > MAX_RATIO * max(member.compress_size, 1):
                report.broken.append(
                    f"{member.filename}: it unpacks to {member.file_size} bytes, which no picture does."
                )
                continue
            yield Found(PurePosixPath(member.filename), lambda member=member: _unpacked(archive, member))  # type: ignore[misc]


def _is_shadow(name: str) -> bool:
    """Say whether this is one of the files that macOS puts beside the real ones."""
    return "__MACOSX" in name or PurePosixPath(name).name.startswith("._")


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        return file.read(MAX_BYTES + 1)  # headers may lie; the decoder refuses what is too long


def _listed(source: Path, report: Report) -> Iterator[Found]:
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{str(source)!r} is no folder, zip or text file of paths.") from error
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise InvalidRequest(f"The list {str(source)!r} names no files.")
    for line in named:
        path = source.parent / line
        if not path.is_file():
            report.broken.append(f"{line}: there is no such file.")
            continue
        where = PurePosixPath(Path(line).as_posix())
        # An absolute path's folders say nothing of genres, except the last one.
        name = PurePosixPath(*where.parts[-2:]) if where.is_absolute() else where
        yield Found(name, path.read_bytes)
