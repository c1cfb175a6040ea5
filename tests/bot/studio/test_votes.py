from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import time
from collections.abc import Iterable
from typing import Any

import pytest
from house import ANN, BEN, CAT, DAN, GUILD, LONG_AGO, FakeEngine, painted, voter
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from bot.config import Settings
from bot.studio import HOST, GuildSettings, Member, NotFound, Preferences, Studio, Voter, VotesChanged, open_studio
from bot.studio.votes import Case, fold, gallery_step, objection, wilson


@pytest.fixture
async def art(studio: Studio) -> str:
    return await painted(studio)


# Who may vote: one table for reactions, buttons, the web and recounts

FINE = Case(
    voter=Voter(BEN, GUILD, account_created=LONG_AGO),
    source="reaction",
    requester=ANN.key,
    photo_owner=None,
    guild=GUILD,
    created=time.time(),
    private=False,
    removed=False,
    settings=GuildSettings(),
    preferences=Preferences(),
    banned=False,
    now=time.time(),
)


def test_an_ordinary_member_may_vote() -> None:
    assert objection(FINE) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"voter": voter(ANN)}, "your own work"),
        ({"photo_owner": BEN.key}, "your own picture"),
        ({"voter": voter(BEN, bot=True)}, "Bots"),
        ({"voter": voter(BEN, pending=True)}, "screening"),
        ({"voter": voter(BEN, account_created=time.time() - 86_400)}, "younger than 7 days"),
        ({"banned": True}, "banned"),
        ({"settings": GuildSettings(voting=False)}, "switched off"),
        ({"settings": GuildSettings(voter_role="9")}, "roles"),
        ({"voter": voter(BEN, roles=frozenset({"8"})), "settings": GuildSettings(voter_role="9")}, "roles"),
        ({"preferences": Preferences(votes=False)}, "not counted"),
        ({"guild": None}, "direct messages"),
        ({"created": time.time() - 31 * 86_400}, "older than 30 days"),
        ({"removed": True}, "removed"),
        ({"private": True}, "Private"),
    ],
)
def test_who_may_not_vote_is_told_why(change: dict[str, Any], sentence: str) -> None:
    assert sentence in str(objection(dataclasses.replace(FINE, **change)))


def test_a_host_may_allow_self_votes_and_a_role_opens_the_vote() -> None:
    own = dataclasses.replace(FINE, voter=voter(ANN), settings=GuildSettings(self_votes=True))
    role = dataclasses.replace(FINE, voter=voter(BEN, roles=frozenset({"9"})), settings=GuildSettings(voter_role="9"))
    assert objection(own) is None and objection(role) is None


# One vote a person, whatever they click


async def test_a_reaction_and_its_replay_are_one_vote(studio: Studio, art: str) -> None:
    for _ in range(3):
        ballot = await studio.votes.react(art, voter(BEN), "❤️", message="m1", added=True)
    assert (ballot.tally.up, ballot.tally.down, ballot.mine) == (1, 0, "up")


async def test_skin_tones_and_selectors_make_no_second_vote(studio: Studio, art: str) -> None:
    await studio.votes.react(art, voter(BEN), "👍🏽", message="m1", added=True)
    await studio.votes.react(art, voter(BEN), "👍", message="m1", added=True)
    ballot = await studio.votes.react(art, Voter(BEN), "👍🏿", message="m1", added=False)
    assert ballot.tally.up == 0


async def test_the_vote_stays_until_the_last_of_its_marks_is_gone(studio: Studio, art: str) -> None:
    await studio.votes.react(art, voter(BEN), "❤", message="m1", added=True)
    await studio.votes.react(art, voter(BEN), "❤", message="m1", burst=True, added=True)
    await studio.votes.react(art, voter(BEN), "❤", message="copy", added=True)
    await studio.votes.toggle(art, voter(BEN), "up")
    counts = []
    for event in (
        studio.votes.react(art, Voter(BEN), "❤", message="m1", added=False),
        studio.votes.react(art, Voter(BEN), "❤", message="m1", burst=True, added=False),
        studio.votes.react(art, Voter(BEN), "❤", message="copy", added=False),
        studio.votes.toggle(art, voter(BEN), "up"),
    ):
        counts.append((await event).tally.up)
    assert counts == [1, 1, 1, 0]


async def test_of_two_opinions_the_last_counts_and_the_first_returns(studio: Studio, art: str) -> None:
    await studio.votes.react(art, voter(BEN), "❤", message="m1", added=True)
    ballot = await studio.votes.react(art, voter(BEN), "👎", message="m1", added=True)
    assert (ballot.tally.up, ballot.tally.down) == (0, 1)
    ballot = await studio.votes.react(art, Voter(BEN), "👎", message="m1", added=False)
    assert (ballot.tally.up, ballot.tally.down) == (1, 0)


async def test_a_cleared_message_loses_its_reactions_but_no_button(studio: Studio, art: str) -> None:
    await studio.votes.react(art, voter(BEN), "❤", message="m1", added=True)
    await studio.votes.react(art, voter(CAT), "👎", message="m1", added=True)
    await studio.votes.cast(art, voter(DAN), "up")
    tally = await studio.votes.clear(art, message="m1", emoji="👎")
    assert (tally.up, tally.down) == (2, 0)
    tally = await studio.votes.clear(art, message="m1")
    assert (tally.up, tally.down) == (1, 0)


async def test_an_emoji_that_means_nothing_is_no_vote(studio: Studio, art: str) -> None:
    ballot = await studio.votes.react(art, voter(BEN), "🍕", message="m1", added=True)
    assert not ballot.accepted and ballot.tally.up == 0


async def test_a_refused_button_says_why_and_changes_nothing(studio: Studio, art: str) -> None:
    ballot = await studio.votes.toggle(art, voter(ANN), "up")
    assert (ballot.accepted, ballot.reason, ballot.tally.up) == (False, "This is your own work.", 0)


async def test_at_home_the_host_may_vote_on_their_own_works(studio: Studio) -> None:
    art = await painted(studio, HOST, "web")
    assert (await studio.votes.cast(art, Voter(HOST, "web"), "up", source="web")).mine == "up"


async def test_nobody_votes_on_what_does_not_exist(studio: Studio) -> None:
    with pytest.raises(NotFound):
        await studio.votes.cast("nowhere", voter(BEN), "up")


async def test_a_thousand_presses_at_once_end_exactly(studio: Studio, art: str) -> None:
    people = [voter(Member("discord", str(1000 + n))) for n in range(50)]
    await asyncio.gather(*(studio.votes.toggle(art, person, "up") for person in people for _ in range(3)))
    assert (await studio.votes.tally(art)).tally.up == 50


async def test_listeners_hear_of_the_new_count(studio: Studio, art: str) -> None:
    with studio.events.subscribe(VotesChanged) as stream:
        await studio.votes.cast(art, voter(BEN), "up")
        async for event in stream:
            assert isinstance(event, VotesChanged) and event.art_id == art and event.tally.up == 1
            break


async def test_every_change_of_a_vote_is_in_the_log(studio: Studio, settings: Settings, art: str) -> None:
    await studio.votes.cast(art, voter(BEN), "up")
    await studio.votes.cast(art, voter(BEN), "down")
    await studio.votes.cast(art, voter(BEN), None)
    with sqlite3.connect(settings.data / "ganvas.db") as db:
        events = db.execute("SELECT what, value FROM vote_events ORDER BY id").fetchall()
    db.close()
    assert events == [("voted", "up"), ("changed", "down"), ("withdrawn", None)]


async def test_a_ban_takes_the_votes_back(studio: Studio, art: str) -> None:
    await studio.votes.cast(art, voter(BEN), "up")
    await studio.policy.ban(GUILD, BEN, by=ANN)
    assert (await studio.votes.tally(art)).tally.up == 0
    assert not (await studio.votes.cast(art, voter(BEN), "up")).accepted


# After being deaf


async def test_a_recount_adds_what_was_missed_and_removes_what_is_gone(studio: Studio, art: str) -> None:
    await studio.votes.react(art, voter(BEN), "❤", message="m1", added=True)
    await studio.votes.cast(art, voter(DAN), "up")
    reactions = {("❤", False): [voter(CAT), voter(Member("discord", "99"), bot=True)], ("👎", True): [voter(ANN)]}
    tally = await studio.votes.reconcile(art, message="m1", reactions=reactions, fetch_began=time.time())
    assert (tally.up, tally.down) == (2, 0)  # Cat's heart and Dan's button; bots and the author do not count
    assert (await studio.votes.tally(art, member=BEN)).mine is None


async def test_what_happens_during_the_fetch_wins_over_it(studio: Studio, art: str) -> None:
    await studio.votes.react(art, voter(BEN), "❤", message="m1", added=True)
    began = time.time()
    await studio.votes.react(art, Voter(BEN), "❤", message="m1", added=False)
    await studio.votes.react(art, voter(CAT), "❤", message="m1", added=True)
    tally = await studio.votes.reconcile(art, message="m1", reactions={("❤", False): [voter(BEN)]}, fetch_began=began)
    assert tally.up == 1
    assert (await studio.votes.tally(art, member=CAT)).mine == "up"


async def test_a_recount_of_one_message_leaves_its_copies_alone(studio: Studio, art: str) -> None:
    await studio.votes.react(art, voter(BEN), "❤", message="copy", added=True)
    tally = await studio.votes.reconcile(art, message="m1", reactions={}, fetch_began=time.time())
    assert tally.up == 1


async def test_numbers_tell_where_the_ledger_may_be_wrong(studio: Studio) -> None:
    works = [await painted(studio) for _ in range(4)]
    for number, work in enumerate(works):
        await studio.gallery.add_post(work, platform="discord", channel="5", message=f"m{number}")
        await studio.votes.react(work, voter(BEN), "❤️", message=f"m{number}", added=number < 3)
    await studio.votes.react(works[1], voter(CAT), "❤", message="m1", burst=True, added=True)
    seen = {
        "m0": {("❤️", False): 1, ("🍕", False): 7},
        "m1": {("❤️", False): 2},  # the super reaction became an ordinary one
        "m2": {},
        "m3": {("🍕", False): 7},
        "m4": {("❤️", False): 1},  # no message of ours
    }
    assert await studio.votes.compare("discord", seen) == {"m0": True, "m1": False, "m2": False}


async def test_what_takes_no_more_votes_is_not_read_again(studio: Studio, settings: Settings, art: str) -> None:
    await studio.gallery.add_post(art, platform="discord", channel="5", message="m1")
    assert [found for found, _, _ in await studio.gallery.votable("discord")] == [art]
    assert await studio.gallery.votable("elsewhere") == []
    with sqlite3.connect(settings.data / "ganvas.db") as db:
        db.execute("UPDATE artworks SET created = created - 40 * 86400")
    db.close()
    assert await studio.gallery.votable("discord") == []
    await studio.policy.change(GUILD, window_days=60)
    assert [guild for _, guild, _ in await studio.gallery.votable("discord")] == [GUILD]


EMOJIS = ("❤", "👍", "👎")
MARK = st.tuples(st.sampled_from((BEN, CAT, DAN, ANN)), st.sampled_from(EMOJIS), st.booleans())
STEPS = st.lists(st.tuples(MARK, st.booleans(), st.sampled_from((0, 1, 1, 1, 2))), max_size=25)


@effort(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, order=st.randoms(use_true_random=False))
async def test_rule_40_after_any_events_one_recount_ends_in_the_true_state(
    studio: Studio, art: str, steps: list[tuple[tuple[Member, str, bool], bool, int]], order: Any
) -> None:
    """Events are lost (0), doubled (2) and delivered in any order; the recount puts everything right."""
    await studio.votes.reconcile(art, message="m", reactions={}, fetch_began=time.time())
    truth: set[tuple[Member, str, bool]] = set()
    heard = []
    for mark, added, times in steps:
        if (mark in truth) == added:
            continue  # nobody can add what is there or remove what is not
        truth.symmetric_difference_update({mark})
        heard += [(mark, added)] * times
    order.shuffle(heard)
    for (member, emoji, burst), added in heard:
        await studio.votes.react(art, voter(member), emoji, message="m", burst=burst, added=added)
    reactions: dict[tuple[str, bool], Iterable[Voter]] = {
        (emoji, burst): [voter(m) for m in (ANN, BEN, CAT, DAN) if (m, emoji, burst) in truth]
        for emoji in EMOJIS
        for burst in (False, True)
    }
    tally = await studio.votes.reconcile(art, message="m", reactions=reactions, fetch_began=time.time())

    votes = {}
    for member in (ANN, BEN, CAT, DAN):
        values = {"down" if emoji == "👎" else "up" for m, emoji, _ in truth if m == member} if member != ANN else set()
        votes[member] = mine = (await studio.votes.tally(art, member=member)).mine
        assert mine in values if values else mine is None  # of two opinions, only the live order could tell the last
    counted = list(votes.values())
    assert (tally.up, tally.down) == (counted.count("up"), counted.count("down"))


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "value": st.sampled_from(("up", "down")),
                "bit": st.sampled_from((1, 2, 4)),
                "present": st.booleans(),
                "at": st.integers(0, 3),
            }
        )
    ),
    st.randoms(use_true_random=False),
)
def test_the_fold_depends_on_the_marks_and_not_on_their_order(marks: list[dict[str, Any]], order: Any) -> None:
    before = fold(marks)
    order.shuffle(marks)
    assert fold(marks) == before


# Ranking and the gallery channel


def test_few_votes_do_not_outrank_many() -> None:
    assert wilson(0, 0) == 0 < wilson(1, 0) < wilson(10, 1) < wilson(100, 5) < 1


@pytest.mark.parametrize(
    ("state", "net", "after"),
    [
        ("none", 2, ("none", None)),
        ("none", 3, ("posting", "post")),
        ("posting", 2, ("none", None)),
        ("posted", 2, ("posted", "edit")),
        ("posted", 1, ("removing", "remove")),
        ("removing", 2, ("removing", "remove")),
        ("removing", 3, ("posted", "edit")),
        ("hidden", 9, ("hidden", None)),
    ],
)
def test_the_gallery_has_two_thresholds(state: str, net: int, after: tuple[str, str | None]) -> None:
    rules = GuildSettings(gallery_threshold=3, gallery_remove_below=2)
    assert gallery_step(state, net, shown=False, allowed=True, settings=rules) == after


@pytest.fixture
async def gallery(studio: Studio, art: str) -> str:
    await studio.policy.change(GUILD, gallery_channel="77", gallery_threshold=2, gallery_remove_below=1)
    return art


async def liked(studio: Studio, art: str, *members: Member, value: Any = "up") -> None:
    for member in members:
        await studio.votes.cast(art, voter(member), value)


async def test_a_liked_work_is_posted_exactly_once(studio: Studio, gallery: str) -> None:
    await liked(studio, gallery, BEN)
    assert await studio.votes.gallery_tasks() == []
    await liked(studio, gallery, CAT)
    (task,) = await studio.votes.gallery_tasks()
    assert (task.action, task.channel, task.repeated) == ("post", "77", False)
    claims = await asyncio.gather(*(studio.votes.claim(gallery) for _ in range(5)))
    assert sum(claim is not None for claim in claims) == 1
    await studio.votes.posted(gallery, "77", "g1")
    assert await studio.votes.gallery_tasks() == []
    assert await studio.gallery.art_of("discord", "g1") == gallery


async def test_votes_during_the_posting_make_one_edit(studio: Studio, gallery: str) -> None:
    await liked(studio, gallery, BEN, CAT)
    await studio.votes.claim(gallery)
    await liked(studio, gallery, DAN)
    assert await studio.votes.gallery_tasks() == []
    await studio.votes.posted(gallery, "77", "g1")
    (task,) = await studio.votes.gallery_tasks()
    assert (task.action, task.message, task.artwork.tally.up) == ("edit", "g1", 3)
    await studio.votes.claim(gallery)
    await studio.votes.edited(gallery)
    assert await studio.votes.gallery_tasks() == []


async def test_a_disliked_work_leaves_and_may_return(studio: Studio, gallery: str) -> None:
    await liked(studio, gallery, BEN, CAT)
    await studio.votes.claim(gallery)
    await studio.votes.posted(gallery, "77", "g1")
    await liked(studio, gallery, BEN, CAT, value="down")
    (task,) = await studio.votes.gallery_tasks()
    assert (task.action, task.message) == ("remove", "g1")
    await studio.votes.claim(gallery)
    await studio.votes.unposted(gallery)
    await liked(studio, gallery, BEN, CAT)
    assert [task.action for task in await studio.votes.gallery_tasks()] == ["post"]


async def test_a_gallery_post_deleted_by_hand_stays_away(studio: Studio, gallery: str) -> None:
    await liked(studio, gallery, BEN, CAT)
    await studio.votes.claim(gallery)
    await studio.votes.posted(gallery, "77", "g1")
    await studio.gallery.post_deleted("discord", ["g1", "somebody else's"])
    await liked(studio, gallery, DAN)
    assert await studio.votes.gallery_tasks() == []
    assert (await studio.gallery.get(gallery, viewer=None)).gallery == "hidden"
    assert (await studio.votes.tally(gallery)).tally.up == 3


async def test_a_post_that_a_crash_left_half_done_is_offered_again(settings: Settings, engine: FakeEngine) -> None:
    async with open_studio(settings, engine) as studio:
        art = await painted(studio)
        await studio.policy.change(GUILD, gallery_channel="77", gallery_threshold=1, gallery_remove_below=1)
        await liked(studio, art, BEN)
        assert await studio.votes.claim(art)
    async with open_studio(settings, engine) as studio:
        (task,) = await studio.votes.gallery_tasks()
        assert task.repeated and (await studio.votes.claim(art)) is not None


async def test_what_cannot_be_posted_waits_for_the_next_vote(studio: Studio, gallery: str) -> None:
    await liked(studio, gallery, BEN, CAT)
    await studio.votes.claim(gallery)
    await studio.votes.gave_up(gallery, "Missing permissions")
    assert await studio.votes.gallery_tasks() == []
    await liked(studio, gallery, DAN)
    assert [task.action for task in await studio.votes.gallery_tasks()] == ["post"]


async def test_the_best_liked_come_first(studio: Studio) -> None:
    await liked(studio, await painted(studio, ANN), BEN, CAT, DAN)
    await liked(studio, await painted(studio, BEN), ANN)
    board = await studio.votes.leaderboard(GUILD)
    assert [(member, works) for member, _, works in board] == [(ANN, 1), (BEN, 1)]


async def test_it_knows_how_long_it_heard_nothing(studio: Studio) -> None:
    assert await studio.votes.gap() == 0
    await studio.votes.seen(time.time() - 3600)
    assert 3599 < await studio.votes.gap() < 3700
