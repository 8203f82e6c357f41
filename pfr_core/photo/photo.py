"""What a photo file is here: its pixels, everything beside them, the formats, and which files of a folder count as photos."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import ImageError
from ..support.notice import Notice

if TYPE_CHECKING:
    from .pages import TiffPage

PathT = TypeVar("PathT", bound=PurePath)

_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    ".avif": "AVIF",
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
}
"""Lower-case ending of a file that can be written -> :attr:`Photo.format`."""

LOSSY = frozenset({"JPEG", "WEBP", "AVIF", "HEIF"})
"""Formats that are written in a quality."""

LONGEST_SIDE = {
    "JPEG": 65500,  # of its libraries; the format has 65535
    "WEBP": 16383,
    "BMP": 2**31 - 1,
    "PNG": 2**31 - 1,
    "TIFF": 2**31 - 1,
    "AVIF": 65535,
    "HEIF": 16384,
}
"""Side in px of the largest picture that the encoder of a format takes."""

IMAGE_SUFFIXES: frozenset[str] = frozenset(FORMAT_OF_SUFFIX) | {".gif"}
"""Lower-case endings of files that count as photos in a folder; a GIF is read but not written."""

_NO_PICTURES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "__macosx", "@eadir"})
"""Lower-case names of files, and of folders, that systems put beside pictures; names that begin with a dot (``._a.jpg`` of macOS,
``.thumbnails``) are others."""


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG was encoded.

    Attributes:
        tables: one quantisation table of 64 numbers for each kind of component.
        progressive: progressive or baseline.
    """

    tables: tuple[tuple[int, ...], ...]
    progressive: bool


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo file.

    Attributes:
        pixels: [H,W,3] RGB or [H,W,4] RGBA (straight alpha), uint8 or uint16, orientation applied; not converted to another
            colour space, so they mean what ``icc`` says (sRGB if None).
        path: the file.
        format: "JPEG", "PNG", "TIFF", "WEBP", "BMP", "AVIF", "HEIF" or "GIF".
        gray: whether the file had a single colour channel.
        icc: the colour profile.
        exif: the block from its byte-order mark on, orientation 1, no preview.
        xmp: the packet.
        dpi: dots per inch across and down.
        jpeg: how a JPEG was encoded.
        lossless: whether the file lost nothing: no JPEG, AVIF, HEIF or lossy WebP.
        extras: further blocks, (name, content), that only the same format can hold.
        channels: pages of a TIFF file beside the photograph (infrared, masks), that only a TIFF can hold.
        notices: what was noticed in reading.
        decoded: the pixels that the file holds; by :func:`dataclasses.replace` a photo gets others.

    Example:
        >>> from pfr_core.photo.read import read_photo
        >>> photo = read_photo("examples/astronaut.jpg")
        >>> photo.format, photo.pixels.shape, photo.pixels.dtype
        ('JPEG', (512, 512, 3), dtype('uint8'))
    """

    pixels: np.ndarray
    path: Path
    format: str
    gray: bool
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    jpeg: JpegCoding | None = None
    lossless: bool = True
    extras: tuple[tuple[str, bytes], ...] = ()
    channels: tuple[TiffPage, ...] = ()
    notices: tuple[Notice, ...] = ()
    decoded: np.ndarray | None = None

    @property
    def untouched(self) -> bool:
        """Whether its pixels are those of its file, which then stands for it."""
        return self.decoded is self.pixels

    def profile_for(self, channels: int) -> bytes | None:
        """Return the colour profile for pixels of so many channels: one of gray does not go with colour."""
        return None if channels >= 3 and self.icc is not None and self.icc[16:20] == b"GRAY" else self.icc

    def colours(self) -> Photo:
        """Return what a picture made of parts of the photo has in common with it: what its colours mean, and no more."""
        return Photo(self.pixels, self.path, self.format, gray=False, icc=self.profile_for(3))


@dataclass(frozen=True)
class Provenance:
    """Which model synthesised detail in a photo; written to the file as XMP.

    Attributes:
        model: its name; what XML cannot hold, as a file's name may, is written with backslashes.
        sha256: hex digest of its file.

    Example:
        >>> Provenance(model="default", sha256="9f86d081" * 8).model
        'default'
    """

    model: str
    sha256: str

    def __post_init__(self) -> None:
        model = _NOT_IN_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), self.model)
        object.__setattr__(self, "model", model)


def writable_name(name: PathT, named: Set[PathT], suffix: str | None = None) -> PathT:
    """Return the name that a result has: another ending, and a name that no other has, where its format is only read.

    Args:
        name: the input's own.
        named: the names of all inputs.
        suffix: the ending of the result; without it a photo's own, or ``.png``.

    Example:
        >>> str(writable_name(PurePath("a.gif"), {PurePath("a.gif"), PurePath("a.png")}))
        'a.gif.png'
    """
    if suffix is None:
        suffix = ".png" if name.suffix.lower() in IMAGE_SUFFIXES - set(FORMAT_OF_SUFFIX) else name.suffix
    new = name.with_suffix(suffix)
    return new if new == name or new not in named else name.with_name(f"{name.name}{suffix}")


def is_meant(name: PurePath) -> bool:
    """Return whether a file's path in a folder is neither hidden nor one of those that systems put beside pictures."""
    return not any(part.startswith(".") or part.lower() in _NO_PICTURES for part in name.parts)


def walk(folder: Path, *, dangling: bool = False) -> Iterator[Path]:
    """Yield the files in ``folder`` and everything below it, in no order; none if there is no such folder.

    Hidden files and folders and what systems put beside pictures are left out; links to folders are not followed.

    Args:
        folder: where to look.
        dangling: a link to a file that does not exist counts, too: whoever reads it can say so.

    Raises:
        ImageError: a folder cannot be looked through.
    """
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_meant(PurePath(entry.name)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False) or _leads_to_file(entry, dangling):
                    yield Path(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        why = error.strerror or error
        raise ImageError(f"{folder}: cannot be looked through ({why}); change its permissions or move it elsewhere.") from error
    for below in folders:
        yield from walk(below, dangling=dangling)


def _leads_to_file(entry: os.DirEntry[str], dangling: bool) -> bool:
    try:
        return stat.S_ISREG(os.stat(entry.path).st_mode)
    except FileNotFoundError:
        return dangling and entry.is_symlink()
    except OSError:  # nobody can tell
        return False


def images_below(folder: Path, skip: Sequence[Path] = ()) -> list[Path]:
    """List the photos in ``folder`` and everything below it, sorted; none if there is no such folder. See :func:`files_below`."""
    return files_below(folder, skip)[0]


def files_below(folder: Path, skip: Sequence[Path] = (), *, dangling: bool = False) -> tuple[list[Path], list[Path]]:
    """List the photos in ``folder`` and everything below it, by their endings, and the files that are none; both sorted.

    Hidden files and folders and what systems put beside pictures are in neither list, see :func:`walk`.

    Args:
        folder: where to look.
        skip: folders (or files) in it that are left out, say the one results are written to.
        dangling: see :func:`walk`.

    Raises:
        ImageError: a folder cannot be looked through.

    Example:
        >>> files_below(Path("no such folder"))
        ([], [])
    """
    skipped = [path.resolve() for path in skip]
    photos: list[Path] = []
    others: list[Path] = []
    for path in sorted(walk(folder, dangling=dangling)):
        if not any(path.resolve().is_relative_to(other) for other in skipped):
            (photos if path.suffix.lower() in IMAGE_SUFFIXES else others).append(path)
    return photos, others
