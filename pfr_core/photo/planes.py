"""TIFF files of 16 bits whose colours lie in separate planes, as some scanners and editors write them: put side by side.

Pillow does not read them and OpenCV mixes them up; each plane by itself both read as a gray picture.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cv2
import numpy as np

from .tiff import Kind, Tag, TiffReader

_LAYOUT = (
    Tag.FILL_ORDER, Tag.PREDICTOR, Tag.TILE_WIDTH, Tag.TILE_LENGTH, Tag.TILE_OFFSETS, Tag.TILE_BYTE_COUNTS,
    Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS,
)  # fmt: skip


def side_by_side(data: bytes, max_pixels: int) -> bytes:
    """Return the file with the colours of each pixel side by side; any other file, or one too large, comes back as it is.

    Raises:
        struct.error, cv2.error: the file is damaged.
        ValueError: a plane is not what the directory says.
    """
    reader = TiffReader(data)
    at = reader.first()
    fields, _ = reader.directory(at)
    width, height, colours, samples, planes = (
        reader.number(fields.get(tag)) or 1
        for tag in (
            Tag.IMAGE_WIDTH, Tag.IMAGE_LENGTH, Tag.PHOTOMETRIC, Tag.SAMPLES_PER_PIXEL, Tag.PLANAR_CONFIGURATION,
        )
    )  # fmt: skip
    deep = set(reader.numbers(fields.get(Tag.BITS_PER_SAMPLE))) == {16}
    unsigned = set(reader.numbers(fields.get(Tag.SAMPLE_FORMAT))) <= {1}
    if reader.big or planes != 2 or colours != 2 or samples not in (3, 4) or not deep or not unsigned:
        return data
    if width * height > max_pixels:
        return data
    entries = reader.entries(at)
    kept = {tag: entry for tag, entry in entries.items() if tag != Tag.ORIENTATION}
    pixels = np.stack([_plane(reader, kept, number, samples) for number in range(samples)], axis=2)
    if pixels.dtype != np.uint16 or pixels.shape != (height, width, samples):
        raise ValueError("a plane of another size than the picture")
    strip = pixels.astype(f"{reader.order}u2").tobytes()
    changes: dict[Tag, tuple[int, Sequence[int]]] = {
        Tag.COMPRESSION: (Kind.SHORT, [1]),
        Tag.STRIP_OFFSETS: (Kind.LONG, [len(data) + len(data) % 2]),
        Tag.ROWS_PER_STRIP: (Kind.LONG, [height]),
        Tag.STRIP_BYTE_COUNTS: (Kind.LONG, [len(strip)]),
        Tag.PLANAR_CONFIGURATION: (Kind.SHORT, [1]),
    }
    padded = data + b"\0" * (len(data) % 2) + strip
    return _with_directory(reader, padded, {tag: each for tag, each in entries.items() if tag not in _LAYOUT}, changes)


def _plane(reader: TiffReader, entries: dict[int, bytes], number: int, samples: int) -> np.ndarray:
    """Return one plane [H,W] of the picture with this directory."""
    fields, _ = reader.directory(reader.first())
    tiled = Tag.TILE_OFFSETS in fields
    changes: dict[Tag, tuple[int, Sequence[int]]] = {
        Tag.BITS_PER_SAMPLE: (Kind.SHORT, [16]),
        Tag.PHOTOMETRIC: (Kind.SHORT, [1]),
        Tag.SAMPLES_PER_PIXEL: (Kind.SHORT, [1]),
        Tag.PLANAR_CONFIGURATION: (Kind.SHORT, [1]),
    }
    for tag in (Tag.TILE_OFFSETS, Tag.TILE_BYTE_COUNTS) if tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS):
        numbers = reader.numbers(fields.get(tag))
        each = len(numbers) // samples
        changes[tag] = (Kind.LONG, numbers[number * each : (number + 1) * each])
    own = {tag: entry for tag, entry in entries.items() if tag not in (Tag.EXTRA_SAMPLES, Tag.SAMPLE_FORMAT)}
    file = _with_directory(reader, reader.data + b"\0" * (len(reader.data) % 2), own, changes)
    plane = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if plane is None:
        raise ValueError("a plane that cannot be decoded")
    return np.asarray(plane)


def _with_directory(
    reader: TiffReader, data: bytes, entries: dict[int, bytes], changes: dict[Tag, tuple[int, Sequence[int]]]
) -> bytes:
    """Return ``data`` with a directory of these entries, some changed, behind it, as its first."""
    new = dict(entries)
    for tag, (kind, numbers) in changes.items():
        values = struct.pack(f"{reader.order}{len(numbers)}{'H' if kind == Kind.SHORT else 'I'}", *numbers)
        if len(values) > 4:
            place = len(data)
            data += values + b"\0" * (len(values) % 2)
            values = struct.pack(f"{reader.order}I", place)
        new[tag] = struct.pack(f"{reader.order}HHI", tag, kind, len(numbers)) + values.ljust(4, b"\0")
    return reader.with_offset(data, reader.first_position, len(data)) + reader.packed(new)
