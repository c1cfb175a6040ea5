"""Paintings from museums that gave their pictures to everybody (CC0): The Met and the Art Institute of Chicago.

Polite: one request at a time with a pause in between, a user agent that says who asks, and patience when told to wait.
Resumable: whatever is settled stands in ``.fetched`` beside the pictures and is not asked for again.
"""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import aiohttp

from engine import __version__
from engine.api import GENRES
from engine.data.folders import Report, slug, write_picture
from engine.data.intake import MAX_BYTES, Decoder
from engine.errors import GanvasError, InvalidRequest, UnknownName, UnreadableImage

MET_URL: Final = "https://collectionapi.metmuseum.org/public/collection/v1"
AIC_URL: Final = "https://api.artic.edu/api/v1"
AIC_IMAGES: Final = "https://www.artic.edu/iiif/2"  # used where the answer names no other
AIC_WIDTH: Final = 843  # px; the size the museum asks everybody to take, because its caches hold it

LICENCE: Final = "CC0 1.0 (public domain)"
TRIES: Final = 5
TIMEOUT: Final = 60.0  # seconds for one request
MAX_WAIT: Final = 120.0  # seconds; a museum that asks for more is left alone for today
_AGENT: Final = f"Ganvas/{__version__} (art education; one request at a time)"

KEYWORDS: Final = {
    "abstract": ("abstract painting",),
    "animal-painting": ("animals", "horses", "birds"),
    "cityscape": ("city view", "street scene"),
    "figurative": ("figures",),
    "flower-painting": ("flowers", "bouquet"),
    "genre-painting": ("genre scene", "everyday life"),
    "landscape": ("landscape", "mountains"),
    "marina": ("seascape", "ships at sea"),
    "mythological-painting": ("mythology",),
    "nude-painting": ("nude",),
    "portrait": ("portrait",),
    "religious-painting": ("madonna", "saint"),
    "still-life": ("still life",),
    "symbolic-painting": ("allegory",),
}


class MuseumUnavailable(GanvasError):
    """A museum does not answer, or asks to come back later; what was fetched so far is kept."""

    code = "museum_unavailable"
    status = 503


@dataclass(frozen=True)
class Painting:
    """A painting as a museum describes it, and one line of credits.csv."""

    museum: str
    id: str
    title: str
    artist: str
    date: str
    image: str  # URL of the picture
    page: str  # URL of the museum's page about it
    licence: str = LICENCE

    @property
    def key(self) -> str:
        """Its name among all museums."""
        return f"{self.museum}/{self.id}"


class Visitor:
    """Asks museums for things, slowly.

    Args:
        session: closed by whoever opened it.
        pause: seconds between the starts of two requests.
    """

    def __init__(self, session: aiohttp.ClientSession, pause: float = 1.0) -> None:
        self._session = session
        self._pause = pause
        self._last = 0.0

    async def get_json(self, url: str, params: dict[str, str] | None = None) -> dict[str, Any] | None:
        """Return the JSON object at ``url``, or None if there is nothing."""
        data = await self.get(url, params, limit=64 * 2**20)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except ValueError as error:
            raise MuseumUnavailable(f"{url} answers with something that is no JSON: {error}.") from error
        return found if isinstance(found, dict) else None

    async def get(self, url: str, params: dict[str, str] | None = None, *, limit: int = MAX_BYTES) -> bytes | None:
        """Return what lies at ``url``, at most ``limit`` bytes; None if the museum says there is no such thing.

        Raises:
            MuseumUnavailable: no answer after all tries, or a wait beyond patience.
        """
        wait, why = 1.0, ""
        for attempt in range(1, TRIES + 1):
            await asyncio.sleep(max(0.0, self._last + self._pause - time.monotonic()))
            self._last = time.monotonic()
            asked: float | None = None
            try:
                async with self._session.get(url, params=params) as answer:
                    if answer.status in (400, 403, 404, 410):
                        return None
                    if answer.status == 200:
                        return await _read(answer, limit)
                    why = f"it answers {answer.status}"
                    asked = _retry_after(answer)
            except (aiohttp.ClientError, TimeoutError) as error:
                why = str(error) or type(error).__name__
            wait = asked if asked is not None else wait * 2
            if wait > MAX_WAIT:
                why = f"it asks to wait {wait:.0f} s"
                break
            if attempt < TRIES:
                await asyncio.sleep(wait * min(1.0, self._pause))
        raise MuseumUnavailable(f"{url} cannot be reached: {why}; run the command again later, it goes on from here.")


async def _read(answer: aiohttp.ClientResponse, limit: int) -> bytes | None:
    parts, size = [], 0
    async for part in answer.content.iter_chunked(2**16):
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


async def met(
    visitor: Visitor, keyword: str, settled: Callable[[str], bool], url: str
) -> AsyncIterator[Painting | str]:
    """Yield The Met's public-domain paintings for ``keyword``, and the keys of what is none."""
    search = {"q": keyword, "medium": "Paintings", "hasImages": "true"}
    found = await visitor.get_json(f"{url}/search", search)
    for number in (found or {}).get("objectIDs") or ():
        key = f"met/{number}"
        if settled(key):
            continue
        work = await visitor.get_json(f"{url}/objects/{int(number)}") or {}
        image = work.get("primaryImageSmall") or work.get("primaryImage")
        if not work.get("isPublicDomain") or not image or "Paint" not in str(work.get("classification")):
            yield key
            continue
        yield Painting(
            museum="met",
            id=str(number),
            title=_text(work, "title"),
            artist=_text(work, "artistDisplayName"),
            date=_text(work, "objectDate"),
            image=str(image),
            page=_text(work, "objectURL"),
        )


async def aic(
    visitor: Visitor, keyword: str, settled: Callable[[str], bool], url: str
) -> AsyncIterator[Painting | str]:
    """Yield the Art Institute of Chicago's public-domain paintings for ``keyword``, and the keys of what is none."""
    page = 1
    while page <= 100:  # the museum answers no deeper than 10,000 works
        search = {
            "q": keyword, "query[term][is_public_domain]": "true", "limit": "100", "page": str(page),
            "fields": "id,title,artist_title,date_display,image_id,is_public_domain,artwork_type_title",
        }  # fmt: skip
        found = await visitor.get_json(f"{url}/artworks/search", search) or {}
        images = (found.get("config") or {}).get("iiif_url") or AIC_IMAGES
        pages = (found.get("config") or {}).get("website_url") or "https://www.artic.edu"
        for work in found.get("data") or ():
            key = f"aic/{work['id']}"
            if settled(key):
                continue
            if (
                not work.get("is_public_domain")
                or not work.get("image_id")
                or work.get("artwork_type_title") != "Painting"
            ):
                yield key
                continue
            yield Painting(
                museum="aic",
                id=str(work["id"]),
                title=_text(work, "title"),
                artist=_text(work, "artist_title"),
                date=_text(work, "date_display"),
                image=f"{images}/{work['image_id']}/full/{AIC_WIDTH},/0/default.jpg",
                page=f"{pages}/artworks/{work['id']}",
            )
        if page >= int((found.get("pagination") or {}).get("total_pages") or 0):
            return
        page += 1


def _text(work: dict[str, Any], key: str) -> str:
    return " ".join(str(work.get(key) or "").split())


MUSEUMS: Final = {"met": (met, MET_URL), "aic": (aic, AIC_URL)}


async def fetch(
    root: Path,
    *,
    genres: Iterable[str],
    museums: Iterable[str] = tuple(MUSEUMS),
    per_genre: int = 100,
    pause: float = 1.0,
    max_side: int = 1024,
    urls: dict[str, str] | None = None,
    on_picture: Callable[[int], None] | None = None,
) -> Report:
    """Fetch up to ``per_genre`` paintings of each genre into ``root``/<genre>, with their credits in credits.csv.

    Pictures that are there already count.  Broken ones are told in the report.

    Args:
        genres: full names; each is searched by its keywords.
        museums: "met", "aic" or both, asked in turn.
        pause: seconds between two requests.
        max_side: px; larger pictures are shrunk.
        urls: other addresses of the museums' interfaces.

    Raises:
        UnknownName: no such genre or museum.
        InvalidRequest: a number out of range.
        MuseumUnavailable: a museum does not answer; all that came before is kept.
    """
    genres, museums = tuple(genres), tuple(museums)
    for what, names, known in (("genre", genres, GENRES), ("museum", museums, tuple(MUSEUMS))):
        if unknown := [name for name in names if name not in known]:
            raise UnknownName(f"There is no {what} {unknown[0]!r}; there are {', '.join(known)}.")
    if per_genre < 1 or pause < 0:
        raise InvalidRequest(
            f"At least 1 picture of a genre and a pause of 0 s are needed, not {per_genre} and {pause:g}."
        )
    notes = _Notes(root)
    report = Report(skipped=sum(notes.count(genre) for genre in genres))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"User-Agent": _AGENT, "AIC-User-Agent": _AGENT}
    with Decoder() as decoder:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            visitor = Visitor(session, pause)
            for genre in genres:
                async for painting in _candidates(visitor, genre, museums, notes, urls or {}):
                    if notes.count(genre) >= per_genre:
                        break
                    if isinstance(painting, str):
                        notes.settle(painting)
                        continue
                    data = await visitor.get(painting.image)
                    if data is None:
                        report.broken.append(f"{painting.key}: the museum has no picture at {painting.image}.")
                        notes.settle(painting.key)
                        continue
                    path = root / genre / f"{slug(painting.title)}-{painting.museum}{painting.id}.jpg"
                    try:
                        pixels = await asyncio.to_thread(decoder.open, data, max_side=max_side)
                        write_picture(pixels, path)
                    except UnreadableImage as error:
                        report.broken.append(f"{painting.key}: {error}")
                        notes.settle(painting.key)
                        continue
                    notes.credit(painting, genre, path.relative_to(root).as_posix())
                    report.written += 1
                    if on_picture:
                        on_picture(report.written)
    return report


async def _candidates(
    visitor: Visitor, genre: str, museums: tuple[str, ...], notes: _Notes, urls: dict[str, str]
) -> AsyncIterator[Painting | str]:
    for keyword in KEYWORDS[genre]:
        for name in museums:
            ask, url = MUSEUMS[name]
            async for found in ask(visitor, keyword, notes.is_settled, urls.get(name, url)):
                yield found


class _Notes:
    """credits.csv, and ``.fetched`` with the keys of all that need not be asked for again."""

    COLUMNS: Final = ("path", "genre", *(f.name for f in fields(Painting)))

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._credits, self._settled = root / "credits.csv", root / ".fetched"
        self._keys = set(self._settled.read_text().split()) if self._settled.exists() else set()
        self._counts: dict[str, int] = {}
        if self._credits.exists():
            with open(self._credits, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self._keys.add(f"{row['museum']}/{row['id']}")
                    self._counts[row["genre"]] = self._counts.get(row["genre"], 0) + 1

    def is_settled(self, key: str) -> bool:
        return key in self._keys

    def count(self, genre: str) -> int:
        return self._counts.get(genre, 0)

    def settle(self, key: str) -> None:
        self._keys.add(key)
        with open(self._settled, "a") as file:
            file.write(key + "\n")

    def credit(self, painting: Painting, genre: str, path: str) -> None:
        new = not self._credits.exists()
        with open(self._credits, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow({"path": path, "genre": genre} | asdict(painting))
        self._keys.add(painting.key)
        self._counts[genre] = self._counts.get(genre, 0) + 1
