"""The bench: three ways to make a picture, each a page with a form that becomes a job."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Any

from aiohttp import web

from bot.studio import WEB, Artwork, Filter, Member
from bot.web import catalogue
from bot.web.keys import PAGES, PHOTOS, SETTINGS, STUDIO, VISITOR
from bot.web.photos import NoSuchPhoto
from engine.api import PSI, WALL, MorphRequest, PaintRequest, Request, Stop, StylizeRequest, parse_genre, parse_seed
from engine.errors import InvalidRequest, UnknownName

SHAPES = {"square": (512, 512), "wide": (768, 512), "tall": (512, 768), "wall": WALL}  # px
MORPH_FPS = 24
SEEDS = 1_000_000  # seeds drawn for who names none: enough to surprise, short enough to tell a friend
BOLDNESS = round(100 * PSI)  # percent, where the slider stands at first
RECENT = 8


async def home(request: web.Request) -> web.Response:
    """The front page: a photo and the styles."""
    studio, member = request.app[STUDIO], request[VISITOR].member
    photo = None
    if "photo" in request.query:
        photo = await request.app[PHOTOS].get(request.query["photo"], member)
    recent = await studio.gallery.page(Filter(), viewer=member, limit=RECENT)
    return await request.app[PAGES].page(
        request, "stylize", photo=photo, styles=await catalogue.styles(studio),
        chosen=request.query.get("style", ""), recent=recent.items, nonce=secrets.token_hex(8),
        sizes=[side for side in (640, 1280, 1920, 2560) if side <= request.app[SETTINGS].max_side],
        private=(await studio.policy.preferences(member)).private,
    )  # fmt: skip


async def stylize(request: web.Request) -> web.Response:
    form = await request.post()
    member = request[VISITOR].member
    photos = request.app[PHOTOS]
    uploaded = await _file(request, "photo_file") or await _file(request, "camera_file")
    if uploaded:
        photo = await photos.keep(uploaded, member)
    elif form.get("photo"):
        photo = await photos.get(str(form["photo"]), member)
    else:
        raise InvalidRequest("There is no photo yet; drop one on the page or choose a file.")
    kind, _, name = str(form.get("style", "")).partition(":")
    own_style = await _file(request, "style_file")
    if kind not in ("style", "model") and not own_style:
        raise InvalidRequest("No style is chosen yet; pick one of the pictures, or bring a picture as the style.")
    wanted = StylizeRequest(
        photo=await photos.original(photo),
        style=name if kind == "style" and not own_style else None,
        model=name if kind == "model" and not own_style else None,
        style_image=own_style or None,
        strength=number(form, "strength", 100, 0, 100) / 100,
        keep_colours="keep_colours" in form,
        size=number(form, "size", 1280, 16, request.app[SETTINGS].max_side),
    )
    return await submit(request, wanted, address={"photo": photo.id})


async def paint_page(request: web.Request) -> web.Response:
    studio, member = request.app[STUDIO], request[VISITOR].member
    nudes = request.app[SETTINGS].nudes and (await studio.policy.settings(WEB)).nudes
    genre = request.query.get("genre", "")
    return await request.app[PAGES].page(
        request, "paint", genres=await catalogue.genres(studio, nudes=nudes),
        art_styles=await catalogue.art_styles(studio), nonce=secrets.token_hex(8),
        chosen=parse_genre(genre) if genre else "", seed=request.query.get("seed", ""), boldness=BOLDNESS,
        private=(await studio.policy.preferences(member)).private,
    )  # fmt: skip


async def paint(request: web.Request) -> web.Response:
    form = await request.post()
    if not form.get("genre"):
        raise InvalidRequest("No genre is chosen yet; pick one of the pictures.")
    shape = str(form.get("shape", "square"))
    if shape not in SHAPES:
        raise InvalidRequest(f"The shape is {shape!r}; it must be one of {', '.join(SHAPES)}.")
    width, height = SHAPES[shape]
    wanted = PaintRequest(
        genre=str(form["genre"]),
        seed=_seed(form),
        art_style=str(form.get("art_style", "")) or None,
        count=number(form, "count", 1, 1, 4),
        psi=number(form, "boldness", BOLDNESS, 0, 100) / 100,
        width=width,
        height=height,
    )
    return await submit(request, wanted)


async def morph_page(request: web.Request) -> web.Response:
    studio, member = request.app[STUDIO], request[VISITOR].member
    page = await studio.gallery.page(Filter(command="paint"), viewer=member, limit=24)
    mine = await studio.gallery.page(Filter(command="paint", member=member), viewer=member, limit=12)
    works = list({work.id: work for work in (*mine.items, *page.items)}.values())
    return await request.app[PAGES].page(
        request, "morph", works=works, start=request.query.get("from", ""), end=request.query.get("to", ""),
        nonce=secrets.token_hex(8), private=(await studio.policy.preferences(member)).private,
    )  # fmt: skip


async def morph(request: web.Request) -> web.Response:
    form = await request.post()
    stops, parents = [], []
    for field, name in (("from", "The first work"), ("via", ""), ("to", "The second work")):
        text = str(form.get(field, "")).strip()
        if not text and name:
            raise InvalidRequest(f"{name} is missing; pick one below, or type an id, a genre or genre:seed.")
        if text:
            stop, parent = await find_stop(request, text)
            stops.append(stop)
            parents += [parent] if parent else []
    seconds = number(form, "seconds", 4, 1, 10)
    chosen = str(form.get("format", "mp4"))
    wanted = MorphRequest(
        stops=tuple(stops), frames=seconds * MORPH_FPS, fps=MORPH_FPS, loop="loop" in form, format=chosen,
    )  # fmt: skip
    return await submit(request, wanted, parents=tuple(dict.fromkeys(parents)))


async def find_stop(request: web.Request, text: str) -> tuple[Stop, str | None]:
    """Read a stop as people type it: an artwork's id, ``genre:seed``, or a genre alone (any seed)."""
    genre, colon, seed = text.partition(":")
    try:
        return Stop(genre, parse_seed(seed) if colon else secrets.randbelow(SEEDS)), None
    except UnknownName:
        if colon:
            raise
    artwork = await request.app[STUDIO].gallery.get(text.lower().lstrip("#"), viewer=request[VISITOR].member)
    return stop_of(artwork), artwork.id


def stop_of(artwork: Artwork) -> Stop:
    """The point in latent space that a painting came from."""
    options = artwork.recipe.get("options", {})
    if artwork.command != "paint" or "genre" not in options:
        raise InvalidRequest(f"{artwork.id} is no painting from a seed, so it cannot be morphed; pick a painted work.")
    return Stop(options["genre"], options["seed"], options.get("art_style"))


async def submit(
    request: web.Request, wanted: Request, *, address: dict[str, Any] | None = None, parents: tuple[str, ...] = (),
    private: bool | None = None,
) -> web.Response:  # fmt: skip
    """Hand the request to the studio and lead to the job's page.  The same form sent twice is the same job."""
    form = await request.post()
    member: Member = request[VISITOR].member
    said = "&".join(f"{key}={value}" for key, value in sorted(form.items()) if isinstance(value, str))
    digest = hashlib.sha256(f"{request.path} {said}".encode()).hexdigest()
    job = await request.app[STUDIO].queue.submit(
        wanted, member=member, guild=WEB, private="private" in form if private is None else private,
        address=address or {}, parents=parents,
        photo_owner=member if isinstance(wanted, StylizeRequest) else None,
        key=f"web:{member.id}:{digest}" if form.get("nonce") else None,
    )  # fmt: skip
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response({"job": job.id, "href": f"/jobs/{job.id}"}, status=201)
    raise web.HTTPSeeOther(f"/jobs/{job.id}")


async def upload(request: web.Request) -> web.Response:
    """``POST /photos``: keep a photo on the bench and say where its copy is."""
    data = await _file(request, "photo_file")
    if not data:
        raise InvalidRequest("There was no photo in that upload.")
    photo = await request.app[PHOTOS].keep(data, request[VISITOR].member)
    return web.json_response(
        {"id": photo.id, "width": photo.width, "height": photo.height, "href": f"/photos/{photo.id}.webp"}, status=201
    )


async def photo_copy(request: web.Request) -> web.StreamResponse:
    photos = request.app[PHOTOS]
    photo = await photos.get(request.match_info["id"], request[VISITOR].member)
    return web.FileResponse(
        photos.shown(photo), headers={"Content-Type": "image/webp", "Cache-Control": "private, max-age=3600"}
    )


async def preview(request: web.Request) -> web.StreamResponse:
    """One's own photo in one style, small."""
    photos = request.app[PHOTOS]
    photo = await photos.get(request.match_info["id"], request[VISITOR].member)
    choices = {c.value for c in await catalogue.styles(request.app[STUDIO])}
    choice = f"{request.match_info['kind']}:{request.match_info['name']}"
    if choice not in choices:
        raise NoSuchPhoto
    data = await photos.preview(photo, choice)
    return web.Response(body=data, content_type="image/webp", headers={"Cache-Control": "private, max-age=86400"})


def number(form: Any, name: str, default: int, low: int, high: int) -> int:
    """A whole number from a form; empty is the default."""
    text = str(form.get(name, "")).strip()
    try:
        value = int(text) if text else default
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise InvalidRequest(f"{name.capitalize()} is {text!r}; it must be a whole number from {low} to {high}.")
    return value


def _seed(form: Any) -> int:
    text = str(form.get("seed", "")).strip()
    return parse_seed(text) if text else secrets.randbelow(SEEDS)


async def _file(request: web.Request, name: str) -> bytes:
    """The bytes of an upload, empty where there is none."""
    field = (await request.post()).get(name)
    if not isinstance(field, web.FileField):
        return b""
    limit = request.app[SETTINGS].max_upload_bytes
    data = await asyncio.to_thread(field.file.read, limit + 1)
    if len(data) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, len(data))
    return data
