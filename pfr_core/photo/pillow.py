"""Pillow's images: the metadata they carry, and those that callers hand in and get back.

An image that a caller opened is treated as its file would be: it is turned as EXIF or XMP wants it shown, and what comes out has
its mode and its metadata.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from ..errors import InputError
from ..support.notice import Notice
from .decode import lies, turned
from .depth import to_8_bits
from .metadata import XMP_JPEG_HEADER, XMP_PNG_KEYWORD
from .tiff import (
    BYTE_ORDERS,
    Tag,
    cut_directories,
    exif_of_tiff,
    upright,
    with_resolutions_exchanged,
    with_right_header,
    without_thumbnail,
)
from .xmp import upright_xmp

_GRAY = frozenset({"1", "L", "LA"})
_DEEP = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_TURNED = frozenset({"TIFF", "HEIF"})
"""Formats whose readers turn the picture themselves."""
_COLOUR = frozenset({"RGB", "RGBA", "RGBX", "P", "PA"})


def exif_of(image: Image.Image) -> list[bytes]:
    """Return the EXIF blocks as the file has them, one if all is well; that of a TIFF file is the file itself.

    Raises:
        struct.error: what should be one cannot be read at all.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return _in_segments([content[6:] for _, content in image.applist if content.startswith(b"Exif\0")])
    if exif := image.info.get("exif"):
        return [exif]
    return [block for block in _raw_profiles(image) if not block.startswith(XMP_JPEG_HEADER)]


def _in_segments(segments: list[bytes]) -> list[bytes]:
    """Put the parts of long blocks together: only the first of them begins with a byte order."""
    blocks = list[bytes]()
    for segment in segments:
        if not blocks or segment.lstrip(b"Exif\0").startswith(tuple(BYTE_ORDERS)):
            blocks.append(segment)
        else:
            blocks[-1] += segment
    return blocks


def _raw_profiles(image: Image.Image) -> list[bytes]:
    """Return the blocks that ImageMagick puts into the text of a PNG as hexadecimal numbers."""
    texts = [image.info.get(f"Raw profile type {name}") for name in ("exif", "APP1")]
    try:
        return [bytes.fromhex("".join(text.split("\n")[3:])) for text in texts if isinstance(text, str)]
    except ValueError as error:
        raise struct.error(str(error)) from error


def lost_profile(image: Image.Image) -> bool:
    """Return whether a JPEG has a colour profile of which parts are missing."""
    parts = (content for _, content in getattr(image, "applist", ()) if content.startswith(b"ICC_PROFILE\0"))
    return next(parts, None) is not None and not image.info.get("icc_profile")


def xmp_of(image: Image.Image) -> bytes:
    """Return the XMP packet, nothing if there is none."""
    xmp = image.info.get("xmp") or image.info.get(XMP_PNG_KEYWORD.decode())
    if xmp is None and image.format == "PNG":
        with suppress(struct.error):  # said where EXIF is read
            packets = (block for block in _raw_profiles(image) if block.startswith(XMP_JPEG_HEADER))
            xmp = next(packets, b"")[len(XMP_JPEG_HEADER) :]
    if xmp is None and isinstance(image, JpegImagePlugin.JpegImageFile):  # Pillow before 11 leaves it there
        packets = (block for _, block in image.applist if block.startswith(XMP_JPEG_HEADER))
        xmp = next(packets, b"")[len(XMP_JPEG_HEADER) :]
    if xmp is None and image.format == "TIFF":
        xmp = getattr(image, "tag_v2", {}).get(Tag.XMP)
    return xmp.encode() if isinstance(xmp, str) else xmp or b""


def upright_exif(blocks: list[bytes]) -> tuple[int | None, bytes | None, list[str]]:
    """Return the orientation that a photo's EXIF data states, the block stating 1 without its preview, and what is wrong with it.

    Of a block that is cut short what can be read is kept; of several, the first that can be read, and the first orientation.

    Raises:
        struct.error: nothing of it can be read.
    """
    read, failed = list[tuple[int | None, bytes]](), None
    for block in blocks:
        while block.startswith(b"Exif\0\0"):  # some programs write the header twice
            block = block.removeprefix(b"Exif\0\0")
        try:
            read.append(upright(without_thumbnail(with_right_header(block))))
        except struct.error as error:
            failed = error
    if not read:
        if failed is not None:
            raise failed
        return None, None, []
    block = read[0][1]
    cut = cut_directories(block)
    said = [f"the {' and '.join(cut)} part of its EXIF data is cut short; what can be read is kept"] if cut else []
    said += [f"it holds EXIF data {len(blocks)} times; the first that can be read is kept"] if len(blocks) > 1 else []
    orientation = next((stated for stated, _ in read if stated is not None), None)
    if lies(orientation):
        block = with_resolutions_exchanged(block)
    return orientation, exif_of_tiff(block) if cut else block, said


def from_pil(image: Image.Image) -> tuple[np.ndarray, Callable[[np.ndarray], Image.Image]]:
    """Return the pixels [H,W,3 or 4] uint8 or uint16, turned as they are to be shown, and the way back to such an image.

    The way back gives the mode that went in (a palette becomes RGB, black and white L, and gray that became coloured RGB; Pillow
    holds 16 bits in gray only) and in ``info`` the metadata, with the orientation 1.

    Raises:
        InputError: a mode whose colours depend on more than the image, or a file that is damaged or cut short.
    """
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"The PIL image cannot be read ({error}). Get a complete copy of its file.") from error
    deep, gray = image.mode in _DEEP, image.mode in _GRAY | _DEEP
    if not gray and image.mode not in _COLOUR:
        raise InputError(f"A PIL image of mode {image.mode!r}; pass its file, or convert it to 'RGB' or 'RGBA' first.")
    if deep:
        pixels = np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, axis=2)
    else:
        transparent = image.has_transparency_data
        pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    info = _metadata(image)

    def back(result: np.ndarray) -> Image.Image:
        if gray and (result[..., :1] == result[..., 1:3]).all():
            result = np.concatenate([result[..., :1], result[..., 3:]], axis=2)
        elif result.dtype == np.uint16:
            result = to_8_bits(result)
        made = Image.fromarray(np.ascontiguousarray(result[..., 0] if result.shape[2] == 1 else result))
        made.info.update(info)
        if gray and made.mode in ("RGB", "RGBA"):  # a gray profile does not fit any more
            made.info.pop("icc_profile", None)
        return made

    return np.ascontiguousarray(turned(pixels, orientation_of(image))), back


def orientation_of(image: Image.Image) -> int:
    """Return how the pixels that Pillow has loaded are to be turned (1 to 8, as in EXIF), by EXIF or else XMP, damaged or not."""
    if image.format in _TURNED:
        return 1
    in_exif, _, _ = _exif(image)
    in_xmp, _ = upright_xmp(xmp_of(image))
    return in_exif or in_xmp or 1


def notices_of(image: Image.Image) -> tuple[Notice, ...]:
    """Return what a person should know of the metadata of an image that is handed in."""
    return tuple(Notice("damaged_exif", f"The PIL image: {what}.") for what in _exif(image)[2])


def _metadata(image: Image.Image) -> dict[str, Any]:
    """Return what the result's ``info`` holds."""
    info = {name: image.info[name] for name in ("icc_profile", "dpi") if image.info.get(name)}
    if "dpi" in info and lies(orientation_of(image)):
        info["dpi"] = info["dpi"][::-1]
    _, xmp = upright_xmp(xmp_of(image))
    if xmp:
        info["xmp"] = xmp
    _, exif, _ = _exif(image)
    if exif:
        info["exif"] = b"Exif\0\0" + exif
    return info


def _exif(image: Image.Image) -> tuple[int | None, bytes | None, list[str]]:
    """Do as :func:`upright_exif` for an image that is handed in, in which Pillow has turned a TIFF file."""
    try:
        if image.format != "TIFF":
            return upright_exif(exif_of(image))
        block = image.getexif().tobytes() if image.getexif() else b""
        return None, exif_of_tiff(block.removeprefix(b"Exif\0\0")) if block else None, []
    except struct.error:
        kept: bytes = image.info.get("exif", b"")
        return None, kept.removeprefix(b"Exif\0\0"), ["nothing of its EXIF data can be read; it stays as it is"]
