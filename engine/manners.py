"""Manners of a process that serves beside others: its memory does not creep, its threads do not spin."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from concurrent.futures import Executor
from contextlib import suppress

TIDY = 10.0  # seconds after a piece of work, at most, until freed memory goes back to the system

# Options of malloc.h.  A freed picture is kept for the next one, until give_back: fetching its pages anew from the
# system, zeroed, took a fifth of a 1024 px stylization (measured).  Threads share what is kept.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
MALLOC = {M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26, M_MMAP_MAX: 0, M_ARENA_MAX: 1}


def behave() -> None:
    """Set what must be set before torch is imported; what the host set in the environment stays."""
    # oneDNN keeps kernels of the last 1,024 shapes it met, megabytes each: photos hardly ever share a shape.  With 16
    # the memory stood still after 16 photos of random sizes, at the same speed, and still grew after 48 without.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    # Threads that wait by spinning take a fifth of the processor from the bot beside them, and save 3 % of a painting.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with suppress(AttributeError, OSError):  # not glibc
        for option, value in MALLOC.items():
            ctypes.CDLL(None).mallopt(option, value)


def give_back() -> None:
    """Return freed pages to the system, where the C library can; 130 MiB take 20 ms.

    glibc keeps them for the next allocation, and pictures of all sizes leave holes in them: over 2,000 requests the
    service grew from 780 to 900 MiB, of which it used 640 (measured: so much was left after trimming, early and late).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Tidier:
    """Tidies up in a thread that works: after each piece of work a little, from time to time and at its end in full."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._alarm: asyncio.TimerHandle | None = None

    def after_work(self) -> None:
        """Do so; called in the event loop, when the thread has done a piece of work."""
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._thread, gc.collect)  # an error's traceback is a cycle, and may hold whole pictures
        if self._alarm is None:
            self._alarm = loop.call_later(TIDY, self._in_full)

    def _in_full(self) -> None:
        self._alarm = None
        asyncio.get_running_loop().run_in_executor(self._thread, give_back)
