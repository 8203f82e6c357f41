"""Several files at once, each in a process of its own with its share of the processor's threads.

Where each has little work at a time, as the parts of a small network have, processes of one thread each do more than one process
of many: the threads of one wait for each other, and reading and writing use one only.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import Queue, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

import torch

from ..errors import ImageError, InputError, PFRError
from ..support.worker import begin_worker, starting_workers

log = logging.getLogger(__name__)

Work = Callable[[Path, Path], str | None]
"""What is done with a source and a target; returns a line that tells of it."""

MOST, WORTH = 4, 25
"""Processes that are started unasked, and files for each that make up for its start: each takes a second or two to start and
about a gigabyte."""
DEATHS = 3
"""So many processes that end abruptly before any has done anything are not what a photograph does (ours)."""


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
    have begun are finished and the others are not begun. What the processes log is logged by this one. Where one of them ends
    abruptly, what they had in hand is done again, each in a process of its own, and the rest by half as many.

    Args:
        plan: pairs of source and target.
        work: can be pickled if there are several jobs.
        jobs: how many at once.

    Raises:
        ImageError: the process ended abruptly that had but this pair to work on (by the returned function).
        PFRError: the first :data:`DEATHS` did (by the iterator).
    """
    if jobs == 1:
        yield from (partial(work, *pair) for pair in plan)
        return
    context = get_context("spawn")  # torch and its threads do not survive a fork
    level, records = logging.getLogger().level, context.Queue()
    listener = _Listener(records)
    threads = max(1, torch.get_num_threads() // jobs)

    def started(count: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(count, context, initializer=_begin, initargs=(work, threads, level, records))

    pool, rest, waiting = started(jobs), iter(plan), deque[tuple[tuple[Path, Path], Future[str | None]]]()
    listener.start()
    done = deaths = 0
    try:
        while True:
            waiting.extend((pair, _submitted(pool, pair)) for pair in islice(rest, 2 * jobs - len(waiting)))
            if not waiting:
                return
            if not _died(waiting[0][1]):
                done += 1
                yield waiting.popleft()[1].result
                continue
            jobs = max(1, jobs // 2)
            log.warning("A process ended abruptly, most likely for lack of memory; --jobs is %d from here on.", jobs)
            pool.shutdown()
            while waiting:
                pair, future = waiting.popleft()
                if _died(future):
                    with started(1) as alone:  # which waits until it has ended
                        future = _submitted(alone, pair)
                if not _died(future):
                    done += 1
                elif not done and (deaths := deaths + 1) == DEATHS:
                    raise PFRError(
                        f"{pair[0]}: the process that worked on it ended abruptly, as did those before; most likely there is too "
                        "little memory: try a smaller --batch-size, --device cpu, or another machine."
                    )
                yield partial(_result, pair[0], future)
            pool = started(jobs)
    finally:
        pool.shutdown(cancel_futures=True)
        listener.stop()


class _Listener(QueueListener):
    """Hands what the processes log to the loggers of these names here, and so to their filters and handlers."""

    def handle(self, record: logging.LogRecord) -> None:
        """Hand a record on."""
        logging.getLogger(record.name).handle(record)


def _submitted(pool: ProcessPoolExecutor, pair: tuple[Path, Path]) -> Future[str | None]:
    """Give a pair to a pool; to one that is broken already, too."""
    try:
        with starting_workers():
            return pool.submit(_do, *pair)
    except BrokenProcessPool as error:
        future = Future[str | None]()
        future.set_exception(error)
        return future


def _died(future: Future[str | None]) -> bool:
    """Wait for what becomes of a pair; return whether a process has ended abruptly."""
    return isinstance(future.exception(), BrokenProcessPool)


def _result(source: Path, future: Future[str | None]) -> str | None:
    """Return what was done with a photograph that was in hand when a process ended."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ImageError(
            f"{source}: the process that worked on it ended abruptly, and again with nothing beside it: most likely there is too "
            "little memory for it; scale the picture down, or save it anew in an image editor."
        ) from error


def _begin(work: Work, threads: int, level: int, records: Queue[logging.LogRecord]) -> None:
    """Prepare a process."""
    global _work
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin_worker(threads)  # what has begun is finished
    logging.basicConfig(level=level, handlers=[QueueHandler(records)], force=True)


def _end_with_parent() -> None:
    """End this process as soon as the one that started it has ended.

    If that was killed, nothing else would tell: the queue that a pool's process waits at has its writing end here as well.
    """
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _do(source: Path, target: Path) -> str | None:
    return _work(source, target)


_work: Work
