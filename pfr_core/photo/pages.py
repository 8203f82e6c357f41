"""The pages of a TIFF file: which of them is the photograph, and those that go with it.

Scanners write a preview beside a picture, and an infrared channel that shows dust and scratches. A preview shows the photo before
restoration and is left out; a channel or a mask of the photograph's own size is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .tiff import INHERITED, POINTERS, Kind, Tag, TiffField, TiffReader, pack_directory

_REDUCED, _PAGE, _MASK = 1, 2, 4
"""Bits of the tag that says what a page is."""
_SMALL = 0.5
"""A page of this share of the photograph's pixels, and of its proportions, is a preview though nothing says so (ours)."""
_ALIKE = 0.03
"""By this its proportions may differ: another photograph on the scanner's glass has others (ours)."""
_THUMBNAIL = 320 * 240
"""Pixels up to which a page is a preview whatever its proportions: cameras pad theirs (ours)."""
_OFFSETS = {Tag.STRIP_OFFSETS: Tag.STRIP_BYTE_COUNTS, Tag.TILE_OFFSETS: Tag.TILE_BYTE_COUNTS}
MOST = 1000


@dataclass(frozen=True)
class TiffPage:
    """A page that goes with a photograph, as it is stored.

    Attributes:
        fields: its directory without pointers.
        data: its strips or tiles.
        order: the byte order of both, "<" or ">".
        size: height and width of the photograph, without which it is of no use.
    """

    fields: Mapping[int, TiffField]
    data: tuple[bytes, ...]
    order: str
    size: tuple[int, int]


@dataclass(frozen=True)
class _Place:
    offset: int
    width: int
    height: int
    samples: int
    kind: int

    @property
    def rank(self) -> tuple[bool, int, int]:
        return not self.kind & (_REDUCED | _MASK), self.width * self.height, self.samples

    def is_preview_of(self, photo: _Place) -> bool:
        area, ratio = self.width * self.height, self.width * photo.height / max(1, self.height * photo.width)
        alike = abs(ratio - 1) <= _ALIKE and not self.kind & _PAGE
        small = area <= _SMALL * photo.width * photo.height and (area <= _THUMBNAIL or alike)
        return bool(self.kind & _REDUCED) or (small and not self.kind & _MASK)

    def is_channel_of(self, photo: _Place) -> bool:
        same_size = (self.width, self.height) == (photo.width, photo.height)
        return bool(self.kind & _MASK) or (same_size and self.samples < photo.samples)


def photograph_alone(data: bytes) -> tuple[bytes, list[str]]:
    """Return the file with the page that is the photograph as its only one, and what is to be said of the others.

    The photograph is the one largest page, or of two equally large ones the one in colour. What the first page says of the
    picture holds for it too. A file with several pages of equal right comes back as it is.

    Raises:
        struct.error: the first page is damaged.
    """
    reader = TiffReader(data)
    places, stray = _places(reader)
    said = ["its pointer to a further page leads nowhere"] if stray else []
    photo = max(places, key=lambda place: place.rank)
    others = [place for place in places if place is not photo]
    previews = [place for place in others if place.is_preview_of(photo)]
    channels = [place for place in others if place not in previews and place.is_channel_of(photo)]
    if len(previews) + len(channels) < len(others) or not (others or stray):
        return data, []
    if previews:
        what = "a preview" if len(previews) == 1 else f"{len(previews)} previews"
        said.append(f"holds {what} beside the photograph, which will not be in the result")
    if channels:
        what = "another channel" if len(channels) == 1 else f"{len(channels)} other channels"
        if reader.big:
            said.append(f"holds {what} of the photograph (infrared or a mask), which is not kept from a BigTIFF")
        else:
            said.append(f"holds {what} of the photograph (infrared or a mask), which only a TIFF can keep")
    entries = reader.entries(photo.offset)
    first = reader.entries(reader.first())
    entries = {**{tag: first[tag] for tag in INHERITED & first.keys()}, **entries}
    entries.pop(Tag.SUB_IFDS, None)
    padded = data + b"\0" * (len(data) % 2)
    return reader.with_offset(padded, reader.first_position, len(padded)) + reader.packed(entries), said


def channels_of(data: bytes) -> tuple[TiffPage, ...]:
    """Return the pages of a TIFF file that go with the photograph and can be kept; not those of a BigTIFF.

    Raises:
        struct.error: the file is damaged.
    """
    reader = TiffReader(data)
    places, _ = _places(reader)
    photo = max(places, key=lambda place: place.rank)
    pages = list[TiffPage]()
    for place in places:
        if reader.big or place is photo or place.is_preview_of(photo) or not place.is_channel_of(photo):
            continue
        fields, _ = reader.directory(place.offset)
        for offsets, lengths in _OFFSETS.items():
            if offsets in fields and lengths in fields:
                ends = zip(reader.numbers(fields[offsets]), reader.numbers(fields[lengths]), strict=False)
                strips = tuple(data[start : start + length] for start, length in ends)
                kept = {tag: field for tag, field in fields.items() if tag not in POINTERS and tag != Tag.SUB_IFDS}
                pages.append(TiffPage(kept, strips, reader.order, (photo.height, photo.width)))
    return tuple(pages)


def pack_pages(pages: Sequence[TiffPage], order: str, offset: int) -> bytes:
    """Return pages with their data to be placed at ``offset``, each pointing at the next."""
    packed = b""
    for number, page in enumerate(pages):
        at = offset + len(packed)
        where = next(tag for tag in _OFFSETS if tag in page.fields)
        starts, start = list[int](), 0
        for strip in page.data:
            starts.append(start)
            start += len(strip)
        table = len(pack_directory({**page.fields, where: _longs(starts, order)}, order, at))
        shifted = _longs([at + table + start for start in starts], order)
        body = b"".join(page.data)
        body += b"\0" * ((table + len(body)) % 2)
        following = at + table + len(body) if number + 1 < len(pages) else 0
        packed += pack_directory({**page.fields, where: shifted}, order, at, following) + body
    return packed


def _longs(values: Sequence[int], order: str) -> TiffField:
    return TiffField(Kind.LONG, struct.pack(f"{order}{len(values)}I", *values))


def _places(reader: TiffReader) -> tuple[list[_Place], bool]:
    """Return the pages, those that others hold among them, and whether there is a pointer that leads to none."""
    places, seen, stray = list[_Place](), set[int](), False
    offset, waiting = reader.first(), list[int]()
    while offset and offset not in seen and len(places) < MOST:  # damaged files go in circles
        seen.add(offset)
        if places and not reader.holds(offset):
            stray = True
        else:
            fields, position = reader.directory(offset)
            numbers = (reader.number(fields.get(tag)) for tag in (Tag.IMAGE_WIDTH, Tag.IMAGE_LENGTH, Tag.SAMPLES_PER_PIXEL))
            width, height, samples = (number or 1 for number in numbers)
            places.append(_Place(offset, width, height, samples, reader.number(fields.get(Tag.NEW_SUBFILE_TYPE)) or 0))
            waiting += [reader.offset_at(position), *reader.numbers(fields.get(Tag.SUB_IFDS))]
        offset = next((each for each in waiting if each and each not in seen), 0)
        waiting = [each for each in waiting if each != offset]
    return places, stray
