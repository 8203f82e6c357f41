"""Memory that was freed goes back to the system: glibc keeps it for every thread that ever worked, and a server has many."""

from __future__ import annotations

import ctypes
import sys

M_ARENA_MAX = -8
"""glibc's ``mallopt``: how many pools there are for all threads together."""


def share_pools(count: int = 2) -> None:
    """Let all threads take memory from a few pools; must be called before they start. Does nothing where there is no glibc."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_ARENA_MAX, count)


def give_back() -> None:
    """Return what was freed to the system."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
