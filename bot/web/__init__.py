"""The studio in a browser: thin aiohttp pages over :mod:`bot.studio`, rendered here, without a build step."""
