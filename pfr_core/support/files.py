"""Names of files, and writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

from ..errors import InputError, PFRError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Numbers of the errors of a disk that has no room, or where one may not write."""
TEMPORARY = ".pfr-*.tmp"
"""What :func:`replacing` writes to, as a pattern."""
ABANDONED = 86_400.0
"""Seconds after its last byte when such a file is taken for one of a run that was killed (ours)."""


def checked(name: str | os.PathLike[str]) -> Path:
    """Return ``name`` as a path, whether or not there is such a file.

    Raises:
        InputError: no file can have this name.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"{name!r} is a {type(name).__name__}; pass the path of a file.")
    if not os.fspath(name):
        raise InputError("The name of a file is empty; say which, or look whether a variable is set.")
    try:
        os.stat(name)
    except ValueError as error:
        raise InputError(f"{os.fspath(name)!r}: no file can have such a name ({error}); choose another.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{name}: no file can have such a name ({error.strerror}); choose a shorter one.") from error
    return Path(name)


@contextmanager
def replacing(
    target: str | os.PathLike[str],
    failure: type[PFRError] = PFRError,
    *,
    disk_full: type[Exception] | tuple[type[Exception], ...] = (),
) -> Iterator[Path]:
    """Yield a temporary path beside ``target``, for the block to write a file to; that file then takes ``target``'s place.

    ``target`` appears whole or not at all: if the block fails, the temporary file goes and what was there stays. Missing
    folders are made; an existing file's permissions are kept; through a symbolic link, as an ordinary ``open`` would. What killed
    runs left in the folder more than a day ago goes.

    Args:
        target: the file.
        failure: the caller's kind of error.
        disk_full: what the library that writes raises, besides ``OSError``, where there is no space.

    Raises:
        failure: the file cannot be written; the message says why and what helps.

    Example:
        >>> with replacing("faces.json") as temporary:
        ...     _ = temporary.write_text("[]")
    """
    given, target = target, Path(os.path.realpath(target))
    temporary = target.with_name(TEMPORARY.replace("*", secrets.token_hex(8)))
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            raise failure(f"{given}: cannot be written, for it is a device or a pipe; name a file.")
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "the existing file is write-protected")
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # writers may have replaced the file by one with their own permissions
            with suppress(PermissionError):  # a mounted disk whose files all belong to another takes no chmod
                os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise failure(unwritable(given, error)) from error
        if isinstance(error, disk_full):
            raise failure(unwritable(given, OSError(errno.ENOSPC, str(error)))) from error
        raise


@lru_cache(maxsize=1024)  # once in a process: an archive's folder has tens of thousands of files
def _sweep(folder: Path) -> None:
    """Remove temporary files that killed runs left in a folder."""
    with suppress(OSError):
        for left in folder.glob(TEMPORARY):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def lock(file: IO[bytes] | int, *, wait: bool = False) -> bool | None:
    """Lock an open file or folder against other processes until it is closed or this one has ended, however it did.

    Args:
        file: what is open, or its descriptor.
        wait: wait until another process lets go of it (on Windows ten seconds).

    Returns:
        False if another process holds it; None where the disk knows no locks.
    """
    handle = file if isinstance(file, int) else file.fileno()
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):  # of Linux and macOS, of Windows
        return False
    except OSError:
        return None
    return True


def write_text(path: str | os.PathLike[str], text: str, failure: type[PFRError] = PFRError) -> None:
    """Write a text file as :func:`replacing` does.

    Raises:
        failure: it cannot be written.
    """
    with replacing(path, failure) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name need not be UTF-8


def unwritable(path: str | os.PathLike[str], error: OSError) -> str:
    """Return the sentence that says that ``path`` cannot be written, why, and what a person can do about it."""
    return f"{path}: cannot be written ({error.strerror or error}); {remedy(error)}."


def is_of_disk(error: OSError) -> bool:
    """Return whether a file could not be written because its disk is full or may not be written to."""
    return error.errno in FULL | FORBIDDEN


def takes_nothing(error: BaseException | None) -> bool:
    """Return whether a disk is so full, or so closed, that the next file would fare no better.

    One that is too large for its disk, or that only its folder does not let in, is a matter of that file.
    """
    return isinstance(error, OSError) and error.errno in (FULL | {errno.EROFS}) - {errno.EFBIG}


def same_file(source: Path, target: Path) -> bool:
    """Judge whether writing ``target`` would change the file ``source``, by whatever name; False if either cannot be seen."""
    try:
        return os.path.samefile(source, target)
    except OSError:
        return False


def identity(path: Path) -> tuple[int, int] | Path:
    """Return what is the same for all names of a file; of one that is not there its resolved path."""
    try:
        state = os.stat(path)
    except OSError:
        return path.resolve()
    return state.st_dev, state.st_ino


def namesakes(names: Collection[str], folder: Path) -> Callable[[str], str]:
    """Return what two names have in common that are one file on the disk of ``folder``, for which a.jpg may be A.JPG.

    The disk is tried only if there are such names.
    """

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    alike = len({*map(folded, names)}) < len({*names})
    return folded if alike and ignores_case(folder) else str


def ignores_case(folder: Path) -> bool:
    """Return whether the disk that holds or would hold a folder takes a.jpg and A.JPG for one name; False if it takes neither."""
    there = next((each for each in (folder, *folder.absolute().parents) if os.path.isdir(each)), Path())
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=there, prefix=".case-") as file:
        return os.path.exists(there / Path(file.name).name.upper())
    return False


def overwritten(source: str | os.PathLike[str]) -> str:
    """Return the sentence that says that a result would take its source's place, which is refused."""
    return f"{source}: input and output are the same file; choose another output, it is kept."


def remedy(error: OSError) -> str:
    """Return what a person can do about a file that could not be written."""
    if error.errno in FULL:
        return "free some space or choose a folder on another disk"
    if error.errno in FORBIDDEN:
        return "choose a file or folder that you may write to"
    return "check the output path"
