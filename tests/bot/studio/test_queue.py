from __future__ import annotations

from house import ended

from bot.studio import HOST, Filter, Studio
from engine.api import PaintRequest


async def test_a_job_becomes_artworks_in_the_gallery(studio: Studio) -> None:
    job = await studio.queue.submit(PaintRequest(genre="flowers", seed=7, count=2), member=HOST, guild="web")
    status = await ended(studio, job.id)
    assert (status.state, len(status.artworks)) == ("delivered", 2)
    page = await studio.gallery.page(Filter(), viewer=None)
    assert [artwork.title for artwork in page.items] == ["Flower painting, seed 8", "Flower painting, seed 7"]
    file = await studio.gallery.file(page.items[0].id, viewer=None)
    assert file.path.read_bytes().startswith(b"\x89PNG")
