"""What every process that works for another one begins with, and how it is started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import cv2
import torch


@contextmanager
def starting_workers() -> Iterator[None]:
    """Keep Ctrl-C from processes that this thread starts inside; if one is pressed meanwhile, it counts afterwards.

    A process that still imports has not yet come to :func:`begin_worker`: it would end with a traceback. Does nothing where there
    are no signal masks (Windows).
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which lets signals through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker(threads: int = 1) -> None:
    """Let Ctrl-C, which reaches the whole group of processes, be the parent's to answer; compute with so many threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
