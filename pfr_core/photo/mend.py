"""Small damage that other programs read over, taken out of a file's bytes before they are decoded.

What is mended is said in a sentence for the reader; what would cost a visible part of the picture is left as it is, and the
decoder refuses it.
"""

from __future__ import annotations

import struct

from .jpeg import describe_jpeg
from .pages import photograph_alone
from .planes import side_by_side
from .png import SIGNATURE, describe_png, mend_png
from .tiff import BYTE_ORDERS, describe_tiff

Mended = tuple[bytes, list[str]]
"""The bytes, and a sentence for each thing mended."""


def mend(data: bytes, max_pixels: int) -> Mended:
    """Mend what can be told from the structure of a file alone; a JPEG's end, for which it is decoded, is in ``jpeg``."""
    if data.startswith(SIGNATURE):
        return mend_png(data)
    if data.startswith(tuple(BYTE_ORDERS)):
        try:
            alone, said = photograph_alone(data)
            return side_by_side(alone, max_pixels), said
        except struct.error:  # the decoder says what is wrong
            return data, []
    return data, []


def describe_damage(data: bytes) -> str:
    """Say why a decoder may not know what to make of a file; an empty string if nothing is known."""
    if data.startswith(SIGNATURE):
        return describe_png(data)
    if data.startswith(b"\xff\xd8"):
        return describe_jpeg(data)
    return describe_tiff(data) if data.startswith(tuple(BYTE_ORDERS)) else ""
