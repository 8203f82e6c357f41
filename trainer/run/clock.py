"""Where the time and the memory of a run go."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Seconds by name. With ``exact`` the device finishes its work before each reading."""

    def __init__(self, device: torch.device, *, exact: bool) -> None:
        self.device, self.exact = device, exact and device.type == "cuda"
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the block's time to ``name``."""
        started = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - started

    def _now(self) -> float:
        if self.exact:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def peak_memory(device: torch.device) -> float:
    """Return the largest memory use so far in GiB: the device's for CUDA, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)  # bytes, else KiB
