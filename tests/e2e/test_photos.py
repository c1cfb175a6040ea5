"""Re-roll and vary of a photo: its sender gets the photo painted anew, everybody else goes on from the painting."""

from __future__ import annotations

import pytest
from realhouse import BotProcess, House
from test_day import art_id, photo

from engine.api import StylizeRequest

pytestmark = pytest.mark.timeout(300)  # patience with a busy machine, not a measure


def used(house: House) -> bytes:
    """Return the photo that the engine was given last."""
    request = house.engine.ran[-1]
    assert isinstance(request, StylizeRequest)
    return request.photo


async def test_only_the_sender_has_the_photo_painted_anew(house: House) -> None:
    ada, ben = house.person("Ada"), house.person("Ben")
    name, sent = photo()
    work = await (await ada.slash(house.room, "stylize", photo=(name, sent), style="the-scream")).until(files=1)
    await house.bot.kill()
    await house.bot.start()
    for button in ("Re-roll", "Vary"):
        again = await (await ada.press(work, button)).until(files=1)
        assert used(house) == sent, button
        assert art_id(again) != art_id(work)
    await (await ben.press(work, "Vary")).until(files=1)
    assert used(house) == work.attachments[0].data


async def test_when_its_time_is_over_the_button_says_so(house: House) -> None:
    await house.bot.stop()
    bot = BotProcess(house.bot.folder, house.discord, house.engine, GANVAS_PHOTO_HOURS="0")
    await bot.start()
    try:
        ada, ben = house.person("Ada"), house.person("Ben")
        work = await (await ada.slash(house.room, "stylize", photo=photo())).until(files=1)
        await (await ada.press(work, "Vary")).until("The photo of this job has been deleted; please send it again.")
        await (await ben.press(work, "Vary")).until(files=1)
        assert used(house) == work.attachments[0].data
    finally:
        await bot.stop()
