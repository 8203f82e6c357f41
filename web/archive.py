"""Photos out of a zip file that a stranger made: nothing is written outside the folder, nor more than was allowed.

And results into one, as long as there is room for them.
"""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pfr_core.errors import ImageError
from pfr_core.photo.photo import IMAGE_SUFFIXES, is_meant

from .limits import Limits

PIECE = 1 << 20
LISTED = 1000
"""Bytes of a zip file's list for each photo that may be in it, folders and what programs leave beside photos counted (ours)."""
UTF8 = 0x800
"""Flag of an entry whose name is in UTF-8."""


UNREADABLE = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)
"""What zipfile raises where it cannot read a file's list of entries."""


@dataclass(frozen=True)
class Entry:
    """A photo of a batch: the name to show, and either the file or what is wrong with it."""

    name: str
    path: Path | None = None
    problem: str = ""


def is_zip(path: Path) -> bool:
    """Judge by the name; a broken zip file is reported as one."""
    return path.suffix.lower() == ".zip"


@contextmanager
def opened(archive: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    """Yield a zip file, its list of entries read.

    Raises:
        ImageError: the list is longer than ``max_files`` photos can need.
        BadZipFile, NotImplementedError, UnicodeDecodeError: it cannot be read.
        OSError: the file cannot.
    """
    with _Bounded(archive, limits.max_files) as stream, zipfile.ZipFile(stream) as content:
        yield content


class _Bounded(io.FileIO):
    """A file under a zip file that gives no long list of entries: zipfile reads it in one piece, and makes an object of each."""

    def __init__(self, archive: Path, most: int) -> None:
        super().__init__(archive)
        self._archive, self._most = archive, most

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most so many bytes.

        Raises:
            ImageError: it is asked for more than a list of as many photos as may be.
        """
        if size is not None and size > max(PIECE, self._most * LISTED):
            raise ImageError(
                f"{self._archive}: its list of files is longer than {self._most} photos need (max_files); split it into several."
            )
        return super().read(size)


def unpack(archive: Path, folder: Path, limits: Limits) -> Iterator[Entry]:
    """Yield the photos in ``archive``, one after the other, each written to ``folder`` under a number of its own.

    The caller may delete a file before asking for the next. Entries that are no photos, or unsafe, are reported, not written.

    Raises:
        ImageError: not a zip file, too many entries, or more bytes than ``limits`` allow; what the file states about
            sizes is not relied on.
        OSError: a photo cannot be written, for the disk is full, say.
    """
    left = int(limits.max_unpacked_mb * 1e6)
    try:
        with opened(archive, limits) as content:
            members = meant_in(content)
            if len(members) > limits.max_files:
                raise ImageError(f"{archive}: {len(members)} files in it; the limit is {limits.max_files} (max_files).")
            for number, member in enumerate(members):
                name = _name(member)
                if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
                    yield Entry(str(name), problem="refused: its name leads out of the zip file's folder.")
                elif name.suffix.lower() not in IMAGE_SUFFIXES:
                    yield Entry(str(name), problem="not a photo; left out.")
                elif member.flag_bits & 1:
                    yield Entry(str(name), problem="encrypted; pack it again without a password.")
                else:
                    target = folder / f"{number}{name.suffix.lower()}"  # its own name may be too long for this disk
                    try:
                        with content.open(member) as packed, open(target, "xb") as file:
                            while piece := packed.read(PIECE):
                                left -= len(piece)
                                if left < 0:
                                    raise ImageError(
                                        f"{archive}: it unpacks to more than {limits.max_unpacked_mb:g} MB (max_unpacked_mb); "
                                        "split it into several."
                                    )
                                file.write(piece)
                    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
                        yield Entry(str(name), problem=f"damaged in the zip file ({error}).")
                        continue
                    except OSError:
                        target.unlink(missing_ok=True)  # or the disk stays full
                        raise
                    yield Entry(str(name), target)
    except UNREADABLE as error:
        raise ImageError(f"{archive}: not a zip file, or damaged ({error}). Pack it again.") from error


def meant_in(content: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return what somebody put into a zip file: no folders, nor what programs leave beside photos."""
    return [member for member in content.infolist() if not _is_clutter(member)]


class Unbuffered(io.FileIO):
    """A file under a zip file: what found no room is not kept to be tried again with what follows."""

    def write(self, data: Any, /) -> int:
        """Write all of it.

        Raises:
            OSError: there is no room for a part of it.
        """
        left = memoryview(data)
        size = len(left)
        while left:
            left = left[super().write(left) :]
        return size


def pack(archive: zipfile.ZipFile, stream: Unbuffered, file: Path, name: str) -> None:
    """Add a file to a new zip file; if there is no room for it, what is in there already stays good.

    Args:
        archive: the zip file.
        stream: what it is written to.
        file: to be added.
        name: of the file in there.

    Raises:
        OSError: there is no room.
    """
    count, end = len(archive.filelist), archive.start_dir
    try:
        archive.write(file, name)
    except OSError:
        for half in archive.filelist[count:]:
            del archive.NameToInfo[half.filename]
        del archive.filelist[count:]
        archive.start_dir = end
        stream.truncate(end)
        raise


def _name(member: zipfile.ZipInfo) -> PurePosixPath:
    text = member.filename
    if not member.flag_bits & UTF8:  # then zipfile has read it as what DOS used; most programs mean UTF-8 all the same
        with suppress(UnicodeError):
            text = text.encode("cp437").decode("utf-8")
    return PurePosixPath(text.replace("\\", "/"))  # some programs on Windows write it so


def _is_clutter(member: zipfile.ZipInfo) -> bool:
    """Tell folders, and what is no picture of anybody's; not what leads out of the zip file, which is refused."""
    return member.is_dir() or not is_meant(PurePosixPath(*(part for part in _name(member).parts if part != "..")))
