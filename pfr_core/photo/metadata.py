"""What travels beside the pixels of a photo file, and how PNG chunks and JPEG segments hold it.

EXIF is in ``tiff``, XMP in ``xmp``; pixels are not looked at here (``decode``, ``encode``).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .tiff import Tag

XMP_PNG_KEYWORD = b"XML:com.adobe.xmp"
XMP_JPEG_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
JPEG_SEGMENT = 65533
"""Bytes that a JPEG marker segment can hold."""
MAX_METADATA, MAX_BLOCKS = 16_000_000, 10_000
"""Bytes of metadata in a JPEG or PNG file, and blocks in a PNG file, that are taken (ours): photos have a hundredth of it."""
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
"""Markers of a JPEG."""
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")
"""Those that a segment begins with, and the end; there is nothing behind the rest."""
TIFF_EXTRAS: dict[int, str] = {Tag.IPTC: "IPTC", Tag.PHOTOSHOP: "Photoshop"}
_PNG_EXTRAS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"tIME"})
_JPEG_EXTRAS = {"APP1": b"http://ns.adobe.com/xmp/extension/\0", "APP13": b"Photoshop 3.0\0", "COM": b""}
_PREVIEWS = (1033, 1036)
"""Photoshop's numbers of previews."""
_JPEG_MARKERS = {"APP1": b"\xff\xe1", "APP13": b"\xff\xed", "COM": b"\xff\xfe"}


@dataclass(frozen=True)
class Metadata:
    """The blocks that an encoder puts beside the pixels, as :class:`~pfr_core.photo.photo.Photo` has them.

    ``extras`` are pairs of name and content that only the source's own format can hold: carried verbatim or dropped.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    extras: tuple[tuple[str, bytes], ...] = ()


def oversized(data: bytes) -> str:
    """Return what is wrong with a JPEG or PNG file whose metadata would take more time and memory than its picture, or "".

    Decoders put such blocks together piece by piece: 64 MB of them in a JPEG took half a minute. So does what lies between them.
    """
    size, blocks = 0, 0
    if data.startswith(b"\xff\xd8"):
        size = next((start for marker, start, _ in jpeg_segments(data) if marker == START_OF_SCAN), len(data))
    elif data.startswith(b"\x89PNG"):
        for name, content, _ in png_chunks(data):
            if name != b"IDAT":
                size, blocks = size + len(content), blocks + 1
            if blocks > MAX_BLOCKS:
                return f"it holds more than {MAX_BLOCKS:,} blocks of metadata"
    return f"it holds {size / 1e6:.0f} MB of metadata; the limit is {MAX_METADATA / 1e6:.0f} MB" if size > MAX_METADATA else ""


def png_extras(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return colour, text, resolution and time chunks of a PNG file; XMP and EXIF in text chunks are read elsewhere."""
    handled = (XMP_PNG_KEYWORD + b"\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
    return tuple(
        (name.decode("ascii"), content)
        for name, content, _ in png_chunks(data)
        if name in _PNG_EXTRAS and not content.startswith(handled)
    )


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield name, content and checksum of every chunk up to the end of the picture; of one cut short, what is there."""
    position, name = 8, b""
    while position + 8 <= len(data) and name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        yield name, data[position + 8 : end], data[end : end + 4]
        position = end + 4


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_png_chunks(data: bytes, metadata: Metadata) -> bytes:
    """Return a PNG file with ``metadata`` inserted behind its header chunk."""
    chunks = [(name.encode(), content) for name, content in metadata.extras]
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_PNG_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.dpi and not any(name == b"pHYs" for name, _ in chunks):
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in metadata.dpi), 1)))
    header_end = 33  # signature and IHDR
    return data[:header_end] + b"".join(png_chunk(name, content) for name, content in chunks) + data[header_end:]


def without_previews(resources: bytes) -> bytes:
    """Return Photoshop's image resources without its two kinds of preview, which show the photo before restoration.

    What is no whole list of resources, as the parts of one that fills several segments, comes back as it is.
    """
    kept, position = b"", 0
    while position < len(resources):
        if len(resources) < position + 12 or resources[position : position + 4] != b"8BIM":
            return resources
        (number,) = struct.unpack_from(">H", resources, position + 4)
        name = 1 + resources[position + 6]  # with its length
        start = position + 6 + name + name % 2
        if len(resources) < start + 4:
            return resources
        (size,) = struct.unpack_from(">I", resources, start)
        end = start + 4 + size + size % 2
        if end > len(resources) + 1:
            return resources
        kept += b"" if number in _PREVIEWS else resources[position:end]
        position = end
    return kept


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield marker, position and content of every segment of a JPEG, and every end mark, at which there is no content.

    As decoders do, bytes between segments are read over; those of a scan are such bytes, too.
    """
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        start, marker = found.start(), data[found.start() + 1]
        position = start + 2
        if marker != END_OF_IMAGE:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        yield marker, start, data[start + 4 : position]


def jpeg_extras(segments: list[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Return, of the (marker, content) segments of a JPEG, Photoshop / IPTC data, extended XMP and comments."""
    wanted = ((name, data, _JPEG_EXTRAS.get(name)) for name, data in segments)
    found = tuple((name, data, start) for name, data, start in wanted if start is not None and data.startswith(start))
    return tuple((name, start + without_previews(data[len(start) :]) if name == "APP13" else data) for name, data, start in found)


def packed_jpeg_segments(metadata: Metadata) -> bytes:
    """Return XMP and extras as JPEG marker segments; the caller sees to it that the XMP fits (see ``JPEG_SEGMENT``)."""
    segments = list(metadata.extras)
    if metadata.xmp:
        segments.insert(0, ("APP1", XMP_JPEG_HEADER + metadata.xmp))
    return b"".join(_JPEG_MARKERS[name] + struct.pack(">H", len(data) + 2) + data for name, data in segments)
