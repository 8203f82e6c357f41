"""Weights that may have to be fetched: from the published address or its mirrors into the cache folder, checked on the way.

``PFR_OFFLINE=1`` forbids the network.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..errors import WeightsError, check_stop
from ..support.files import unwritable
from .disk import ASSETS, PIECE, cache_folder, on_disk, search_folders
from .registry import Weights, entry

log = logging.getLogger(__name__)

USER_AGENT = "pfr-weights (Python urllib)"  # some hosts refuse urllib's own name
TIMEOUT = 30.0  # seconds of silence on the connection, not for the whole download
WORTH_KEEPING = 10_000_000
"""Bytes of an unfinished download that are kept beside its place as FILE.part, for the next one to go on from."""


def obtain(
    name: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Return the checked file of weights ``name``: found by :func:`~pfr_core.models.disk.on_disk`, else downloaded.

    The file is whole or not there. Of a large one that was broken off, what came so far is kept for the next try; the SHA-256 is
    that of the whole.

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
    if not weights.urls:
        raise WeightsError(
            f"weights {weights.name}: PFR does not download {weights.file}. {weights.licence} If you have the file, put it into "
            f"{cache_folder()} or a folder that PFR_WEIGHTS_DIR names, or pass its path."
        )
    if _offline():
        raise _not_to_be_had(weights, [f"{url}: not tried, PFR_OFFLINE forbids the network" for url in weights.urls])
    return _download(weights, progress or (lambda done, total: None), should_stop or (lambda: False))


def _offline() -> bool:
    return os.environ.get("PFR_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


class _AddressFailed(Exception):
    """An address does not give the file; another one may.

    Args:
        reason: why.
        again: the same address is worth another try.
    """

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def _download(weights: Weights, progress: Callable[[int, int], None], should_stop: Callable[[], bool]) -> Path:
    target = cache_folder() / weights.file
    # A name of its own, so that processes and threads can download the same file at once: the last rename wins. What an
    # earlier download left is taken over by one of them.
    part = target.with_name(f"{weights.file}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    left = target.with_name(f"{weights.file}.part")
    with suppress(OSError):
        os.replace(left, part)
    failures: dict[str, str] = {}
    cancelled = f"download of {weights.file} cancelled"
    best = 0
    addresses = list(weights.urls)
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
                try:
                    os.replace(part, target)
                except OSError as error:
                    raise _cannot_write(weights, target, error) from error
                return target
            except _AddressFailed as error:
                log.warning("%s: %s", url, error)
                failures[url] = str(error)
                if not error.again:
                    addresses.pop(0)
                if part.exists() and part.stat().st_size < WORTH_KEEPING:
                    part.unlink()
    except WeightsError:  # the disk is full, say: the space is worth more
        with suppress(OSError):
            part.unlink()
        raise
    finally:
        if part.exists():
            if part.stat().st_size < WORTH_KEEPING:
                part.unlink()
            else:
                os.replace(part, left)
    raise _not_to_be_had(weights, [f"{url}: {reason}" for url, reason in failures.items()])


def _save(url: str, weights: Weights, part: Path) -> Generator[int, None, None]:
    """Write what ``url`` sends to ``part``, going on from what is there, and yield the bytes so far.

    Ends without error only if the file is right. A generator, so that what the caller's callbacks raise is never taken for an
    error of the disk or the network.
    """
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a full disk shows at write(), not a second time at close().
        with open(part, "a+b", buffering=0) as file, _connected(url, file.tell()) as (response, start):
            file.truncate(start)
            file.seek(0)
            digest, done = hashlib.sha256(), start
            while old := file.read(PIECE):
                digest.update(old)
            while piece := _read(response):
                done += len(piece)
                if done > weights.bytes:
                    file.truncate(0)
                    raise _AddressFailed(f"sent more than the {weights.bytes} bytes expected", again=start > 0)
                digest.update(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
                yield done
            ranges = response.headers.get("Accept-Ranges") == "bytes"
            if done == weights.bytes and digest.hexdigest() != weights.sha256:
                file.truncate(0)
                reason = f"sent a file with SHA-256 {digest.hexdigest()}, {weights.sha256} expected"
                raise _AddressFailed(reason, again=start > 0)
    except OSError as error:  # of this disk: another address would not help, and the remedy is another one
        raise _cannot_write(weights, part.parent, error) from error
    if done != weights.bytes:
        raise _AddressFailed(f"sent {done} bytes, {weights.bytes} expected", again=ranges and done - start >= WORTH_KEEPING)


@contextmanager
def _connected(url: str, start: int) -> Iterator[tuple[http.client.HTTPResponse, int]]:
    """Yield the answer of ``url`` when asked for the bytes from ``start``, and where those that it sends begin: there or at 0."""
    headers = {"User-Agent": USER_AGENT, **({"Range": f"bytes={start}-"} if start else {})}
    with _network_errors():
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        yield response, start if resumed else 0


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network_errors():
        return response.read1(PIECE)  # not read: on a slow line that would sit there until a whole piece has come


@contextmanager
def _network_errors() -> Iterator[None]:
    """Turn every failure of the network into an :class:`_AddressFailed`."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _AddressFailed(f"HTTP {error.code} {error.reason}") from error
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
        lines.append(f"  {folder}: {'no good copy' if folder.is_dir() else 'no such folder'}")
    lines += [f"  {failure}" for failure in failures]
    lines.append(
        f"Download {weights.urls[0]} by hand and put it into {cache_folder()} as {weights.file} "
        "(or into a folder that PFR_WEIGHTS_DIR names)."
    )
    return WeightsError("\n".join(lines))
