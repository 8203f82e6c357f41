"""What a photo file is here: its pixels, everything beside them, the formats, and which files of a folder count as photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
}
"""Lower-case file ending -> :attr:`Photo.format`."""

IMAGE_SUFFIXES: frozenset[str] = frozenset(FORMAT_OF_SUFFIX)
"""Lower-case file endings that can be written, and that count as photos in a folder."""


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
        format: "JPEG", "PNG", "TIFF", "WEBP", "BMP" or "GIF".
        gray: whether the file had a single colour channel.
        icc: the colour profile.
        exif: the block from its byte-order mark on, orientation 1, no preview.
        xmp: the packet.
        dpi: dots per inch across and down.
        jpeg: how a JPEG was encoded.
        lossless: whether the file was neither a JPEG nor a lossy WebP.
        extras: further blocks, (name, content), that only the same format can hold.

    Example:
        >>> photo = read_photo("me.jpg")  # doctest: +SKIP
        >>> write_photo("me_restored.jpg", restore(photo.pixels), like=photo)  # doctest: +SKIP
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


@dataclass(frozen=True)
class Provenance:
    """Which model synthesised detail in a photo; written to the file as XMP.

    Attributes:
        model: its name.
        sha256: hex digest of its file.

    Example:
        >>> Provenance(model="default", sha256="9f86d081" * 8).model
        'default'
    """

    model: str
    sha256: str


def images_below(folder: Path, skip: Sequence[Path] = ()) -> list[Path]:
    """List the photos in ``folder`` and everything below it, sorted, by their endings; none if there is no such folder.

    Args:
        folder: where to look.
        skip: folders (or files) in it that are left out, say the one results are written to.

    Example:
        >>> images_below(Path("no such folder"))
        []
    """
    skipped = [path.resolve() for path in skip]
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(path.resolve().is_relative_to(other) for other in skipped)
    )
