from __future__ import annotations

import pytest
from house import ANN, BEN, CAT, GUILD, painted, voter

from bot.studio import NotFound, Refused, Studio
from engine.api import PaintRequest


async def test_a_duel_shows_two_works_of_one_genre_by_others(studio: Studio) -> None:
    pair = {await painted(studio, ANN), await painted(studio, BEN)}
    await painted(studio, CAT)
    await painted(studio, ANN, request=PaintRequest(genre="portrait", seed=1))
    await painted(studio, ANN, private=True)
    duel = await studio.duels.draw(CAT, GUILD)
    assert ({duel.first.id, duel.second.id}, duel.genre) == (pair, "landscape")
    chosen = await studio.duels.choose(duel.id, voter(CAT), "first")
    assert chosen.choice == "first"
    assert (await studio.duels.choose(duel.id, voter(CAT), "second")).choice == "first", "the first choice stands"
    with pytest.raises(NotFound, match="compare yet"):
        await studio.duels.draw(CAT, GUILD)


async def test_only_who_drew_a_duel_and_may_vote_decides_it(studio: Studio) -> None:
    await painted(studio, ANN)
    await painted(studio, ANN)
    duel = await studio.duels.draw(CAT, GUILD, genre="landscape")
    with pytest.raises(Refused, match="somebody else"):
        await studio.duels.choose(duel.id, voter(BEN), "first")
    with pytest.raises(Refused, match="Bots"):
        await studio.duels.choose(duel.id, voter(CAT, bot=True), "first")


async def test_a_duel_ends_with_its_works(studio: Studio) -> None:
    await painted(studio, ANN)
    await painted(studio, ANN)
    duel = await studio.duels.draw(CAT, GUILD)
    await studio.policy.delete(ANN)
    with pytest.raises(NotFound, match="over"):
        await studio.duels.choose(duel.id, voter(CAT), "first")


async def test_without_a_guild_a_duel_is_drawn_from_everywhere(studio: Studio) -> None:
    pair = {await painted(studio, ANN), await painted(studio, BEN, guild="discord:2")}
    with pytest.raises(NotFound):
        await studio.duels.draw(CAT, GUILD)
    duel = await studio.duels.draw(CAT, None)
    assert {duel.first.id, duel.second.id} == pair
