"""Small damage that other programs read over, taken out of a file's bytes before they are decoded.

What is mended is said in a sentence for the reader; what would cost a visible part of the picture is left as it is, and the
decoder refuses it.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from .metadata import png_chunks
from .tiff import Tag, TiffReader

END_OF_IMAGE = b"\xff\xd9"
LOST_ROWS, LOST_SHARE = 18, 0.05
"""What a JPEG may lack at its end (ours): a part of one row of blocks with what is smoothed into it, and so much of the picture
at most."""

Mended = tuple[bytes, list[str]]
"""The bytes, and a sentence for each thing mended."""


def mend(data: bytes) -> Mended:
    """Mend what can be told from the structure of a file alone; see :func:`mend_end` for the rest."""
    if data.startswith(b"\x89PNG"):
        return _without_damaged_chunks(data)
    if data.startswith((b"II", b"MM")):
        try:
            return _single_page(data)
        except struct.error:  # the decoder says what is wrong
            return data, []
    return data, []


def mend_end(data: bytes) -> Mended:
    """Give a JPEG that a decoder finds cut short its end, if next to nothing of the picture is missing.

    How many are missing shows when something is put in their place: two different endings change only what was not there.
    """
    if not data.startswith(b"\xff\xd8"):
        return data, []
    first, second = (_pixels(data + filler * 512 + END_OF_IMAGE) for filler in (b"\x15\x9c", b"\xe2\x3b"))
    lost = (first != second).reshape(*first.shape[:2], -1).any(axis=2)
    if lost[:-LOST_ROWS].any() or lost.mean() > LOST_SHARE:
        return data, []
    return data + END_OF_IMAGE, ["its end is missing; nothing or next to nothing of the picture is lost"]


def _pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return np.asarray(image)


def _without_damaged_chunks(data: bytes) -> Mended:
    """Leave out the chunks that a picture does not need (their names begin with a small letter) and whose checksum is wrong."""
    kept: list[bytes] = []
    left_out: list[str] = []
    start = position = 8
    for name, content in png_chunks(data):
        end = position + 12 + len(content)
        if name[:1].islower() and data[end - 4 : end] != zlib.crc32(name + content).to_bytes(4, "big"):
            left_out.append(f"its {name.decode('latin-1')} chunk has a wrong checksum and is left out")
            kept.append(data[start:position])
            start = end
        position = end
    return (b"".join([data[:8], *kept, data[start:]]), left_out) if left_out else (data, [])


def _single_page(data: bytes) -> Mended:
    """Of a TIFF file whose other pages are previews or an infrared channel, the page that is the photograph, alone.

    That is the one largest page, or of two equally large ones (a scanner's picture and its infrared channel) the one in colour.
    A file with several pages of equal right comes back as it is.
    """
    reader = TiffReader(data)
    pages: list[tuple[tuple[int, int], int, int]] = []
    offset = reader.first()
    while offset and all(offset != page[1] for page in pages):  # damaged files go in circles
        fields, position = reader.directory(offset)
        width, height, samples = (
            reader.number(fields.get(tag)) or 1 for tag in (Tag.IMAGE_WIDTH, Tag.IMAGE_LENGTH, Tag.SAMPLES_PER_PIXEL)
        )
        pages.append(((width * height, samples), offset, position))
        offset = reader.offset_at(position)
    pages.sort(reverse=True)
    if len(pages) < 2 or pages[0][0] == pages[1][0]:
        return data, []
    _, offset, position = pages[0]
    others = "another page" if len(pages) == 2 else f"{len(pages) - 1} other pages"
    alone = reader.with_offset(reader.with_offset(data, position, 0), reader.first_position, offset)
    return alone, [f"holds {others} (a preview or an infrared channel), which will not be in the result"]


def describe_damage(data: bytes) -> str:
    """Say why a decoder may not know what to make of a file; an empty string if nothing is known."""
    if not data.startswith((b"II", b"MM")):
        return ""
    try:
        reader = TiffReader(data)
        fields, _ = reader.directory(reader.first())
    except struct.error:
        return "its first directory is damaged"
    bits = reader.number(fields.get(Tag.BITS_PER_SAMPLE)) or 1
    kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(reader.number(fields.get(Tag.SAMPLE_FORMAT)) or 1, "unknown")
    planes = " in separate planes" if reader.number(fields.get(Tag.PLANAR_CONFIGURATION)) == 2 else ""
    return f"a TIFF of {bits}-bit {kind} samples{planes}"
