"""Clips. Needs PyAV: the extra ``video``."""

import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import InputError
from ..photo.photo import IMAGE_SUFFIXES
from ..support.choices import CLIP_FORMATS

CLIP_SUFFIXES = {
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".flv",
    ".wmv", ".asf",
}  # fmt: skip
"""Endings of files that are taken for clips: of the formats that ``INPUT_OPTIONS`` in ``read.py`` lets in."""

RESULT_SUFFIXES = tuple(f".{ending}" for ending in CLIP_FORMATS)
"""Endings of the files that clips are written to, with their dot."""

SEQUENCE = re.compile(r"%(?:0\d+d|d(?![A-Za-z]))")
"""In the name of a picture: numbered pictures. ``mom%20dad.jpg`` and ``100%done.jpg`` are no such names."""

OLDEST_AV = 18
"""What is used of PyAV (chapters, subtitles) is in its versions from this one on."""


def is_clip(path: Path) -> bool:
    """Judge by the name whether it is a video, or numbered pictures."""
    return path.suffix.lower() in CLIP_SUFFIXES or is_sequence(path)


def is_sequence(path: Path) -> bool:
    """Judge by the name whether it is numbered pictures, ``frame%04d.png``; a picture of that very name is none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and SEQUENCE.search(path.name) is not None and not os.path.isfile(path)


def numbers_of(path: Path) -> list[int]:
    """Return the numbers of the pictures that are seen to be there of ``frame%04d.png``, in order."""
    before, number, after = _parts(path)
    found = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    try:
        names = [found.fullmatch(name) for name in os.listdir(path.parent)]
    except OSError:  # no such folder, or none that may be looked into
        return []
    return sorted(int(name[1]) for name in names if name and number % int(name[1]) == name[1])


def pictures_of(path: Path) -> list[Path]:
    """Return the pictures that are there of ``frame%04d.png``, in order."""
    before, number, after = _parts(path)
    return [path.with_name(f"{before}{number % each}{after}") for each in numbers_of(path)]


def pattern_of(path: Path) -> str:
    """Return what FFmpeg calls numbered pictures: absolute, and ``%`` alone, in a folder's name too, is two to it."""
    before, number, after = _parts(path)
    folder, before, after = (text.replace("%", "%%") for text in (os.path.abspath(path.parent), before, after))
    return os.path.join(folder, f"{before}{number}{after}")


def _parts(path: Path) -> tuple[str, str, str]:
    """Return what stands before the number of numbered pictures, it itself (``%04d``), and what stands behind."""
    before, after = SEQUENCE.split(path.name, maxsplit=1)
    return before, path.name[len(before) : len(path.name) - len(after)], after


def check_av() -> None:
    """Look whether clips can be read here.

    Raises:
        InputError: PyAV is missing or too old.
    """
    try:
        installed = version("av")
    except PackageNotFoundError as error:
        raise InputError(f'clips need PyAV, which is missing; python -m pip install "av>={OLDEST_AV}".') from error
    if int(installed.split(".")[0]) < OLDEST_AV:
        raise InputError(f"clips need PyAV {OLDEST_AV} or newer, this is {installed}; pip install --upgrade av.")
