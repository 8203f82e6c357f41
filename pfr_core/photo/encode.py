"""Pixels and metadata to the bytes of a JPEG, PNG, TIFF, WebP, AVIF, HEIF or BMP file; nothing here touches the disk.

Each encoder takes pixels [H,W,C] as they go into the file: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA; uint8, and for PNG
(1, 3, 4 channels) and TIFF also uint16. Pillow encodes 8 bits; OpenCV 16-bit PNG, which Pillow cannot do; TIFF is
written here, because neither of the two writes 16-bit RGB together with profile, EXIF and XMP.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from ..support.notice import Notice
from .metadata import JPEG_SEGMENT, Metadata, packed_jpeg_segments, with_png_chunks
from .pages import TiffPage, pack_pages
from .photo import JpegCoding
from .tiff import (
    BYTE_ORDERS,
    Directory,
    Kind,
    Tag,
    TiffField,
    classic_header,
    descriptive_fields,
    pack_directory,
    without_orientation,
)

JPEG_QUALITY = 95
"""Quality of a JPEG, AVIF, HEIF or lossy WebP whose source sets no higher one (ours): what a restored face gains over a badly
compressed photo is finer than that photo's own steps, and would be lost in them again."""
_STRIP_BYTES = 1 << 20  # uncompressed bytes of a TIFF strip (our choice: a reader needs to hold only one)


def encode_jpeg(
    pixels: np.ndarray, metadata: Metadata, quality: int | None, like: JpegCoding | None, notices: list[Notice]
) -> bytes:
    """Return a JPEG file without chroma subsampling.

    With ``like`` in its scan order and, if no ``quality`` is given, in steps nowhere coarser than its own or those of
    :data:`JPEG_QUALITY`.
    """
    options: dict[str, object] = {"progressive": like is not None and like.progressive, "subsampling": 0}
    if like is not None and quality is None:
        options["qtables"] = [
            [min(steps) for steps in zip(own, ours, strict=True)]
            for own, ours in zip(like.tables, _tables(len(like.tables)), strict=True)
        ]
    else:
        options["quality"] = quality or JPEG_QUALITY
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.exif:
        if len(metadata.exif) + 6 <= JPEG_SEGMENT:
            options["exif"] = b"Exif\0\0" + metadata.exif
        else:
            notices.append(Notice("long_exif", "The EXIF data is too long for a JPEG (64 kB) and is left out."))
    if metadata.dpi:
        options["dpi"] = tuple(min(round(value), 65535) for value in metadata.dpi)
    options["extra"] = packed_jpeg_segments(metadata)
    try:
        return _pillow(pixels, "JPEG", **options)
    except OSError:
        if not options["progressive"]:
            raise
        # Pillow guesses the size of a progressive file beforehand and fails where noise at top quality exceeds it.
        text = "Too much fine detail for a progressive JPEG of this quality: written as a baseline JPEG."
        notices.append(Notice("baseline", text))
        return _pillow(pixels, "JPEG", **{**options, "progressive": False})


@lru_cache
def _tables(count: int) -> list[list[int]]:
    """Return the quantisation tables of :data:`JPEG_QUALITY` for luma and, as often as needed, chroma."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=JPEG_QUALITY)
    with Image.open(stream) as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        return [image.quantization[min(number, 1)] for number in range(count)]


def encode_png(pixels: np.ndarray, metadata: Metadata, fast: bool) -> bytes:
    """Return a PNG file of 8 or 16 bits, of one, three or four channels.

    Raises:
        OSError: the library could not do it.
    """
    if pixels.dtype == np.uint8:
        return with_png_chunks(_pillow(pixels, "PNG", **({"compress_level": 1} if fast else {})), metadata)
    to_bgr = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(pixels.shape[2])
    done, data = cv2.imencode(".png", pixels if to_bgr is None else cv2.cvtColor(pixels, to_bgr))
    if not done:
        raise OSError("OpenCV could not encode the PNG")
    return with_png_chunks(data.tobytes(), metadata)


def encode_webp(pixels: np.ndarray, metadata: Metadata, quality: int | None, lossless: bool) -> bytes:
    """Return a WebP file, lossy with a ``quality`` from 1 to 100 unless ``lossless``."""
    options: dict[str, object] = {"lossless": True}
    if not lossless:
        options = {"quality": quality or JPEG_QUALITY}
    return _pillow(pixels, "WEBP", exact=True, **options, **_blocks(metadata))  # exact: colour under transparent pixels is kept


def encode_avif(pixels: np.ndarray, metadata: Metadata, quality: int | None) -> bytes:
    """Return an AVIF file of 8 bits, without chroma subsampling."""
    if metadata.exif:  # Pillow would write a block with an orientation anew, and fails where a tag is of a wrong type
        metadata = replace(metadata, exif=without_orientation(metadata.exif))
    return _pillow(pixels, "AVIF", quality=quality or JPEG_QUALITY, subsampling="4:4:4", **_blocks(metadata))


def encode_heif(pixels: np.ndarray, metadata: Metadata, quality: int | None) -> bytes:
    """Return a HEIF file of 8 bits, without chroma subsampling."""
    return _pillow(pixels, "HEIF", quality=quality or JPEG_QUALITY, chroma=444, **_blocks(metadata))


def _blocks(metadata: Metadata) -> dict[str, bytes]:
    """Return profile, EXIF and XMP, as far as there are any, as Pillow calls them."""
    blocks = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    return {name: block for name, block in blocks.items() if block}


def encode_bmp(pixels: np.ndarray, metadata: Metadata) -> bytes:
    """Return a BMP file; of the metadata it can hold the resolution."""
    return _pillow(pixels, "BMP", **({"dpi": metadata.dpi} if metadata.dpi else {}))


def encode_tiff(pixels: np.ndarray, metadata: Metadata, pages: Sequence[TiffPage] = ()) -> bytes:
    """Return a TIFF file: deflate, horizontal differencing, and further pages as they are.

    Its byte order is that of the EXIF data, which is copied field by field, and of the pages.

    Raises:
        OverflowError: the file would be larger than its format allows.
    """
    height, width, channels = pixels.shape
    fields: dict[int, TiffField | Directory] = descriptive_fields(metadata.exif) if metadata.exif else {}
    order = BYTE_ORDERS.get(metadata.exif[:2], "<") if metadata.exif else "<"
    order = pages[0].order if pages else order

    def shorts(*values: int) -> TiffField:
        return TiffField(Kind.SHORT, struct.pack(f"{order}{len(values)}H", *values))

    def longs(*values: int) -> TiffField:
        return TiffField(Kind.LONG, struct.pack(f"{order}{len(values)}I", *values))

    rows = max(1, _STRIP_BYTES // (width * channels * pixels.itemsize))
    strips = [_tiff_strip(pixels[top : top + rows], order) for top in range(0, height, rows)]
    fields |= {
        Tag.IMAGE_WIDTH: longs(width),
        Tag.IMAGE_LENGTH: longs(height),
        Tag.BITS_PER_SAMPLE: shorts(*[8 * pixels.itemsize] * channels),
        Tag.COMPRESSION: shorts(8),  # Deflate
        Tag.PHOTOMETRIC: shorts(2 if channels >= 3 else 1),  # RGB; gray, black is zero
        Tag.ORIENTATION: shorts(1),
        Tag.SAMPLES_PER_PIXEL: shorts(channels),
        Tag.ROWS_PER_STRIP: longs(rows),
        Tag.STRIP_BYTE_COUNTS: longs(*map(len, strips)),
        Tag.PLANAR_CONFIGURATION: shorts(1),  # a pixel's channels side by side
        Tag.PREDICTOR: shorts(2),  # horizontal differencing
    }
    if channels in (2, 4):
        fields[Tag.EXTRA_SAMPLES] = shorts(2)  # straight alpha
    if metadata.dpi:
        for tag, value in zip((Tag.X_RESOLUTION, Tag.Y_RESOLUTION), metadata.dpi, strict=True):
            fields[tag] = TiffField(Kind.RATIONAL, struct.pack(order + "II", round(value * 1000), 1000))
        fields[Tag.RESOLUTION_UNIT] = shorts(2)  # inches
    if metadata.icc:
        fields[Tag.ICC_PROFILE] = TiffField(Kind.UNDEFINED, metadata.icc)
    if metadata.xmp:
        fields[Tag.XMP] = TiffField(Kind.BYTE, metadata.xmp)
    fields |= {int(tag): TiffField(Kind.UNDEFINED, block) for tag, block in metadata.extras}

    offsets = [0] * len(strips)
    fields[Tag.STRIP_OFFSETS] = longs(*offsets)
    start = 8 + len(pack_directory(fields, order, 8))
    for i, strip in enumerate(strips):
        offsets[i] = start
        start += len(strip)
    if start >= 1 << 32:
        raise OverflowError("more than 4 GB, the limit of TIFF")
    fields[Tag.STRIP_OFFSETS] = longs(*offsets)
    head = classic_header(order, 8)
    strips.append(b"\0" * (start % 2))
    start += start % 2
    directory = pack_directory(fields, order, 8, start if pages else 0)
    return b"".join([head, directory, *strips, pack_pages(pages, order, start)])


def _tiff_strip(rows: np.ndarray, order: str) -> bytes:
    difference = rows.copy()
    difference[:, 1:] -= rows[:, :-1]  # modulo 2^bits, as the format wants it
    return zlib.compress(difference.astype(f"{order}u{rows.itemsize}").tobytes(), 3)  # 6 is no smaller here, 4 x slower


def _pillow(pixels: np.ndarray, format_name: str, **options: object) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()
