"""Clips. Needs PyAV: the extra ``video``."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import InputError
from ..photo.photo import IMAGE_SUFFIXES

CLIP_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".flv"}
"""Endings of files that are taken for clips."""

RESULT_SUFFIXES = (".mp4", ".mov", ".mkv")
"""Endings of the files that clips are written to."""

SEQUENCE = re.compile(r"%(?:0\d+d|d(?![A-Za-z]))")
"""In the name of a picture: numbered pictures. ``mom%20dad.jpg`` and ``100%done.jpg`` are no such names."""

OLDEST_AV = 18
"""What is used of PyAV (chapters, subtitles) is in its versions from this one on."""


def is_clip(path: Path) -> bool:
    """Judge by the name whether it is a video, or numbered pictures."""
    return path.suffix.lower() in CLIP_SUFFIXES or is_sequence(path)


def is_sequence(path: Path) -> bool:
    """Judge by the name whether it is numbered pictures, ``frame%04d.png``; a picture of that very name is none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and SEQUENCE.search(path.name) is not None and not path.is_file()


def numbers_of(path: Path) -> list[int]:
    """Return the numbers of the pictures that are there of ``frame%04d.png``, in order."""
    number = SEQUENCE.search(path.name)
    assert number is not None
    before, after = re.escape(path.name[: number.start()]), re.escape(path.name[number.end() :])
    found = re.compile(rf"{before}(\d+){after}")
    names = [found.fullmatch(each.name) for each in (path.parent.iterdir() if path.parent.is_dir() else ())]
    return sorted(int(name[1]) for name in names if name and number[0] % int(name[1]) == name[1])


def pictures_of(path: Path) -> list[Path]:
    """Return the pictures that are there of ``frame%04d.png``, in order."""
    before, after = SEQUENCE.split(path.name, maxsplit=1)
    number = path.name[len(before) : len(path.name) - len(after)]
    return [path.with_name(f"{before}{number % each}{after}") for each in numbers_of(path)]


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
