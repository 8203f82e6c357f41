"""For the time of a block, a user who may not do everything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do anything: for the block, be nobody."""
    if not hasattr(os, "geteuid"):
        pytest.skip("POSIX")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
