"""What becomes of a photo file: named after it, in its own format, marked as synthesised; copied if nothing changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..support.notice import Notice, NoticeKind
from .arrays import Array, is_transparent
from .photo import FORMAT_OF_SUFFIX, Photo, Provenance
from .write import ALPHA, copy_file, write_photo


def write_restored(
    target: Path,
    photo: Photo,
    image: Array,
    *,
    changed: bool,
    notices: Iterable[Notice] = (),
    provenance: Provenance | None = None,
    quality: int | None = None,
) -> tuple[bool, tuple[Notice, ...]]:
    """Write a restored photo; one in which nothing changed is copied byte for byte if the format stays.

    Args:
        target: the file; its ending decides the format.
        photo: what was read, for its metadata and encoding.
        image: the result, [H,W,3 or 4] of the photo's depth.
        changed: whether any pixel became another. Only then is ``provenance`` recorded.
        notices: what was noticed in reading and restoring it.
        provenance: the model that synthesised detail.
        quality: as for :func:`write_photo`.

    Returns:
        Whether the file is a copy, and what holds for it: ``notices``, of a copy without what :func:`of_copy` leaves out, and
        what was noticed in writing.

    Raises:
        ImageError: the file cannot be written, or its format cannot hold the picture.

    Example:
        >>> from pfr_core.photo.read import read_photo
        >>> photo = read_photo("examples/astronaut.jpg")
        >>> write_restored(Path("restored.jpg"), photo, photo.pixels, changed=False)
        (True, ())
    """
    if is_copy(target, photo, image, changed=changed):
        copy_file(photo.path, target)
        return True, of_copy(notices)
    noticed = write_photo(target, image, photo, quality=quality, provenance=provenance if changed else None)
    return False, (*notices, *noticed)


def is_copy(target: Path, photo: Photo, image: Array, *, changed: bool) -> bool:
    """Return whether a result is its photo's file, byte for byte: nothing changed, and size and format stay."""
    return not changed and keeps_format(target, photo) and np.array_equal(image, photo.pixels)


def keeps_format(target: Path, photo: Photo) -> bool:
    """Return whether the photo's own file could stand for a result of this name, if its pixels stayed as they are."""
    ending = target.suffix.lower()
    return photo.untouched and (photo.path.suffix.lower() == ending or photo.format == FORMAT_OF_SUFFIX.get(ending))


READ_AS_LESS: frozenset[NoticeKind] = frozenset(
    {"cmyk", "damaged_exif", "further_pictures", "mended", "not_kept", "sixteen_bits", "wide_colours"}
)
"""What is said of a photo that loses something in reading, which is no loss where its file is copied."""


def of_copy(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """Return what holds for the file of a photo that is copied as it is, of the notices of the one that was read."""
    return tuple(notice for notice in notices if notice.kind not in READ_AS_LESS)


def check_transparency(photo: Photo, target: Path, *, changed: bool = False) -> None:
    """Look whether a result in a folder can hold the photo's transparency, as soon as that is known.

    Args:
        photo: the photo.
        target: the result's name.
        changed: whether there is a result that differs; before, one that may become a copy holds whatever the photo does.

    Raises:
        ImageError: its format cannot.
    """
    if not changed and keeps_format(target, photo):
        return
    if FORMAT_OF_SUFFIX.get(target.suffix.lower()) not in ALPHA and is_transparent(photo.pixels):
        raise ImageError(f"{photo.path}: a {target.suffix} file cannot hold its transparency; --format png can.")


def own_suffix(photo: Photo) -> str:
    """Return the file ending for a result in the photo's own format.

    ``.png`` where that cannot be written (GIF) or cannot hold transparency that was read (BMP). The file's own ending is kept
    where it tells the truth.
    """
    suffix = photo.path.suffix
    if photo.format not in ALPHA and is_transparent(photo.pixels):
        return ".png"
    if FORMAT_OF_SUFFIX.get(suffix.lower()) == photo.format:
        return suffix
    return next((ending for ending, kind in FORMAT_OF_SUFFIX.items() if kind == photo.format), ".png")
