"""`python -m engine dataset ...`: from a heap of pictures to a folder a training can use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from engine.api import GENRES, parse_genre
from engine.cli.console import Json, Out, progress, say, tell, tell_json
from engine.data.folders import Report
from engine.data.heads import Whose
from engine.data.paintings import find_pictures
from engine.errors import InvalidRequest

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures.", show_default=False)]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write into.", show_default=False)]
MaxSide = Annotated[int, typer.Option(min=64, max=8192, help="Shrink larger pictures to this long side in px.")]


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="A folder, a zip, or a text file with a path a line.", show_default=False)
    ],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set, ROOT/<genre>/...", show_default=False)],
    genre: Annotated[str | None, typer.Option(help="The genre of all pictures that no csv names.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A csv with the columns path, genre and maybe style.")] = None,
    max_side: MaxSide = 1024,
    as_json: Json = False,
) -> None:
    """Take pictures into a data set, by genre."""
    from engine.data.importing import import_pictures

    with counted("import", None) as show:
        report = import_pictures(source, root, genre=genre, labels=labels, max_side=max_side, on_file=show)
    conclude(report, root, as_json)


@app.command()
def fetch(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set, ROOT/<genre>/...", show_default=False)],
    genre: Annotated[list[str] | None, typer.Option(help="A genre; repeatable; all but nudes by default.")] = None,
    museum: Annotated[list[str] | None, typer.Option(help="met or aic; repeatable; both by default.")] = None,
    per_genre: Annotated[int, typer.Option(min=1, help="Stop at this many paintings of a genre.")] = 100,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between two requests.")] = 1.0,
    max_side: MaxSide = 1024,
    met_url: Annotated[str | None, typer.Option(help="Another address of The Met's interface.")] = None,
    aic_url: Annotated[str | None, typer.Option(help="Another address of Chicago's interface.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch public-domain paintings from museums, politely; run it again to go on."""
    from engine.data import museums

    genres = [parse_genre(name) for name in genre] if genre else [name for name in GENRES if name != "nude-painting"]
    urls = {name: url for name, url in (("met", met_url), ("aic", aic_url)) if url}
    with counted("fetch", per_genre * len(genres)) as show:
        report = asyncio.run(
            museums.fetch(
                root, genres=genres, museums=museum or tuple(museums.MUSEUMS), per_genre=per_genre, pause=pause,
                max_side=max_side, urls=urls, on_picture=show,
            )
        )  # fmt: skip
    conclude(report, root, as_json)


@app.command()
def crop(
    source: Source,
    out: Target,
    size: Annotated[int, typer.Option(help="Side of the squares in px.")] = 256,
    tiles: Annotated[bool, typer.Option("--tiles", help="Cover each picture with squares at its own scale.")] = False,
    as_json: Json = False,
) -> None:
    """Cut pictures into squares: the middle (both ends of long ones) scaled, or tiles."""
    from engine.data.crops import crop_folder

    with counted("crop", len(find_pictures(source))) as show:
        report = crop_folder(source, out, size=size, tiled=tiles, on_file=show)
    conclude(report, out, as_json)


@app.command()
def edges(
    source: Source,
    out: Target,
    sigma: Annotated[float, typer.Option(min=0.3, max=20, help="Blur in px; more keeps only large forms.")] = 1.4,
    as_json: Json = False,
) -> None:
    """Draw the edges of every picture (Canny), as the other half of a pair for pix2pix."""
    from engine.data.edges import edge_folder

    with counted("edges", len(find_pictures(source))) as show:
        report = edge_folder(source, out, sigma=sigma, on_file=show)
    conclude(report, out, as_json)


@app.command()
def heads(
    source: Source,
    out: Target,
    of: Annotated[Whose, typer.Option(help="Whose heads; that of cats finds some dogs, too.")] = Whose.PEOPLE,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the squares in px.")] = 128,
    each: Annotated[int, typer.Option(min=1, max=20, help="Squares of a face, each a little different.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Decides how they differ.")] = 0,
    as_json: Json = False,
) -> None:
    """Cut the head out of pictures that show one face from the front (needs OpenCV 4)."""
    from engine.data.heads import head_folder

    with counted("heads", len(find_pictures(source))) as show:
        report = head_folder(source, out, of=of, size=size, each=each, seed=seed, on_file=show)
    conclude(report, out, as_json)


@app.command()
def paint(
    source: Source,
    out: Target,
    look: Annotated[
        list[str] | None, typer.Option(help="A style, a mix or a brush; repeatable; fifteen painterly ones by default.")
    ] = None,
    each: Annotated[int, typer.Option(min=1, max=20, help="Paintings of a photo, each in another look.")] = 3,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Long side of the paintings in px.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Decides looks and strengths.")] = 0,
    as_json: Json = False,
) -> None:
    """Paint photos over, for a genre that has few paintings; run it again to go on."""
    from engine.data.painted import PAINTERLY, paint_folder

    with counted("paint", len(find_pictures(source))) as show:
        report = paint_folder(source, out, looks=look or PAINTERLY, each=each, size=size, seed=seed, on_file=show)
    conclude(report, out, as_json)


@app.command()
def dedupe(
    source: Source,
    threshold: Annotated[int, typer.Option(help="Bits of 64 in which copies may differ.")] = 5,
    move: Annotated[
        Path | None, typer.Option(help="Move the copies into this folder; else they are only told.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find near-duplicates by perceptual hash; the largest of each stays."""
    from engine.data.crops import apart
    from engine.data.dedupe import find_duplicates

    if move is not None:
        apart(source, move)
    report = Report()
    with counted("dedupe", len(find_pictures(source))) as show:
        groups = find_duplicates(source, report, threshold=threshold, on_file=show)
    copies = [path for group in groups for path in group.others]
    if move is not None:
        for path in copies:
            target = move / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    if as_json:
        described = [{"keep": str(group.keep), "others": [str(path) for path in group.others]} for group in groups]
        tell_json({"groups": described, "copies": len(copies), "moved": move is not None, "broken": report.broken})
        return
    complain(report)
    for group in groups:
        tell(f"{group.keep}: {', '.join(str(path) for path in group.others)}")
    tell(f"{len(copies)} copies of {len(groups)} pictures" + (f", now in {move}." if move else "."))


@app.command()
def sort(
    source: Source,
    out: Target,
    by: Annotated[str, typer.Option(help="brightness, colour or cluster.")] = "colour",
    clusters: Annotated[int, typer.Option(help="How many groups of what looks alike.")] = 8,
    as_json: Json = False,
) -> None:
    """Put pictures in order: numbered by brightness or colour, or in a folder for each cluster."""
    from engine.data.sorting import sort_folder

    with counted("sort", len(find_pictures(source))) as show:
        report = sort_folder(source, out, by=by, clusters=clusters, on_file=show)
    conclude(report, out, as_json)


@app.command()
def split(
    source: Source,
    out: Target,
    share: Annotated[float, typer.Option(help="Share of the pictures that no training sees.")] = 0.1,
    as_json: Json = False,
) -> None:
    """Hold some pictures out: OUT/train and OUT/held-out, always the same ones."""
    from engine.data.splits import split_folder

    counts = split_folder(source, out, share=share)
    if as_json:
        tell_json(counts)
    else:
        tell(", ".join(f"{count} in {out / side}" for side, count in counts.items()) + ".")


@app.command()
def stats(source: Source, as_json: Json = False) -> None:
    """Count genres, art styles, sizes and broken files."""
    from engine.data.stats import describe_folder

    with counted("stats", len(find_pictures(source))) as show:
        found = describe_folder(source, on_file=show)
    if as_json:
        tell_json(found)
        return
    complain(Report(broken=found["broken"]))
    for name, count in found["genres"].items():
        tell(f"{count:7,}  {name}")
    side = found["short_side"]
    tell(
        f"{found['pictures']:7,}  pictures, short side {side['least']} to {side['most']} px, median {side['median']} px"
    )
    tell(f"{found['without_colour']:7,}  without colour")


@app.command()
def sheet(
    source: Source,
    out: Out,
    per_genre: Annotated[int, typer.Option(min=1, max=40, help="Pictures in a row.")] = 8,
    size: Annotated[int, typer.Option(min=32, max=512, help="Long side of each picture in px.")] = 128,
    as_json: Json = False,
) -> None:
    """Lay out some pictures of every genre, a row each."""
    from engine import media
    from engine.api import STILL_FORMATS
    from engine.checkpoints import write_atomic
    from engine.cli.console import describe, format_of, summary
    from engine.data.stats import sheet_of

    made = media.encode_still(sheet_of(source, per_genre=per_genre, size=size), format_of(out, STILL_FORMATS), {})
    write_atomic(out, made.data)
    if as_json:
        tell_json({"outputs": [describe(out, made)]})
    else:
        tell(summary(out, made))


@contextmanager
def counted(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many files are done; without a total there is nothing to show."""
    with progress(label) as show:
        yield lambda done: show(min(1.0, done / total)) if total else None


def complain(report: Report) -> None:
    """Tell people of each broken file, on stderr."""
    for line in report.broken:
        say(f"skipped {line}")


def conclude(report: Report, root: Path, as_json: bool) -> None:
    """Say what was done; a command that found nothing but broken files fails."""
    if not report.written and not report.skipped and report.broken:
        raise InvalidRequest(f"None of {len(report.broken)} pictures could be read; the first: {report.broken[0]}")
    if as_json:
        tell_json(asdict(report) | {"root": str(root)})
        return
    complain(report)
    there = f", {report.skipped} passed over" if report.skipped else ""
    tell(f"{report.written} pictures written to {root}{there}, {len(report.broken)} broken.")
