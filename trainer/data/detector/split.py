"""Which photographs are for testing only. Fixed before anything was trained; nothing may depend on what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path


def is_test(path: str | Path) -> bool:
    """Return whether the SHA-256 of the file's name is even: about half of all photographs, the same half for ever."""
    name = Path(path).name.encode(errors="surrogateescape")  # it need not be UTF-8
    return hashlib.sha256(name).digest()[-1] % 2 == 0
