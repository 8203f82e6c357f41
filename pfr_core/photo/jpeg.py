"""JPEG files cut short: how much of the picture is missing, and an end for those that lack next to nothing.

A decoder fills up what is missing and says nothing that reaches us. But what was not there shows when something is put in its
place: another ending of the data changes only that.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from .metadata import END_OF_IMAGE, START_OF_SCAN, jpeg_segments

_END = bytes((0xFF, END_OF_IMAGE))
LOST_ROWS, LOST_SHARE = 18, 0.05
"""What a JPEG may lack at its end (ours): a part of one row of blocks with what is smoothed into it, and so much of the picture
at most."""
_NOISE = (b"\x15\x9c" * 512, b"\xe2\x3b" * 512)
_RESTARTS = re.compile(rb"\xff[\xd0-\xd7]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_PROGRESSIVE = (0xC2, 0xCA)
_ARITHMETIC = (0xC9, 0xCA)
"""Frame headers; with arithmetic coding data may end early: a decoder is to take zeros for what is left out."""


def mend_jpeg(data: bytes) -> tuple[bytes, list[str]]:
    """Return the file with an end, if it has none and next to nothing of the picture is missing; and a sentence if so.

    Raises:
        ValueError: more is missing; the message says how much.
    """
    scan, end = _last_scan(data)
    if not scan or data[end : end + 2] == _END:
        return data, []
    body = data[:end].rstrip(b"\0\xff")  # broken-off downloads are filled up with zeros
    _refuse_cut(body, scan, _pixels(body), _NOISE)
    return body + _END, ["its end is missing; nothing or next to nothing of the picture is lost"]


def check_whole(data: bytes, image: Image.Image) -> None:
    """Refuse a picture whose data ends before its end mark says so: some programs put one behind half a file.

    Args:
        data: the file.
        image: the same, decoded.

    Raises:
        ValueError: it is cut short; the message says how much is missing.
    """
    if any(marker in _ARITHMETIC for marker, _, _ in _segments(data)):
        return
    last = image.crop((max(0, image.width - 2), max(0, image.height - 2), image.width, image.height))
    filled_up = all(low >= 127 and high <= 128 for low, high in np.atleast_2d(last.getextrema()))  # blocks not there are gray
    if filled_up or image.info.get("progressive"):
        scan, end = _last_scan(data)
        _refuse_cut(data[:end], scan, np.asarray(image), _NOISE[:1])


def describe_jpeg(data: bytes) -> str:
    """Say what keeps a file from being read; an empty string if nothing is seen to."""
    frames = [(marker, content) for marker, _, content in _segments(data) if marker in _FRAMES]
    if not frames or not _last_scan(data)[0]:
        return "it ends before any picture data"
    marker, content = frames[0]
    if len(content) < 6:  # bits, height, width, components
        return "the segment with its size is cut short"
    if content[1:3] == b"\0\0":
        return "its height is stated as 0"
    if marker not in _READ or content[0] != 8:
        return f"a JPEG of {content[0]} bits, kind SOF{marker - 0xC0}"
    return ""


def _refuse_cut(body: bytes, scan: int, shown: np.ndarray, noises: Sequence[bytes]) -> None:
    """Raise ValueError if the data of a JPEG lacks more than next to nothing.

    Args:
        body: the data without an end.
        scan: where its last scan begins.
        shown: what a decoder makes of it.
        noises: what is put in the place of what is missing; each shows most of it.
    """
    if not _is_refined(body):
        raise ValueError("cut short: the finer scans of a progressive JPEG are missing")
    lost = np.zeros(shown.shape[:2], bool)
    restarts = len(_RESTARTS.findall(body, scan))
    for before in (b"", bytes((0xFF, 0xD0 + restarts % 8))) if restarts else (b"",):
        for noise in noises:
            lost |= (_pixels(body + before + noise) != shown).reshape(*lost.shape, -1).any(axis=2)
    if lost[:-LOST_ROWS].any() or lost.mean() > LOST_SHARE:
        missing = 1 - float(lost.any(axis=1).argmax()) / len(lost)
        raise ValueError(f"cut short: data of the lower {missing:.0%} of the picture is missing")


def _pixels(body: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(body + _END), formats=("JPEG",)) as image:
        return np.asarray(image)


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield marker, position and content of every segment up to the end mark, at which there is no content."""
    for segment in jpeg_segments(data):
        yield segment
        if segment[0] == END_OF_IMAGE:
            return


def _last_scan(data: bytes) -> tuple[int, int]:
    """Return where the last scan begins, 0 if there is none, and where its data ends: at the end mark, or with the file."""
    scan = 0
    for marker, start, _ in _segments(data):
        if marker == END_OF_IMAGE:
            return scan, start
        scan = start if marker == START_OF_SCAN else scan
    return scan, len(data)


def _is_refined(data: bytes) -> bool:
    """Return whether the scans that begin in the file give every coefficient its last bit; of a sequential file they do."""
    coarse: dict[int, set[int]] = {}
    for marker, _, content in _segments(data):
        if marker in _PROGRESSIVE:
            coarse = {component: set(range(64)) for component in content[6::3]}
        if marker == START_OF_SCAN and coarse and len(content) > 3:
            first, last, bits = content[-3:]
            for component in content[1:-3:2]:
                if bits & 15 == 0:
                    coarse.get(component, set()).difference_update(range(first, last + 1))
    return not any(coarse.values())
