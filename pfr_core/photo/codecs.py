"""AVIF and HEIC, which not every machine can read: whether this one does, and what to do if not.

AVIF comes with Pillow (11.3 and newer). HEIC needs pillow-heif, an extra: its encoder is under the GPL, and whoever has no
iPhone does not need it.
"""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image, features

from ..errors import ImageError

_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
}
"""What an ISO media file says it is, if it holds a picture."""


BOXES = 1 << 20
"""Bytes at the beginning of a file in which what it states of its pictures lies."""
_PIXEL_INFORMATION = re.compile(rb"\0\0\0[\x0e\x10-\x12]pixi(?=\0\0\0\0[\x01-\x04])")
"""The box that states the bits of each channel: length, name, version, number of channels, and the bits."""


_COLOURS = re.compile(rb"colrnclx(..)(..)", re.DOTALL)
"""The box that states primaries and transfer by their numbers in ITU-T H.273."""
_PRIMARIES = {9: "of BT.2020", 11: "of DCI-P3", 12: "of Display P3"}
_TRANSFERS = {16: "HDR (PQ)", 18: "HDR (HLG)"}


def wide_colours(data: bytes) -> str:
    """Return in words which colours an AVIF or HEIC file states that are not sRGB's; empty if it states none."""
    said = [(int.from_bytes(one, "big"), int.from_bytes(other, "big")) for one, other in _COLOURS.findall(data[:BOXES])]
    words = {words for one, other in said for words in (_PRIMARIES.get(one), _TRANSFERS.get(other)) if words}
    return " and ".join(sorted(words))


def container_of(head: bytes) -> str | None:
    """Return ``"AVIF"`` or ``"HEIF"`` if the first 12 bytes of a file are those of one, else None."""
    return _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None


def bits_of(data: bytes) -> int:
    """Return the bits a channel that an AVIF or HEIC file states, the most of all its pictures; 8 if it states none."""
    return max((data[found.end() + 5] for found in _PIXEL_INFORMATION.finditer(data) if found.end() + 5 < len(data)), default=8)


def need_codec(kind: str, path: Path, *, writing: bool = False) -> None:
    """Make Pillow read and write AVIF or HEIF; of any other format it knows all it needs.

    Raises:
        ImageError: this machine cannot read it or, when it is for ``writing``, not write it; the message says what to do.
    """
    if kind == "AVIF" and not features.check("avif"):
        raise ImageError(f"{path}: an AVIF picture, which this Pillow cannot handle. Install a newer one: pip install -U Pillow")
    if kind == "HEIF":
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise ImageError(f"{path}: a HEIC picture needs one more package. Install it: pip install pillow-heif") from error
        register_heif_opener()
        if writing and kind not in Image.SAVE:  # built without an encoder
            raise ImageError(f"{path}: this pillow-heif can read HEIC but not write it; use another format, say .png.")
