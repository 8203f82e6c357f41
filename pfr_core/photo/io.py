"""Photo files in and out: pixels as they were stored, and everything beside them that the formats can hold.

Reads JPEG (an MPO's first picture), PNG, TIFF, WebP, BMP and still GIF; writes all of these but GIF. Not read: moving
and multi-page files, floating-point and Lab pictures, HEIC, AVIF, raw. Not kept, in any format: embedded previews
(they show the photo before restoration), palettes (written as RGB), the second picture of an MPO, C2PA manifests.
TIFF keeps the descriptive tags, EXIF, GPS, IPTC and Photoshop blocks, not private ones. Files cut short are refused; a
JPEG that is damaged in the middle but whole in length decodes as its library makes of it, which nothing here notices.
Format details are in ``image_encode`` and ``image_metadata``.
"""

from __future__ import annotations

import io
import logging
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from ..errors import ImageError, InputError
from ..support.files import remedy, replacing
from .decode import decode_pixels, is_lossless_webp, jpeg_coding, resolution, strict_pillow, turned
from .encode import JpegCoding, encode_bmp, encode_jpeg, encode_png, encode_tiff, encode_webp
from .metadata import (
    JPEG_SEGMENT,
    TIFF_EXTRAS,
    XMP_JPEG_HEADER,
    XMP_PNG_KEYWORD,
    XMP_TIFF_TAG,
    Metadata,
    Provenance,
    descriptive_fields,
    exif_for_size,
    exif_of_tiff,
    jpeg_extras,
    png_extras,
    upright,
    upright_tiff,
    upright_xmp,
    with_provenance,
    without_thumbnail,
)

logger = logging.getLogger(__name__)

MAX_PIXELS = 250_000_000
"""Largest photo read by default, width x height. Our choice: phones make 200-megapixel photos, panoramas of
20,000 x 10,000 exist; beyond it a working copy in floating point takes over 3 GB."""

FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
}
"""Lower-case file ending -> :attr:`Photo.format`."""
IMAGE_SUFFIXES: frozenset[str] = frozenset(FORMAT_OF_SUFFIX)
"""Lower-case file endings that can be written, and that count as photos in a folder."""

_READ_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"RIFF", b"BM", b"GIF8")
_SIXTEEN_BIT = frozenset({"PNG", "TIFF"})
_ALPHA = frozenset({"PNG", "TIFF", "WEBP"})
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "BMP": 2**31 - 1, "PNG": 2**31 - 1, "TIFF": 2**31 - 1}
# PNG colour chunks that say "sRGB" or nearly so in practice; losing them on the way to another format changes nothing.
_HARMLESS_EXTRAS = frozenset({"gAMA", "cHRM", "sRGB", "pHYs", "tIME"})


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo file.

    ``pixels``: [H,W,3] RGB or [H,W,4] RGBA (straight alpha), uint8 or uint16, orientation applied; not converted to
    another colour space, so they mean what ``icc`` says (sRGB if None). ``format``: "JPEG", "PNG", "TIFF", "WEBP",
    "BMP" or "GIF". ``gray``: the file had a single colour channel. ``exif``: the block from its byte-order mark on,
    orientation 1, no preview. ``xmp``: the packet. ``dpi``: dots per inch. ``jpeg``: how a JPEG was encoded.
    ``lossless``: the file was not a JPEG or lossy WebP. ``extras``: further blocks that only the same format can hold.

    >>> photo = read_photo("me.jpg")                                         # doctest: +SKIP
    >>> write_photo("me_restored.jpg", restore(photo.pixels), like=photo)    # doctest: +SKIP
    """

    pixels: np.ndarray
    path: Path
    format: str
    gray: bool
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    jpeg: JpegCoding | None = None
    lossless: bool = True
    extras: tuple[tuple[str, bytes], ...] = ()


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_photo(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a photo file. CMYK is converted to sRGB, with a warning; nothing else is converted.

    Raises ``ImageError`` naming the file and the remedy: missing, empty, cut short, damaged, not a picture, a folder,
    not readable, moving or multi-page, floating point, more than ``max_pixels`` (known before anything is decoded).

    >>> read_photo("group.png", max_pixels=50_000_000).pixels.shape          # doctest: +SKIP
    (3000, 4000, 3)
    """
    path = Path(path)
    data = _read_bytes(path, magic=True)
    try:
        with strict_pillow(), Image.open(io.BytesIO(data), formats=_READ_FORMATS) as image:
            _refuse_unsuitable(path, image, max_pixels)
            return _decode(path, data, image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make the decoders raise nearly anything
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise ImageError(
            f"{path}: this picture is damaged, cut short or of an unsupported kind{reason}. Get a complete copy, or "
            "open it in an image editor and save it as an 8- or 16-bit PNG, TIFF or JPEG."
        ) from error


def _read_bytes(path: Path, *, magic: bool = False) -> bytes:
    """The whole file; with ``magic`` only if it begins like a picture, so that a video is not pulled into memory."""
    try:
        if path.is_dir():
            raise ImageError(f"{path}: this is a folder; name the picture files in it.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path}: this is not an ordinary file; copy the picture to one.")
        with open(path, "rb") as file:
            head = file.read(8)
            if magic and not head:
                raise ImageError(f"{path}: the file is empty; fetch or export it again.")
            if magic and not head.startswith(_MAGIC):
                raise ImageError(
                    f"{path}: not a picture of a known format (JPEG, PNG, TIFF, WebP, BMP, GIF); convert it to one of "
                    "these first."
                )
            return head + file.read()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file; check the path.") from error
    except PermissionError as error:
        raise ImageError(f"{path}: no permission to read it; change its permissions or copy it elsewhere.") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); copy it to a healthy disk.") from error


def _refuse_unsuitable(path: Path, image: Image.Image, max_pixels: int) -> None:
    """By what the header says, before any pixel is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} pixels are more than the limit of {max_pixels:,}; scale the picture down, or "
            "raise max_pixels if it is really that large."
        )
    if image.format != "MPO" and getattr(image, "is_animated", False):
        if image.format == "TIFF":
            raise ImageError(f"{path}: a TIFF with several pages; save the page you want as a file of its own.")
        raise ImageError(f"{path}: a moving picture; extract its frames as PNG files with a video tool and use those.")
    if image.mode in ("F", "I", "LAB") and not _is_deep_png(image):
        kind = "Lab" if image.mode == "LAB" else "floating-point or 32-bit"
        raise ImageError(f"{path}: {kind} pixels are not supported; save it as 8- or 16-bit RGB in an image editor.")


def _is_deep_png(image: Image.Image) -> bool:
    # Old versions of Pillow open 16-bit gray PNG files as 32-bit integers.
    return image.format == "PNG" and image.mode == "I"


def _decode(path: Path, data: bytes, image: Image.Image) -> Photo:
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    if "mp" in image.info:
        logger.warning("%s: holds further pictures (depth, HDR gain or stereo); only the first is used.", path)
    in_file: int | None = None
    if kind == "TIFF":
        in_file, data = upright_tiff(data)
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
    image.load()  # before its info is looked at: PNG may state things behind the pixels
    in_exif, exif = _exif(path, data, image)
    in_xmp, xmp = upright_xmp(_xmp(image))
    pixels, gray = decode_pixels(path, data, image, kind)
    return Photo(
        pixels=np.ascontiguousarray(turned(pixels, in_file or in_exif or in_xmp or 1)),
        path=path,
        format=kind,
        gray=gray,
        icc=None if image.mode == "CMYK" else image.info.get("icc_profile") or None,
        exif=exif,
        xmp=xmp or None,
        dpi=resolution(image),
        jpeg=jpeg_coding(image) if kind == "JPEG" else None,
        lossless=kind != "JPEG" and (kind != "WEBP" or is_lossless_webp(data)),
        extras=_extras(data, image, kind),
    )


def _exif(path: Path, data: bytes, image: Image.Image) -> tuple[int | None, bytes | None]:
    """The orientation the EXIF block states, and the block stating 1; of a TIFF file, a block made of its tags."""
    try:
        if image.format == "TIFF":
            return None, exif_of_tiff(data)
        exif: bytes | None = image.info.get("exif")
        raw_profile = image.info.get("Raw profile type exif")  # how ImageMagick puts EXIF into PNG
        if exif is None and raw_profile:
            exif = bytes.fromhex("".join(raw_profile.split("\n")[3:]))
        if not exif:
            return None, None
        orientation, exif = upright(without_thumbnail(exif.removeprefix(b"Exif\0\0")))
        descriptive_fields(exif)  # so that damage in a sub-directory shows here and not when writing
    except struct.error:
        logger.warning("%s: its EXIF data is damaged and is left out.", path)
        return None, None
    return orientation, exif


def _xmp(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp") or image.info.get(XMP_PNG_KEYWORD.decode())
    if xmp is None and isinstance(image, JpegImagePlugin.JpegImageFile):  # Pillow before 11 leaves it there
        packets = (block for _, block in image.applist if block.startswith(XMP_JPEG_HEADER))
        xmp = next(packets, b"")[len(XMP_JPEG_HEADER) :]
    if xmp is None and image.format == "TIFF":
        xmp = getattr(image, "tag_v2", {}).get(XMP_TIFF_TAG)
    return xmp.encode() if isinstance(xmp, str) else xmp or b""


def _extras(data: bytes, image: Image.Image, kind: str) -> tuple[tuple[str, bytes], ...]:
    if kind == "PNG":
        return png_extras(data)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return jpeg_extras(image.applist)
    if kind == "TIFF":
        blocks = ((str(tag), getattr(image, "tag_v2", {}).get(tag)) for tag in TIFF_EXTRAS)
        return tuple((name, block) for name, block in blocks if isinstance(block, bytes))
    return ()


# --- Writing ---------------------------------------------------------------------------------------------------------


def write_photo(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    like: Photo | None = None,
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> None:
    """Encode ``pixels`` ([H,W,3] or [H,W,4], uint8 or uint16) in the format of the path's ending; missing folders are
    made. The file appears whole or not at all, and an existing one is only replaced by a whole one.

    ``like``: the photo the pixels came from; its profile, EXIF, XMP and resolution are kept where the format can hold
    them (what is dropped is logged as a warning), a gray photo stays single-channel if the pixels are still gray, and
    a JPEG written as JPEG keeps its quantisation tables, chroma subsampling and scan order.
    ``quality``: 1-100 for JPEG (then 4:4:4) and WebP (then lossy); PNG, TIFF and BMP are lossless whatever it says.
    Left out, JPEG follows ``like`` or else is 95, 4:4:4; WebP is lossless unless ``like`` was a lossy WebP (then 95).
    16 bits become 8, rounded and with a warning, where the format has no more. ``provenance`` is recorded as XMP.

    Raises ``InputError`` for pixels or a quality that are not as said; ``ImageError`` for an unknown ending,
    transparency that the format cannot hold, a picture too large for it, and whenever the file cannot be written.

    >>> write_photo("gray.png", np.zeros((4, 6, 3), np.uint16))              # doctest: +SKIP
    """
    target = Path(path)
    kind = FORMAT_OF_SUFFIX.get(target.suffix.lower())
    if kind is None:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(f"{target}: the ending '{target.suffix}' is not a format that can be written; use {known}.")
    _check_arguments(pixels, quality)
    pixels = _fitting(target, pixels, kind, like)
    metadata = _metadata(target, pixels, kind, like, provenance)
    try:
        if kind == "JPEG":
            data = encode_jpeg(pixels, metadata, quality, like.jpeg if like else None)
        elif kind == "PNG":
            data = encode_png(pixels, metadata)
        elif kind == "TIFF":
            data = encode_tiff(pixels, metadata)
        elif kind == "WEBP":
            lossy = quality is not None or (like is not None and like.format == "WEBP" and not like.lossless)
            data = encode_webp(pixels, metadata, quality, lossless=not lossy)
        else:
            data = encode_bmp(pixels, metadata)
    except (OSError, ValueError, OverflowError, struct.error, cv2.error) as error:
        raise ImageError(f"{target}: cannot be encoded as {kind} ({error}); use another format, say .png.") from error
    write_file(target, data)


def copy_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file byte for byte, for a photo in which nothing changed; as safely as ``write_photo``.

    Raises ``ImageError`` if the source cannot be read or the target not be written.

    >>> copy_file("landscape.jpg", "out/landscape.jpg")                      # doctest: +SKIP
    """
    write_file(Path(target), _read_bytes(Path(source)))


def _check_arguments(pixels: np.ndarray, quality: int | None) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or 0 in pixels.shape:
        shape = getattr(pixels, "shape", type(pixels).__name__)
        raise InputError(f"pixels: expected an array [H,W,3] RGB or [H,W,4] RGBA, got {shape}.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"pixels: expected uint8 or uint16, got {pixels.dtype}; scale and round them first.")
    if quality is not None and (isinstance(quality, bool) or not (isinstance(quality, int) and 1 <= quality <= 100)):
        raise InputError(f"quality: expected a whole number from 1 to 100, got {quality!r}.")


def _fitting(target: Path, pixels: np.ndarray, kind: str, like: Photo | None) -> np.ndarray:
    """The channels and depth that go into the file; refuses what the format cannot hold."""
    if max(pixels.shape[:2]) > _LONGEST_SIDE[kind]:
        raise ImageError(f"{target}: {kind} allows {_LONGEST_SIDE[kind]} pixels a side; write .png or .tif instead.")
    if pixels.shape[2] == 4 and kind not in _ALPHA:
        if (pixels[..., 3] != np.iinfo(pixels.dtype).max).any():
            raise ImageError(f"{target}: {kind} cannot hold transparency; write .png, .tif or .webp instead.")
        pixels = pixels[..., :3]  # wholly opaque: nothing is lost
    if pixels.dtype == np.uint16 and kind not in _SIXTEEN_BIT:
        logger.warning("%s: 16 bits are reduced to the 8 of %s; write .png or .tif to keep them.", target, kind)
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    deep_alpha = pixels.dtype == np.uint16 and pixels.shape[2] == 4  # gray + alpha in 16 bits: no encoder here
    if like is not None and like.gray and kind != "WEBP" and not deep_alpha:
        gray = pixels[..., :1]
        if (gray == pixels[..., 1:2]).all() and (gray == pixels[..., 2:3]).all():
            pixels = np.concatenate([gray, pixels[..., 3:]], axis=2)
    return pixels


def _metadata(target: Path, pixels: np.ndarray, kind: str, like: Photo | None, provenance: Provenance | None) -> Metadata:
    """What the target format can hold of the source's metadata; the rest is named in one warning."""
    if like is None:
        kept, dropped = Metadata(), []
    else:
        kept = Metadata(like.icc, like.exif, like.xmp, like.dpi, like.extras if like.format == kind else ())
        dropped = sorted({TIFF_EXTRAS.get(int(name), name) if name.isdigit() else name for name, _ in like.extras})
        dropped = [] if kept.extras else [name for name in dropped if name not in _HARMLESS_EXTRAS]
    if kept.exif:
        kept = replace(kept, exif=exif_for_size(kept.exif, pixels.shape[1], pixels.shape[0]))
    if provenance is not None:
        kept = replace(kept, xmp=with_provenance(kept.xmp, provenance))
    if kept.icc and kept.icc[16:20] == b"GRAY" and pixels.shape[2] >= 3:
        dropped.append("gray ICC profile")
        kept = replace(kept, icc=None)
    if kind == "JPEG" and kept.xmp and len(XMP_JPEG_HEADER) + len(kept.xmp) > JPEG_SEGMENT:
        dropped.append("XMP (over 64 kB)")
        kept = replace(kept, xmp=with_provenance(None, provenance) if provenance else None)
    if kind == "BMP":
        dropped += [name for name in ("icc", "exif", "xmp") if getattr(kept, name)]
        kept = Metadata(dpi=kept.dpi)
    if dropped:
        logger.warning("%s: not kept in this %s file: %s.", target, kind, ", ".join(dropped))
    return kept


def write_file(target: Path, data: bytes) -> None:
    """Write ``data``; the file appears whole or not at all.

    Raises ``ImageError`` if it cannot be written.
    """
    try:
        with replacing(target) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ImageError(f"{target}: cannot be written ({error.strerror or error}); {remedy(error)}.") from error
