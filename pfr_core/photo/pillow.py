"""Pillow's images: the metadata they carry, and those that callers hand in and get back.

An image that a caller opened is treated as its file would be: it is turned as EXIF or XMP wants it shown, and what comes out has
its mode and its metadata.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from ..errors import InputError
from .decode import turned
from .metadata import XMP_JPEG_HEADER, XMP_PNG_KEYWORD
from .tiff import Tag, cut_directories, exif_of_tiff, upright, without_thumbnail
from .xmp import upright_xmp

_GRAY = frozenset({"1", "L", "LA"})
_DEEP = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_COLOUR = frozenset({"RGB", "RGBA", "RGBX", "P", "PA"})


def exif_of(image: Image.Image) -> bytes | None:
    """Return the EXIF block as the file has it; that of a TIFF file is the file itself."""
    exif: bytes | None = image.info.get("exif")
    raw_profile = image.info.get("Raw profile type exif")  # how ImageMagick puts EXIF into PNG
    if exif is None and raw_profile:
        exif = bytes.fromhex("".join(raw_profile.split("\n")[3:]))
    return exif


def xmp_of(image: Image.Image) -> bytes:
    """Return the XMP packet, nothing if there is none."""
    xmp = image.info.get("xmp") or image.info.get(XMP_PNG_KEYWORD.decode())
    if xmp is None and isinstance(image, JpegImagePlugin.JpegImageFile):  # Pillow before 11 leaves it there
        packets = (block for _, block in image.applist if block.startswith(XMP_JPEG_HEADER))
        xmp = next(packets, b"")[len(XMP_JPEG_HEADER) :]
    if xmp is None and image.format == "TIFF":
        xmp = getattr(image, "tag_v2", {}).get(Tag.XMP)
    return xmp.encode() if isinstance(xmp, str) else xmp or b""


def upright_exif(exif: bytes) -> tuple[int | None, bytes | None, list[str]]:
    """Return the orientation that an EXIF block states, the block stating 1 without its preview, and which parts are cut short.

    Of a block that is cut short what can be read is kept.

    Raises:
        struct.error: nothing of it can be read.
    """
    while exif.startswith(b"Exif\0\0"):  # some programs write the header twice
        exif = exif.removeprefix(b"Exif\0\0")
    orientation, block = upright(without_thumbnail(exif))
    cut = cut_directories(block)
    return orientation, exif_of_tiff(block) if cut else block, cut


def from_pil(image: Image.Image) -> tuple[np.ndarray, Callable[[np.ndarray], Image.Image]]:
    """Return the pixels [H,W,3 or 4] uint8 or uint16, turned as they are to be shown, and the way back to such an image.

    The way back gives the mode that went in (a palette becomes RGB, black and white L, and gray that became coloured RGB; Pillow
    holds 16 bits in gray only) and in ``info`` the metadata, with the orientation 1.

    Raises:
        InputError: a mode whose colours depend on more than the image.
    """
    image.load()
    deep, gray = image.mode in _DEEP, image.mode in _GRAY | _DEEP
    if not gray and image.mode not in _COLOUR:
        raise InputError(f"A PIL image of mode {image.mode!r}; pass its file, or convert it to 'RGB' or 'RGBA' first.")
    if deep:
        pixels = np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, axis=2)
    else:
        transparent = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
        pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    orientation, info = _metadata(image)

    def back(result: np.ndarray) -> Image.Image:
        if gray and (result[..., :1] == result[..., 1:3]).all():
            result = np.concatenate([result[..., :1], result[..., 3:]], axis=2)
        elif result.dtype == np.uint16:
            result = np.rint(result / 257).astype(np.uint8)
        made = Image.fromarray(np.ascontiguousarray(result[..., 0] if result.shape[2] == 1 else result))
        made.info.update(info)
        if gray and made.mode in ("RGB", "RGBA"):  # a gray profile does not fit any more
            made.info.pop("icc_profile", None)
        return made

    return np.ascontiguousarray(turned(pixels, orientation)), back


def _metadata(image: Image.Image) -> tuple[int, dict[str, Any]]:
    """Return the orientation of the pixels, and what the result's ``info`` holds."""
    info = {name: image.info[name] for name in ("icc_profile", "dpi") if image.info.get(name)}
    in_xmp, xmp = upright_xmp(xmp_of(image))
    if xmp:
        info["xmp"] = xmp
    orientation, exif = None, exif_of(image)
    if image.format == "TIFF":  # Pillow has turned it
        block = image.getexif().tobytes() if image.getexif() else b""
        exif, in_xmp = exif_of_tiff(block.removeprefix(b"Exif\0\0")) if block else None, None
    elif exif:
        try:
            orientation, exif, _ = upright_exif(exif)
        except struct.error:  # nothing that could be read is lost
            return in_xmp or 1, {**info, "exif": exif}
    if exif:
        info["exif"] = b"Exif\0\0" + exif
    return orientation or in_xmp or 1, info
