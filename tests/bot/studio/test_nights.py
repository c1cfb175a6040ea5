from __future__ import annotations

import dataclasses
import hashlib
import json
import time

import pytest
from house import ANN, BEN, CAT, DAN, GUILD, PIXEL, painted, voter

from bot.config import Settings
from bot.studio import HOST, WEB, Member, Night, NotFound, Studio, Voter, VoteRow
from bot.studio.nights import REQUESTER_CAP, VOTER_CAP, capped
from engine.api import StylizeRequest

SOON = time.time() + 3600


async def test_a_snapshot_holds_all_that_learning_needs(studio: Studio, settings: Settings) -> None:
    art = await painted(studio)
    await studio.votes.cast(art, voter(BEN), "up")
    await studio.votes.cast(art, voter(CAT), "down")
    snapshot = await studio.nights.snapshot(SOON)
    assert sorted(vote.value for vote in snapshot.votes) == ["down", "up"]
    vote = snapshot.votes[0]
    assert (vote.artwork, vote.command, vote.genre) == (art, "paint", "landscape")
    data = (settings.data / vote.file).read_bytes()
    assert hashlib.sha256(data).hexdigest() == vote.sha256
    assert hashlib.sha256(snapshot.jsonl().encode()).hexdigest() == snapshot.sha256
    assert [json.loads(line)["artwork"] for line in snapshot.jsonl().splitlines()] == [art, art]


async def test_a_snapshot_names_nobody(studio: Studio) -> None:
    art = await painted(studio)
    await studio.votes.cast(art, voter(BEN), "up")
    snapshot = await studio.nights.snapshot(SOON)
    assert BEN.key not in snapshot.jsonl() and ANN.key not in snapshot.jsonl()
    assert snapshot.votes[0].voter == await studio.nights.pseudonym(BEN)


async def test_the_same_ledger_gives_the_same_hash_and_later_votes_do_not_enter(studio: Studio) -> None:
    art = await painted(studio)
    await studio.votes.cast(art, voter(BEN), "up")
    cutoff = time.time()
    first = await studio.nights.snapshot(cutoff)
    await studio.votes.cast(art, voter(CAT), "up")
    assert await studio.nights.snapshot(cutoff) == first


async def test_what_may_not_teach_is_left_out(studio: Studio) -> None:
    removed, hidden, shown = [await painted(studio) for _ in range(3)]
    for art in (removed, hidden, shown):
        for member in (BEN, CAT):
            await studio.votes.cast(art, voter(member), "up")
    await studio.gallery.remove(removed, by=ANN, moderator=True)
    await studio.gallery.set_private(hidden, True, by=ANN)
    await studio.policy.prefer(CAT, training=False)
    snapshot = await studio.nights.snapshot(SOON)
    assert [(v.artwork, v.voter) for v in snapshot.votes] == [(shown, await studio.nights.pseudonym(BEN))]
    await studio.policy.prefer(ANN, training=False)
    assert (await studio.nights.snapshot(SOON)).votes == ()


async def test_self_votes_at_home_count_but_do_not_teach(studio: Studio) -> None:
    art = await painted(studio, HOST, WEB)
    await studio.votes.cast(art, Voter(HOST, WEB), "up", source="web")
    assert (await studio.votes.tally(art)).tally.up == 1
    assert (await studio.nights.snapshot(SOON)).votes == ()


async def test_the_owner_of_the_photo_does_not_teach_with_it(studio: Studio) -> None:
    await studio.policy.change(GUILD, photo_owner_votes=True)
    photo = StylizeRequest(photo=PIXEL, style="monet")
    art = await painted(studio, ANN, request=photo, photo_owner=DAN)
    assert (await studio.votes.cast(art, voter(DAN), "up")).accepted
    assert (await studio.nights.snapshot(SOON)).votes == ()


async def test_a_banned_members_works_do_not_teach(studio: Studio) -> None:
    art = await painted(studio)
    await studio.votes.cast(art, voter(BEN), "up")
    await studio.policy.ban(GUILD, ANN, by=DAN)
    assert (await studio.nights.snapshot(SOON)).votes == ()


def votes(*pairs: tuple[str, str], start: int = 0) -> list[VoteRow]:
    row = VoteRow("", "", "", "up", 0.0, "paint", None, None, "", "", {})
    return [
        dataclasses.replace(row, artwork=f"{start + n:05}", voter=voter, requester=requester, at=float(start + n))
        for n, (voter, requester) in enumerate(pairs)
    ]


def test_one_voter_or_one_requester_cannot_fill_a_night() -> None:
    one_voter = votes(*(("ann", f"r{n}") for n in range(VOTER_CAP + 50)))
    assert [vote.at for vote in capped(one_voter)] == [float(n) for n in range(50, VOTER_CAP + 50)], "the newest stay"
    one_requester = votes(*((f"v{n}", "ann") for n in range(REQUESTER_CAP + 50)))
    assert len(capped(one_requester)) == REQUESTER_CAP


def test_a_ring_of_two_does_not_count_but_friends_who_also_like_others_do() -> None:
    ring = votes(*[("ann", "ben")] * 10, *[("ben", "ann")] * 10)
    others = votes(("ann", "cat"), ("cat", "ann"), start=50)
    assert {(v.voter, v.requester) for v in capped([*ring, *others])} == {("ann", "cat"), ("cat", "ann")}
    friends = [*ring, *votes(*(("ann", f"r{n}") for n in range(30)), *(("ben", f"r{n}") for n in range(30)), start=100)]
    assert len(capped(friends)) == 80


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = votes(*[("ann", "ben")] * 10, *((f"v{n}", "cat") for n in range(300)))
    assert capped(rows) == capped(rows[::-1])


async def test_the_diary_keeps_nights_and_their_later_words(studio: Studio) -> None:
    night = Night(id="2026-01-01", state="training", started=1.0, base="abc")
    await studio.nights.record(night, await studio.nights.snapshot(5.0))
    later = dataclasses.replace(night, state="refused", finished=2.0, diary={"why": "KID rose"})
    await studio.nights.record(later)
    await studio.nights.record(Night(id="2026-01-02", state="training", started=3.0))
    found = await studio.nights.get("2026-01-01")
    assert (found.state, found.diary, found.cutoff, found.base) == ("refused", {"why": "KID rose"}, 5.0, "abc")
    assert found.snapshot
    assert [night.id for night in await studio.nights.list()] == ["2026-01-02", "2026-01-01"]
    with pytest.raises(NotFound):
        await studio.nights.get("never")


async def test_young_accounts_do_not_teach(studio: Studio) -> None:
    await studio.policy.change(GUILD, min_account_days=0)
    art = await painted(studio)
    await studio.votes.cast(art, voter(Member("discord", "7"), account_created=time.time() - 3600), "up")
    assert len((await studio.nights.snapshot(SOON)).votes) == 1
    await studio.policy.change(GUILD, min_account_days=7)
    assert (await studio.nights.snapshot(SOON)).votes == ()
