"""Memory that was freed goes back to the system.

glibc keeps freed pages for the next allocation, and pictures of all sizes leave holes in them: over 2,000 requests the
service grew from 780 to 900 MiB, of which it used 640 (measured: so much was left after trimming, early and late).
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return the free pages of this process to the system, where the C library can; 130 MiB take 20 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
