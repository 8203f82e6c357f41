"""TIFF directories, of which EXIF blocks consist as well as TIFF files: read, changed in place, packed.

Numbers are changed in place, because a rewritten block would break maker notes, which point at absolute offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Union

from .xmp import upright_xmp


class Tag(IntEnum):
    """Tags by their names in the specifications: TIFF 6.0, EXIF, Adobe's supplements, Windows (``XP``, ``RATING``)."""

    NEW_SUBFILE_TYPE = 254
    IMAGE_WIDTH = 256
    IMAGE_LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DOCUMENT_NAME = 269
    DESCRIPTION = 270
    MAKE = 271
    MODEL = 272
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    X_RESOLUTION = 282
    Y_RESOLUTION = 283
    PLANAR_CONFIGURATION = 284
    PAGE_NAME = 285
    RESOLUTION_UNIT = 296
    PAGE_NUMBER = 297
    SOFTWARE = 305
    DATE_TIME = 306
    ARTIST = 315
    HOST_COMPUTER = 316
    PREDICTOR = 317
    WHITE_POINT = 318
    PRIMARY_CHROMATICITIES = 319
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    SUB_IFDS = 330
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    XMP = 700
    RATING = 18246
    RATING_PERCENT = 18249
    COPYRIGHT = 33432
    IPTC = 33723
    PHOTOSHOP = 34377
    EXIF_IFD = 34665
    ICC_PROFILE = 34675
    GPS_IFD = 34853
    XP_TITLE = 40091
    XP_COMMENT = 40092
    XP_AUTHOR = 40093
    XP_KEYWORDS = 40094
    XP_SUBJECT = 40095
    EXIF_WIDTH = 40962
    EXIF_HEIGHT = 40963
    INTEROP_IFD = 40965


BYTE_ORDERS = {b"II": "<", b"MM": ">"}
"""How an EXIF block or a TIFF file begins (Intel, Motorola), and that byte order as ``struct`` calls it."""
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF file begins: classic, then BigTIFF."""


class Kind(IntEnum):
    """Types of the values that are written here."""

    BYTE = 1
    SHORT = 3
    LONG = 4
    RATIONAL = 5
    UNDEFINED = 7


_OF_A_PAGE = frozenset({Tag.PAGE_NAME, Tag.PAGE_NUMBER})
_COLORIMETRY = frozenset({Tag.WHITE_POINT, Tag.PRIMARY_CHROMATICITIES})
_RESOLUTION = frozenset({Tag.X_RESOLUTION, Tag.Y_RESOLUTION, Tag.RESOLUTION_UNIT})
_DESCRIPTIVE = frozenset(
    {
        Tag.DOCUMENT_NAME,
        Tag.DESCRIPTION, Tag.MAKE, Tag.MODEL, Tag.SOFTWARE, Tag.DATE_TIME, Tag.ARTIST, Tag.HOST_COMPUTER, Tag.RATING,
        Tag.RATING_PERCENT, Tag.XP_TITLE, Tag.XP_COMMENT, Tag.XP_AUTHOR, Tag.XP_KEYWORDS, Tag.XP_SUBJECT, Tag.COPYRIGHT,
    }
)  # fmt: skip
"""What describes the photo rather than the layout of its file."""
POINTERS = frozenset({Tag.EXIF_IFD, Tag.GPS_IFD, Tag.INTEROP_IFD})
INHERITED = frozenset({*_DESCRIPTIVE, Tag.EXIF_IFD, Tag.GPS_IFD, Tag.ORIENTATION, Tag.XMP, Tag.IPTC, Tag.PHOTOSHOP})
"""What the first page of a file says of all its pages."""
_LAYOUT = frozenset(
    {
        *range(254, 260), *range(262, 267), 273, 274, *range(277, 285), 288, 289, 292, 293, 296, 317, *range(320, 329), 330,
        *range(332, 335), 336, *range(338, 342), 347, *range(512, 522), *range(529, 533), Tag.XMP, Tag.IPTC, Tag.PHOTOSHOP,
        Tag.ICC_PROFILE, *POINTERS,
    }
)  # fmt: skip
"""What describes the layout of a file, which a result has of its own, and what is carried in another way than the fields are."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type, those of BigTIFF from 16 on."""
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""The unsigned integers among the types, as ``struct`` calls them."""


@dataclass(frozen=True)
class TiffField:
    """One directory entry: TIFF type code, raw bytes, and where in the file they lie (``None`` if newly made)."""

    kind: int
    data: bytes
    position: int | None = None


Directory = Mapping[int, Union[TiffField, "Directory"]]


@dataclass(frozen=True)
class TiffReader:
    """Reads the directories of a TIFF structure (classic or BigTIFF); raises ``struct.error`` on a damaged one."""

    data: bytes

    @property
    def order(self) -> str:
        if self.data[:4] not in MAGIC:
            raise struct.error("not a TIFF structure")
        return BYTE_ORDERS[self.data[:2]]

    @property
    def big(self) -> bool:
        return b"+" in self.data[2:4]

    @property
    def first_position(self) -> int:
        """Return where the offset of the first directory stands."""
        return 8 if self.big else 4

    def first(self) -> int:
        """Return the offset of the first directory."""
        return self.offset_at(self.first_position)

    def offset_at(self, position: int) -> int:
        """Return the offset that stands at ``position``; 0, the end of a chain of directories, where the file has ended."""
        code = self.order + ("Q" if self.big else "I")
        return int(struct.unpack_from(code, self.data, position)[0]) if position + struct.calcsize(code) <= len(self.data) else 0

    def with_offset(self, data: bytes, position: int, offset: int) -> bytes:
        """Return ``data``, laid out like this structure, with another offset at ``position``."""
        packed = struct.pack(self.order + ("Q" if self.big else "I"), offset)
        return data[:position] + packed + data[position + len(packed) :]

    def directory(self, offset: int) -> tuple[dict[int, TiffField], int]:
        """Return the fields of the directory at ``offset`` and the position of its pointer to the next one.

        Fields that lie beyond the end are left out, in a directory that is cut short too.

        Raises:
            struct.error: there is none at this place.
        """
        if offset < self.first_position:
            raise struct.error("a directory inside the header")
        count_format, entry_format, inline = ("Q", "HHQ8s", 8) if self.big else ("H", "HHI4s", 4)
        (count,) = struct.unpack_from(self.order + count_format, self.data, offset)
        position = offset + struct.calcsize(self.order + count_format)
        fields: dict[int, TiffField] = {}
        length = struct.calcsize(self.order + entry_format)
        for _ in range(min(count, (len(self.data) - position) // length)):
            tag, kind, number, value = struct.unpack_from(self.order + entry_format, self.data, position)
            position += length
            size = _SIZES.get(kind, 0) * (1 if tag == Tag.ORIENTATION else number)  # a count of it that is wrong turns no photo
            start = position - inline
            if size > inline:
                (start,) = struct.unpack(self.order + ("Q" if self.big else "I"), value)
            if 0 < size <= len(self.data) - start:  # nor one of an unknown type
                fields[tag] = TiffField(kind, self.data[start : start + size], start)
        return fields, position

    def entries(self, offset: int) -> dict[int, bytes]:
        """Return the entries of the directory at ``offset`` as they stand there, by tag, as far as there are any."""
        size, head = (20, 8) if self.big else (12, 2)
        (count,) = struct.unpack_from(self.order + ("Q" if self.big else "H"), self.data, offset)
        start = offset + head
        count = min(count, (len(self.data) - start) // size)
        table = [self.data[start + number * size : start + (number + 1) * size] for number in range(count)]
        return {int(struct.unpack_from(self.order + "H", entry)[0]): entry for entry in table}

    def packed(self, entries: Mapping[int, bytes]) -> bytes:
        """Return a directory of such entries, the last of the file."""
        count, end = ("Q", 8) if self.big else ("H", 4)
        table = b"".join(entry for _, entry in sorted(entries.items()))
        return struct.pack(self.order + count, len(entries)) + table + b"\0" * end

    def numbers(self, field: TiffField | None) -> tuple[int, ...]:
        """Return the numbers of an unsigned integer field, none of any other."""
        code = _NUMBERS.get(field.kind) if field else None
        if field is None or code is None:
            return ()
        return struct.unpack_from(f"{self.order}{len(field.data) // struct.calcsize(code)}{code}", field.data)

    def number(self, field: TiffField | None) -> int | None:
        """Return the first number of an unsigned integer field, None for any other."""
        return next(iter(self.numbers(field)), None)

    def subdirectory(self, fields: Mapping[int, TiffField], tag: int) -> dict[int, TiffField]:
        """Return the fields of the directory that ``tag`` points at; none if nothing does, or at what can be no directory."""
        offset = self.number(fields.get(tag)) or 0
        return self.directory(offset)[0] if self.first_position < offset <= len(self.data) - 8 else {}

    def holds(self, offset: int) -> bool:
        """Return whether the whole directory at ``offset`` lies within the structure, behind its header."""
        count_format, entry = ("Q", 20) if self.big else ("H", 12)
        start = offset + struct.calcsize(self.order + count_format)
        if start > len(self.data) or offset < self.first_position:
            return False
        return start + entry * int(struct.unpack_from(self.order + count_format, self.data, offset)[0]) <= len(self.data)

    def with_number(self, field: TiffField, value: int) -> bytes:
        """Return the whole structure with the first number of ``field`` changed in place."""
        packed = struct.pack(self.order + _NUMBERS[field.kind], value)
        assert field.position is not None
        return self.data[: field.position] + packed + self.data[field.position + len(packed) :]


def pack_directory(fields: Directory, order: str, offset: int, following: int = 0) -> bytes:
    """Return a classic TIFF directory to be placed at ``offset``, sub-directories and long values behind it.

    Args:
        fields: by tag.
        order: byte order, "<" or ">".
        offset: where it is placed.
        following: where the next directory is; 0 for none.
    """
    table, tail = b"", b""
    tail_at = offset + 2 + 12 * len(fields) + 4
    for tag in sorted(fields):
        field = fields[tag]
        if isinstance(field, TiffField):
            kind, count, data = field.kind, len(field.data) // _SIZES[field.kind], field.data
        else:
            position = tail_at + len(tail)
            block = pack_directory(field, order, position)
            tail += block + b"\0" * (len(block) % 2)
            kind, count, data = Kind.LONG, 1, struct.pack(order + "I", position)
        if len(data) > 4:
            position = tail_at + len(tail)
            tail += data + b"\0" * (len(data) % 2)
            data = struct.pack(order + "I", position)
        table += struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0")
    return struct.pack(order + "H", len(fields)) + table + struct.pack(order + "I", following) + tail


def descriptive_fields(data: bytes) -> dict[int, TiffField | Directory]:
    """Return what a TIFF file or an EXIF block says about the photo, without what describes the layout of the file."""
    reader = TiffReader(data)
    fields, _ = reader.directory(reader.first())
    described = _DESCRIPTIVE | _OF_A_PAGE
    if reader.number(fields.get(Tag.PHOTOMETRIC)) != 5:  # CMYK, which becomes sRGB
        described |= _COLORIMETRY
    if reader.number(fields.get(Tag.RESOLUTION_UNIT)) == 1:  # a mere proportion, which are no dots per inch
        described |= _RESOLUTION
    kept: dict[int, TiffField | Directory] = {**_classic({tag: fields[tag] for tag in described & fields.keys()})}
    for tag in (Tag.EXIF_IFD, Tag.GPS_IFD):
        found = reader.subdirectory(fields, tag)
        children: dict[int, TiffField | Directory] = {**_classic(found)}
        interop = _classic(reader.subdirectory(found, Tag.INTEROP_IFD))
        if interop:
            children[Tag.INTEROP_IFD] = interop
        if children:
            kept[tag] = children
    return kept


def lost_tags(data: bytes) -> list[int]:
    """Return the tags of a TIFF file's directory that :func:`descriptive_fields` leaves out though they are none of its layout.

    A transfer function is among them: it has an entry for each level, and a result may have others.
    """
    reader = TiffReader(data)
    return sorted(reader.directory(reader.first())[0].keys() - _LAYOUT - descriptive_fields(data).keys())


def _classic(fields: Mapping[int, TiffField]) -> dict[int, TiffField]:
    """Leave out pointers, which are made anew, and the 8-byte types of BigTIFF."""
    return {tag: field for tag, field in fields.items() if tag not in POINTERS and field.kind < 16}


_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_COLOURS = {
    0: "gray, white is zero",
    1: "gray",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    9: "Lab",
    10: "Lab",
}


def describe_tiff(data: bytes) -> str:
    """Say what kind of picture a TIFF file holds, in the words of its tags."""
    try:
        reader = TiffReader(data)
        fields, _ = reader.directory(reader.first())
    except struct.error:
        return "its first directory is damaged"

    def stated(tag: Tag, default: int) -> int:
        return reader.number(fields.get(tag)) or default

    bits, samples, form = stated(Tag.BITS_PER_SAMPLE, 1), stated(Tag.SAMPLES_PER_PIXEL, 1), stated(Tag.SAMPLE_FORMAT, 1)
    colours = reader.number(fields.get(Tag.PHOTOMETRIC)) or 0
    text = f"a TIFF of {samples} x {bits}-bit {_FORMATS.get(form, 'untyped')} samples (SampleFormat {form})"
    text += f", {_COLOURS.get(colours, 'unknown colours')} (PhotometricInterpretation {colours})"
    text += ", in separate planes (PlanarConfiguration 2)" if stated(Tag.PLANAR_CONFIGURATION, 1) == 2 else ""
    text += f", compression {stated(Tag.COMPRESSION, 1)}" if stated(Tag.COMPRESSION, 1) != 1 else ""
    return text + (", a big-endian BigTIFF" if reader.big and reader.order == ">" else "")


def classic_header(order: str, offset: int) -> bytes:
    """Return the beginning of a classic TIFF file whose first directory lies at ``offset``."""
    return MAGIC[list(BYTE_ORDERS.values()).index(order)] + struct.pack(f"{order}I", offset)


def with_right_header(exif: bytes) -> bytes:
    """Return an EXIF block whose header fits its first directory: some programs state another byte order, or no such place.

    It comes back as it is if no other header fits better.
    """
    stated = BYTE_ORDERS.get(exif[:2], ">")
    for order in sorted(BYTE_ORDERS.values(), key=lambda each: each != stated):
        for offset in (*struct.unpack_from(f"{order}I", exif, 4), 8):
            fixed = classic_header(order, offset) + exif[8:]
            if TiffReader(fixed).holds(offset) and struct.unpack_from(f"{order}HHH", fixed, offset)[2] in _SIZES:
                return fixed
    return exif


def cut_directories(data: bytes) -> list[str]:
    """Name the directories of a TIFF file or an EXIF block that lie beyond its end, wholly or in part, or within its header."""
    reader = TiffReader(data)
    fields, _ = reader.directory(reader.first())
    offsets = {
        "main": reader.first(),
        "camera": reader.number(fields.get(Tag.EXIF_IFD)),
        "GPS": reader.number(fields.get(Tag.GPS_IFD)),
    }
    return [name for name, offset in offsets.items() if offset and not reader.holds(offset)]


def exif_of_tiff(data: bytes) -> bytes | None:
    """Return an EXIF block with the descriptive fields of a TIFF file, None if it has none."""
    fields = descriptive_fields(data)
    order = TiffReader(data).order
    return classic_header(order, 8) + pack_directory(fields, order, 8) if fields else None


def upright(data: bytes) -> tuple[int | None, bytes]:
    """Return the orientation in a TIFF file or EXIF block (None if not stated), and the same bytes stating 1."""
    reader = TiffReader(data)
    field = reader.directory(reader.first())[0].get(Tag.ORIENTATION)
    orientation = reader.number(field)
    if field is None or orientation is None or orientation == 1:
        return orientation, data
    return orientation, reader.with_number(field, 1)


def upright_tiff(data: bytes) -> tuple[int, bytes]:
    """Return the orientation of a TIFF file, by its tag or else its XMP, and the file with both stating 1.

    Some versions of Pillow and OpenCV turn TIFF pixels by themselves; given the changed file they have no reason to.
    """
    stated, data = upright(data)
    reader = TiffReader(data)
    field = reader.directory(reader.first())[0].get(Tag.XMP)
    if field is not None and field.position is not None:
        in_xmp, xmp = upright_xmp(field.data)
        stated = in_xmp if stated is None else stated
        if xmp != field.data:
            data = data[: field.position] + xmp + data[field.position + len(xmp) :]
    return stated or 1, data


def with_resolutions_exchanged(exif: bytes) -> bytes:
    """Return the block with its resolutions across and down exchanged, as for a picture that is turned by a quarter."""
    reader = TiffReader(exif)
    fields = reader.directory(reader.first())[0]
    across, down = fields.get(Tag.X_RESOLUTION), fields.get(Tag.Y_RESOLUTION)
    if across is None or down is None or len(across.data) != len(down.data):
        return exif
    for field, other in ((across, down), (down, across)):
        assert field.position is not None
        exif = exif[: field.position] + other.data + exif[field.position + len(other.data) :]
    return exif


def without_thumbnail(exif: bytes) -> bytes:
    """Return the block with its second directory unlinked: the preview there shows the photo before restoration."""
    reader = TiffReader(exif)
    position = reader.directory(reader.first())[1]
    return exif[:position] + b"\0" * len(exif[position : position + 4]) + exif[position + 4 :]


def without_orientation(exif: bytes) -> bytes:
    """Return the block without that tag; everything else stays at its place, for maker notes count from the beginning."""
    reader = TiffReader(exif)
    first, size, tag = reader.first(), 12, struct.pack(f"{reader.order}H", Tag.ORIENTATION)
    (count,) = struct.unpack_from(f"{reader.order}H", exif, first)
    end = first + 2 + size * count
    table = [exif[start : start + size] for start in range(first + 2, end, size)]
    rest = [entry for entry in table if not entry.startswith(tag)]
    gap = b"\0" * size * (len(table) - len(rest))
    head = exif[:first] + struct.pack(f"{reader.order}H", len(rest))
    return head + b"".join(rest) + exif[end : end + 4] + gap + exif[end + 4 :]


def exif_for_size(exif: bytes, width: int, height: int) -> bytes:
    """Return the block with its pixel dimensions, where it states any, set to those of the picture about to be written."""
    for tag, value in ((Tag.EXIF_WIDTH, width), (Tag.EXIF_HEIGHT, height)):
        reader = TiffReader(exif)
        field = reader.subdirectory(reader.directory(reader.first())[0], Tag.EXIF_IFD).get(tag)
        if field is not None and field.kind in (Kind.SHORT, Kind.LONG) and (field.kind == Kind.LONG or value < 65536):
            exif = reader.with_number(field, value)
    return exif
