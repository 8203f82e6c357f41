"""Weights that may have to be fetched: from the published address or its mirrors into the cache folder, checked on the way.

``PFR_OFFLINE=1`` forbids the network.
"""

from __future__ import annotations

import glob
import http.client
import logging
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO

from ..errors import ShouldStop, WeightsError, check_stop
from ..support.files import lock, unwritable
from ..support.progress import Progress
from .disk import ASSETS, PIECE, cache_folder, hash_pieces, on_disk, remember, search_folders, sha256_of
from .registry import Weights, entry

log = logging.getLogger(__name__)

USER_AGENT = "pfr-weights (Python urllib)"  # some hosts refuse urllib's own name
TIMEOUT = 30.0  # seconds of silence on the connection, not for the whole download
WORTH_KEEPING = 10_000_000
"""Bytes of an unfinished download that are kept beside its place as FILE.part, for the next one to go on from."""
ABANDONED = 600.0
"""Seconds without a byte after which, on a disk without locks, an unfinished download is taken for that of a killed process."""


def obtain(
    name: str,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Path:
    """Return the checked file of weights ``name``: found by :func:`~pfr_core.models.disk.on_disk`, else downloaded.

    The file is whole or not there. Of a large one that was broken off, what came so far is kept for the next try; the SHA-256 is
    that of the whole. Before a download the log tells size, source and licence, as a warning.

    Args:
        name: of the registry.
        progress: called with (done, total) bytes; ``done`` never goes back, not even when a mirror starts again from nothing.
        should_stop: asked before each address and between pieces of at most 256 kB; on a connection that has gone silent it is
            not asked until that times out (30 s).

    Raises:
        WeightsError: the file cannot be had.
        Cancelled: asked to stop.

    Example:
        >>> obtain("retinaface_resnet50", progress=lambda done, total: bar.update(done - bar.n))  # doctest: +SKIP
    """
    path = on_disk(name)
    if path is not None:
        return path
    weights = entry(name)
    if weights.embedded:
        raise WeightsError(
            f"{weights.name}: {ASSETS / weights.file} is missing from the installation. Install PFR again, or name another model."
        )
    check_published(weights)
    if _offline():
        raise _not_to_be_had(weights, [f"{url}: not tried, PFR_OFFLINE forbids the network" for url in weights.urls])
    log.warning("%s", weights.announcement)
    return _download(weights, progress or (lambda done, total: None), should_stop or (lambda: False))


def check_published(weights: Weights) -> None:
    """Refuse weights that have no address.

    Raises:
        WeightsError: they have none, and what to do with a file of one's own.
    """
    if not weights.urls:
        raise WeightsError(
            f"weights {weights.name}: PFR does not download {weights.file}. {weights.licence} If you have the file, put it into "
            f"{cache_folder()} or a folder that PFR_WEIGHTS_DIR names, or pass its path."
        )


def _offline() -> bool:
    return os.environ.get("PFR_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


class _AddressFailed(Exception):
    """An address does not give the file; another one may.

    Args:
        reason: why.
        again: the same address is worth another try.
        wrong: what came so far is of no use.
    """

    def __init__(self, reason: str, *, again: bool = False, wrong: bool = False) -> None:
        super().__init__(reason)
        self.again, self.wrong = again, wrong


def _download(weights: Weights, progress: Progress, should_stop: ShouldStop) -> Path:
    target = cache_folder() / weights.file
    # A name of its own, so that processes and threads can download the same file at once: the last rename wins.
    part = target.with_name(f"{weights.file}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    left = target.with_name(f"{weights.file}.part")
    _take_over(left, part)
    failures: dict[str, str] = {}
    cancelled = f"download of {weights.file} cancelled"
    best = 0
    addresses, from_anew = list(weights.urls), set[str]()
    try:
        while addresses:
            url = addresses[0]
            check_stop(should_stop, cancelled)
            log.info("downloading %s from %s", weights.file, url)
            try:
                with closing(_save(url, weights, part)) as steps:
                    for done in steps:
                        if done > best:
                            best = done
                            progress(done, weights.bytes)
                        if done < weights.bytes:
                            check_stop(should_stop, cancelled)
                path = _named(part, target, weights)
                for rest in _abandoned(left):
                    with suppress(OSError):
                        rest.unlink()
                for failed, reason in failures.items():  # where no address gives the file, the error tells of each
                    log.warning("%s: %s", failed, reason)
                return path
            except _AddressFailed as error:
                log.info("%s: %s", url, error)
                failures[url] = str(error)
                if not error.again or (error.wrong and url in from_anew):  # a file that changes all the time has no end
                    addresses.pop(0)
                if error.wrong:
                    from_anew.add(url)
                if part.exists() and (error.wrong or part.stat().st_size < WORTH_KEEPING):
                    part.unlink()
    finally:
        if os.path.exists(part):  # Path.exists raises OSError behind a folder without access
            if part.stat().st_size < WORTH_KEEPING:
                part.unlink()
            else:
                os.replace(part, left)
    raise _not_to_be_had(weights, [f"{url}: {reason}" for url, reason in failures.items()])


def _take_over(left: Path, part: Path) -> None:
    """Let what an earlier download left, or one that was killed, be the beginning of ``part``; the largest of several."""
    taken = False
    for path in _abandoned(left):
        with suppress(OSError):  # another process was quicker
            if taken:
                path.unlink()
            else:
                os.replace(path, part)
                taken = True


def _abandoned(left: Path) -> list[Path]:
    """Return the unfinished downloads beside ``left`` that no process writes to any more, the largest first."""
    found: list[tuple[int, Path]] = []
    for path in left.parent.glob(f"{glob.escape(left.stem)}.*part"):
        with suppress(OSError):  # another process was quicker
            if path == left or _is_free(path):
                found.append((path.stat().st_size, path))
    return [path for _, path in sorted(found, reverse=True)]


def _is_at(file: IO[bytes], place: Path) -> bool:
    """Return whether an open file is still the one of that name: another process may have renamed it before it was held."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(place))
    except FileNotFoundError:
        return False


def _is_free(part: Path) -> bool:
    """Return whether no process holds ``part``, also none that is slow or stopped; on a disk without locks its age decides."""
    if sys.platform == "win32":  # there a file that another process has open can be neither renamed nor removed
        return True
    with open(part, "r+b") as file:
        taken = lock(file)
        return time.time() - os.fstat(file.fileno()).st_mtime > ABANDONED if taken is None else taken


def _named(part: Path, target: Path, weights: Weights) -> Path:
    """Give a finished download its name and return it; another process's, if that was quicker and has it open (on Windows).

    Raises:
        WeightsError: it cannot be renamed.
    """
    try:
        os.replace(part, target)
        remember(target, weights.sha256)
    except OSError as error:
        if (there := on_disk(weights.name)) is None:
            raise _cannot_write(weights, target, error) from error
        with suppress(OSError):
            part.unlink()
        return there
    return target


def _save(url: str, weights: Weights, part: Path) -> Generator[int, None, None]:
    """Write what ``url`` sends to ``part``, going on from what is there, and yield the bytes so far.

    Ends without error only if the file is right. A generator, so that what the caller's callbacks raise is never taken for an
    error of the disk or the network.
    """
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a full disk shows at write(), not a second time at close().
        with open(part, "a+b", buffering=0) as file:
            if sys.platform != "win32":  # so that other processes see that this one writes to it
                lock(file, wait=True)
            if not _is_at(file, part):
                raise _AddressFailed("another process took over what came so far", again=True)
            if (had := file.tell()) >= weights.bytes:  # killed just before the end, or of another version of the file
                if sha256_of(part) == weights.sha256:
                    yield had
                    return
                file.truncate(0)
            with _connected(url, file.seek(0, os.SEEK_END)) as (response, start):
                file.truncate(start)
                file.seek(0)
                digest, done = hash_pieces(file), start
                try:
                    while piece := _read(response):
                        done += len(piece)
                        if done > weights.bytes:
                            raise _AddressFailed(
                                f"sent more than the {weights.bytes} bytes expected", again=start > 0, wrong=True
                            )
                        digest.update(piece)
                        rest = memoryview(piece)
                        while rest:
                            rest = rest[file.write(rest) :]
                        yield done
                    if done < weights.bytes:
                        raise _AddressFailed(f"sent {done} bytes, {weights.bytes} expected")
                except _AddressFailed as error:
                    resumable = response.headers.get("Accept-Ranges") == "bytes" and not error.wrong
                    error.again = error.again or (resumable and done - start >= WORTH_KEEPING)
                    raise
            if digest.hexdigest() != weights.sha256:
                reason = f"sent a file with SHA-256 {digest.hexdigest()}, {weights.sha256} expected"
                raise _AddressFailed(reason, again=start > 0, wrong=True)
            if (length := file.seek(0, os.SEEK_END)) != weights.bytes:  # locks of network disks need not reach other machines
                reason = f"has {length} bytes on the disk, {weights.bytes} expected: another process wrote to it"
                raise _AddressFailed(reason, again=True, wrong=True)
    except OSError as error:  # of this disk: another address would not help, and the remedy is another one
        with suppress(OSError):
            part.unlink()  # it is full, say: the space is worth more
        raise _cannot_write(weights, part.parent, error) from error


@contextmanager
def _connected(url: str, start: int) -> Iterator[tuple[http.client.HTTPResponse, int]]:
    """Yield the answer of ``url`` when asked for the bytes from ``start``, and where those that it sends begin: there or at 0."""
    headers = {"User-Agent": USER_AGENT, **({"Range": f"bytes={start}-"} if start else {})}
    with _network_errors(start):
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            yield response, 0  # all of it, whatever was asked for
            return
        sent = response.headers.get("Content-Range", "no range")
        if not sent.startswith(f"bytes {start}-"):
            raise _AddressFailed(f"sent {sent} when asked for the bytes from {start} on", again=start > 0, wrong=True)
        yield response, start


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network_errors():
        return response.read1(PIECE)  # not read: on a slow line that would sit there until a whole piece has come


@contextmanager
def _network_errors(start: int = 0) -> Iterator[None]:
    """Turn every failure of the network into an :class:`_AddressFailed`, when the bytes from ``start`` are asked for."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        shorter = start > 0 and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE  # what is here is of another file
        raise _AddressFailed(f"HTTP {error.code} {error.reason}", again=shorter, wrong=shorter) from error
    except urllib.error.URLError as error:
        raise _AddressFailed(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _AddressFailed(f"connection broke: {error or type(error).__name__}") from error


def _cannot_write(weights: Weights, path: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"{unwritable(path, error)} {weights.file} needs {weights.bytes / 1e6:.1f} MB; PFR_CACHE_DIR names another folder."
    )


def _not_to_be_had(weights: Weights, failures: list[str]) -> WeightsError:
    lines = [f"weights {weights.name}: {weights.file} ({weights.bytes / 1e6:.1f} MB) is not to be had:"]
    for folder in search_folders():
        there = "no usable copy" if os.path.exists(os.path.join(folder, weights.file)) else "not in it"
        lines.append(f"  {folder}: {there if os.path.isdir(folder) else 'no such folder'}")
    lines += [f"  {failure}" for failure in failures]
    lines.append(
        f"Download {weights.urls[0]} by hand and put it into {cache_folder()} as {weights.file} "
        "(or into another of the folders above; PFR_WEIGHTS_DIR adds some)."
    )
    return WeightsError("\n".join(lines))
