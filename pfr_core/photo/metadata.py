"""What travels beside the pixels of a photo file: EXIF, XMP, the record of restoration, PNG chunks and JPEG segments.

EXIF is a TIFF structure, so one small reader of TIFF directories serves EXIF blocks and TIFF files alike. Numbers are
changed in place, because a rewritten block would break maker notes, which point at absolute offsets.
Pixels are not looked at here; see ``image_io`` (reading, writing) and ``image_encode`` (one function per format).
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Union
from xml.dom import minidom
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

logger = logging.getLogger(__name__)

XMP_PNG_KEYWORD = b"XML:com.adobe.xmp"
XMP_JPEG_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
XMP_TIFF_TAG = 700
JPEG_SEGMENT = 65533  # bytes that a JPEG marker segment can hold
ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x0112, 0x8769, 0x8825, 0xA005
_EXIF_WIDTH, _EXIF_HEIGHT = 0xA002, 0xA003
# IFD0 tags that describe the photo rather than the layout of its file: description, camera, software, dates, author,
# rating, Windows' own titles, copyright.
_DESCRIPTIVE = frozenset({270, 271, 272, 305, 306, 315, 316, 0x4746, 0x4749, *range(40091, 40096), 33432})
TIFF_EXTRAS = {33723: "IPTC", 34377: "Photoshop"}
_PNG_EXTRAS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"tIME"})
_JPEG_EXTRAS = {"APP1": b"http://ns.adobe.com/xmp/extension/\0", "APP13": b"Photoshop 3.0\0", "COM": b""}
_JPEG_MARKERS = {"APP1": b"\xff\xe1", "APP13": b"\xff\xed", "COM": b"\xff\xfe"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Provenance:
    """Which model synthesised detail in a photo; ``sha256`` is the hex digest of its file. Written as XMP.

    >>> Provenance(model="default", sha256="9f86d081" * 8).model
    'default'
    """

    model: str
    sha256: str


@dataclass(frozen=True)
class Metadata:
    """The blocks that an encoder puts beside the pixels. ``extras``: (name, content) pairs that only the source's own
    format can hold, so that they are carried verbatim or dropped. ``dpi``: dots per inch across and down."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    extras: tuple[tuple[str, bytes], ...] = ()


# --- TIFF directories (EXIF blocks and TIFF files) -------------------------------------------------------------------


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
        if self.data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise struct.error("not a TIFF structure")
        return "<" if self.data[:2] == b"II" else ">"

    @property
    def big(self) -> bool:
        return b"+" in self.data[2:4]

    def first(self) -> int:
        """Offset of the first directory."""
        return int(struct.unpack_from(self.order + ("Q" if self.big else "I"), self.data, 8 if self.big else 4)[0])

    def directory(self, offset: int) -> tuple[dict[int, TiffField], int]:
        """The fields of the directory at ``offset`` and the position of its pointer to the next one."""
        count_format, entry_format, inline = ("Q", "HHQ8s", 8) if self.big else ("H", "HHI4s", 4)
        (count,) = struct.unpack_from(self.order + count_format, self.data, offset)
        position = offset + struct.calcsize(self.order + count_format)
        fields: dict[int, TiffField] = {}
        for _ in range(count):
            tag, kind, number, value = struct.unpack_from(self.order + entry_format, self.data, position)
            position += struct.calcsize(self.order + entry_format)
            size = number * _SIZES.get(kind, 0)
            start = position - inline
            if size > inline:
                (start,) = struct.unpack(self.order + ("Q" if self.big else "I"), value)
            if 0 < size <= len(self.data) - start:  # a field of unknown type or out of bounds is left out
                fields[tag] = TiffField(kind, self.data[start : start + size], start)
        return fields, position

    def number(self, field: TiffField | None) -> int | None:
        """The first number of an unsigned integer field, None for any other."""
        code = _NUMBERS.get(field.kind) if field else None
        return int(struct.unpack_from(self.order + code, field.data)[0]) if field and code else None

    def subdirectory(self, fields: Mapping[int, TiffField], tag: int) -> dict[int, TiffField]:
        offset = self.number(fields.get(tag))
        return self.directory(offset)[0] if offset else {}

    def with_number(self, field: TiffField, value: int) -> bytes:
        """The whole structure with the first number of ``field`` changed in place."""
        packed = struct.pack(self.order + _NUMBERS[field.kind], value)
        assert field.position is not None
        return self.data[: field.position] + packed + self.data[field.position + len(packed) :]


def pack_directory(fields: Directory, order: str, offset: int) -> bytes:
    """A classic TIFF directory to be placed at ``offset``, sub-directories and long values behind it."""
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
            kind, count, data = 4, 1, struct.pack(order + "I", position)
        if len(data) > 4:
            position = tail_at + len(tail)
            tail += data + b"\0" * (len(data) % 2)
            data = struct.pack(order + "I", position)
        table += struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0")
    return struct.pack(order + "H", len(fields)) + table + b"\0" * 4 + tail


def descriptive_fields(data: bytes) -> dict[int, TiffField | Directory]:
    """What a TIFF file or an EXIF block says about the photo, without what describes the layout of the file."""
    reader = TiffReader(data)
    fields, _ = reader.directory(reader.first())
    kept: dict[int, TiffField | Directory] = {**_classic({tag: fields[tag] for tag in _DESCRIPTIVE & fields.keys()})}
    for tag in (EXIF_IFD, GPS_IFD):
        found = reader.subdirectory(fields, tag)
        children: dict[int, TiffField | Directory] = {**_classic(found)}
        interop = _classic(reader.subdirectory(found, INTEROP_IFD))
        if interop:
            children[INTEROP_IFD] = interop
        if children:
            kept[tag] = children
    return kept


def _classic(fields: Mapping[int, TiffField]) -> dict[int, TiffField]:
    """Without pointers, which are made anew, and without the 8-byte types of BigTIFF."""
    return {tag: field for tag, field in fields.items() if tag not in (EXIF_IFD, GPS_IFD, INTEROP_IFD) and field.kind < 16}


def exif_of_tiff(data: bytes) -> bytes | None:
    """An EXIF block with the descriptive fields of a TIFF file, None if it has none."""
    fields = descriptive_fields(data)
    order = TiffReader(data).order
    head = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return head + pack_directory(fields, order, 8) if fields else None


def upright(data: bytes) -> tuple[int | None, bytes]:
    """The orientation in a TIFF file or EXIF block (None if not stated), and the same bytes stating 1."""
    reader = TiffReader(data)
    field = reader.directory(reader.first())[0].get(ORIENTATION)
    orientation = reader.number(field)
    if field is None or orientation is None or orientation == 1:
        return orientation, data
    return orientation, reader.with_number(field, 1)


def upright_tiff(data: bytes) -> tuple[int, bytes]:
    """The orientation of a TIFF file, by its tag or else its XMP, and the file with both stating 1.

    Some versions of Pillow and OpenCV turn TIFF pixels by themselves; given the changed file they have no reason to.
    """
    stated, data = upright(data)
    reader = TiffReader(data)
    field = reader.directory(reader.first())[0].get(XMP_TIFF_TAG)
    if field is not None and field.position is not None:
        in_xmp, xmp = upright_xmp(field.data)
        stated = in_xmp if stated is None else stated
        if xmp != field.data:
            data = data[: field.position] + xmp + data[field.position + len(xmp) :]
    return stated or 1, data


def without_thumbnail(exif: bytes) -> bytes:
    """The block with its second directory unlinked: the preview there shows the photo before restoration."""
    reader = TiffReader(exif)
    position = reader.directory(reader.first())[1]
    return exif[:position] + b"\0" * len(exif[position : position + 4]) + exif[position + 4 :]


def exif_for_size(exif: bytes, width: int, height: int) -> bytes:
    """The block with its pixel dimensions, where it states any, set to those of the picture about to be written."""
    for tag, value in ((_EXIF_WIDTH, width), (_EXIF_HEIGHT, height)):
        reader = TiffReader(exif)
        field = reader.subdirectory(reader.directory(reader.first())[0], EXIF_IFD).get(tag)
        if field is not None and field.kind in (3, 4) and (field.kind == 4 or value < 65536):
            exif = reader.with_number(field, value)
    return exif


# --- XMP -------------------------------------------------------------------------------------------------------------

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_EMPTY_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta><?xpacket end="w"?>'
)
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([1-8])")


def upright_xmp(xmp: bytes) -> tuple[int | None, bytes]:
    """The orientation an XMP packet states (None if it does not), and the packet stating 1."""
    match = _XMP_ORIENTATION.search(xmp)
    return (int(match[2]) if match else None), _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def with_provenance(xmp: bytes | None, provenance: Provenance) -> bytes:
    """The XMP packet with the record of restoration in it; everything else in the packet is kept.

    Fields: IPTC DigitalSourceType ``compositeWithTrainedAlgorithmicMedia`` (a packet that already says the photo is
    wholly generated keeps saying so), and IPTC 2025.1 AISystemUsed / AISystemVersionUsed with the model's name and
    hash, added to what other systems wrote there. A packet that is not XML is replaced, with a warning.

    >>> b"compositeWithTrainedAlgorithmicMedia" in with_provenance(None, Provenance("default", "00" * 32))
    True
    """
    document = _parse_xmp(xmp) if xmp else None
    if document is None:
        if xmp:
            logger.warning("The photo's XMP is damaged and is replaced by the record of restoration.")
        document = minidom.parseString(_EMPTY_XMP.encode())
    rdf = document.getElementsByTagNameNS(_RDF, "RDF")[0]
    descriptions = [node for node in rdf.childNodes if isinstance(node, minidom.Element) and node.localName == "Description"]
    about = descriptions[0].getAttributeNS(_RDF, "about") if descriptions else ""

    source_type = _SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
    if _take(descriptions, "DigitalSourceType").rsplit("/", 1)[-1] == "trainedAlgorithmicMedia":
        source_type = _SOURCE_TYPES + "trainedAlgorithmicMedia"
    values = {"DigitalSourceType": source_type}
    for name, ours in (("AISystemUsed", provenance.model), ("AISystemVersionUsed", f"sha256:{provenance.sha256}")):
        others = [part for part in _take(descriptions, name).split("; ") if part and not part.startswith("PFR ")]
        values[name] = "; ".join([*others, f"PFR {ours}"])
    body = "".join(f"<Iptc4xmpExt:{name}>{escape(value)}</Iptc4xmpExt:{name}>" for name, value in values.items())
    record = minidom.parseString(
        f'<rdf:Description xmlns:rdf="{_RDF}" xmlns:Iptc4xmpExt="{_IPTC}">{body}</rdf:Description>'.encode()
    ).documentElement
    assert record is not None
    record.setAttributeNS(_RDF, "rdf:about", about)
    for description in descriptions:
        _remove_if_empty(description)  # our own record of an earlier run
    rdf.appendChild(document.importNode(record, deep=True))
    return "".join(node.toxml() for node in document.childNodes).encode()


def _parse_xmp(xmp: bytes) -> minidom.Document | None:
    if b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:  # XMP has neither; entity bombs do
        return None
    try:
        document = minidom.parseString(xmp.strip(b"\0 \t\r\n"))
    except (ExpatError, ValueError):
        return None
    return document if document.getElementsByTagNameNS(_RDF, "RDF") else None


def _take(descriptions: list[minidom.Element], name: str) -> str:
    """Remove an IPTC extension property, written as attribute or as element, and return its text."""
    text = ""
    for description in descriptions:
        if description.hasAttributeNS(_IPTC, name):
            text = description.getAttributeNS(_IPTC, name)
            description.removeAttributeNS(_IPTC, name)
        for child in description.getElementsByTagNameNS(_IPTC, name):
            text = "".join(node.data for node in child.childNodes if node.nodeType == node.TEXT_NODE)
            if child.parentNode is not None:
                child.parentNode.removeChild(child)
    return text.strip()


def _remove_if_empty(description: minidom.Element) -> None:
    names = (name for name in description.attributes.keys() if not name.startswith("xmlns"))  # noqa: SIM118
    if not description.childNodes and set(names) <= {"rdf:about"} and description.parentNode is not None:
        description.parentNode.removeChild(description)


# --- PNG chunks and JPEG segments ------------------------------------------------------------------------------------


def png_extras(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Colour, text, resolution and time chunks of a PNG file; XMP and EXIF in text chunks are read elsewhere."""
    handled = (XMP_PNG_KEYWORD + b"\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
    return tuple(
        (name.decode("ascii"), content)
        for name, content in _png_chunks(data)
        if name in _PNG_EXTRAS and not content.startswith(handled)
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, data[position + 8 : position + 8 + length]
        position += 12 + length


def with_png_chunks(data: bytes, metadata: Metadata) -> bytes:
    """A PNG file with ``metadata`` inserted behind its header chunk."""
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
    inserted = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return data[:header_end] + inserted + data[header_end:]


def jpeg_extras(segments: list[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Of the (marker, content) segments of a JPEG: Photoshop / IPTC data, extended XMP and comments."""
    wanted = ((name, data, _JPEG_EXTRAS.get(name)) for name, data in segments)
    return tuple((name, data) for name, data, start in wanted if start is not None and data.startswith(start))


def jpeg_segments(metadata: Metadata) -> bytes:
    """XMP and extras as JPEG marker segments; the caller sees to it that the XMP fits (see ``JPEG_SEGMENT``)."""
    segments = list(metadata.extras)
    if metadata.xmp:
        segments.insert(0, ("APP1", XMP_JPEG_HEADER + metadata.xmp))
    return b"".join(_JPEG_MARKERS[name] + struct.pack(">H", len(data) + 2) + data for name, data in segments)
