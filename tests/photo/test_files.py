"""Photo files: what goes in comes out, in every format; what is wrong is refused by name; nothing is half-written.

Files are made and checked with Pillow and OpenCV directly, so that a mistake cannot cancel out within our own code.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ExifTags, Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

from pfr_core.errors import ImageError, InputError
from pfr_core.photo.codecs import need_codec
from pfr_core.photo.photo import FORMAT_OF_SUFFIX, LOSSY, Photo, Provenance, files_below
from pfr_core.photo.read import ending_of, read_photo
from pfr_core.photo.write import copy_file, write_photo
from pfr_core.photo.xmp import with_provenance
from pfr_core.support.files import ignores_case, replacing
from pfr_core.support.notice import Notice

from ..nobody import unprivileged

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]
MARKER = b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
PROVENANCE = Provenance(model="default", sha256="ab" * 32)
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="uuid:1" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" tiff:Orientation="6" dc:source="attic box 7" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture">'
    '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Gr\u00fc\u00dfe</rdf:li></rdf:Alt></dc:title>'
    "</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
).encode()


def textured(seed: int, height: int = 192, width: int = 256) -> np.ndarray:
    """Detail of every scale, as skin and hair have it: the amplitude falls with the frequency."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128.0)
    for size in (4, 8, 16, 32, 64, 128):
        coarse = rng.normal(0, 60 / size**0.5, (size, size, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return picture.clip(0, 255).astype(np.uint8)


def smooth(height: int = 24, width: int = 40, channels: int = 3, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Return a soft picture, as photos are: JPEG keeps it nearly, and every value range is used."""
    coarse = np.random.default_rng(seed).random((4, 5, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.rint(fine * np.iinfo(dtype).max).astype(dtype)


def gray_of(pixels: np.ndarray) -> np.ndarray:
    """Return the same with its three colours equal; alpha, if any, stays."""
    return np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 3:]], axis=2)


def like(pixels: np.ndarray, **fields: Any) -> Photo:
    return Photo(**{"pixels": pixels, "path": Path("source"), "format": "PNG", "gray": False, **fields})


def exif_block(orientation: int = 1, size: tuple[int, int] = (40, 24)) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Voigtl", orientation
    exif[ExifTags.Base.Artist] = "A. Photographer"
    sub = exif.get_ifd(ExifTags.IFD.Exif)
    sub[ExifTags.Base.FNumber], sub[ExifTags.Base.MakerNote] = IFDRational(28, 10), b"secret maker note" * 3
    sub[ExifTags.Base.ExifImageWidth], sub[ExifTags.Base.ExifImageHeight] = size
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.5)
    return exif.tobytes()


def check_exif(path: Path, size: tuple[int, int] = (40, 24)) -> None:
    """Check the tags of ``exif_block`` as Pillow, not we, reads them; ``size`` is width, height."""
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Voigtl" and exif[ExifTags.Base.Artist] == "A. Photographer"
        assert exif.get(ExifTags.Base.Orientation) == 1
        sub = exif.get_ifd(ExifTags.IFD.Exif)
        assert float(sub[ExifTags.Base.FNumber]) == 2.8
        assert sub[ExifTags.Base.MakerNote] == b"secret maker note" * 3
        assert (sub[ExifTags.Base.ExifImageWidth], sub[ExifTags.Base.ExifImageHeight]) == size
        assert tuple(map(float, exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude])) == (52.0, 31.0, 12.5)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_bytes(samples: np.ndarray, colour_type: int, behind_pixels: bytes = b"") -> bytes:
    """Return a PNG written by hand: neither Pillow nor OpenCV writes 16-bit gray with alpha."""
    height, width = samples.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(raw)) + behind_pixels + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


# --- Round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("gray", [False, True])
def test_lossless_round_trip(tmp_path: Path, suffix: str, dtype: Any, channels: int, gray: bool) -> None:
    if (suffix in (".webp", ".bmp") and dtype == np.uint16) or (suffix == ".bmp" and channels == 4):
        pytest.skip("not in this format")
    pixels = smooth(channels=channels, dtype=dtype)
    pixels = gray_of(pixels) if gray else pixels
    path = tmp_path / f"photo{suffix}"
    write_photo(path, pixels, like(pixels, gray=gray))
    back = read_photo(path)
    assert back.pixels.dtype == dtype and back.pixels.flags.c_contiguous and back.lossless
    np.testing.assert_array_equal(back.pixels, pixels)
    one_channel = gray and suffix != ".webp" and not (channels == 4 and dtype == np.uint16)
    assert back.gray == one_channel and back.path == path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_as_opencv_reads_them(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = smooth(channels=max(channels, 3), dtype=np.uint16)
    pixels = gray_of(pixels) if channels == 1 else pixels
    path = tmp_path / f"photo{suffix}"
    write_photo(path, pixels, like(pixels, gray=channels == 1, exif=exif_block()[6:], icc=SRGB, xmp=XMP))
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None and found.dtype == np.uint16
    if channels == 1:
        np.testing.assert_array_equal(found, pixels[..., 0])
    else:
        order = [2, 1, 0, 3][:channels]
        np.testing.assert_array_equal(found[..., order], pixels)


@settings(max_examples=25, deadline=None)
@given(
    pixels=hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4]))),
    suffix=st.sampled_from([".png", ".tif"]),
    gray=st.booleans(),
)
def test_any_sixteen_bit_pixels_survive(pixels: np.ndarray, suffix: str, gray: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        write_photo(path, pixels, like(pixels, gray=gray))
        np.testing.assert_array_equal(read_photo(path).pixels, pixels)


def test_tiff_of_many_strips_and_big_endian_exif(tmp_path: Path) -> None:
    pixels = smooth(900, 700, 4, np.uint16)
    exif = exif_block()[6:]
    swapped = Image.Exif()
    swapped.load(exif)
    swapped.endian = ">"
    path = tmp_path / "big.tiff"
    write_photo(path, pixels, like(pixels, exif=swapped.tobytes()[6:]))
    assert path.read_bytes()[:4] == b"MM\0*"
    np.testing.assert_array_equal(read_photo(path).pixels, pixels)
    check_exif(path, (700, 900))
    with Image.open(path) as image:
        assert len(image.tag_v2[273]) > 1  # type: ignore[attr-defined]


def steps_of(path: Path) -> list[list[int]]:
    """Return the quantisation tables of a JPEG, luma first; 4:4:4 is asserted."""
    with Image.open(path) as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        assert image.mode == "L" or JpegImagePlugin.get_sampling(image) == 0
        return [list(table) for _, table in sorted(image.quantization.items())]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_its_scan_order_and_is_nowhere_coarser(tmp_path: Path, mode: str, sampling: int, progressive: bool) -> None:
    source, target, coarse = tmp_path / "a.jpg", tmp_path / "b.jpeg", tmp_path / "c.jpg"
    image = Image.fromarray(smooth(64, 96)).convert(mode)
    image.save(source, quality=83, subsampling=sampling, progressive=progressive)
    photo = read_photo(source)
    assert photo.format == "JPEG" and photo.gray == (mode == "L") and not photo.lossless
    write_photo(target, photo.pixels, photo)
    with Image.open(target) as new:
        assert new.mode == mode and bool(new.info.get("progressive")) == progressive
    image.save(tmp_path / "95.jpg", quality=95, subsampling=0)
    assert steps_of(target) == steps_of(tmp_path / "95.jpg")  # all of 83's steps are coarser
    difference = np.abs(read_photo(target).pixels.astype(int) - photo.pixels)
    assert difference.mean() < 0.8 and difference.max() <= 8
    write_photo(coarse, photo.pixels, photo, quality=30)
    assert coarse.stat().st_size < target.stat().st_size


def test_jpeg_finer_than_ours_keeps_its_tables(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "fine.jpg", quality=98, subsampling=2)
    photo = read_photo(tmp_path / "fine.jpg")
    write_photo(tmp_path / "again.jpg", photo.pixels, photo)
    with Image.open(tmp_path / "fine.jpg") as fine:
        assert isinstance(fine, JpegImagePlugin.JpegImageFile)
        assert steps_of(tmp_path / "again.jpg") == [list(table) for _, table in sorted(fine.quantization.items())]


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("quality", [5, 10, 20, 50, 75, 90, 98])
def test_what_was_restored_is_what_is_on_disk(tmp_path: Path, quality: int, sampling: int) -> None:
    """Whatever the source's quality: at least 97 % of a change with fine detail and colour in it, and little else."""
    Image.fromarray(textured(seed=3)).save(tmp_path / "bad.jpg", quality=quality, subsampling=sampling)
    photo = read_photo(tmp_path / "bad.jpg")
    restored = photo.pixels.astype(float)
    restored[32:160, 48:208] += 0.15 * (textured(seed=4)[32:160, 48:208] - 128.0)  # 6 grey levels, as of a restored face
    restored = restored.round().clip(0, 255).astype(np.uint8)
    write_photo(tmp_path / "good.jpg", restored, photo)
    written = read_photo(tmp_path / "good.jpg").pixels.astype(float)
    change, kept = restored.astype(float) - photo.pixels, written - photo.pixels
    assert (change * kept).sum() / (change**2).sum() > 0.97
    untouched = np.abs(kept)
    untouched[24:168, 40:216] = 0  # the change and the blocks that it shares
    assert untouched.mean() < 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".avif", ".heic"])
@pytest.mark.parametrize("quality", [5, 20, 50, 90])
def test_what_was_restored_is_what_is_on_disk_in_every_format(tmp_path: Path, suffix: str, quality: int) -> None:
    """As above, for a badly compressed photo of any other format, in its own format; WebP sub-samples colour always."""
    path, target = tmp_path / f"bad{suffix}", tmp_path / f"good{suffix}"
    need_codec(FORMAT_OF_SUFFIX[suffix], path)
    lossy = FORMAT_OF_SUFFIX[suffix] in LOSSY
    options: dict[str, Any] = {"quality": quality} if lossy else {}
    Image.fromarray(textured(seed=3)).save(path, **options)
    photo = read_photo(path)
    restored = photo.pixels.astype(float)
    restored[32:160, 48:208] += 0.15 * (textured(seed=4)[32:160, 48:208].mean(axis=2, keepdims=True) - 128.0)
    restored = restored.round().clip(0, 255).astype(np.uint8)
    write_photo(target, restored, photo)
    change, kept = restored.astype(float) - photo.pixels, read_photo(target).pixels.astype(float) - photo.pixels
    share = (change * kept).sum() / (change**2).sum()
    assert share > (0.97 if lossy else 0.9999)


def test_jpeg_with_separate_chroma_tables_and_a_colour_result_of_a_gray_jpeg(tmp_path: Path) -> None:
    tables = [[1] * 64, [2] * 64, [3] * 64]
    image = Image.fromarray(smooth())
    image.save(tmp_path / "three.jpg", qtables=tables, subsampling=0)
    photo = read_photo(tmp_path / "three.jpg")
    write_photo(tmp_path / "again.jpg", photo.pixels, photo)
    assert [table[-1] for table in steps_of(tmp_path / "again.jpg")] == [1, 2, 3]
    image.convert("L").save(tmp_path / "gray.jpg")
    write_photo(tmp_path / "colour.jpg", smooth(), read_photo(tmp_path / "gray.jpg"))
    assert not read_photo(tmp_path / "colour.jpg").gray


def test_jpeg_without_a_source_is_95_without_subsampling(tmp_path: Path) -> None:
    write_photo(tmp_path / "new.jpg", smooth())
    Image.fromarray(smooth()).save(tmp_path / "reference.jpg", quality=95, subsampling=0)
    with Image.open(tmp_path / "new.jpg") as new, Image.open(tmp_path / "reference.jpg") as reference:
        assert isinstance(new, JpegImagePlugin.JpegImageFile) and JpegImagePlugin.get_sampling(new) == 0
        assert isinstance(reference, JpegImagePlugin.JpegImageFile) and new.quantization == reference.quantization


def test_progressive_noise_at_top_quality_is_still_written(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(smooth(300, 400)).save(tmp_path / "a.jpg", qtables=[[1] * 64] * 2, subsampling=0, progressive=True)
    (notice,) = write_photo(tmp_path / "b.jpg", noise, read_photo(tmp_path / "a.jpg"))
    assert notice.kind == "baseline"
    assert np.abs(read_photo(tmp_path / "b.jpg").pixels.astype(int) - noise).mean() < 2


@pytest.mark.parametrize("lossless", [False, True])
def test_webp_stays_lossy_or_lossless(tmp_path: Path, lossless: bool) -> None:
    Image.fromarray(smooth(60, 80, seed=3)).save(tmp_path / "a.webp", lossless=lossless, quality=70)
    photo = read_photo(tmp_path / "a.webp")
    assert photo.lossless == lossless
    write_photo(tmp_path / "b.webp", photo.pixels, photo)
    back = read_photo(tmp_path / "b.webp")
    assert back.lossless == lossless and np.abs(back.pixels.astype(int) - photo.pixels).mean() < (0.001 if lossless else 3)
    write_photo(tmp_path / "c.webp", photo.pixels, photo, quality=50)
    assert not read_photo(tmp_path / "c.webp").lossless


def test_webp_keeps_colour_under_transparent_pixels(tmp_path: Path) -> None:
    pixels = smooth(channels=4)
    pixels[:10, :, 3] = 0
    write_photo(tmp_path / "a.webp", pixels)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.webp").pixels, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path, suffix: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = np.repeat(values[..., None], 3, axis=2)
    (notice,) = write_photo(tmp_path / f"a{suffix}", pixels, quality=None)
    assert notice.kind == "sixteen_bits" and f"a{suffix}: 16 bits" in notice.text
    expected = np.rint(pixels / 257.0)
    tolerance = 3 if suffix == ".jpg" else 0
    assert np.abs(read_photo(tmp_path / f"a{suffix}").pixels - expected).max() <= tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_transparency_is_refused_where_it_would_be_lost(tmp_path: Path, suffix: str) -> None:
    pixels = smooth(channels=4)
    path = tmp_path / f"a{suffix}"
    with pytest.raises(ImageError, match=r"transparency.*\.png"):
        write_photo(path, pixels)
    assert not list(tmp_path.iterdir())
    pixels[..., 3] = 255
    write_photo(path, pixels)
    assert read_photo(path).pixels.shape[2] == 3


# --- What files hold -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = smooth(24, 40)
    # The stored picture is the one that Pillow's own method for this orientation turns into the upright one.
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose: flips 0/1, turns 2-4, 5 and 6
    image = Image.fromarray(upright)
    stored = image.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else image
    path, out = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    per_format: dict[str, dict[str, Any]] = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}
    options = per_format.get(suffix, {})
    exif = Image.Exif()
    exif.load(exif_block(orientation, stored.size))
    exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = dpi = 204, 98
    stored.save(path, exif=exif, dpi=dpi, **options)
    photo = read_photo(path)
    assert np.abs(photo.pixels.astype(int) - upright).max() <= (4 if suffix == ".jpg" else 0)
    write_photo(out, photo.pixels, photo)
    check_exif(out, (40, 24))
    again = read_photo(out)
    assert np.abs(again.pixels.astype(int) - upright).max() <= (6 if suffix == ".jpg" else 0)
    shown = dpi[::-1] if orientation >= 5 else dpi
    for each in (photo, again):
        assert each.dpi is None if suffix == ".webp" else each.dpi == pytest.approx(shown, abs=0.1)
    with Image.open(out) as image:
        stated = image.getexif()
    resolution = [float(stated[tag]) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)]
    assert resolution == pytest.approx(shown, abs=0.1)


@pytest.mark.parametrize("orientation", [None, 1, 6, 8])
def test_tiff_sixteen_bit_orientation(tmp_path: Path, orientation: int | None) -> None:
    pixels = smooth(dtype=np.uint16)
    path = tmp_path / "a.tif"
    write_photo(path, pixels, like(pixels, xmp=None if orientation else XMP))  # XMP states 6, the tag is taken out below
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HHI", 274, 3, 1), 8)
    data[at : at + 12] = struct.pack("<HHIHH", 274, 3, 1, orientation, 0) if orientation else b"\x13\x01" + b"\0" * 10
    path.write_bytes(data)
    turns = {None: -1, 1: 0, 6: -1, 8: 1}[orientation]
    np.testing.assert_array_equal(read_photo(path).pixels, np.rot90(pixels, turns))


def test_orientation_in_xmp_counts_only_without_one_in_exif(tmp_path: Path) -> None:
    pixels = smooth()
    image = Image.fromarray(pixels)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    image.save(tmp_path / "xmp.png", pnginfo=info)
    photo = read_photo(tmp_path / "xmp.png")
    np.testing.assert_array_equal(photo.pixels, np.rot90(pixels, -1))
    assert photo.xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')
    image.save(tmp_path / "both.png", pnginfo=info, exif=exif_block(1))
    np.testing.assert_array_equal(read_photo(tmp_path / "both.png").pixels, pixels)


def test_png_metadata_behind_the_pixels_and_in_text(tmp_path: Path) -> None:
    samples = smooth(channels=3, dtype=np.uint16)
    (tmp_path / "late.png").write_bytes(png_bytes(samples, 2, chunk(b"eXIf", exif_block(3)[6:])))
    np.testing.assert_array_equal(read_photo(tmp_path / "late.png").pixels, samples[::-1, ::-1])
    block = exif_block(3)
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    info.add_text("prompt", '{"seed": 7}')
    Image.fromarray(smooth()).save(tmp_path / "text.png", pnginfo=info)
    photo = read_photo(tmp_path / "text.png")
    np.testing.assert_array_equal(photo.pixels, smooth()[::-1, ::-1])
    write_photo(tmp_path / "out.png", photo.pixels, photo)
    check_exif(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as out:
        assert out.info["prompt"] == '{"seed": 7}' and "Raw profile type exif" not in out.info
    np.testing.assert_array_equal(read_photo(tmp_path / "out.png").pixels, photo.pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_profile_exif_xmp_and_resolution_survive(tmp_path: Path, suffix: str, dtype: Any) -> None:
    pixels = smooth(dtype=dtype)
    path, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_photo(path, pixels, like(pixels, icc=SRGB, exif=exif_block()[6:], xmp=XMP, dpi=(300.0, 150.0)))
    with Image.open(path) as image:
        assert image.info["icc_profile"] == SRGB
        if suffix != ".webp":
            assert tuple(map(float, image.info["dpi"])) == pytest.approx((300, 150), abs=0.02)
    check_exif(path)
    photo = read_photo(path)  # and through a second generation
    write_photo(second, photo.pixels, photo, provenance=PROVENANCE)
    assert read_photo(second).icc == SRGB
    check_exif(second)
    xmp = read_photo(second).xmp
    assert xmp is not None and MARKER in xmp and b"attic box 7" in xmp and "Grüße".encode() in xmp
    assert b"digitalCapture" not in xmp and b"PFR default" in xmp and b"ab" * 32 in xmp


def test_maker_notes_stay_in_place_and_the_preview_goes(tmp_path: Path) -> None:
    block = bytearray(exif_block(6)[6:])
    (first,) = struct.unpack_from("<I", block, 4) if block[:2] == b"II" else struct.unpack_from(">I", block, 4)
    order = "<" if block[:2] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", block, first)
    preview = struct.pack(order + "HHHII", 1, 0x0201, 4, 1, 0) + b"\0" * 4
    struct.pack_into(order + "I", block, first + 2 + 12 * count, len(block))
    block += preview
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + bytes(block))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.exif is not None and photo.exif.index(b"secret") == block.index(b"secret")
    write_photo(tmp_path / "b.jpg", photo.pixels, photo)
    with Image.open(tmp_path / "b.jpg") as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


def test_blocks_of_the_same_format_are_carried(tmp_path: Path) -> None:
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02\x05\0\x07Holiday"
    stream = io.BytesIO()
    Image.fromarray(smooth()).save(stream, "JPEG", comment=b"a comment")
    data = stream.getvalue()
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc + data[2:])
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.notices == write_photo(tmp_path / "b.jpg", photo.pixels, photo) == ()
    assert iptc in (tmp_path / "b.jpg").read_bytes() and read_photo(tmp_path / "b.jpg").extras == photo.extras
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["comment"] == b"a comment"
    (notice,) = write_photo(tmp_path / "c.png", photo.pixels, photo)
    assert notice.kind == "not_kept" and "APP13" in notice.text and "COM" in notice.text

    Image.fromarray(smooth()).save(tmp_path / "a.tif", tiffinfo={33723: iptc[20:], 270: "caption"})
    photo = read_photo(tmp_path / "a.tif")
    write_photo(tmp_path / "b.tif", photo.pixels, photo)
    assert read_photo(tmp_path / "b.tif").extras == (("33723", iptc[20:]),)
    with Image.open(tmp_path / "b.tif") as image:
        assert image.getexif()[270] == "caption"
    whole = iptc[20:] + bytes(-len(iptc[20:]) % 4)
    Image.fromarray(smooth()).save(tmp_path / "d.tif", tiffinfo={33723: whole})
    stored, tag = (tmp_path / "d.tif").read_bytes(), struct.pack("<H", 33723)
    head = stored[stored.index(tag) : stored.index(tag) + 8]
    assert struct.unpack("<HHI", head)[2] == len(whole)
    (tmp_path / "d.tif").write_bytes(stored.replace(head, struct.pack("<HHI", 33723, 4, len(whole) // 4)))  # as Photoshop has it
    assert read_photo(tmp_path / "d.tif").extras == (("33723", whole),)
    write_photo(tmp_path / "c.jpg", photo.pixels, photo)
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.getexif()[270] == "caption"


def test_a_file_full_of_metadata_is_refused_at_once(tmp_path: Path) -> None:
    """Decoders put the blocks together one by one: 1,000 of them in a JPEG took half a minute."""
    path = tmp_path / "a.jpg"
    write_photo(path, smooth())
    whole = path.read_bytes()
    segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)
    path.write_bytes(whole[:2] + segment * 100 + whole[2:])
    read_photo(path)
    for between in (b"", b"\xff", b"\0", b"\xff\0", b"\xff\xd8", b"\xff\xd0", b"\xff\xd9", b"\xff\xc8\xff\0"):  # decoders read on
        path.write_bytes(whole[:2] + segment + between + segment * 300 + whole[2:])
        with pytest.raises(ImageError, match=r"a\.jpg: it holds 20 MB of metadata; the limit is 16 MB"):
            read_photo(path)
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(smooth(channels=3), 2, chunk(b"tEXt", b"a\0b") * 10_001))
    with pytest.raises(ImageError, match=r"a\.png: it holds more than 10,000 blocks of metadata"):
        read_photo(path)


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    pixels = smooth()
    photo = like(pixels, icc=SRGB, exif=exif_block()[6:], dpi=(300.0, 300.0))
    (notice,) = write_photo(tmp_path / "a.bmp", pixels, photo, provenance=PROVENANCE)
    assert all(word in notice.text for word in ("a.bmp", "icc", "exif", "xmp"))
    (notice,) = write_photo(tmp_path / "b.png", pixels, like(pixels, icc=GRAY_PROFILE, gray=True))
    assert "gray ICC profile" in notice.text and read_photo(tmp_path / "b.png").icc is None
    assert write_photo(tmp_path / "c.png", gray_of(pixels), like(pixels, icc=GRAY_PROFILE, gray=True)) == ()
    assert read_photo(tmp_path / "c.png").icc == GRAY_PROFILE
    big = XMP.replace(b"attic box 7", b"x" * 70000)
    full = like(pixels, xmp=big, exif=exif_block()[6:] + b"\0" * 70000)
    not_kept, long_exif = write_photo(tmp_path / "d.jpg", pixels, full, provenance=PROVENANCE)
    assert "XMP" in not_kept.text and long_exif.kind == "long_exif" and MARKER in (read_photo(tmp_path / "d.jpg").xmp or b"")
    write_photo(tmp_path / "e.png", pixels, like(pixels, xmp=big), provenance=PROVENANCE)
    assert b"x" * 70000 in (read_photo(tmp_path / "e.png").xmp or b"")


def test_provenance_in_xmp() -> None:
    once = with_provenance(XMP, PROVENANCE)
    assert with_provenance(once, PROVENANCE) == once  # a second run adds nothing
    assert once.count(b"DigitalSourceType>") == 2 and b"DigitalSourceType=" not in once
    assert b'about="uuid:1"' in once.split(b"AISystemUsed")[0].rsplit(b"Description", 1)[1]
    other = with_provenance(once, Provenance("other <&>", "cd" * 32))
    assert b"PFR default" not in other and b"PFR other &lt;&amp;&gt;" in other
    odd = with_provenance(None, Provenance("m\udce8\x01.pth", "cd" * 32))
    assert rb"PFR m\udce8\x01.pth" in odd and with_provenance(odd, PROVENANCE).count(b"PFR ") == 2, "of a name that is no text"
    generated = XMP.replace(b"digitalCapture", b"trainedAlgorithmicMedia")
    kept = with_provenance(generated, PROVENANCE)
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in kept and MARKER not in kept


@pytest.mark.parametrize("bad", [b"\0junk", b"<x/>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_damaged_xmp_is_replaced_and_said(bad: bytes) -> None:
    notices: list[Notice] = []
    assert MARKER in with_provenance(bad, PROVENANCE, notices)
    assert [notice.kind for notice in notices] == ["damaged_xmp"]


def exif_fields(*fields: tuple[int, int, int, int], order: str = ">") -> bytes:
    """Return an EXIF block of (tag, type, count, number) in a single directory; it may point at anything."""
    head = b"MM\0*\0\0\0\x08" if order == ">" else b"II*\0\x08\0\0\0"
    code = {3: "Hxx", 4: "I"}
    packed = [struct.pack(f"{order}HHI{code[kind]}", tag, kind, count, number) for tag, kind, count, number in fields]
    return head + struct.pack(f"{order}H", len(fields)) + b"".join(packed) + b"\0" * 4


ORIENTATION_6 = (0x0112, 3, 1, 6)


def test_exif_that_cannot_be_read_at_all_is_left_out_and_said(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.exif is None and [notice.kind for notice in photo.notices] == ["damaged_exif"]


# --- Kinds of pixels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_eight_bit_modes(tmp_path: Path, suffix: str, mode: str) -> None:
    if (mode in ("LA", "RGBA") and suffix in (".bmp", ".gif")) or (mode == "1" and suffix == ".gif"):
        pytest.skip("not in this format")
    image = Image.fromarray(smooth(channels=4 if mode in ("LA", "RGBA") else 3)).convert(mode)
    path = tmp_path / f"a{suffix}"
    image.save(path)
    photo = read_photo(path)
    expected = np.asarray(image.convert("RGBA" if mode in ("LA", "RGBA") else "RGB"))
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.gray == (mode in ("1", "L", "LA") and suffix != ".gif")


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_png_with_a_transparent_colour(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.where(smooth() > 128, np.uint8(255), np.uint8(0))).convert(mode)
    image.save(tmp_path / "a.png", transparency=(255, 255, 255) if mode == "RGB" else 0)
    with Image.open(tmp_path / "a.png") as reference:
        expected = np.asarray(reference.convert("RGBA"))
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, expected)
    assert 0 < (photo.pixels[..., 3] == 0).mean() < 1 and photo.gray == (mode == "L")


def test_sixteen_bit_gray_with_alpha(tmp_path: Path) -> None:
    samples = smooth(channels=2, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_bytes(samples, 4))
    photo = read_photo(tmp_path / "a.png")
    assert photo.gray
    np.testing.assert_array_equal(photo.pixels, samples[..., [0, 0, 0, 1]])
    write_photo(tmp_path / "b.png", photo.pixels, photo)
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png").pixels, photo.pixels)


@pytest.mark.parametrize("kind", ["white is zero", "premultiplied", "unspecified", "big-endian", "bigtiff", "tiled", "planes"])
def test_sixteen_bit_tiff_layouts(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr("pfr_core.photo.decode.ROWS", 20)  # so that there are several strips of them
    path = tmp_path / "a.tif"
    rgb, rgba = smooth(48, 64, 3, np.uint16), smooth(48, 64, 4, np.uint16)
    expected = rgb
    if kind == "white is zero":
        tifffile.imwrite(path, 65535 - rgb[..., 0], photometric="miniswhite")
        expected = gray_of(rgb)
    elif kind == "premultiplied":
        rgba[..., 3] = 1 + rgba[..., 3] // 2
        rgba[0, 0] = 0
        stored = np.rint(rgba[..., :3] * (rgba[..., 3:] / 65535.0)).astype(np.uint16)
        tifffile.imwrite(path, np.dstack([stored, rgba[..., 3]]), photometric="rgb", extrasamples=["assocalpha"])
        expected = rgba
    elif kind == "unspecified":
        tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unspecified"])
        expected = rgba[..., :3]
    elif kind == "planes":
        tifffile.imwrite(path, np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate")
    else:
        options: dict[str, Any] = {
            "big-endian": {"byteorder": ">"},
            "bigtiff": {"bigtiff": True},
            "tiled": {"tile": (16, 16)},
        }
        tifffile.imwrite(path, rgb, photometric="rgb", **options[kind])
    photo = read_photo(path)
    tolerance = 65535 / rgba[..., 3:].clip(1) if kind == "premultiplied" else 0
    assert (np.abs(photo.pixels.astype(int) - expected) <= tolerance).all()
    assert photo.gray == (kind == "white is zero")


def cmyk_profile() -> bytes:
    """Return a minimal CMYK input profile: a two-point table whose colours differ from the plain formula's (all are grays)."""
    corners = b"".join(
        bytes([max(0, 255 - 60 * (c + m + y) - 200 * k), 128, 128])
        for c in (0, 1)
        for m in (0, 1)
        for y in (0, 1)
        for k in (0, 1)
    )
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + corners + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78
    tags, position, body = b"", 128 + 4 + 3 * 12, b""
    for name, content in ((b"desc", text), (b"wtpt", white), (b"A2B0", table)):
        content += b"\0" * (-len(content) % 4)
        tags += name + struct.pack(">II", position + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s12s48s",
        position + len(body),
        b"lcms",
        0x02400000,
        b"prtr",
        b"CMYK",
        b"Lab ",
        b"\0" * 12,
        b"acsp",
        b"\0" * 28,
        struct.pack(">3I", 63190, 65536, 54061),
        b"\0" * 48,
    )
    return header + struct.pack(">I", 3) + tags + body


@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_srgb(tmp_path: Path, profile: bool, suffix: str) -> None:
    cmyk = np.zeros((32, 48, 4), np.uint8)
    cmyk[:, :16, 0] = 255  # cyan
    cmyk[:, 32:, 3] = 255  # black; paper white between
    image = Image.frombytes("CMYK", (48, 32), cmyk.tobytes())
    image.save(tmp_path / f"a{suffix}", icc_profile=cmyk_profile() if profile else None)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert [notice.kind for notice in photo.notices] == ["cmyk"] and photo.icc is None and photo.jpeg is None
    cyan, white, black = (photo.pixels[16, x].astype(int) for x in (8, 24, 40))
    assert white.min() > 245 and black.max() < (70 if profile else 10)
    if profile:
        assert np.ptp(cyan) < 12 and 150 < cyan.mean() < 230  # the table says a light gray; the plain formula, cyan
    else:
        assert cyan[0] < 10 and cyan[1:].min() > 245
    write_photo(tmp_path / "b.jpg", photo.pixels, photo)
    assert read_photo(tmp_path / "b.jpg").pixels.shape == photo.pixels.shape


def test_mpo_is_read_as_its_first_picture(tmp_path: Path) -> None:
    first, second = smooth(seed=1), smooth(seed=2)
    path = tmp_path / "phone.jpg"
    Image.fromarray(first).save(path, "MPO", save_all=True, append_images=[Image.fromarray(second)], quality=95)
    photo = read_photo(path)
    assert photo.format == "JPEG" and photo.jpeg is not None and [notice.kind for notice in photo.notices] == ["further_pictures"]
    assert np.abs(photo.pixels.astype(int) - first).mean() < 4
    write_photo(tmp_path / "b.jpg", photo.pixels, photo)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"


def test_wide_panorama(tmp_path: Path) -> None:
    path = tmp_path / "panorama.png"
    Image.new("L", (20000, 5000), 90).save(path, compress_level=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow itself would refuse
        photo = read_photo(path)
        assert Image.MAX_IMAGE_PIXELS == 1000
    assert photo.pixels.shape == (5000, 20000, 3) and photo.pixels[-1, -1, 0] == 90


# --- What is refused -------------------------------------------------------------------------------------------------


def refused(path: Path, words: str, **options: Any) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_photo(path, **options)
    assert str(path) in str(caught.value)


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    refused(tmp_path / "missing.jpg", "no such file")
    refused(tmp_path, "folder")
    for name, content, words in [
        ("empty.png", b"", "empty"),
        ("text.jpg", b"hello, this is no picture", "not a picture"),
        ("head.png", b"\x89PNG\r\n\x1a\n", "damaged"),
        ("sound.webp", b"RIFF\x24\0\0\0WAVEfmt ", "not a picture"),
        ("cut.webp", b"RIFF\x24\0\0\0WEBPVP8 ", "damaged"),
    ]:
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, words)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "ordinary file")


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(smooth(seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    refused(tmp_path / f"a{suffix}", "several pages" if suffix == ".tif" else "frames")


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_other_numbers_are_refused(tmp_path: Path, dtype: Any) -> None:
    Image.fromarray(smooth()[..., 0].astype(dtype)).save(tmp_path / "a.tif")
    refused(tmp_path / "a.tif", "8- or 16-bit")


def test_lab_and_floating_point_colour_are_refused(tmp_path: Path) -> None:
    Image.fromarray(smooth()).convert("RGB").save(tmp_path / "rgb.tif")
    Image.frombytes("LAB", (40, 24), smooth().tobytes()).save(tmp_path / "lab.tif")
    refused(tmp_path / "lab.tif", "Lab")
    cv2.imwrite(str(tmp_path / "float.tif"), smooth().astype(np.float32))
    refused(tmp_path / "float.tif", "8- or 16-bit")


def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 9999)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    refused(tmp_path / "bomb.png", "60000 x 60000 .*max_pixels")
    Image.fromarray(smooth()).save(tmp_path / "small.png")
    refused(tmp_path / "small.png", "40 x 24 .*959", max_pixels=959)


def sample(kind: str) -> bytes:
    stream, picture = io.BytesIO(), smooth(60, 80)
    if kind.endswith("16"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a.{kind[:3]}"
            write_photo(path, smooth(60, 80, dtype=np.uint16))
            return path.read_bytes()
    per_kind: dict[str, dict[str, Any]] = {
        "jpeg": {},
        "progressive": {"progressive": True},
        "png": {},
        "webp": {},
        "lossless": {"lossless": True},
        "bmp": {},
        "tiff": {},
        "lzw": {"compression": "tiff_lzw"},
        "gif": {},
    }
    formats = {"progressive": "JPEG", "lossless": "WEBP", "lzw": "TIFF"}
    Image.fromarray(picture).save(stream, formats.get(kind, kind), **per_kind[kind])
    return stream.getvalue()


KINDS = ["jpeg", "progressive", "png", "png16", "webp", "lossless", "bmp", "tiff", "lzw", "tif16", "gif"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow, about damaged tags
@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_never_half_a_picture(
    tmp_path: Path, kind: str, tolerant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)  # as other packages leave it
    data, path = sample(kind), tmp_path / "a.img"
    path.write_bytes(data)
    whole = read_photo(path).pixels
    for cut in [*range(0, len(data), max(1, len(data) // 25)), *range(len(data) - 15, len(data))]:
        path.write_bytes(data[:cut])
        try:
            photo = read_photo(path)
        except ImageError as error:
            assert str(path) in str(error)
        else:
            lost = (photo.pixels != whole).any(axis=2)
            assert cut > len(data) * 0.9 and not lost[:-18].any()
            assert lost.mean() <= (0.05 if kind in ("jpeg", "progressive") else 0)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is tolerant


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_damaged_files_raise_nothing_else(kind: str, data: st.DataObject) -> None:
    content = bytearray(sample(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.img"
        path.write_bytes(content)
        try:
            photo = read_photo(path, max_pixels=1_000_000)
        except ImageError as error:
            assert str(path) in str(error)
        else:
            write_photo(Path(folder) / "b.png", photo.pixels, photo, provenance=PROVENANCE)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        [[[0, 0, 0]]],
        None,
    ],
)
def test_wrong_pixels_are_refused(tmp_path: Path, pixels: Any) -> None:
    with pytest.raises(InputError, match="pixels"):
        write_photo(tmp_path / "a.png", pixels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quality", [0, 101, 9.5, "high", True])
def test_wrong_quality_is_refused(tmp_path: Path, quality: Any) -> None:
    with pytest.raises(InputError, match="quality"):
        write_photo(tmp_path / "a.jpg", smooth(), quality=quality)


def test_unknown_endings_and_impossible_sizes_are_refused(tmp_path: Path) -> None:
    for name in ("a.gif", "a", "a.jxl"):
        with pytest.raises(ImageError, match=r"ending.*\.png"):
            write_photo(tmp_path / name, smooth())
    with pytest.raises(ImageError, match="16383"):
        write_photo(tmp_path / "a.webp", np.zeros((1, 16384, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_every_known_ending_can_be_written_and_read(tmp_path: Path) -> None:
    for suffix in FORMAT_OF_SUFFIX:
        path = tmp_path / f"a{suffix.upper()}"
        write_photo(path, smooth(1, 1))
        assert read_photo(path).pixels.shape == (1, 1, 3)


def test_too_little_memory_is_no_damage_and_no_fault_of_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = smooth(dtype=np.uint16)
    write_photo(tmp_path / "a.png", pixels)

    def full(*_: object) -> None:
        raise cv2.error("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes")

    monkeypatch.setattr(cv2, "imdecode", full)
    monkeypatch.setattr(cv2, "imencode", full)
    with pytest.raises(MemoryError, match="Failed to allocate"):
        read_photo(tmp_path / "a.png")
    with pytest.raises(MemoryError, match="Failed to allocate"):
        write_photo(tmp_path / "b.png", pixels)


# --- Whole files or none ---------------------------------------------------------------------------------------------


def test_no_permission() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secret, public, closed = folder / "secret.png", folder / "public.png", folder / "closed"
        closed.mkdir()
        for path in (secret, public, closed / "old.png"):
            write_photo(path, smooth())
        secret.chmod(0)
        public.chmod(0o444)
        folder.chmod(0o755)
        closed.chmod(0o555)
        before = (closed / "old.png").read_bytes()
        with unprivileged():
            refused(secret, "permission")
            for target in (closed / "new.png", closed / "old.png", closed / "sub" / "new.png", public):
                with pytest.raises(ImageError, match="may write to") as caught:
                    write_photo(target, smooth(seed=1))
                assert str(target) in str(caught.value)
        assert [path.name for path in closed.iterdir()] == ["old.png"]
        assert (closed / "old.png").read_bytes() == before
        closed.chmod(0)
        with unprivileged():
            assert not ignores_case(closed / "below"), "nothing can be tried there"
        closed.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A real limit on file size, in a process of its own: the write stops in the middle."""
    target = tmp_path / "a.tif"
    write_photo(target, smooth())
    before = target.read_bytes()
    program = (
        "import resource, sys, numpy as np\n"
        "from pfr_core.errors import ImageError\n"
        "from pfr_core.photo.write import write_photo, copy_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)\n"
        "for call in (lambda: write_photo(sys.argv[1], noise), lambda: copy_file(sys.executable, sys.argv[1])):\n"
        "    try:\n"
        "        call()\n"
        "    except ImageError as error:\n"
        "        print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program, str(target)], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.count(str(target)) == 2 and done.stdout.count("free some space") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"] and target.read_bytes() == before


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_at_the_last_moment(tmp_path: Path, failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    write_photo(target, smooth())
    before = target.read_bytes()

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ImageError if isinstance(failure, OSError) else KeyboardInterrupt):
        write_photo(target, smooth(seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and target.read_bytes() == before


def test_what_a_killed_run_left_goes_a_day_later(tmp_path: Path) -> None:
    """By whatever is written beside it; what is younger may be at work, and what has another name is another's."""
    with replacing(tmp_path / "elsewhere.png") as temporary:
        name = temporary.name
    folder = tmp_path / "results"
    folder.mkdir()
    old, young, other = (folder / each for each in (name, name.replace(".tmp", "0.tmp"), ".0123456789abcdef.tmp"))
    then = time.time() - 2 * 86_400
    for left in (old, young, other):
        left.write_bytes(b"half")
        os.utime(left, None if left == young else (then, then))
    write_photo(folder / "a.png", smooth())
    assert {*folder.iterdir()} == {young, other, folder / "a.png"}


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    for target in (tmp_path / "file" / "a.png", tmp_path / "folder.png", tmp_path / ("n" * 300 + ".png")):
        with pytest.raises(ImageError, match="output path"):
            write_photo(target, smooth())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_permission_bits_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    ordinary, new, link = tmp_path / "ordinary", tmp_path / "deep" / "er" / "a.png", tmp_path / "link.png"
    ordinary.write_bytes(b"")
    write_photo(new, smooth())
    assert new.stat().st_mode == ordinary.stat().st_mode
    new.chmod(0o640)
    link.symlink_to(new)
    write_photo(link, smooth(seed=1))
    assert new.stat().st_mode & 0o777 == 0o640 and link.is_symlink()
    np.testing.assert_array_equal(read_photo(new).pixels, smooth(seed=1))


def test_copy_is_byte_for_byte(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "out" / "a.jpg"
    source.write_bytes(sample("jpeg") + b"trailer of a phone")
    copy_file(source, target)
    copy_file(source, source)
    assert target.read_bytes() == source.read_bytes() == sample("jpeg") + b"trailer of a phone"
    with pytest.raises(ImageError, match=r"missing\.jpg.*no such file"):
        copy_file(tmp_path / "missing.jpg", target)
    assert len(list(target.parent.iterdir())) == 1


def test_readers_in_several_threads_restore_pillows_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_photo(path, smooth())
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: [read_photo(path) for _ in range(20)], range(4)))) == 4
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_nothing_is_logged_or_noticed_for_an_ordinary_photo(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=exif_block(), icc_profile=SRGB, dpi=(72, 72))
    with caplog.at_level(logging.INFO, "pfr_core"):
        photo = read_photo(tmp_path / "a.jpg")
        for suffix in (".jpg", ".png", ".tif", ".webp"):
            assert write_photo(tmp_path / f"b{suffix}", photo.pixels, photo, provenance=PROVENANCE) == ()
    assert not caplog.records and photo.notices == ()


# --- AVIF, HEIC ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "kind"), [(".avif", "AVIF"), (".heic", "HEIF")])
def test_photos_of_phones(tmp_path: Path, suffix: str, kind: str) -> None:
    """Upright whatever their EXIF data says, and written back with all that belongs to them."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    need_codec(kind, tmp_path)
    lying = Image.fromarray(smooth(64, 96)).rotate(90, expand=True)
    lying.save(tmp_path / f"a{suffix}", exif=b"Exif\0\0" + exif_fields(ORIENTATION_6), icc_profile=profile, quality=95)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.format == kind and not photo.lossless and photo.icc == profile
    assert np.abs(photo.pixels.astype(int) - smooth(64, 96)).mean() < 4
    restored = photo.pixels.copy()
    restored[8:40, 16:48] //= 2
    write_photo(tmp_path / f"b{suffix}", restored, photo)
    again = read_photo(tmp_path / f"b{suffix}")
    assert again.icc == profile and again.pixels.shape == photo.pixels.shape
    change, kept = restored.astype(float) - photo.pixels, again.pixels.astype(float) - photo.pixels
    assert (change * kept).sum() / (change**2).sum() > 0.97


def test_heic_without_its_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    with pytest.raises(ImageError, match=r"a.heic.*pip install pillow-heif"):
        read_photo(tmp_path / "a.heic")
    with pytest.raises(ImageError, match=r"b.heic.*pip install pillow-heif"):
        write_photo(tmp_path / "b.heic", smooth())


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypisom", b"RIFF\0\x10\0\0AVI ", b"RIFF\0\x10\0\0WAVE"])
def test_a_clip_is_no_picture(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.heic").write_bytes(head + b"\0" * 99)
    assert not ending_of(head)
    with pytest.raises(ImageError, match="not a picture of a known format"):
        read_photo(tmp_path / "a.heic")


def test_a_folder_is_sorted_into_photos_others_and_what_nobody_means(tmp_path: Path) -> None:
    beside = ("._a.JPG", ".DS_Store", "Thumbs.db", ".thumbnails/a.png", "sub/__MACOSX/a.png", "@eaDir/a.JPG/b.jpg")
    for name in ("a.JPG", "b.heic", "sub/c.gif", "notes.txt", "out/d.png", *beside):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "link.jpg").symlink_to("n" * 300)  # of which nobody can tell where it leads
    (tmp_path / "folder.jpg").symlink_to("sub")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    photos, others = files_below(tmp_path, skip=[tmp_path / "out"])
    assert [path.name for path in photos] == ["a.JPG", "b.heic", "c.gif"]
    with_links, _ = files_below(tmp_path, skip=[tmp_path / "out"], dangling=True)
    assert [path.name for path in with_links] == ["a.JPG", "b.heic", "gone.jpg", "c.gif"]
    assert [path.name for path in others] == ["notes.txt"]


# --- Layouts that decoders get wrong ----------------------------------------------------------------------------------


def with_chunk(png: bytes, name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """Return the PNG file with a chunk behind its header."""
    right = zlib.crc32(name + content)
    return png[:33] + struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum or right) + png[33:]


def test_twelve_bits_are_not_sixteen_times_too_dark(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    high, low = values[:, ::2], values[:, 1::2]
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], axis=-1).astype(np.uint8).tobytes()
    layout = {256: 8, 257: 8, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: 8, 279: len(packed)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in layout.items())
    (tmp_path / "deep.tif").write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", 9) + table + b"\0" * 4 + packed)
    photo = read_photo(tmp_path / "deep.tif")
    assert photo.pixels.dtype == np.uint16 and photo.gray
    assert np.abs(photo.pixels[..., 0] / 65535 - values / 4095).max() < 1e-4


def test_twelve_bits_in_three_channels_are_refused(tmp_path: Path) -> None:
    packed = bytes(range(72)) * 4  # 8 x 8 pixels of 36 bits
    entries = [(256, 8), (257, 8), (258, 0), (259, 1), (262, 2), (273, 0), (277, 3), (278, 8), (279, len(packed))]
    bits_at = 8 + 2 + 12 * len(entries) + 4
    values = {258: (3, 3, bits_at), 273: (4, 1, bits_at + 6)}
    table = b"".join(struct.pack("<HHII", tag, *values.get(tag, (4, 1, value))) for tag, value in entries)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + b"\0" * 4
    (tmp_path / "deep.tif").write_bytes(head + struct.pack("<3H", 12, 12, 12) + packed)
    refused(tmp_path / "deep.tif", "12-bit unsigned samples.*8- or 16-bit")


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiffs_of_other_numbers_are_refused(tmp_path: Path, dtype: Any, channels: int, planar: str) -> None:
    """Never read too dark or too bright: by name, with the remedy."""
    tifffile = pytest.importorskip("tifffile")
    values = (smooth(dtype=np.uint16)[..., :channels] / (1 if np.issubdtype(dtype, np.integer) else 65535)).astype(dtype)
    pixels = values[..., 0] if channels == 1 else values
    if channels == 3 and planar == "separate":
        pixels = np.moveaxis(pixels, 2, 0)
    how = {"photometric": "rgb", "planarconfig": planar} if channels == 3 else {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **how)
    refused(tmp_path / "a.tif", "8- or 16-bit")


def test_eight_bit_planes_are_read(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = smooth()
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("gray", [True, False])
def test_sixteen_bit_png_with_a_transparent_colour(tmp_path: Path, gray: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 65535, (6, 5, 3), np.uint16)
    pixels = np.repeat(pixels[..., :1], 3, axis=2) if gray else pixels
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., 0] if gray else pixels[..., ::-1])
    colour = pixels[2, 3, : 1 if gray else 3].astype(">u2").tobytes()
    (tmp_path / "b.png").write_bytes(with_chunk((tmp_path / "a.png").read_bytes(), b"tRNS", colour))
    photo = read_photo(tmp_path / "b.png")
    np.testing.assert_array_equal(photo.pixels[..., :3], pixels)
    assert photo.pixels[2, 3, 3] == 0 and (photo.pixels[..., 3] == 65535).sum() == 29


def test_a_frame_without_content_is_told(tmp_path: Path) -> None:
    data = bytearray(sample("jpeg"))
    start = data.index(b"\xff\xc0")
    data[start + 2 : start + 4] = b"\0\2"  # a length that leaves nothing
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.jpg.*its size is cut short"):
        read_photo(tmp_path / "a.jpg")


def test_exif_of_a_wrong_type_is_no_matter_for_avif_and_offsets_stay(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 1, "a maker of long names"
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    Image.fromarray(textured(0)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + bytes(block))
    photo = read_photo(tmp_path / "a.jpg")
    write_photo(tmp_path / "b.avif", photo.pixels, photo)
    with Image.open(tmp_path / "b.avif") as image:
        written = image.info["exif"].removeprefix(b"Exif\0\0")
        assert image.getexif()[ExifTags.Base.Make] == "a maker of long names"
    assert written.index(b"a maker") == block.index(b"a maker") and len(written) == len(block)
    wrong = struct.pack("<4sIHHHI4sHHI4sI", b"II*\0", 8, 2, 0x112, 3, 1, b"\1\0\0\0", 0x11A, 2, 4, b"300\0", 0)
    Image.fromarray(textured(0)).save(tmp_path / "c.jpg", exif=b"Exif\0\0" + wrong)
    photo = read_photo(tmp_path / "c.jpg")
    write_photo(tmp_path / "d.avif", photo.pixels, photo)
    assert read_photo(tmp_path / "d.avif").exif is not None


def test_a_printers_profile_goes_into_a_png_and_comes_out(tmp_path: Path) -> None:
    profile = np.random.default_rng(0).bytes(1_400_000)
    Image.fromarray(textured(0)).save(tmp_path / "a.tif", icc_profile=profile)
    photo = read_photo(tmp_path / "a.tif")
    write_photo(tmp_path / "b.png", photo.pixels, photo)
    assert read_photo(tmp_path / "b.png").icc == profile


def test_a_motion_photo_says_that_it_is_one_and_its_result_does_not(tmp_path: Path) -> None:
    moving = XMP.replace(
        b"dc:source=", b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" dc:source='
    )
    Image.fromarray(textured(0)).save(tmp_path / "a.jpg", xmp=moving)
    with open(tmp_path / "a.jpg", "ab") as file:
        file.write(b"\0\0\0\x18ftypmp42" + bytes(2000))
    photo = read_photo(tmp_path / "a.jpg")
    assert [notice.kind for notice in photo.notices] == ["further_pictures"] and "motion" in photo.notices[0].text
    write_photo(tmp_path / "b.jpg", photo.pixels, photo, provenance=PROVENANCE)
    assert b'MotionPhoto="0"' in (tmp_path / "b.jpg").read_bytes() and not read_photo(tmp_path / "b.jpg").notices


def test_colours_of_a_heic_that_are_lost_are_told(tmp_path: Path) -> None:
    need_codec("HEIF", tmp_path)
    stated: dict[str, Any] = {
        "color_primaries": 12,
        "transfer_characteristics": 16,
        "matrix_coefficients": 1,
        "full_range_flag": 1,
    }
    Image.fromarray(textured(0)).save(tmp_path / "a.heic", **stated)
    (notice,) = read_photo(tmp_path / "a.heic").notices
    assert notice.kind == "wide_colours" and "HDR (PQ) and of Display P3" in notice.text
    Image.fromarray(textured(0)).save(tmp_path / "b.heic")
    assert not read_photo(tmp_path / "b.heic").notices


def test_previews_of_the_face_before_do_not_survive(tmp_path: Path) -> None:
    def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
        named = bytes([len(name)]) + name
        named += b"\0" * (len(named) % 2)
        return b"8BIM" + struct.pack(">H", number) + named + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)

    resources = resource(1028, b"caption", b"abc") + resource(1036, b"old face here") + resource(1005, b"resolution")
    packet = XMP.replace(
        b"<dc:title>", b'<xmp:Thumbnails xmlns:xmp="http://ns.adobe.com/xap/1.0/">old</xmp:Thumbnails><dc:title>'
    )
    plain = io.BytesIO()
    Image.fromarray(textured(0)).save(plain, "JPEG", xmp=packet)
    segment = b"Photoshop 3.0\0" + resources
    data = plain.getvalue()
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    photo = read_photo(tmp_path / "a.jpg")
    write_photo(tmp_path / "b.jpg", photo.pixels, photo)
    written = (tmp_path / "b.jpg").read_bytes()
    assert b"old face" not in written and b"Thumbnails" not in written
    assert resource(1028, b"caption", b"abc") + resource(1005, b"resolution") in written


def test_line_breaks_in_xmp_stay() -> None:
    packet = XMP.replace(b"attic box 7", b"line one&#xA;line&#x9;two&#xD;")
    again = with_provenance(packet, PROVENANCE)
    assert b"line one&#10;line&#9;two&#13;" in again and with_provenance(again, PROVENANCE) == again


@pytest.mark.parametrize("packet", [b'<?xml version="1.0" encoding="x-user-defined"?><a/>', b"<a>" * 900 + b"</a>" * 900])
def test_xmp_that_no_parser_takes_is_replaced(packet: bytes) -> None:
    notices: list[Notice] = []
    assert MARKER in with_provenance(packet, PROVENANCE, notices)
    assert [notice.kind for notice in notices] == ["damaged_xmp"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mode", ["RGB", "RGBX"])
def test_a_scanners_fourth_channel_is_missed_aloud(
    tmp_path: Path, mode: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether Pillow calls it padding, as 10.3 does, or leaves it out."""
    bits = (8 * np.dtype(dtype).itemsize,) * 4
    _, layout = TiffImagePlugin.OPEN_INFO[(b"II", 2, (1,), 1, bits, (0,))]
    monkeypatch.setitem(TiffImagePlugin.OPEN_INFO, (b"II", 2, (1,), 1, bits, (0,)), (mode, layout))
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 4), np.uint8).astype(dtype)
    order = "<"
    entries = [(256, 4, 8), (257, 4, 8), (262, 3, 2), (273, 4, 0), (277, 3, 4), (278, 4, 8), (279, 4, pixels.nbytes), (338, 3, 0)]
    at = 8 + 2 + 12 * (len(entries) + 2) + 4
    table = [(tag, struct.pack(f"{order}HHII", tag, kind, 1, at + 8 if tag == 273 else value)) for tag, kind, value in entries]
    table += [(258, struct.pack("<HHII", 258, 3, 4, at)), (259, struct.pack("<HHII", 259, 3, 1, 1))]
    directory = struct.pack("<H", len(table)) + b"".join(entry for _, entry in sorted(table)) + b"\0" * 4
    (tmp_path / "a.tif").write_bytes(
        b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<4H", *bits) + pixels.astype(f"<u{pixels.itemsize}").tobytes()
    )
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.shape == (8, 8, 3) and photo.pixels.dtype == dtype
    assert [notice.kind for notice in photo.notices] == ["further_pictures"] and "another channel" in photo.notices[0].text


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_transparency_stays_in_photos_of_phones(tmp_path: Path, suffix: str) -> None:
    pixels = smooth(64, 96, 4)
    write_photo(tmp_path / f"a{suffix}", pixels)
    photo = read_photo(tmp_path / f"a{suffix}")
    write_photo(tmp_path / f"b{suffix}", photo.pixels, photo)
    again = read_photo(tmp_path / f"b{suffix}").pixels
    assert again.shape == pixels.shape and np.abs(again[..., 3].astype(int) - pixels[..., 3]).mean() < 4


def test_what_an_encoder_cannot_do_names_the_file_and_a_remedy(tmp_path: Path) -> None:
    odd = like(smooth(), format="TIFF", extras=(("no tag", b""),))
    with pytest.raises(ImageError, match=r"a\.tif: cannot be encoded as TIFF .*use another format"):
        write_photo(tmp_path / "a.tif", smooth(), odd)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, SyntaxError])
def test_what_an_encoder_of_phones_raises_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("no such setting")

    monkeypatch.setattr(Image.Image, "save", refuse)
    with pytest.raises(ImageError, match=r"a\.avif: cannot be encoded as AVIF \(no such setting\); use another format"):
        write_photo(tmp_path / "a.avif", smooth())


def test_heic_without_an_encoder_is_read_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    write_photo(tmp_path / "a.heic", smooth())
    monkeypatch.delitem(Image.SAVE, "HEIF")
    monkeypatch.setattr(pillow_heif, "register_heif_opener", lambda: None)
    photo = read_photo(tmp_path / "a.heic")
    with pytest.raises(ImageError, match=r"b\.heic: this pillow-heif can read HEIC but not write it; use another format"):
        write_photo(tmp_path / "b.heic", photo.pixels, photo)


def test_a_disk_that_takes_no_chmod_takes_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mounted shares whose files all belong to another."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    write_photo(tmp_path / "a.png", smooth())
    (tmp_path / "a.png").chmod(0o600)
    monkeypatch.setattr("os.chmod", refuse)
    write_photo(tmp_path / "a.png", smooth(seed=1))
    assert np.array_equal(read_photo(tmp_path / "a.png").pixels, smooth(seed=1))


def test_an_empty_name_is_not_the_folder_one_stands_in() -> None:
    with pytest.raises(InputError, match="name of a file is empty"):
        read_photo("")
