"""What every process that works for another one begins with."""

from __future__ import annotations

import signal

import cv2
import torch


def begin_worker(threads: int = 1) -> None:
    """Let Ctrl-C, which reaches the whole group of processes, be the parent's to answer; compute with so many threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
