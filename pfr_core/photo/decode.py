"""The bytes of a photo file to RGB pixels, by Pillow, and for 16 bits by OpenCV; nothing here touches the disk.

Metadata is in ``metadata``, what is refused and why in ``read``.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin

from ..support.notice import Notice
from .depth import ROWS
from .metadata import MAX_METADATA, png_chunks
from .photo import JpegCoding
from .tiff import Tag

_PILLOW_LOCK = threading.Lock()


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Keep Pillow, for the block, from its own pixel limit, from tolerance for files cut short, and from Python's warnings.

    Ours is checked instead of its limit, other packages turn that tolerance on, and what is wrong with a file is said in notices.
    All switches are process-wide: they are put back after the block, and the lock keeps two readers apart.
    """
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        saved = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        PngImagePlugin.MAX_TEXT_CHUNK = MAX_METADATA  # a printer's profile has more than its megabyte
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK = saved


def jpeg_coding(image: Image.Image) -> JpegCoding | None:
    """Return how an RGB or gray JPEG was encoded, to encode another like it; None for CMYK."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("L", "RGB"):
        return None
    tables = [image.quantization[layer[3]] for layer in image.layer]
    if len(tables) == 3 and tables[1] == tables[2]:
        tables.pop()
    return JpegCoding(tuple(tuple(table) for table in tables), bool(image.info.get("progressive", False)))


def resolution(image: Image.Image) -> tuple[float, float] | None:
    """Return dots per inch across and down, if the file states them sensibly."""
    x, y = (float(value) for value in image.info.get("dpi", (0, 0)))
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def is_lossless_webp(data: bytes) -> bool:
    """Judge by the first picture chunk in the RIFF container."""
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        position += 8 + size + size % 2
    return False


def decode_pixels(path: Path, data: bytes, image: Image.Image, kind: str, notices: list[Notice]) -> tuple[np.ndarray, bool]:
    """Return RGB or RGBA pixels, and whether the file is gray.

    ``image`` has been loaded, 16 bits or not: Pillow notices files that are cut short, OpenCV does not always.

    Raises:
        ValueError: a TIFF that its library misreads.
    """
    if image.mode == "CMYK":
        if max(tiff_tag(image, Tag.BITS_PER_SAMPLE, (8,))) > 8:
            notices.append(Notice("sixteen_bits", f"{path}: its 16 bits of CMYK are reduced to 8 in reading."))
        _tell_of_more(path, image, notices)
        return np.asarray(_cmyk_to_rgb(path, image, notices)), False
    if kind == "PNG" and data[24] == 16:  # the bit depth in IHDR; the colour type follows, 0 and 4 are gray
        return _with_transparent_colour(_sixteen_bit_pixels(data), data), data[25] in (0, 4)
    if kind == "PNG" and data[24] in (2, 4) and data[25] == 0:  # Pillow takes the transparent gray for one of 8 bits
        return _with_transparent_colour(np.asarray(image.convert("RGB")), data, 255 // ((1 << data[24]) - 1)), True
    if kind == "TIFF" and image.mode == "I;16" and tiff_tag(image, Tag.BITS_PER_SAMPLE, (16,))[0] == 12:
        deep = np.rint(np.asarray(image) * (65535 / 4095)).astype(np.uint16)
        return np.repeat(deep[..., None], 3, axis=2), True
    if kind == "TIFF" and set(tiff_tag(image, Tag.BITS_PER_SAMPLE, (1,))) == {16}:
        if tiff_tag(image, Tag.PLANAR_CONFIGURATION, (1,))[0] == 2:  # OpenCV mixes such planes up without a word
            raise ValueError("16-bit TIFF with separate colour planes")
        gray = image.mode.startswith("I;16")
        pixels = _sixteen_bit_pixels(data)
        if gray and tiff_tag(image, Tag.PHOTOMETRIC, (1,))[0] == 0:
            pixels = 65535 - pixels  # white is zero
        if image.mode in ("RGB", "RGBX"):  # the latter before Pillow 10.4
            pixels = pixels[..., :3]  # a fourth channel that is not said to be alpha
            _tell_of_more(path, image, notices)
        return (_straight_alpha(pixels) if tiff_tag(image, Tag.EXTRA_SAMPLES, (0,))[0] == 1 else pixels), gray
    gray = image.mode in ("1", "L", "LA", "La")
    transparent = image.has_transparency_data
    if image.mode == "La":
        image = image.convert("LA")
    if kind == "TIFF":
        _tell_of_more(path, image, notices)
    return np.asarray(image.convert("RGBA" if transparent else "RGB")), gray


def _tell_of_more(path: Path, image: Image.Image, notices: list[Notice]) -> None:
    """Say that a TIFF's pixels have a channel that is neither colour nor transparency."""
    if any(kind == 0 for kind in tiff_tag(image, Tag.EXTRA_SAMPLES, ())):
        text = f"{path}: its pixels have another channel (infrared, say), which is not used."
        notices.append(Notice("further_pictures", text))


def tiff_tag(image: Image.Image, tag: Tag, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the numbers of a tag of a TIFF file; ``default`` of one that does not have it, or of another file."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value if isinstance(value, tuple) else (value,)


def _sixteen_bit_pixels(data: bytes) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if bgr is None or bgr.dtype != np.uint16 or (bgr.ndim == 3 and bgr.shape[2] not in (3, 4)):
        raise ValueError("its 16-bit layout is not supported")
    if bgr.ndim == 2:
        return np.repeat(bgr[..., None], 3, axis=2)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB if bgr.shape[2] == 3 else cv2.COLOR_BGRA2RGBA))


def _with_transparent_colour(pixels: np.ndarray, data: bytes, step: int = 1) -> np.ndarray:
    """Add the alpha of the one colour that a PNG may name as transparent; OpenCV does not look at it.

    Args:
        pixels: [H,W,3 or 4].
        data: the file.
        step: what one level of the file is in ``pixels``.
    """
    stated = next((content for name, content, _ in png_chunks(data) if name == b"tRNS"), b"")
    if pixels.shape[2] == 4 or len(stated) not in (2, 6):
        return pixels
    colour = np.frombuffer(stated, ">u2").astype(int) * step
    alpha = np.where((pixels == colour).all(axis=2), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.concatenate([pixels, alpha[..., None]], axis=2)


def _straight_alpha(pixels: np.ndarray) -> np.ndarray:
    """Divide the colours of 16-bit RGBA by the alpha that they were multiplied by."""
    straight = pixels.copy()
    for top in range(0, len(pixels), ROWS):
        rows = pixels[top : top + ROWS]
        alpha = rows[..., 3:].astype(np.float64)
        colour = np.divide(rows[..., :3] * 65535.0, alpha, out=np.zeros(rows[..., :3].shape), where=alpha > 0)
        straight[top : top + ROWS, :, :3] = np.rint(colour.clip(0, 65535))
    return straight


def _cmyk_to_rgb(path: Path, image: Image.Image, notices: list[Notice]) -> Image.Image:
    profile, how = image.info.get("icc_profile"), " without a profile"
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert converted is not None  # only None when converting in place
        except (OSError, ImageCms.PyCMSError):
            how = " without its profile, which is damaged or for other colours"
        else:
            notices.append(Notice("cmyk", f"{path}: CMYK is converted to sRGB; the output will be RGB."))
            return converted
    notices.append(Notice("cmyk", f"{path}: CMYK is converted to sRGB{how}; the output will be RGB."))
    return image.convert("RGB")


def lies(orientation: int | None) -> bool:
    """Return whether a picture of an EXIF orientation is stored on its side: across is down where it is shown."""
    return orientation in (5, 6, 7, 8)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as EXIF orientation 1-8 wants them shown; any other number means 1."""
    if lies(orientation):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
