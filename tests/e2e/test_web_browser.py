"""A member's whole path in headless Chromium: the real bot, the real engine with tiny models, real pages.

Needs Debian's packages ``chromium`` and ``chromium-driver`` and is skipped without them.  axe-core comes with the wheel
axe-core-python; AXE_CORE names another axe.min.js.  With SHOTS set to a folder every page is photographed into it.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.resources
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from bot.config import Settings
from bot.studio import Night, Nights
from bot.studio.store import Store

ROOT = Path(__file__).parents[2]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = Path(os.environ.get("AXE_CORE") or str(importlib.resources.files("axe_core_python") / "axe.min.js"))
SCHEMES = ("light", "dark")
SIZES = {"phone": (390, 844), "desktop": (1280, 860)}
PATIENCE = 100  # seconds for anything to appear, on a busy machine
TOKEN = "a long and secret token"

pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Chromium is missing: apt-get install chromium chromium-driver"
    ),
    pytest.mark.timeout(300),
]


class House:
    """A running ``python -m bot`` with models of random weights."""

    def __init__(self, folder: Path, models: Path, **settings: str) -> None:
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bot"], cwd=ROOT, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith(("GANVAS_", "DISCORD_"))} | {
                "GANVAS_DATA": str(folder / "var"), "GANVAS_MODELS": str(models), "GANVAS_WEB_PORT": "0",
                "GANVAS_NIGHTS": "false", "OMP_NUM_THREADS": "1",
            } | {f"GANVAS_{name.upper()}": value for name, value in settings.items()},
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().rpartition(" ")[2].strip()
        assert self.url.startswith("http"), (folder / "log").read_text()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.url}/healthz").close()
                return
            except OSError:  # the engine still wakes up
                time.sleep(0.2)
        raise AssertionError((folder / "log").read_text())

    def close(self) -> None:
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stylizer, a painter and an enhancer with random weights."""
    import torch

    from engine import checkpoints, nets

    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)

    def card(name: str, net: str, config: dict[str, Any]) -> dict[str, Any]:
        return {"name": f"tiny-{name}", "kind": name, "system": "test", "net": {"name": net, "config": config}}

    stylizer = {"styles": 4, "style_dim": 8, "widths": [8, 12, 16], "blocks": 1}
    net = nets.create("stylenet", **stylizer)
    net.style_table[:, :8] = torch.randn(4, 8)  # type: ignore[index]
    styles = [{"name": name, "title": name.title(), "artist": "Nobody"} for name in ("waves", "dots", "fog", "embers")]
    checkpoints.save(card("stylizer", "stylenet", stylizer) | {"styles": styles}, net, root=root)
    painter = {"genres": 3, "resolution": 32, "z_dim": 16, "embedding": 8, "width": 0.1}
    genres = {"genres": ["flower-painting", "landscape", "portrait"], "resolution": 32}
    judge = {"genres": 3, "size": 32, "widths": [8, 8, 8, 8]}
    genres["discriminator"] = {"name": "projected-discriminator", "config": judge}
    checkpoints.save(
        card("painter", "painter", painter) | genres, nets.create("painter", **painter),
        nets.create("projected-discriminator", **judge), root=root,
    )  # fmt: skip
    enhancer = {"width": 8, "depth": 2}
    checkpoints.save(
        card("enhancer", "enhancer", enhancer) | {"scales": [2, 4]}, nets.create("enhancer", **enhancer), root=root
    )
    return root


async def live_through_nights(folder: Path) -> None:
    """Write two nights into the diary: one the gate refused, one that succeeded."""
    store = Store(folder)
    nights = Nights(store, Settings(data=folder))
    gate = [
        {"name": "distance to the nearest known painting", "value": 12.4, "limit": "at least 11.2", "passed": True},
        {"name": "KID", "value": 0.31, "limit": "at most 0.22", "passed": False},
    ]
    told = {"votes": {"counted": 30, "voters": 4, "works": 12}, "taste": {"accuracy": 0.7}, "gate": gate}
    await nights.record(Night("first", "refused", 1_790_000_000.0, diary=told | {"why": "The gate refused it."}))
    pictures = {"before": "before.webp", "after": "after.webp"}
    await nights.record(
        Night("second", "promoted", 1_790_086_400.0, diary=told | {"why": "People liked it."} | pictures)
    )
    for name, colour in (("before", (90, 120, 60)), ("after", (200, 140, 60))):
        (nights.folder / "second").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (360, 240), colour).save(nights.folder / "second" / f"{name}.webp")
    await store.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    asyncio.run(live_through_nights(folder / "var"))
    house = House(folder, models, nights="true", night_cron="0 0 29 2 *")
    yield house
    house.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn landscape of 640 x 420 px: sky, sun, hills."""
    y, x = np.mgrid[0:420, 0:640].astype(np.float32)
    sky = np.stack([90 + y / 4, 140 + y / 5, 230 - y / 6], axis=-1)
    hills = y > 260 + 40 * np.sin(x / 90) + 15 * np.sin(x / 23)
    sky[hills] = np.stack([40 + 30 * np.sin(x / 11), 110 - (y - 260) / 5, 60 + 0 * x], axis=-1)[hills]
    sky[(x - 470) ** 2 + (y - 110) ** 2 < 45**2] = (250, 220, 120)
    path = tmp_path_factory.mktemp("photo") / "hills.jpg"
    file = io.BytesIO()
    Image.fromarray(sky.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    path.write_bytes(file.getvalue())
    return path


class Browser:
    """Chromium at one size and in one scheme, which watches its console and its requests."""

    def __init__(self, size: str = "desktop", scheme: str = "light") -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.size, self.scheme = size, scheme
        width, height = SIZES[size]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
        media = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def until(self, condition: Callable[[webdriver.Chrome], Any]) -> Any:
        """Wait until ``condition`` holds; an element of the page that is just being left does not count."""
        left = [StaleElementReferenceException]
        return WebDriverWait(self.driver, PATIENCE, ignored_exceptions=left).until(condition)

    def find(self, selector: str) -> WebElement:
        return self.until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def press(self, selector: str) -> None:
        """Click, wherever on the page it lies."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.find(selector))
        self.find(selector).click()

    def arrive(self, part: str) -> None:
        """Wait until the address contains ``part`` and the page has settled."""
        self.until(lambda driver: part in driver.current_url)
        self.until(lambda driver: driver.execute_script("return document.readyState") == "complete")

    def shoot(self, name: str) -> None:
        """Photograph the page, and refuse what is wider than the window."""
        wide = self.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{name} is {wide} px wider than the window"
        if folder := os.environ.get("SHOTS"):
            shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            Path(folder, f"{name}-{self.size}-{self.scheme}.png").write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the console holds against us."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requested(self) -> set[str]:
        """Every address asked for since the last question."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}

    def unreachable(self) -> list[str]:
        """What axe-core finds that shuts somebody out: serious and critical violations."""
        self.driver.execute_script(AXE.read_text())
        found = self.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        return [
            f"{violation['id']}: {node['html'][:120]} ({node.get('failureSummary', '')[:200]})"
            for violation in found["violations"] if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]  # fmt: skip


@pytest.fixture
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module", params=[(size, scheme) for size in SIZES for scheme in SCHEMES], ids=" ".join)
def each(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser of each size in each scheme."""
    browser = Browser(*request.param)
    yield browser
    browser.driver.quit()


def open_votes(browser: Browser, house: House) -> None:
    """The host lets members vote on their own works, so that one person can walk the whole path."""
    browser.driver.get(f"{house.url}/host/settings")
    box = browser.find('input[name="self_votes"]')
    if not box.is_selected():
        browser.press('input[name="self_votes"]')
    browser.press("form.rules button")
    browser.arrive("saved=1")


def test_a_photo_becomes_a_work_is_liked_found_and_deleted(each: Browser, house: House, photo: Path) -> None:
    browser, driver = each, each.driver
    browser.requested()
    open_votes(browser, house)
    driver.get(house.url)
    browser.shoot("studio")
    # The photo lies on the bench and every style shows itself on it.
    browser.find('#drop input[type="file"]').send_keys(str(photo))
    browser.until(lambda _: len(browser.all('.swatch img[src^="/photos/"]')) == 4)
    browser.shoot("previews")
    browser.press('input[value="style:waves"]')
    browser.press("button.main")
    browser.arrive("/art/")
    address = driver.current_url
    # Before and after, by keyboard.
    knob = browser.find("#compare input")
    before = driver.execute_script(
        "return getComputedStyle(document.getElementById('compare')).getPropertyValue('--cut')"
    )
    knob.send_keys(Keys.ARROW_RIGHT * 10)
    after = driver.execute_script(
        "return getComputedStyle(document.getElementById('compare')).getPropertyValue('--cut')"
    )
    assert float(after[:-1]) == float(before[:-1]) + 10
    browser.shoot("work")
    # A vote against, then a heart instead, without a reload, and it lasts.
    for way in ("down", "up"):
        browser.press(f"button.vote.{way}")
        browser.until(lambda _, way=way: browser.find(f"button.vote.{way}").get_attribute("aria-pressed") == "true")
    assert browser.find("button.vote.down [data-count]").text == "0"
    driver.refresh()
    assert browser.find("button.vote.up [data-count]").text == "1"
    for fold in browser.all("details > summary"):
        fold.send_keys(Keys.ENTER)
    assert browser.unreachable() == []
    # In the gallery, by its style, opened by keyboard.
    driver.get(f"{house.url}/gallery")
    browser.find('#f-style option[value="waves"]').click()
    browser.arrive("style=waves")
    browser.until(lambda _: browser.all("#wall article"))
    browser.shoot("gallery")
    link = browser.find(f'a.title[href="{address.removeprefix(house.url)}"]')
    link.send_keys(Keys.ENTER)
    browser.arrive("/art/")
    assert driver.current_url == address
    # Deleted, after a question, and gone for good.
    for fold in browser.all("details:not([open]) > summary"):
        fold.send_keys(Keys.ENTER)
    browser.press("form[data-confirm] button")
    browser.press("#sure [data-yes]")
    browser.arrive("/gallery?member=me")
    assert not browser.all(f'a.title[href="{address.removeprefix(house.url)}"]')
    assert browser.complaints() == []
    driver.get(address)
    assert "There is nothing here" in browser.find("h1").text or "no artwork" in browser.find("h1").text
    foreign = {url for url in browser.requested() if not url.startswith((house.url, "data:", "blob:", "chrome"))}
    assert foreign == set()


def test_paintings_from_a_seed_glide_into_each_other(browser: Browser, house: House) -> None:
    driver = browser.driver
    driver.get(f"{house.url}/paint")
    browser.press('input[value="landscape"]')
    browser.find("#seed").send_keys("a quiet harbour")
    browser.find('#count option[value="2"], #count option:nth-child(2)').click()
    browser.press("button.main")
    browser.until(lambda _: len(browser.all("#main .wall article")) == 2)
    browser.shoot("two-paintings")
    driver.get(f"{house.url}/morph")
    picks = browser.all(".pick")
    assert len(picks) >= 2
    for pick in picks[:2]:
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", pick)
        pick.click()
    assert [pick.get_attribute("aria-pressed") for pick in picks[:2]] == ["true", "true"]
    browser.shoot("morph")
    browser.find("#seconds").clear()
    browser.find("#seconds").send_keys("1")
    browser.press("button.main")
    browser.arrive("/art/")
    film = browser.find("video")
    browser.until(lambda _: driver.execute_script("return arguments[0].readyState >= 2", film))
    assert driver.execute_script("return arguments[0].videoWidth", film) == 512
    assert len(browser.all(".family a")) == 2
    browser.shoot("film")
    assert browser.complaints() == []


def test_a_photo_that_is_none_is_refused_in_a_sentence(browser: Browser, house: House, tmp_path: Path) -> None:
    wrong = tmp_path / "photo.jpg"
    wrong.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    browser.driver.get(house.url)
    browser.find('#drop input[type="file"]').send_keys(str(wrong))
    said = browser.until(lambda _: browser.find("#wrong").text)
    assert said.endswith(".")
    browser.shoot("refused")


def test_a_photo_comes_by_paste_and_by_drop(browser: Browser, house: House) -> None:
    driver = browser.driver
    for way in ("paste", "drop"):
        driver.get(house.url)
        driver.execute_async_script(
            """
            const [way, done] = arguments;
            const canvas = new OffscreenCanvas(64, 48);
            canvas.getContext("2d").fillRect(0, 0, 32, 48);
            canvas.convertToBlob({ type: "image/png" }).then((blob) => {
              const data = new DataTransfer();
              data.items.add(new File([blob], "photo.png", { type: "image/png" }));
              const options = { bubbles: true, cancelable: true };
              document.body.dispatchEvent(way === "paste"
                ? new ClipboardEvent("paste", { ...options, clipboardData: data })
                : new DragEvent("drop", { ...options, dataTransfer: data }));
              done();
            });
            """,
            way,
        )
        assert browser.find("#drop.filled img").get_attribute("alt") == "Your photo"
        browser.arrive("photo=")
    assert browser.complaints() == []


def test_the_host_reads_the_diary_and_puts_the_learning_on_hold(browser: Browser, house: House) -> None:
    driver = browser.driver
    driver.get(f"{house.url}/diary")
    pair = browser.all(".pairs img")
    assert [picture.get_attribute("alt") for picture in pair][:2] == [
        "The same seeds before the lesson", "The same seeds after the lesson",
    ]  # fmt: skip
    assert len(browser.all(".chart rect")) == 2
    browser.press('form[action="/diary/pause"] button')
    browser.until(lambda _: browser.find("#apprentice").text == "Pauses")
    browser.press('form[action="/diary/resume"] button')
    browser.until(lambda _: browser.find("#apprentice").text == "Rests")
    assert browser.complaints() == []


def test_a_close_look_opens_and_closes_by_keyboard(browser: Browser, house: House) -> None:
    driver = browser.driver
    driver.get(f"{house.url}/paint")
    browser.press('input[value="portrait"]')
    browser.press("button.main")
    browser.arrive("/art/")
    browser.find("#zoom").send_keys(Keys.ENTER)
    browser.until(lambda _: browser.find("#closely").is_displayed())
    driver.switch_to.active_element.send_keys("+")
    driver.switch_to.active_element.send_keys("+")
    assert "scale(2.25)" in (browser.find("#closely img").get_attribute("style") or "")
    browser.shoot("closely")
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find("#closely").is_displayed()


def test_beyond_loopback_strangers_meet_a_door(browser: Browser, models: Path, tmp_path: Path) -> None:
    house = House(tmp_path, models, web_token=TOKEN)
    try:
        browser.driver.get(f"{house.url}/gallery")
        browser.arrive("/login")
        browser.shoot("door")
        browser.find("#token").send_keys("wrong")
        browser.press("main button")
        assert browser.find('[role="alert"]').text
        browser.find("#token").send_keys(TOKEN)
        browser.press("main button")
        browser.arrive("/gallery")
        browser.driver.get(f"{house.url}/host")
        assert browser.find("p.code").text
        browser.shoot("host")
    finally:
        house.close()


def test_nobody_is_shut_out(each: Browser, house: House) -> None:
    found = {}
    for page in (
        "/", "/paint", "/morph", "/gallery", "/queue", "/duel", "/diary", "/me", "/login", "/nowhere", "/host",
        "/host/models", "/host/settings", "/host/bans", "/host/logs",
    ):  # fmt: skip
        each.driver.get(house.url + page)
        each.driver.execute_script("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        each.shoot(page.strip("/").replace("/", "-") or "studio")
        found[page] = each.unreachable()
    assert {page: problems for page, problems in found.items() if problems} == {}
