from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest
from house import ANN, BEN, CAT, GUILD, PIXEL, FakeEngine, ended, painted

from bot.config import Settings
from bot.studio import (
    HOST,
    Delivery,
    Filter,
    Job,
    LimitReached,
    Member,
    NotFound,
    Refused,
    SourceGone,
    Studio,
    Undeliverable,
    open_studio,
)
from engine.api import FitRequest, MorphRequest, PaintRequest, Request, Stop, StylizeRequest
from engine.errors import EngineUnavailable, InvalidRequest, UnreadableImage

PAINT = PaintRequest(genre="flowers", seed=7)
PHOTO = StylizeRequest(photo=PIXEL, style="van-gogh-starry-night")
MORPH = MorphRequest(stops=(Stop("flowers", 1), Stop("flowers", 2)))


class Wall:
    """A front end that pins results to a list, and fails when told to."""

    def __init__(self) -> None:
        self.posted: dict[str, Delivery] = {}
        self.asked: list[str] = []
        self.failures: list[Exception] = []
        self.fails_after_posting = False

    async def deliver(self, delivery: Delivery) -> str | None:
        if self.failures and not self.fails_after_posting:
            raise self.failures.pop(0)
        assert delivery.nonce not in self.posted, "delivered twice"
        self.posted[delivery.nonce] = delivery
        if self.failures:
            raise self.failures.pop(0)
        return f"channel/{delivery.nonce}"

    async def find(self, delivery: Delivery) -> str | None:
        self.asked.append(delivery.nonce)
        return f"channel/{delivery.nonce}" if delivery.nonce in self.posted else None


def photos(settings: Settings) -> list[Path]:
    return [path for path in (settings.data / "jobs").rglob("*") if path.is_file()]


async def until_running(engine: FakeEngine, count: int = 1) -> None:
    while len(engine.running) < count:
        await asyncio.sleep(0)


async def test_a_job_becomes_artworks_in_the_gallery(studio: Studio) -> None:
    job = await studio.queue.submit(dataclasses.replace(PAINT, count=2), member=HOST, guild="web")
    status = await ended(studio, job.id)
    assert (status.state, status.share, len(status.artworks)) == ("delivered", 1.0, 2)
    page = await studio.gallery.page(Filter(), viewer=None)
    assert [artwork.title for artwork in page.items] == ["Flower painting, seed 8", "Flower painting, seed 7"]
    file = await studio.gallery.file(page.items[0].id, viewer=None)
    assert file.path.read_bytes().startswith(b"\x89PNG")
    assert (await studio.queue.get(job.id)).notes == ("by a fake",)


async def test_the_same_key_is_the_same_job(studio: Studio, engine: FakeEngine) -> None:
    jobs = await asyncio.gather(*(studio.queue.submit(PAINT, member=ANN, guild=GUILD, key="click") for _ in range(5)))
    assert len({job.id for job in jobs}) == 1
    await ended(studio, jobs[0].id)
    assert len(engine.requests) == 1


async def test_a_job_whose_sender_left_meanwhile_runs_all_the_same(studio: Studio, engine: FakeEngine) -> None:
    sending = asyncio.create_task(studio.queue.submit(PAINT, member=ANN, guild=GUILD))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    while not engine.finished:
        await asyncio.sleep(0.01)


async def test_whoever_watches_sees_it_wait_run_and_end(studio: Studio, engine: FakeEngine) -> None:
    engine.gate.clear()
    job = await studio.queue.submit(PAINT, member=HOST, guild="web")
    seen = []
    async for status in studio.queue.watch(job.id):
        seen.append(status.state)
        if status.share == 0.5:
            assert status.eta is not None
            engine.gate.set()
    assert seen[-1] == "delivered" and "running" in seen
    assert [status.state async for status in studio.queue.watch(job.id)] == ["delivered"]


async def test_place_and_eta_are_known(settings: Settings, engine: FakeEngine) -> None:
    engine.gate.clear()
    async with open_studio(settings.model_copy(update={"engine_parallel": 1}), engine) as studio:
        first = await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
        await until_running(engine)
        jobs = [await studio.queue.submit(PAINT, member=ANN, guild=GUILD) for _ in range(2)]
        await asyncio.sleep(0.05)
        statuses = [await studio.queue.status(job.id) for job in (first, *jobs)]
        assert [(s.state, s.place) for s in statuses] == [("running", 0), ("queued", 0), ("queued", 1)]
        etas = [s.eta or 0.0 for s in statuses]
        assert 0 < etas[0] < etas[1] < etas[2]
        overview = await studio.queue.overview(GUILD)
        assert (overview.running, overview.waiting) == (1, 2)
        engine.gate.set()


async def test_a_newcomer_is_not_behind_anothers_twenty(settings: Settings, engine: FakeEngine) -> None:
    engine.gate.clear()
    async with open_studio(settings.model_copy(update={"engine_parallel": 1, "member_waiting": 50}), engine) as studio:
        for _ in range(20):
            await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
        job = await studio.queue.submit(PAINT, member=BEN, guild=GUILD)
        engine.gate.set()
        await ended(studio, job.id)
        assert len(engine.finished) <= 3


@pytest.mark.parametrize(("request_", "held"), [(PAINT, 4), (MORPH, 2)])
async def test_the_engine_has_the_next_batch_at_hand_but_few_long_jobs(
    settings: Settings, engine: FakeEngine, request_: Request, held: int
) -> None:
    engine.gate.clear()
    roomy = settings.model_copy(update={"engine_parallel": 4, "member_running": 16})
    async with open_studio(roomy, engine) as studio:
        jobs = [await studio.queue.submit(request_, member=ANN, guild=GUILD) for _ in range(6)]
        await until_running(engine, held)
        await asyncio.sleep(0.05)
        assert len(engine.running) == held
        engine.gate.set()
        for job in jobs:
            assert (await ended(studio, job.id)).state == "delivered"


async def test_the_first_paintings_of_a_new_studio_make_whole_batches(settings: Settings, engine: FakeEngine) -> None:
    engine.gate.clear()
    roomy = settings.model_copy(update={"engine_parallel": 16, "member_running": 16, "member_waiting": 20})
    async with open_studio(roomy, engine) as studio:
        jobs = [await studio.queue.submit(PAINT, member=ANN, guild=GUILD) for _ in range(16)]
        await until_running(engine, 16)  # eight at work and the next eight
        engine.gate.set()
        for job in jobs:
            assert (await ended(studio, job.id)).state == "delivered"


async def test_too_many_waiting_jobs_are_refused_with_the_number(studio: Studio, engine: FakeEngine) -> None:
    engine.gate.clear()
    await studio.policy.change(GUILD, member_waiting=2, member_running=1)
    await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    await until_running(engine)
    for _ in range(2):
        await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    with pytest.raises(LimitReached, match="2 of your jobs wait already"):
        await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    await studio.queue.submit(PAINT, member=BEN, guild=GUILD)
    assert len(await studio.queue.jobs(ANN)) == 3
    engine.gate.set()


async def test_a_waiting_job_is_cancelled_at_once(studio: Studio, engine: FakeEngine) -> None:
    engine.gate.clear()
    await studio.policy.change(GUILD, member_running=1)
    first = await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    second = await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    await until_running(engine)
    with pytest.raises(Refused):
        await studio.queue.cancel(second.id, by=BEN)
    assert (await studio.queue.cancel(second.id, by=ANN)).state == "cancelled"
    engine.gate.set()
    assert (await ended(studio, first.id)).state == "delivered"
    assert len(engine.requests) == 1


async def test_a_running_job_is_cancelled_in_the_engine(studio: Studio, engine: FakeEngine) -> None:
    engine.gate.clear()
    job = await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    await until_running(engine)
    assert (await studio.queue.cancel(job.id, by=BEN, moderator=True)).state == "cancelled"
    assert engine.cancelled == [job.id]


async def test_a_job_that_waits_for_an_absent_engine_can_be_cancelled(studio: Studio, engine: FakeEngine) -> None:
    engine.failures = [EngineUnavailable("No engine answers.")] * 100
    job = await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    while not engine.requests:
        await asyncio.sleep(0)
    assert (await studio.queue.cancel(job.id, by=ANN)).state == "cancelled"
    assert await studio.queue.jobs(ANN) == []


async def test_a_finished_job_stays_finished(studio: Studio) -> None:
    job = await studio.queue.submit(PAINT, member=ANN, guild=GUILD)
    await ended(studio, job.id)
    assert (await studio.queue.cancel(job.id, by=ANN)).state == "delivered"


async def test_a_mistake_of_the_member_is_told_in_the_engines_words(studio: Studio, engine: FakeEngine) -> None:
    engine.failures = [UnreadableImage("This is no picture.")]
    job = await studio.queue.submit(PHOTO, member=HOST, guild="web")
    status = await ended(studio, job.id)
    assert (status.state, status.error) == ("failed", "This is no picture.")


async def test_a_surprise_is_told_without_its_inside(studio: Studio, engine: FakeEngine) -> None:
    engine.failures = [ZeroDivisionError("secret inside")]
    job = await studio.queue.submit(PAINT, member=HOST, guild="web")
    status = await ended(studio, job.id)
    assert status.state == "failed" and job.id in str(status.error) and "secret" not in str(status.error)


async def test_an_absent_engine_only_delays(studio: Studio, engine: FakeEngine) -> None:
    engine.failures = [EngineUnavailable("No engine answers."), EngineUnavailable("No engine answers.")]
    job = await studio.queue.submit(PAINT, member=HOST, guild="web")
    assert (await ended(studio, job.id)).state == "delivered"
    assert (await studio.queue.get(job.id)).attempts == 1


async def test_unknown_jobs_are_not_found(studio: Studio) -> None:
    with pytest.raises(NotFound):
        await studio.queue.status("nothing")
    with pytest.raises(NotFound):
        async for _ in studio.queue.watch("nothing"):
            pass


# Photos


async def test_a_photo_is_kept_for_some_hours_for_its_sender_alone(
    settings: Settings, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_studio(settings, engine) as studio:
        job = await studio.queue.submit(PHOTO, member=ANN, guild=GUILD, key="k")
        assert job.options["photo"] == {"file": "photo"}
        await ended(studio, job.id)
        assert [path.read_bytes() for path in photos(settings)] == [PIXEL]
        assert await studio.queue.request(job.id, by=ANN) == PHOTO
        with pytest.raises(SourceGone, match="its sender's own"):
            await studio.queue.request(job.id, by=BEN)
    later = time.time() + settings.photo_hours * 3600 + 1
    monkeypatch.setattr("time.time", lambda: later)
    async with open_studio(settings, engine) as studio:
        assert photos(settings) == []
        with pytest.raises(SourceGone, match="send it again"):
            await studio.queue.request(job.id, by=ANN)


async def test_a_photo_past_its_time_is_of_no_use_even_before_it_is_swept(
    studio: Studio, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await studio.queue.submit(PHOTO, member=ANN, guild=GUILD)
    await ended(studio, job.id)
    later = time.time() + settings.photo_hours * 3600 + 1
    monkeypatch.setattr("time.time", lambda: later)
    with pytest.raises(SourceGone):
        await studio.queue.request(job.id, by=ANN)
    await studio.queue.photos.sweep()
    assert photos(settings) == []


async def test_a_house_that_keeps_no_photos_deletes_them_at_delivery(settings: Settings, engine: FakeEngine) -> None:
    async with open_studio(settings.model_copy(update={"photo_hours": 0}), engine) as studio:
        engine.gate.clear()
        job = await studio.queue.submit(PHOTO, member=HOST, guild="web")
        assert [path.read_bytes() for path in photos(settings)] == [PIXEL]
        engine.gate.set()
        await ended(studio, job.id)
        assert engine.requests[0][1] == PHOTO
        assert photos(settings) == []
        with pytest.raises(SourceGone):
            await studio.queue.request(job.id, by=HOST)


async def test_the_photo_goes_with_a_failed_job_and_with_the_last_work(
    studio: Studio, settings: Settings, engine: FakeEngine
) -> None:
    engine.failures = [UnreadableImage("That is no picture.")]
    failed = await studio.queue.submit(PHOTO, member=ANN, guild=GUILD)
    assert (await ended(studio, failed.id)).state == "failed"
    assert photos(settings) == []
    art = await painted(studio, ANN, request=PHOTO)
    assert photos(settings) != []
    await studio.gallery.remove(art, by=ANN)
    assert photos(settings) == []


async def test_what_is_made_further_from_anothers_picture_still_asks_its_owner(studio: Studio) -> None:
    art = await painted(studio, ANN, request=PHOTO, photo_owner=CAT)
    again = await studio.queue.submit(PHOTO, member=ANN, guild=GUILD, parents=[art])
    await ended(studio, again.id)
    await studio.policy.prefer(CAT, others_may_stylize=False)
    with pytest.raises(Refused, match="make nothing from it"):
        await studio.queue.submit(PHOTO, member=BEN, guild=GUILD, parents=[art])
    await studio.queue.submit(PHOTO, member=CAT, guild=GUILD, parents=[art])


async def test_a_refused_job_leaves_no_photo(studio: Studio, settings: Settings) -> None:
    await studio.policy.ban(None, ANN, by=HOST)
    with pytest.raises(Refused, match="banned"):
        await studio.queue.submit(PHOTO, member=ANN, guild=GUILD)
    assert photos(settings) == [] and list((settings.data / "jobs").iterdir()) == []


async def test_too_much_is_refused_before_anything_is_kept(studio: Studio, settings: Settings) -> None:
    small = StylizeRequest(photo=b"x" * (settings.max_upload_bytes + 1))
    with pytest.raises(InvalidRequest, match="at most 25 MiB"):
        await studio.queue.submit(small, member=ANN)
    with pytest.raises(InvalidRequest, match="no job"):
        await studio.queue.submit(FitRequest(image=PIXEL), member=ANN)


async def test_who_does_not_want_it_is_not_stylized_by_others(studio: Studio) -> None:
    await studio.policy.prefer(CAT, others_may_stylize=False)
    with pytest.raises(Refused, match="make nothing from it"):
        await studio.queue.submit(PHOTO, member=ANN, guild=GUILD, photo_owner=CAT)
    await studio.queue.submit(PHOTO, member=CAT, guild=GUILD, photo_owner=CAT)


# Nudes: the host, the guild and the place must all allow them


async def test_nudes_need_the_host_the_guild_and_the_place(settings: Settings, engine: FakeEngine) -> None:
    nude = PaintRequest(genre="nude-painting", seed=1)
    async with open_studio(settings, engine) as studio:
        await studio.policy.change(GUILD, nudes=True)
        with pytest.raises(Refused, match="switched off"):
            await studio.queue.submit(nude, member=ANN, guild=GUILD, age_restricted=True)
    async with open_studio(settings.model_copy(update={"nudes": True}), engine) as studio:
        with pytest.raises(Refused, match="age-restricted channels only"):
            await studio.queue.submit(nude, member=ANN, guild=GUILD)
        with pytest.raises(Refused, match="switched off"):
            await studio.queue.submit(nude, member=ANN, guild="discord:2", age_restricted=True)
        art = await painted(studio, request=nude, age_restricted=True)
        assert (await studio.gallery.get(art, viewer=None)).age_restricted
        assert (await studio.gallery.page(Filter(), viewer=None)).items == ()
        assert len((await studio.gallery.page(Filter(restricted=True), viewer=None)).items) == 1
        with pytest.raises(Refused, match="age-restricted channels only"):
            await studio.queue.submit(PHOTO, member=ANN, guild=GUILD, parents=(art,))


# Delivery


async def post(studio: Studio, **options: object) -> Job:
    return await studio.queue.submit(PAINT, member=ANN, guild=GUILD, kind="wall", address={"channel": "5"}, **options)  # type: ignore[arg-type]


async def test_a_result_is_handed_to_its_front_end_once(studio: Studio) -> None:
    wall = Wall()
    studio.queue.register("wall", wall)
    job = await post(studio)
    assert (await ended(studio, job.id)).state == "delivered"
    (delivery,) = wall.posted.values()
    assert (delivery.job.address, len(delivery.artworks), delivery.attempt) == ({"channel": "5"}, 1, 1)
    assert len(delivery.nonce) <= 25


async def test_a_delivery_that_failed_is_tried_again(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.studio.queue.RETRY", 0.01)
    wall = Wall()
    wall.failures = [OSError("502"), OSError("502")]
    studio.queue.register("wall", wall)
    job = await post(studio)
    assert (await ended(studio, job.id)).state == "delivered"
    assert wall.asked == [f"ganvas-{job.id}"] * 2


async def test_a_message_that_is_there_is_not_posted_again(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.studio.queue.RETRY", 0.01)
    wall = Wall()
    wall.failures, wall.fails_after_posting = [TimeoutError()], True
    studio.queue.register("wall", wall)
    job = await post(studio)
    assert (await ended(studio, job.id)).state == "delivered"
    assert len(wall.posted) == 1


async def test_what_cannot_be_posted_is_kept_and_its_owner_told(studio: Studio) -> None:
    wall = Wall()
    wall.failures = [Undeliverable("the channel is gone")]
    studio.queue.register("wall", wall)
    job = await post(studio)
    status = await ended(studio, job.id)
    assert (status.state, "the channel is gone" in str(status.error)) == ("failed", True)
    assert len((await studio.gallery.page(Filter(member=ANN), viewer=ANN)).items) == 1


async def test_failed_and_cancelled_jobs_are_told_too(studio: Studio, engine: FakeEngine) -> None:
    wall = Wall()
    studio.queue.register("wall", wall)
    engine.failures = [UnreadableImage("This is no picture.")]
    failed = await post(studio)
    await ended(studio, failed.id)
    engine.gate.clear()
    cancelled = await post(studio)
    await until_running(engine)
    await studio.queue.cancel(cancelled.id, by=ANN)
    while len(wall.posted) < 2:
        await asyncio.sleep(0.01)
    told = {delivery.job.id: delivery.job.error for delivery in wall.posted.values()}
    assert told == {failed.id: "This is no picture.", cancelled.id: "It was cancelled."}


async def test_a_late_front_end_gets_what_waited_for_it(studio: Studio) -> None:
    job = await post(studio)
    async for status in studio.queue.watch(job.id):
        if status.state == "rendered":
            await studio.queue.readdress(job.id, {"channel": "6"})
            wall = Wall()
            studio.queue.register("wall", wall)
    assert [delivery.job.address for delivery in wall.posted.values()] == [{"channel": "6"}]


async def test_a_new_life_takes_up_what_the_old_one_left(settings: Settings, engine: FakeEngine) -> None:
    engine.gate.clear()
    async with open_studio(settings, engine) as studio:
        running = await studio.queue.submit(PHOTO, member=ANN, guild=GUILD, kind="wall")
        await until_running(engine)
    engine.gate.set()
    async with open_studio(settings, engine) as studio:
        wall = Wall()
        studio.queue.register("wall", wall)
        assert (await ended(studio, running.id)).state == "delivered"
        assert (await studio.queue.get(running.id)).attempts == 1, "an orderly end is not the job's fault"
        assert engine.requests[-1][1] == PHOTO


async def test_parents_must_be_there_and_visible(studio: Studio) -> None:
    hidden = await painted(studio, ANN, private=True)
    with pytest.raises(NotFound):
        await studio.queue.submit(PAINT, member=BEN, guild=GUILD, parents=(hidden,))
    child = await painted(studio, ANN, parents=(hidden,))
    assert (await studio.gallery.get(child, viewer=None)).parents == (hidden,)


async def test_works_are_private_where_their_maker_prefers_it(studio: Studio) -> None:
    await studio.policy.prefer(ANN, private=True)
    hidden, shown = await painted(studio, ANN), await painted(studio, ANN, private=False)
    assert [work.id for work in (await studio.gallery.page(Filter(), viewer=BEN)).items] == [shown]
    assert (await studio.gallery.get(hidden, viewer=ANN)).private


async def test_a_hundred_members_at_once_are_all_served(studio: Studio) -> None:
    members = [Member("discord", str(number)) for number in range(100, 200)]
    jobs = await asyncio.gather(*(studio.queue.submit(PAINT, member=who, guild=GUILD) for who in members))
    states = {(await ended(studio, job.id)).state for job in jobs}
    assert states == {"delivered"}
