"""Files wherever they are: folders of this machine, and what fsspec knows by an address (``s3://``, ``gs://``, ``https://``).

Written files appear whole or not at all. What an object store refuses for a while (503, a broken connection) is tried again.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ImageError, InputError
from ..photo.photo import is_meant, walk
from ..photo.read import read_bytes
from ..photo.write import write_file

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES, FIRST_PAUSE = 7, 0.5
"""How often an operation on a remote store is tried, and the pause in s after the first time; it doubles: half a minute."""
TRIES_HERE = 4
"""How often one on a disk is, whose bad block stays bad: three seconds."""

ONE_PUT = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"})
"""Stores in which an object is there when all of it has come; elsewhere a file is written beside and renamed."""
SILENT = frozenset({"webhdfs", "webHDFS"})
"""Stores of the others that rename over no file and tell nobody; those of SMB refuse."""

_PERMANENT = (PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ImportError, ValueError)
_BUSY = frozenset({408, 425, 429})
"""Of the 4xx, which are for good: a request that came too slowly, too early, too often."""
_PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""What a network's disk in a folder of this machine says while its server starts anew."""
_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "CredentialRetrievalError"})
"""Names of exceptions of packages that need not be there."""


def is_remote(place: str) -> bool:
    """Return whether a place is an address, not a path of this machine."""
    return "://" in place


def absolute(place: str) -> str:
    """Return a place that means the same wherever it is read: a path from the root, or an address without a stroke at its end.

    Example:
        >>> absolute("s3://archive/out/"), absolute("file:///archive/in/../out")
        ('s3://archive/out', '/archive/out')
    """
    place = place.removeprefix("file://").removeprefix("local://")
    return place.rstrip("/") if is_remote(place) else os.path.abspath(os.path.expanduser(place))


def join(place: str, name: str) -> str:
    """Return the place of a file in a folder or below an address.

    Example:
        >>> join("s3://archive/out", "1931/a.jpg")
        's3://archive/out/1931/a.jpg'
    """
    return f"{place}/{name}" if is_remote(place) else os.path.join(place, *name.split("/"))  # alike on Windows, too


def lies_in(place: str, folder: str, kind: type[PurePath] = PurePath) -> bool:
    """Return whether a place is a folder or below it, by their names, both from :func:`absolute`.

    Args:
        place: a path or an address.
        folder: likewise.
        kind: what a path is on the machine whose paths they are.

    Example:
        >>> lies_in("s3://archive/out", "s3://archive"), lies_in("/archive-restored", "/archive")
        (True, False)
    """
    if is_remote(place) or is_remote(folder):
        return place == folder or place.startswith(f"{folder}/")
    return kind(place).is_relative_to(folder)


def read(place: str) -> bytes:
    """Return the whole of a file.

    Raises:
        ImageError: it cannot be read.
    """
    if not is_remote(place):
        return _again(lambda: read_bytes(Path(place)))
    store, path = _store(place)
    data: bytes = _patiently(place, "read", lambda: store.cat_file(path))
    return data


def write(place: str, data: bytes) -> None:
    """Write a file, which appears whole or not at all.

    Raises:
        ImageError: it cannot be written.
    """
    if not is_remote(place):
        _again(lambda: write_file(Path(place), data))
        return
    store, path = _store(place)
    protocols = {store.protocol} if isinstance(store.protocol, str) else {*store.protocol}
    if ONE_PUT & protocols:
        _patiently(place, "written", lambda: store.pipe_file(path, data))
        return
    temporary = f"{path.rpartition('/')[0]}/.{secrets.token_hex(8)}.tmp"

    def replace() -> None:
        store.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            store.pipe_file(temporary, data)
            if SILENT & protocols:
                _rename_by_looking(store, temporary, path)
                return
            try:
                store.mv(temporary, path)
            except OSError:
                if _facts(store, path) is None:
                    raise
                store.rm_file(path)
                store.mv(temporary, path)
        except BaseException:
            with suppress(Exception):  # what is told is why it is of no use
                store.rm_file(temporary)
            raise

    _patiently(place, "written", replace)


def _rename_by_looking(store: AbstractFileSystem, temporary: str, path: str) -> None:
    """Rename in a store that does not tell whether it did.

    Raises:
        OSError: it did not.
    """
    if _facts(store, path) is not None:
        store.rm_file(path)
    store.mv(temporary, path)
    if _facts(store, path) is None:
        raise OSError(f"what was written as {temporary} is not there by its name")


def remove(place: str) -> None:
    """Take a file away.

    Raises:
        ImageError: it cannot be, or is not there.
    """
    if is_remote(place):
        store, path = _store(place)
        _patiently(place, "removed", lambda: store.rm_file(path))
        return
    try:
        os.remove(place)
    except OSError as error:
        raise ImageError(f"{place}: cannot be removed ({error.strerror or error}).") from error


def files_in(place: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a folder or below an address and everything below: name in it, and place. In no order.

    Which of a folder's is told by :func:`walk`. Nothing is yielded if there is no such place.

    Raises:
        ImageError: it cannot be listed.
    """
    if not is_remote(place):
        for file in walk(Path(place)):
            yield file.relative_to(place).as_posix(), str(file)
        return
    store, path = _store(place)
    for found in _patiently(place, "listed", lambda: store.find(path)):
        name = str(found)[len(path) :].lstrip("/")
        if name and is_meant(PurePosixPath(name)):
            yield name, f"{place}/{name}"


def exists(place: str) -> bool:
    """Return whether a place is a file, or an address that can be reached and is one.

    Raises:
        ImageError: the store cannot be asked.
    """
    if not is_remote(place):
        return os.path.isfile(place)
    store, path = _store(place)
    facts = _patiently(place, "asked for", lambda: _facts(store, path))
    return facts is not None and facts["type"] == "file"


def _facts(store: AbstractFileSystem, path: str) -> dict[str, Any] | None:
    """Return what a store tells of a path, None if nothing is there; ``isfile`` would take a broken connection for that."""
    try:
        facts: dict[str, Any] = store.info(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno == errno.ENOENT:  # SMB's is an OSError of its own
            return None
        raise
    return facts


def _store(place: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of an address, and the path in it.

    Not by ``url_to_fs``, to which ``::`` in a name is the beginning of another address.
    """
    from fsspec import get_filesystem_class

    try:
        kind = get_filesystem_class(place.partition("://")[0])
        store = kind(**kind._get_kwargs_from_urls(place))
    except ImportError as error:
        raise InputError(f"{place}: {error}.") from error
    except (ValueError, TypeError) as error:  # TypeError: not without more than an address says
        raise InputError(f"{place}: no store that fsspec knows ({error}).") from error
    return store, str(kind._strip_protocol(place)).rstrip("/")


def _patiently(place: str, what: str, work: Callable[[], T]) -> T:
    """Do ``work``, again if it fails in a way that may pass.

    Raises:
        ImageError: it fails for good, or always.
    """
    for attempt in range(TRIES):
        try:
            return work()
        except FileNotFoundError as error:
            raise ImageError(f"{place}: there is no such file; check the path.") from error
        except _PERMANENT as error:
            raise ImageError(f"{place}: cannot be {what} ({_said(error)}); check address, rights and credentials.") from error
        except Exception as error:  # each store has exceptions of its own, of which only few are OSErrors
            if type(error).__name__ in _CREDENTIALS:
                raise ImageError(f"{place}: cannot be {what}, there are no credentials ({_said(error)}).") from error
            status = getattr(error, "status", None)
            if attempt == TRIES - 1 or (status in range(400, 500) and status not in _BUSY):
                raise ImageError(f"{place}: cannot be {what} ({_said(error)}); run the same command again later.") from error
            _pause(attempt, f"{place}: {_said(error)}")
    raise AssertionError("the last attempt returns or raises")


def _again(work: Callable[[], T]) -> T:
    """Do ``work`` on a disk, again if it fails in a way that may pass.

    Raises:
        ImageError: it fails for good, or always.
    """
    for attempt in range(TRIES_HERE - 1):
        try:
            return work()
        except ImageError as error:
            if getattr(error.__cause__, "errno", None) not in _PASSING:
                raise
            _pause(attempt, str(error))
    return work()


def _pause(attempt: int, why: str) -> None:
    pause = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0)
    log.info("%s; again in %.1f s", why, pause)
    time.sleep(pause)


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
