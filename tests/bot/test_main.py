"""``python -m bot`` as a host meets it: a real process, real signals, real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from bot.config import Settings
from bot.logs import Discreet

ROOT = Path(__file__).parents[2]


async def start(tmp_path: Path, **environ: str) -> asyncio.subprocess.Process:
    """Start it beside an engine that is not there, which is no reason not to start."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GANVAS_", "DISCORD_"))}
    mine = {
        "GANVAS_DATA": str(tmp_path / "var"), "GANVAS_ENGINE_URL": "http://127.0.0.1:9", "GANVAS_WEB_PORT": "0",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", env=inherited | mine | environ, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_is_answers_there_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process = await start(tmp_path)
    assert process.stdout and process.stderr
    line = (await process.stdout.readline()).decode()
    assert line.startswith("Ganvas is open at http://127.0.0.1:")
    async with aiohttp.ClientSession() as session, session.get(line.split()[-1]) as answer:
        assert answer.status == 200
    process.send_signal(number)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
    assert (tmp_path / "var" / "ganvas.db").is_file()


async def test_a_mistyped_setting_is_one_line(tmp_path: Path) -> None:
    process = await start(tmp_path, GANVAS_WEBPORT="1")
    out, errors = await process.communicate()
    assert process.returncode == 2 and out == b""
    assert errors.decode() == "ganvas: There is no setting GANVAS_WEBPORT; did you mean GANVAS_WEB_PORT?\n"


async def test_a_taken_port_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = await start(tmp_path, GANVAS_WEB_PORT=port)
        _, errors = await process.communicate()
    assert process.returncode == 2 and b"Traceback" not in errors
    assert f"ganvas: Another program listens at 127.0.0.1:{port} already" in errors.decode().splitlines()[-1]


async def test_missing_models_are_a_sentence(tmp_path: Path) -> None:
    process = await start(tmp_path, GANVAS_ENGINE_URL="", GANVAS_MODELS="nowhere")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert (
        errors.decode() == "ganvas: The models folder nowhere is missing; set models (GANVAS_MODELS) to where it is.\n"
    )


def test_logs_hold_no_secrets() -> None:
    settings = Settings(discord_token="my-own-token", web_token="open sesame")  # type: ignore[arg-type]
    blot = Discreet(settings).blot
    made_up = "A" * 24 + ".abcdef." + "B" * 38
    for text in (
        "using my-own-token here",
        "sent open sesame",
        "Authorization: Bot my.secret.value",
        f"GET {made_up}",
        "POST https://discord.com/api/v10/webhooks/123456/aW50ZXJhY3Rpb246MTIzNDU2Nzg5MDpx",
        "{'token': 'abc123'}",
    ):
        assert "•••" in blot(text)
        for secret in ("my-own-token", "sesame", "my.secret.value", made_up, "aW50ZXJh", "abc123"):
            assert secret not in blot(text)
    assert blot("Job abc2de failed: no picture") == "Job abc2de failed: no picture"
