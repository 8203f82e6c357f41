"""Writing a photo file: in the format of its ending, with all of the source's metadata that the format can hold.

Writes JPEG, PNG, TIFF, WebP, BMP, AVIF and, with pillow-heif, HEIC. Not kept, in any format: embedded previews (they show the
photo before restoration), palettes (written as RGB), the second picture of an MPO, C2PA manifests. TIFF keeps the descriptive
tags, EXIF, GPS, IPTC and Photoshop blocks, not private ones, which reading tells of.
"""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ..errors import ImageError, InputError
from ..support.files import replacing
from ..support.memory import is_out_of_memory
from ..support.notice import Notice
from .arrays import is_transparent
from .codecs import need_codec
from .depth import to_8_bits
from .encode import encode_avif, encode_bmp, encode_heif, encode_jpeg, encode_png, encode_tiff, encode_webp
from .metadata import JPEG_SEGMENT, TIFF_EXTRAS, XMP_JPEG_HEADER, Metadata
from .pages import TiffPage
from .photo import FORMAT_OF_SUFFIX, LONGEST_SIDE, Photo, Provenance
from .read import read_bytes
from .tiff import exif_for_size
from .xmp import with_provenance

_SIXTEEN_BIT = frozenset({"PNG", "TIFF"})
ALPHA = frozenset({"PNG", "TIFF", "WEBP", "AVIF", "HEIF"})
"""Formats that can hold transparency."""
_COLOUR_ONLY = frozenset({"WEBP", "AVIF", "HEIF"})
# SyntaxError and RuntimeError are what AVIF and HEIC encoders raise.
_ENCODING_ERRORS = (OSError, ValueError, TypeError, OverflowError, SyntaxError, RuntimeError, struct.error, cv2.error)
# PNG colour chunks that say "sRGB" or nearly so in practice; losing them on the way to another format changes nothing.
_HARMLESS_EXTRAS = frozenset({"gAMA", "cHRM", "sRGB", "pHYs", "tIME"})


def write_photo(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    like: Photo | None = None,
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
    fast: bool = False,
) -> tuple[Notice, ...]:
    """Encode ``pixels`` in the format of the path's ending.

    Missing folders are made, and an existing file is only replaced by a whole one. 16 bits become 8, rounded and with a
    warning, where the format has no more.

    Args:
        path: the file; its ending decides the format.
        pixels: [H,W,3] RGB or [H,W,4] RGBA, uint8 or uint16.
        like: the photo the pixels came from. Its profile, EXIF, XMP and resolution are kept where the format can hold them
            (what is dropped is named in a notice), a gray photo stays single-channel if the pixels are still gray, and a
            JPEG written as JPEG keeps its scan order.
        quality: 1 to 100 for JPEG, AVIF, HEIF and WebP (then lossy); PNG, TIFF and BMP are lossless whatever it says. Left
            out, it is 95, and a JPEG is nowhere coarser than ``like``; WebP is lossless unless ``like`` was a lossy WebP.
            Colour is never sub-sampled, but in WebP.
        provenance: the model that synthesised detail, recorded as XMP.
        fast: 8-bit PNG files are written in less time and become larger, for pictures that are looked at once.

    Returns:
        What was noticed in writing.

    Raises:
        InputError: pixels or a quality that are not as said.
        ImageError: an unknown ending, transparency that the format cannot hold, a picture too large for it, or a file that
            cannot be written.
        MemoryError: there is too little for the encoder.

    Example:
        >>> write_photo("gray.png", np.zeros((4, 6, 3), np.uint16))
        ()
    """
    data, notices = encode_photo(path, pixels, like, quality=quality, provenance=provenance, fast=fast)
    write_file(Path(path), data)
    return notices


def encode_photo(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    like: Photo | None = None,
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
    fast: bool = False,
) -> tuple[bytes, tuple[Notice, ...]]:
    """Return what :func:`write_photo`, with the same arguments and errors, writes to the file, and what was noticed.

    Raises:
        InputError, ImageError, MemoryError: as :func:`write_photo`.
    """
    target = Path(path)
    kind = writable_format(target, quality)
    _check_pixels(pixels)
    notices: list[Notice] = []
    pixels = _fitting(target, pixels, kind, like, notices)
    metadata = _metadata(target, pixels, kind, like, provenance, notices)
    try:
        if kind == "JPEG":
            data = encode_jpeg(pixels, metadata, quality, like.jpeg if like else None, notices)
        elif kind == "PNG":
            data = encode_png(pixels, metadata, fast)
        elif kind == "TIFF":
            data = encode_tiff(pixels, metadata, _channels(pixels, like))
        elif kind == "WEBP":
            lossy = quality is not None or (like is not None and like.format == "WEBP" and not like.lossless)
            data = encode_webp(pixels, metadata, quality, lossless=not lossy)
        elif kind == "AVIF":
            data = encode_avif(pixels, metadata, quality)
        elif kind == "HEIF":
            data = encode_heif(pixels, metadata, quality)
        else:
            data = encode_bmp(pixels, metadata)
    except _ENCODING_ERRORS as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from error  # no other format would need less
        raise ImageError(f"{target}: cannot be encoded as {kind} ({error}); use another format, say .png.") from error
    return data, tuple(notices)


def writable_format(target: Path, quality: int | None = None) -> str:
    """Return the format in which a file of this ending is written, :attr:`Photo.format`, before there are pixels for it.

    Raises:
        InputError: a quality that :func:`write_photo` would refuse.
        ImageError: an unknown ending, or one whose package is missing.
    """
    kind = FORMAT_OF_SUFFIX.get(target.suffix.lower())
    if kind is None:
        known = ", ".join(sorted(FORMAT_OF_SUFFIX))
        raise ImageError(f"{target}: the ending '{target.suffix}' is not a format that can be written; use {known}.")
    need_codec(kind, target, writing=True)
    check_quality(quality)
    return kind


def check_quality(quality: object, name: str = "quality") -> None:
    """Refuse what is no quality of a lossy format; None, the format's own, is one.

    Raises:
        InputError: it is not; ``name`` is what the message calls it.
    """
    if quality is not None and (isinstance(quality, bool) or not (isinstance(quality, int) and 1 <= quality <= 100)):
        raise InputError(f"{name} is {quality!r}; it must be a whole number from 1 to 100.")


def copy_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file byte for byte, for a photo in which nothing changed; as safely as :func:`write_photo`.

    Raises:
        ImageError: the source cannot be read or the target not be written.

    Example:
        >>> copy_file("examples/astronaut.jpg", "copies/astronaut.jpg")
    """
    write_file(Path(target), read_bytes(Path(source)))


def _check_pixels(pixels: np.ndarray) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or 0 in pixels.shape:
        shape = getattr(pixels, "shape", type(pixels).__name__)
        raise InputError(f"pixels: expected an array [H,W,3] RGB or [H,W,4] RGBA, got {shape}.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"pixels: expected uint8 or uint16, got {pixels.dtype}; scale and round them first.")


def _fitting(target: Path, pixels: np.ndarray, kind: str, like: Photo | None, notices: list[Notice]) -> np.ndarray:
    """Return the channels and depth that go into the file; refuses what the format cannot hold."""
    if max(pixels.shape[:2]) > LONGEST_SIDE[kind]:
        raise ImageError(f"{target}: {kind} allows {LONGEST_SIDE[kind]} pixels a side; write .png or .tif instead.")
    if pixels.shape[2] == 4 and kind not in ALPHA:
        if is_transparent(pixels):
            raise ImageError(f"{target}: {kind} cannot hold transparency; write .png, .tif or .webp instead.")
        pixels = pixels[..., :3]  # wholly opaque: nothing is lost
    if pixels.dtype == np.uint16 and kind not in _SIXTEEN_BIT:
        text = f"{target}: 16 bits are reduced to the 8 of {kind}; write .png or .tif to keep them."
        notices.append(Notice("sixteen_bits", text))
        pixels = to_8_bits(pixels)
    deep_alpha = pixels.dtype == np.uint16 and pixels.shape[2] == 4  # gray + alpha in 16 bits: no encoder here
    if like is not None and like.gray and kind not in _COLOUR_ONLY and not deep_alpha:
        gray = pixels[..., :1]
        if (gray == pixels[..., 1:2]).all() and (gray == pixels[..., 2:3]).all():
            pixels = np.concatenate([gray, pixels[..., 3:]], axis=2)
    return pixels


def _metadata(
    target: Path, pixels: np.ndarray, kind: str, like: Photo | None, provenance: Provenance | None, notices: list[Notice]
) -> Metadata:
    """Return what the target format can hold of the source's metadata; the rest is named in one notice."""
    if like is None:
        kept, dropped = Metadata(), []
    else:
        extras = like.extras if like.format == kind else ()
        kept = Metadata(like.profile_for(pixels.shape[2]), like.exif, like.xmp, like.dpi, extras)
        dropped = sorted({TIFF_EXTRAS.get(int(name), name) if name.isdigit() else name for name, _ in like.extras})
        dropped = [] if kept.extras else [name for name in dropped if name not in _HARMLESS_EXTRAS]
        dropped += ["another channel"] if like.channels and (kind != "TIFF" or not _channels(pixels, like)) else []
        dropped += ["gray ICC profile"] if like.icc and not kept.icc else []
    if kept.exif:
        kept = replace(kept, exif=exif_for_size(kept.exif, pixels.shape[1], pixels.shape[0]))
    if provenance is not None:
        kept = replace(kept, xmp=with_provenance(kept.xmp, provenance, notices))
    if kind == "JPEG" and kept.xmp and len(XMP_JPEG_HEADER) + len(kept.xmp) > JPEG_SEGMENT:
        dropped.append("XMP (over 64 kB)")
        kept = replace(kept, xmp=with_provenance(None, provenance) if provenance else None)
    if kind == "BMP":
        dropped += [name for name in ("icc", "exif", "xmp") if getattr(kept, name)]
        kept = Metadata(dpi=kept.dpi)
    if dropped:
        notices.append(Notice("not_kept", f"{target}: not kept in this {kind} file: {', '.join(dropped)}."))
    return kept


def _channels(pixels: np.ndarray, like: Photo | None) -> tuple[TiffPage, ...]:
    """Return the pages that go with a photograph, which has to have kept its size."""
    return () if like is None else tuple(page for page in like.channels if page.size == pixels.shape[:2])


def write_file(target: Path, data: bytes) -> None:
    """Write ``data``; the file appears whole or not at all.

    Raises:
        ImageError: it cannot be written.
    """
    with replacing(target, ImageError) as temporary:
        temporary.write_bytes(data)
