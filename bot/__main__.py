"""``python -m bot``: engine, studio, web, and Discord where there is a token; a signal stops it cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bot.config import ConfigError, Settings, load
from bot.logs import start_logging
from bot.studio import Studio, open_studio
from engine.client import connect
from engine.errors import GanvasError

log = logging.getLogger(__name__)

LAST_WORDS = 10.0  # seconds that open pages and Discord have to end


def main() -> int:
    """Run until told to stop; 2 when it could not start, with one line that says why."""
    try:
        settings = load()
        settings.check_folders()
        start_logging(settings)
        asyncio.run(serve(settings))
    except GanvasError as error:
        sys.stderr.write(f"ganvas: {error}\n")
        return 2
    except KeyboardInterrupt:  # before the signal was ours
        return 130
    return 0


async def serve(settings: Settings) -> None:
    """Run everything until SIGTERM or SIGINT.

    Raises:
        GanvasError: it cannot start, or Discord does not accept the token.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    token = settings.engine_token.get_secret_value() if settings.engine_token else None
    async with (
        connect(settings.engine_url, token, (settings.data / "models", settings.models)) as engine,
        open_studio(settings, engine) as studio,
        _web(studio, settings) as url,
    ):
        sys.stdout.write(f"Ganvas is open at {url}\n")
        sys.stdout.flush()
        gc.freeze()  # what start-up made lives on; the collector need not walk it again and again
        discord = asyncio.create_task(_discord(studio, settings))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([discord, stopping], return_when=asyncio.FIRST_COMPLETED)
        log.info("Stopping.")
        for task in (discord, stopping):
            task.cancel()
        _, late = await asyncio.wait([discord], timeout=LAST_WORDS)
        if not late and not discord.cancelled() and (error := discord.exception()):
            raise error


@asynccontextmanager
async def _web(studio: Studio, settings: Settings) -> AsyncIterator[str]:
    """Serve the pages; yields their address."""
    from bot.web.app import create_app

    runner = web.AppRunner(create_app(studio, settings), access_log=None, shutdown_timeout=LAST_WORDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.web_host, settings.web_port)
        try:
            await site.start()
        except OSError as error:
            where = f"{settings.web_host}:{settings.web_port}"
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"Another program listens at {where} already; stop it or set web_port (GANVAS_WEB_PORT)."
                ) from None
            raise ConfigError(f"The web studio cannot listen at {where}: {error.strerror}.") from None
        port = runner.addresses[0][1]
        yield settings.model_copy(update={"web_port": port}).url
    finally:
        await runner.cleanup()


async def _discord(studio: Studio, settings: Settings) -> None:
    """Be on Discord for ever; without a token there is nothing to do."""
    if settings.discord_token is None or not settings.discord_token.get_secret_value():
        log.info("No DISCORD_TOKEN is set: the web studio runs alone.")
        await asyncio.Event().wait()
        return
    from bot.discord import client  # lazily: discord.py costs a quarter of a second and 20 MB

    pause = 5.0
    while True:
        try:
            await client.run(studio, settings)
            log.warning("Discord ended the connection; again in %.0f s.", pause)
        except GanvasError:
            raise
        except Exception:
            log.exception("The Discord side stopped; again in %.0f s", pause)
        await asyncio.sleep(pause)
        pause = min(300.0, pause * 2)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
