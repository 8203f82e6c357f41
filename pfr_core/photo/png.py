"""Damaged PNG files: what other programs read over is mended in the bytes, the rest is named.

A chunk whose name begins with a small letter is one that the picture can be shown without.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .metadata import MAX_METADATA, png_chunk, png_chunks

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7, b"cICP": 4}
"""Bytes of the chunks that decoders fail on if they have others."""
_TRANSPARENT = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}
"""Bytes that tRNS may have, by colour type: one gray value, one colour, or opacities of palette entries."""


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    content: bytes
    whole: bool
    """Whether all of it, with its checksum, lies within the file."""
    right: bool
    """Whether the checksum is that of name and content."""


def mend_png(data: bytes) -> tuple[bytes, list[str]]:
    """Return the file without damage that does not matter, and a sentence for each thing mended.

    Left out are damaged chunks that the picture does not need. EXIF and profile prove by themselves that they are whole, and so
    does the pixel data: under a wrong checksum they are kept. A missing end is put there.
    """
    kept, said = [data[:8]], list[str]()
    kind = data[25] if len(data) > 25 else 0
    ended = False
    for chunk in _chunks(data):
        name, label = chunk.name, chunk.name.decode("latin-1")
        if _is_optional(name):
            readable = _is_readable(name, chunk.content, kind)
            if not readable or not (chunk.right or name in (b"eXIf", b"iCCP")):
                what = "is damaged" if chunk.right else "has a wrong checksum"
                said.append(f"its {label} chunk {what} and is left out")
                continue
            if not chunk.right:
                said.append(f"its {label} chunk has a wrong checksum, but can be read and is kept")
        elif name == b"IDAT" and chunk.whole and not chunk.right:
            wrong = "its IDAT chunk has a wrong checksum, but all pixels can be read"
            said += [] if wrong in said else [wrong]
        elif name == b"IEND":
            ended = chunk.right
            continue
        elif not chunk.right and name != b"IDAT":
            return data, []  # header or palette: the decoder refuses it
        kept.append(png_chunk(name, chunk.content))
    kept.append(png_chunk(b"IEND", b""))
    if not ended:
        said.append("its end is missing; nothing of the picture is lost")
    return (b"".join(kept), said) if said else (data, [])


def describe_png(data: bytes) -> str:
    """Say which chunk keeps a file from being read; an empty string if none is seen to."""
    for chunk in _chunks(data):
        label = chunk.name.decode("latin-1")
        if not chunk.name.isalpha():
            return f"a chunk has the impossible name {label!r}"
        if not chunk.whole:
            return f"its {label} chunk is cut short"
        if not chunk.right and not _is_optional(chunk.name):
            return f"its {label} chunk has a wrong checksum"
    return ""


def _chunks(data: bytes) -> Iterator[_Chunk]:
    for name, content, checksum in png_chunks(data):
        right = checksum == zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big")
        yield _Chunk(name, content, len(checksum) == 4, right)


def _is_optional(name: bytes) -> bool:
    return name.isalpha() and name[:1].islower()


def _is_readable(name: bytes, content: bytes, kind: int) -> bool:
    """Return whether a decoder for a picture of this colour type can make something of an optional chunk."""
    if name == b"tRNS":
        return len(content) in _TRANSPARENT.get(kind, ())
    if name == b"iCCP":
        label, _, rest = content.partition(b"\0")
        inflate = zlib.decompressobj()
        try:
            return 0 < len(label) < 80 and bool(inflate.decompress(rest[1:], MAX_METADATA)) and inflate.eof
        except zlib.error:
            return False
    return len(content) == _LENGTHS.get(name, len(content))
