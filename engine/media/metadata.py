"""Where the recipe sits in each format, and how to find it again in bytes of strangers.

    PNG   an iTXt chunk with the keyword "ganvas-recipe"
    WebP  the XMP chunk, attribute ganvas:recipe
    JPEG  a comment segment (COM), "ganvas-recipe:" before the JSON
    GIF   a comment extension, the same
    MP4   moov/udta/meta/ilst/©cmt, the same; it is what players call the comment

Reading walks the container by its own lengths, in plain Python: no decoder is asked, so this is safe in any process.
"""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from engine.errors import InvalidRequest

KEYWORD: Final = "ganvas-recipe"
MAX_RECIPE: Final = 60_000  # characters of JSON: a JPEG segment holds 65,533 bytes
_PREFIX: Final = f"{KEYWORD}:".encode()
_XMP_RECIPE: Final = re.compile(rb'ganvas:recipe="([^"<>]*)"')


def pack(recipe: Mapping[str, Any]) -> str:
    """Return ``recipe`` as JSON in ASCII, the same text for the same recipe.

    Raises:
        InvalidRequest: it is longer than ``MAX_RECIPE`` characters.
    """
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_RECIPE:
        raise InvalidRequest(f"The recipe has {len(text)} characters; a file holds at most {MAX_RECIPE}.")
    return text


def comment(recipe: Mapping[str, Any]) -> bytes:
    """Return the comment that JPEG, GIF and MP4 carry."""
    return _PREFIX + pack(recipe).encode()


def xmp(recipe: Mapping[str, Any]) -> bytes:
    """Return the XMP packet that WebP carries."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:ganvas="urn:ganvas:1" ganvas:recipe="{_escaped(pack(recipe))}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def read_recipe(data: bytes) -> dict[str, Any] | None:
    """Return the recipe inside a PNG, WebP, JPEG, GIF or MP4; None if there is none, or none that can be read."""
    found = _locate(data)
    if found is None or len(found.text) > 6 * MAX_RECIPE:
        return None
    try:
        recipe = json.loads(found.text, parse_constant=_refuse)
        json.dumps(recipe, ensure_ascii=False).encode()  # a lone surrogate would fail later, in somebody's hands
    except (ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def without_recipe(data: bytes) -> bytes:
    """Return the file without its recipe, every pixel as it was."""
    found = _locate(data)
    return data if found is None else found.remove()


@dataclass(frozen=True)
class _Found:
    """A recipe's text and how to cut it out of its file."""

    text: bytes
    remove: Callable[[], bytes]


def _locate(data: bytes) -> _Found | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _in_png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _in_jpeg(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _in_gif(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _in_webp(data)
    if data[4:8] == b"ftyp":
        return _in_mp4(data)
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _number(data: bytes, start: int, size: int, order: str = "big") -> int:
    return int.from_bytes(data[start : start + size], order)  # type: ignore[arg-type]


def _cut(data: bytes, start: int, end: int) -> Callable[[], bytes]:
    return lambda: data[:start] + data[end:]


def _in_png(data: bytes) -> _Found | None:
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + _number(data, position, 4)
        kind, body = data[position + 4 : position + 8], data[position + 8 : end - 4]
        if kind == b"iTXt" and body.startswith(KEYWORD.encode() + b"\0\0\0"):
            parts = body[len(KEYWORD) + 3 :].split(b"\0", 2)  # language, translated keyword, text
            if len(parts) == 3 and zlib.crc32(kind + body) == _number(data, end - 4, 4):
                return _Found(parts[2], _cut(data, position, end))
        position = end
    return None


def _in_jpeg(data: bytes) -> _Found | None:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:  # SOS: pixels follow
        end = position + 2 + max(_number(data, position + 2, 2), 2)
        body = data[position + 4 : end]
        if data[position + 1] == 0xFE and body.startswith(_PREFIX):
            return _Found(body.removeprefix(_PREFIX), _cut(data, position, end))
        position = end
    return None


def _in_gif(data: bytes) -> _Found | None:
    if len(data) < 13:
        return None
    position = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while data[position : position + 1] == b"!":  # extensions; the first image ends the search
        start, kind = position, data[position + 1 : position + 2]
        blocks = []
        position += 2
        while size := _number(data, position, 1):
            blocks.append(data[position + 1 : position + 1 + size])
            position += 1 + size
        position += 1
        body = b"".join(blocks)
        if kind == b"\xfe" and body.startswith(_PREFIX):
            return _Found(body.removeprefix(_PREFIX), _cut(data, start, position))
    return None


def _in_webp(data: bytes) -> _Found | None:
    position = 12
    while position + 8 <= len(data):
        size = _number(data, position + 4, 4, "little")
        end = position + 8 + size + size % 2
        if data[position : position + 4] == b"XMP ":
            found = _XMP_RECIPE.search(data[position + 8 : position + 8 + min(size, 8 * MAX_RECIPE)])
            if found:
                text = html.unescape(found[1].decode("ascii", "replace")).encode()
                return _Found(text, partial(_webp_without, data, position, end))
        position = end
    return None


def _webp_without(data: bytes, start: int, end: int) -> bytes:
    """Cut a WebP's XMP chunk out, and say so in the header: RIFF's size, and the XMP bit of VP8X."""
    file = bytearray(data[:start] + data[end:])
    file[4:8] = (len(file) - 8).to_bytes(4, "little")
    if file[12:16] == b"VP8X" and len(file) > 20:
        file[20] &= ~0x04
    return bytes(file)


def _in_mp4(data: bytes) -> _Found | None:
    start, end = 0, len(data)
    for name in (b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data"):
        inside = next((span for kind, *span in _boxes(data, start, end) if kind == name), None)
        if inside is None:
            return None
        start, end = inside
        if name == b"meta":
            start += 4  # version and flags
        if name == b"\xa9cmt":
            item = start - 8, end
    text = data[start + 8 : end]  # after its type and locale
    return _Found(text.removeprefix(_PREFIX), lambda: _mp4_without(data, *item)) if text.startswith(_PREFIX) else None


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of what each box between two offsets holds."""
    while start + 8 <= end:
        size, head = _number(data, start, 4), 8
        if size == 1:
            size, head = _number(data, start + 8, 8), 16
        elif size == 0:
            size = end - start
        if not head <= size <= end - start:
            return
        yield data[start + 4 : start + 8], start + head, start + size
        start += size


def _mp4_without(data: bytes, start: int, end: int) -> bytes:
    """Turn a box into free space of the same length, so that no offset to the pictures changes."""
    return data[: start + 4] + b"free" + bytes(end - start - 8) + data[end:]
