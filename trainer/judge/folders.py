"""Folders of pictures that belong together by their names: reading them, and saying what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pfr_core.errors import InputError
from pfr_core.photo.arrays import to_uint8
from pfr_core.photo.photo import images_below
from pfr_core.photo.read import read_photo

from ..data.dataset import RGB8


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the pictures below ``folder`` by their names without ending, sorted.

    Raises:
        InputError: no such folder, no picture in it, or two of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder.")
    paths = {path: path.relative_to(folder).with_suffix("").as_posix() for path in images_below(folder)}
    if not paths:
        raise InputError(f"{folder}: holds no pictures.")
    twice = [name for name, count in Counter(paths.values()).items() if count > 1]
    if twice:
        raise InputError(f"{folder}: {_some(twice)} is there twice, with different endings. Keep one of each.")
    return {name: path for path, name in paths.items()}


def match_names(here: str, names: Sequence[str], there: str, other: Sequence[str], *, more: bool = False) -> None:
    """See to it that two sets have the same names; ``more`` allows that the other one has further ones.

    Raises:
        InputError: they have not.
    """
    missing, extra = sorted({*names} - {*other}), [] if more else sorted({*other} - {*names})
    if missing or extra:
        counts = f"{here} has {len(names)} pictures, {there} {len(other)}"
        lacks = [f"{where} has no {_some(which)}" for where, which in ((there, missing), (here, extra)) if which]
        raise InputError(f"The names do not match: {counts}; {'; '.join(lacks)}. Endings do not count.")


def match_sizes(here: object, picture: RGB8, there: object, other: RGB8) -> None:
    """See to it that two pictures have the same size.

    Raises:
        InputError: they have not.
    """
    if picture.shape != other.shape:
        (h, w), (h2, w2) = picture.shape[:2], other.shape[:2]
        raise InputError(f"{here} is {w}x{h} px and {there} {w2}x{h2}. Both must have one size.")


def read_rgb(path: Path) -> RGB8:
    """Return the pixels [H,W,3] of a picture; transparency is passed over.

    Raises:
        ImageError: it cannot be read.
    """
    return np.ascontiguousarray(to_uint8(read_photo(path).pixels[..., :3]))


ALIGNED_FACE = "Replace it by an aligned face, or take it out."
"""What to do about a picture that is not square."""


def read_square(path: Path, remedy: str = ALIGNED_FACE) -> RGB8:
    """Return the pixels of a picture that is square.

    Raises:
        InputError: it is not; the message ends in ``remedy``.
    """
    picture = read_rgb(path)
    if picture.shape[0] != picture.shape[1]:
        raise InputError(f"{path}: {picture.shape[1]}x{picture.shape[0]} px is not square, so it is no aligned face. {remedy}")
    return picture


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
