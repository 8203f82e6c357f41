"""Reading a photo file: refused by what is wrong with it, or decoded with everything that belongs to it.

Reads JPEG (an MPO's first picture), PNG, TIFF, WebP, BMP, still GIF, AVIF and, with pillow-heif, HEIC. Not read: moving and
multi-page files, floating-point and Lab pictures, raw. Small damage is mended (``mend``), files cut short are refused; a JPEG
that is damaged in the middle but whole in length decodes as its library makes of it, which nothing here notices.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from ..errors import ImageError
from ..support.files import checked
from ..support.memory import is_out_of_memory
from ..support.notice import Notice
from .codecs import bits_of, container_of, need_codec, wide_colours
from .decode import decode_pixels, is_lossless_webp, jpeg_coding, lies, resolution, strict_pillow, tiff_tag, turned
from .jpeg import check_whole, mend_jpeg
from .mend import describe_damage, mend
from .metadata import TIFF_EXTRAS, jpeg_extras, oversized, png_extras, without_previews
from .pages import channels_of
from .photo import LOSSY, Photo
from .pillow import exif_of, lost_profile, upright_exif, xmp_of
from .tiff import MAGIC as TIFF_MAGIC
from .tiff import Tag, TiffReader, cut_directories, exif_of_tiff, lost_tags, upright_tiff
from .xmp import of_the_picture, upright_xmp

MAX_PIXELS = 250_000_000
"""Largest photo read by default, width x height. Our choice: phones make 200-megapixel photos, panoramas of
20,000 x 10,000 exist; beyond it a working copy in floating point takes over 3 GB."""

_READ_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "HEIF")
_MAGIC = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    **dict.fromkeys(TIFF_MAGIC, ".tif"),
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"GIF8": ".gif",
}
"""How files begin, and their ending."""
HEAD = 12
"""Bytes at the beginning of a file that say which format it is."""
MOST_TAGS = 20
"""Tags that a notice numbers (ours)."""


def read_photo(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a photo file. CMYK is converted to sRGB, with a notice; nothing else is converted.

    Args:
        path: the file.
        max_pixels: largest width x height that is taken, known before anything is decoded.

    Raises:
        InputError: a name that no file can have.
        ImageError: missing, empty, cut short, damaged, not a picture, a folder, not readable, moving or multi-page, floating
            point, too large, or full of metadata; the message names the file and the remedy.
        MemoryError: there is too little for the picture.

    Example:
        >>> read_photo("examples/astronaut.jpg", max_pixels=50_000_000).pixels.shape
        (512, 512, 3)
    """
    path = checked(path)
    return decode_photo(path, read_bytes(path, magic=True), max_pixels=max_pixels)


def decode_photo(path: Path, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode what a photo file holds, wherever it was read from: as :func:`read_photo`.

    Args:
        path: what the file is called, in messages too.
        data: all of it.
        max_pixels: as for :func:`read_photo`.

    Raises:
        ImageError, MemoryError: as :func:`read_photo`.
    """
    check_head(path, data[:HEAD])
    if problem := oversized(data):
        raise ImageError(f"{path}: {problem}. Save the picture anew in an image editor.")
    try:
        with strict_pillow():
            whole, mended = mend(data, max_pixels)
            photo = _decode(path, whole, max_pixels)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make the decoders raise nearly anything
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from error  # OpenCV has an error of its own
        own = "" if isinstance(error, UnidentifiedImageError) else str(error).strip().rstrip(".")
        reasons = [reason for reason in (describe_damage(data), own) if reason]
        reason = f" ({': '.join(reasons)})" if reasons else ""
        raise ImageError(
            f"{path}: this picture is damaged, cut short or of an unsupported kind{reason}. Get a complete copy, or "
            "open it in an image editor and save it as a JPEG, or as a PNG or TIFF of 8- or 16-bit RGB."
        ) from error
    channels, notices = channels_of(data) if photo.format == "TIFF" else (), photo.notices
    if channels and upright_tiff(data)[0] != 1:
        text = f"{path}: its other channel (infrared or a mask) is not turned as the photograph is, and is not used."
        channels, notices = (), (*notices, Notice("not_kept", text))
    return replace(photo, channels=channels, notices=(*_mended(path, mended), *notices))


def _mended(path: Path, said: list[str]) -> list[Notice]:
    return [Notice("mended", f"{path}: {what}.") for what in said]


def read_bytes(path: Path, *, magic: bool = False) -> bytes:
    """Return the whole file; with ``magic`` only if it begins like a picture, so that a video is not pulled into memory.

    Raises:
        InputError: no file can have such a name.
        ImageError: it cannot be read, or does not begin like a picture.
    """
    checked(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path}: this is a folder; name the picture files in it.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path}: this is not an ordinary file; copy the picture to one.")
        with open(path, "rb") as file:
            head = file.read(HEAD)
            if magic:
                check_head(path, head)
            return head + file.read()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file; check the path.") from error
    except PermissionError as error:
        raise ImageError(f"{path}: no permission to read it; change its permissions or copy it elsewhere.") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); copy it to a healthy disk.") from error


def check_head(path: Path, head: bytes) -> None:
    """Look whether a file begins like a picture that can be read here.

    Args:
        path: what the file is called.
        head: its first bytes, :data:`HEAD` of them.

    Raises:
        ImageError: it does not.
    """
    if not head:
        raise ImageError(f"{path}: the file is empty; fetch or export it again.")
    container = container_of(head)
    if not ending_of(head):
        raise ImageError(
            f"{path}: not a picture of a known format (JPEG, PNG, TIFF, WebP, BMP, GIF, AVIF, HEIC); convert it to one of these "
            "first."
        )
    if container is not None:
        need_codec(container, path)


def ending_of(data: bytes) -> str:
    """Return the ending that a file's name should have, by how the file begins; nothing if it is no picture."""
    container = container_of(data[:HEAD])
    if container is not None:
        return {"AVIF": ".avif", "HEIF": ".heic"}[container]
    ending = next((ending for start, ending in _MAGIC.items() if data.startswith(start)), "")
    return "" if ending == ".webp" and data[8:12] != b"WEBP" else ending  # AVI and WAV begin alike


def _refuse_unsuitable(path: Path, data: bytes, image: Image.Image, max_pixels: int) -> None:
    """Refuse by what the header says, before any pixel is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} pixels are more than the limit of {max_pixels:,} (max_pixels); scale the picture down."
        )
    if image.format != "MPO" and not _holds_stills(image, data) and getattr(image, "is_animated", False):
        if image.format == "TIFF":
            raise ImageError(f"{path}: a TIFF with several pages; save the page you want as a file of its own.")
        raise ImageError(f"{path}: a moving picture; extract its frames as PNG files with a video tool and use those.")
    unsigned = set(tiff_tag(image, Tag.SAMPLE_FORMAT, (1,))) <= {1, 4}  # 4 is "undefined"
    if not unsigned or (image.mode in ("F", "I", "LAB") and not _is_deep_png(image)):
        kind = describe_damage(data) or f"a picture of mode {image.mode}"
        raise ImageError(f"{path}: {kind}, is not supported; save it as 8- or 16-bit RGB in an image editor.")


def _holds_stills(image: Image.Image, data: bytes) -> bool:
    """Return whether a HEIC file of several pictures holds a series of photos, of which one is the first, and no sequence."""
    return image.format == "HEIF" and data[8:12] not in (b"hevc", b"hevx", b"msf1")


def _is_deep_png(image: Image.Image) -> bool:
    # Old versions of Pillow open 16-bit gray PNG files as 32-bit integers.
    return image.format == "PNG" and image.mode == "I"


def _decode(path: Path, data: bytes, max_pixels: int) -> Photo:
    Image.init()
    known = [name for name in _READ_FORMATS if name in Image.OPEN]  # without the others' packages Pillow fails on their names
    with Image.open(io.BytesIO(data), formats=known) as image:
        _refuse_unsuitable(path, data, image, max_pixels)
        return _photo(path, data, image)


def _photo(path: Path, data: bytes, image: Image.Image) -> Photo:
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    notices: list[Notice] = []
    hidden = kind == "HEIF" and (image.info.get("aux") or image.info.get("depth_images"))
    if "mp" in image.info or hidden or (kind == "HEIF" and getattr(image, "n_frames", 1) > 1):
        text = f"{path}: holds further pictures (depth, HDR gain, stereo or a series); only the first is used."
        notices.append(Notice("further_pictures", text))
    if kind in ("AVIF", "HEIF") and not image.info.get("icc_profile") and (colours := wide_colours(data)):
        text = f"{path}: its colours are {colours}, stated without a profile; they are taken for sRGB."
        notices.append(Notice("wide_colours", text))
    if kind in ("AVIF", "HEIF") and (bits := bits_of(data)) > 8:
        notices.append(Notice("sixteen_bits", f"{path}: its {bits} bits a channel are reduced to 8 in reading."))
    in_file: int | None = None
    if kind == "TIFF":
        in_file, data = upright_tiff(data)
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
    elif kind == "JPEG":
        data, missing = mend_jpeg(data)
        image = Image.open(io.BytesIO(data), formats=("JPEG", "MPO"))
        notices += _mended(path, missing)
    image.load()  # before its info is looked at: PNG may state things behind the pixels
    if kind == "JPEG":
        check_whole(data, image)
        if lost_profile(image):
            notices += _mended(path, ["parts of its ICC profile are missing, and it is left out"])
    in_exif, exif = _exif(path, data, image, notices)
    in_xmp, xmp = upright_xmp(xmp_of(image))
    moves, xmp = of_the_picture(xmp)
    if moves:
        notices.append(Notice("further_pictures", f"{path}: a motion photo; only its picture is used."))
    if kind == "HEIF":
        in_exif = in_xmp = 1  # the library has turned it, by what the format itself states: the others are not to be asked
    pixels, gray = decode_pixels(path, data, image, kind, notices)
    orientation = in_file or in_exif or in_xmp or 1
    pixels = np.ascontiguousarray(turned(pixels, orientation))
    dpi = resolution(image)
    return Photo(
        pixels=pixels,
        decoded=pixels,
        path=path,
        format=kind,
        gray=gray,
        icc=None if image.mode == "CMYK" else image.info.get("icc_profile") or None,
        exif=exif,
        xmp=xmp or None,
        dpi=dpi[::-1] if dpi and lies(orientation) else dpi,
        jpeg=jpeg_coding(image) if kind == "JPEG" else None,
        lossless=kind not in LOSSY or (kind == "WEBP" and is_lossless_webp(data)),
        extras=_extras(data, image, kind, orientation),
        notices=tuple(notices),
    )


def _exif(path: Path, data: bytes, image: Image.Image, notices: list[Notice]) -> tuple[int | None, bytes | None]:
    """Return the orientation the EXIF block states, and the block stating 1; of a TIFF file, a block made of its tags."""
    try:
        if image.format == "TIFF":
            cut = cut_directories(data)
            said = [f"the {' and '.join(cut)} part of its EXIF data is cut short; what can be read is kept"] if cut else []
            orientation, exif = None, exif_of_tiff(data)
            if lost := lost_tags(data):
                numbers = ", ".join(map(str, lost[:MOST_TAGS])) + " ..." * (len(lost) > MOST_TAGS)
                text = f"{path}: its TIFF tags {numbers} will not be in a result that is changed."
                notices.append(Notice("not_kept", text))
        else:
            orientation, exif, said = upright_exif(exif_of(image))
    except struct.error:
        notices += _damaged_exif(path, ["its EXIF data is damaged and is left out"])
        return None, None
    notices += _damaged_exif(path, said)
    return orientation, exif


def _damaged_exif(path: Path, said: list[str]) -> list[Notice]:
    return [Notice("damaged_exif", f"{path}: {what}.") for what in said]


def _extras(data: bytes, image: Image.Image, kind: str, orientation: int) -> tuple[tuple[str, bytes], ...]:
    if kind == "PNG":
        extras = png_extras(data)
        if lies(orientation):  # the resolutions across and down are exchanged
            return tuple((name, part[4:8] + part[:4] + part[8:] if name == "pHYs" else part) for name, part in extras)
        return extras
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return jpeg_extras(image.applist)
    if kind == "TIFF":
        # As they lie in the file: IPTC is often stored as 32-bit numbers, of which Pillow gives the first.
        reader = TiffReader(data)
        fields, _ = reader.directory(reader.first())
        found = {tag: fields[tag].data for tag in TIFF_EXTRAS if tag in fields}
        return tuple((str(int(tag)), without_previews(data) if tag == Tag.PHOTOSHOP else data) for tag, data in found.items())
    return ()
