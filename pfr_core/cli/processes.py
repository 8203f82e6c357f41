"""Several files at once, each in a process of its own with its share of the processor's threads.

Where each has little work at a time, as the parts of a small network have, processes of one thread each do more than one process
of many: the threads of one wait for each other, and reading and writing use one only.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import Queue, get_context
from pathlib import Path

import cv2
import torch

from ..errors import InputError, PFRError

Work = Callable[[Path, Path], str | None]
"""What is done with a source and a target; returns a line that tells of it."""

MOST, WORTH = 4, 25
"""Processes that are started unasked, and files for each that make up for its start: each takes a second or two to start and
about a gigabyte."""


def choose_jobs(asked: int | None, files: int, device: torch.device) -> int:
    """Return how many files to work on at once.

    Args:
        asked: what the user wants; None lets torch's threads, the device and the number of files decide.
        files: how many there are.
        device: where the networks run; on a GPU one process is enough to keep it busy.

    Raises:
        InputError: ``asked`` is less than 1.
    """
    if asked is None:
        return max(1, min(MOST, torch.get_num_threads(), files // WORTH)) if device.type == "cpu" else 1
    if asked < 1:
        raise InputError(f"--jobs is {asked}; it must be at least 1.")
    return min(asked, max(1, files))


def outcomes(plan: Iterable[tuple[Path, Path]], work: Work, jobs: int) -> Generator[Callable[[], str | None], None, None]:
    """Give for each pair, in order, a function that returns what ``work`` does, or raises what it raises.

    With several ``jobs`` they are worked on ahead, twice as many as there are processes; when the iterator is closed, those that
    have begun are finished and the others are not begun. What the processes log is logged by this one.

    Args:
        plan: pairs of source and target.
        work: can be pickled if there are several jobs.
        jobs: how many at once.

    Raises:
        PFRError: a process ended abruptly (by the returned function).
    """
    if jobs == 1:
        yield from (partial(work, *pair) for pair in plan)
        return
    context = get_context("spawn")  # torch and its threads do not survive a fork
    root, records = logging.getLogger(), context.Queue()
    listener = QueueListener(records, *root.handlers)
    threads = max(1, torch.get_num_threads() // jobs)
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(work, threads, root.level, records))
    listener.start()
    waiting: deque[Future[str | None]] = deque()
    try:
        for pair in plan:
            if len(waiting) == 2 * jobs:
                yield partial(_result, waiting.popleft())
            waiting.append(pool.submit(_do, *pair))
        yield from (partial(_result, future) for future in waiting)
    finally:
        pool.shutdown(cancel_futures=True)
        listener.stop()


def _result(future: Future[str | None]) -> str | None:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise PFRError(
            "A process ended abruptly, most likely for lack of memory. What is written is complete; the same command with a "
            "smaller --jobs goes on from there."
        ) from error


def _begin(work: Work, threads: int, level: int, records: Queue[logging.LogRecord]) -> None:
    """Prepare a process."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; what has begun is finished
    logging.basicConfig(level=level, handlers=[QueueHandler(records)], force=True)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _do(source: Path, target: Path) -> str | None:
    return _work(source, target)


_work: Work
