"""Manners of a process that serves beside others: its memory does not creep, its threads do not spin."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress


def behave() -> None:
    """Set what must be set before torch is imported; what the host set in the environment stays."""
    # oneDNN keeps kernels of the last 1,024 shapes it met, megabytes each: photos hardly ever share a shape.  With 16
    # the memory stood still after 16 photos of random sizes, at the same speed, and still grew after 48 without.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    # Threads that wait by spinning take a fifth of the processor from the bot beside them, and save 3 % of a painting.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with suppress(AttributeError, OSError):  # not glibc
        arena_max, m_arena_max = 2, -8  # malloc.h; freed pictures in many threads' arenas would stay for ever
        ctypes.CDLL(None).mallopt(m_arena_max, arena_max)


def give_back() -> None:
    """Return freed pages to the system, where the C library can; 130 MiB take 20 ms.

    glibc keeps them for the next allocation, and pictures of all sizes leave holes in them: over 2,000 requests the
    service grew from 780 to 900 MiB, of which it used 640 (measured: so much was left after trimming, early and late).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
