"""Files with damage that other programs read over, and files that are cut: read right, or refused by name with the reason."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from pfr_core.errors import ImageError
from pfr_core.photo.codecs import need_codec
from pfr_core.photo.photo import Photo
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(height: int = 72, width: int = 96, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    """Return a picture that no turn or flip leaves as it is, with detail in every block."""
    coarse = np.random.default_rng(1).random((9, 12, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)
    return np.rint(fine * np.iinfo(dtype).max).astype(dtype)


def encoded(format_name: str, pixels: np.ndarray | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture() if pixels is None else pixels).save(stream, format_name, **options)
    return stream.getvalue()


def reading(folder: Path, name: str, data: bytes) -> tuple[Photo, str]:
    """Return the photo and what was noticed of it, without its name."""
    path = folder / name
    path.write_bytes(data)
    photo = read_photo(path)
    assert all(notice.text.startswith(f"{path}: ") and notice.text.endswith(".") for notice in photo.notices)
    return photo, " ".join(notice.text.removeprefix(f"{path}: ") for notice in photo.notices)


def refusal(folder: Path, name: str, data: bytes) -> str:
    """Return why the file is refused; the message names it and says what to do."""
    with pytest.raises(ImageError) as caught:
        reading(folder, name, data)
    text = str(caught.value)
    assert text.startswith(f"{folder / name}: ") and re.search("Get a complete copy|save it as|save the page", text)
    return text


# --- PNG -------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    right = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", right if checksum is None else checksum)


def with_chunk(png: bytes, new: bytes) -> bytes:
    """Put a chunk behind the header."""
    return png[:33] + new + png[33:]


def changed_at(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def png(samples: np.ndarray, bits: int, colour: int, before: bytes = b"", *, end: bytes = b"\0\0\0\0IEND\xaeB`\x82") -> bytes:
    """Return a PNG file written by hand, of [H,W,C] samples of so many bits; what no encoder here writes."""
    height, width = samples.shape[:2]
    flat = samples.reshape(height, -1)
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in flat]
    else:
        powers = (1 << np.arange(bits))[::-1]
        rows = [np.packbits((row[:, None] & powers != 0).ravel()).tobytes() for row in flat]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + end


@pytest.mark.parametrize("name", [b"pHYs", b"tEXt", b"gAMA", b"sRGB", b"tIME", b"prVt"])
def test_an_optional_chunk_with_a_wrong_checksum_is_left_out(tmp_path: Path, name: bytes) -> None:
    contents = {b"pHYs": struct.pack(">IIB", 2835, 2835, 1), b"gAMA": struct.pack(">I", 45455), b"tIME": bytes(7)}
    new = chunk(name, contents.get(name, b"\0"), 1)
    photo, said = reading(tmp_path, "a.png", with_chunk(encoded("PNG"), new))
    np.testing.assert_array_equal(photo.pixels, picture())
    assert photo.extras == () and said == f"its {name.decode()} chunk has a wrong checksum and is left out."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"pHYs", b"\0"), (b"gAMA", b"\0"), (b"cHRM", b"\0"), (b"sRGB", b""), (b"tRNS", b"\0\1\0"),
        (b"iCCP", b"x" * 90), (b"iCCP", b"x\0\0no stream"), (b"iCCP", b"x\0\0" + zlib.compress(SRGB)[:50]),
    ],
    ids=range(8),  # a profile holds the time it was made at: the same name in every process of a run
)  # fmt: skip
def test_an_optional_chunk_that_no_decoder_understands_is_left_out_and_said(tmp_path: Path, name: bytes, content: bytes) -> None:
    photo, said = reading(tmp_path, "a.png", with_chunk(encoded("PNG"), chunk(name, content)))
    np.testing.assert_array_equal(photo.pixels, picture())
    assert photo.icc is None and photo.dpi is None and said == f"its {name.decode()} chunk is damaged and is left out."


def test_what_proves_itself_is_kept_under_a_wrong_checksum(tmp_path: Path) -> None:
    """Orientation and colours are not given up for four bytes; nor is pixel data, which has a checksum of its own."""
    new = chunk(b"eXIf", exif(ORIENTATION_6), 1) + chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB), 1)
    photo, said = reading(tmp_path, "a.png", with_chunk(encoded("PNG"), new))
    np.testing.assert_array_equal(photo.pixels, np.rot90(picture(), -1))
    assert photo.icc == SRGB and said.count("can be read and is kept") == 2
    for bits in (8, 16):
        samples = picture(dtype={8: np.uint8, 16: np.uint16}[bits])
        whole = png(samples, bits, 2)
        photo, said = reading(tmp_path, "b.png", changed_at(whole, len(whole) - 13))
        np.testing.assert_array_equal(photo.pixels, samples)
        assert said == "its IDAT chunk has a wrong checksum, but all pixels can be read."


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("missing", [1, 4, 12, 14])
def test_png_without_its_end(tmp_path: Path, bits: int, missing: int) -> None:
    samples = picture(dtype={8: np.uint8, 16: np.uint16}[bits])
    photo, said = reading(tmp_path, "a.png", png(samples, bits, 2)[:-missing])
    np.testing.assert_array_equal(photo.pixels, samples)
    assert said.startswith("its end is missing") or missing < 12  # of the end's own checksum nobody needs to hear


@pytest.mark.parametrize("bits", [8, 16])
def test_what_follows_the_end_of_a_png_is_no_part_of_it(tmp_path: Path, bits: int) -> None:
    samples = picture(dtype={8: np.uint8, 16: np.uint16}[bits])
    other = with_chunk(encoded("PNG"), chunk(b"tEXt", b"Title\0of another picture"))
    for more in (b"trailing text" * 9, other, bytes(100)):
        photo, said = reading(tmp_path, "a.png", png(samples, bits, 2) + more)
        np.testing.assert_array_equal(photo.pixels, samples)
        assert (said, photo.extras) == ("", ())


def test_png_damage_that_costs_the_picture_is_refused_by_its_chunk(tmp_path: Path) -> None:
    good, palette = encoded("PNG"), encoded("PNG", picture()[..., 0])
    stream = io.BytesIO()
    Image.fromarray(picture()).quantize(16).save(stream, "PNG")
    palette = stream.getvalue()
    at = palette.index(b"PLTE") + 4
    assert "its PLTE chunk has a wrong checksum" in refusal(tmp_path, "a.png", changed_at(palette, at))
    assert "its IHDR chunk has a wrong checksum" in refusal(tmp_path, "b.png", changed_at(good, 30))
    assert "its IDAT chunk is cut short" in refusal(tmp_path, "c.png", good[:-60])
    assert "its tEXt chunk is cut short" in refusal(tmp_path, "d.png", with_chunk(good, b"\x7f\xff\xff\xfftEXt"))
    assert "broken data stream" in refusal(tmp_path, "e.png", changed_at(good, good.index(b"IDAT") + 30))


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
@pytest.mark.parametrize("colour", [0, 2])
def test_the_transparent_colour_of_a_png_is_transparent_at_every_depth(tmp_path: Path, bits: int, colour: int) -> None:
    if colour == 2 and bits < 8:
        pytest.skip("PNG has no such pictures")
    channels = {0: 1, 2: 3}[colour]
    samples = picture(17, 23, channels, np.uint16) >> (16 - bits)
    chosen = samples[3, 5]
    data = png(samples, bits, colour, chunk(b"tRNS", chosen.astype(">u2").tobytes()))
    photo, _ = reading(tmp_path, "a.png", data)
    white = 65535 if bits == 16 else 255
    np.testing.assert_array_equal(photo.pixels[..., 3], np.where((samples == chosen).all(axis=2), 0, white))
    np.testing.assert_array_equal(photo.pixels[..., :channels], np.rint(samples * (white / ((1 << bits) - 1))))
    assert photo.gray == (colour == 0) and 0 < (photo.pixels[..., 3] == 0).mean() < 1
    write_photo(tmp_path / "b.png", photo.pixels, photo)
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png").pixels, photo.pixels)


# --- JPEG ------------------------------------------------------------------------------------------------------------

LARGE = picture(304, 400)


@pytest.mark.parametrize("missing", [1, 2, 3, 8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_jpeg_without_its_last_bytes(tmp_path: Path, missing: int, options: dict[str, Any]) -> None:
    whole = encoded("JPEG", LARGE, quality=85, **options)
    expected, _ = reading(tmp_path, "whole.jpg", whole)
    for filled in (b"", bytes(50), b"\xff" * 9):  # broken-off downloads are filled up
        photo, said = reading(tmp_path, "a.jpg", whole[:-missing] + filled)
        assert said == "its end is missing; nothing or next to nothing of the picture is lost."
        np.testing.assert_array_equal(photo.pixels[:-20], expected.pixels[:-20])
        if missing <= 2:
            np.testing.assert_array_equal(photo.pixels, expected.pixels)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9", bytes(3000)], ids=["cut", "with an end put on", "filled with zeros"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_a_cut_jpeg_is_refused_whatever_was_put_behind_it(
    tmp_path: Path, share: float, ending: bytes, options: dict[str, Any]
) -> None:
    whole = encoded("JPEG", LARGE, quality=85, **options)
    text = refusal(tmp_path, "a.jpg", whole[: round(len(whole) * share)] + ending)
    assert "cut short" in text.split("(")[1]


@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_a_jpeg_cut_between_two_restart_markers_is_refused(tmp_path: Path, ending: bytes) -> None:
    """Where the cut leaves a whole number of intervals no decoder misses a bit of them."""
    whole = encoded("JPEG", LARGE, quality=85, restart_marker_rows=1)
    text = refusal(tmp_path, "a.jpg", whole[: whole.index(b"\xff\xd4")] + ending)
    assert "of the lower 7" in text or "of the lower 6" in text  # 5 of 19 rows of 16 pixels are there


def test_a_jpeg_whose_header_promises_more_rows_is_refused(tmp_path: Path) -> None:
    whole = encoded("JPEG", LARGE, quality=85)
    at = whole.index(b"\xff\xc0") + 5
    assert "of the lower 50% of the picture" in refusal(tmp_path, "a.jpg", whole[:at] + struct.pack(">H", 608) + whole[at + 2 :])
    assert "its height is stated as 0" in refusal(tmp_path, "b.jpg", whole[:at] + b"\0\0" + whole[at + 2 :])
    assert "before any picture data" in refusal(tmp_path, "c.jpg", whole[:30])


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}, {"optimize": True}]
)
def test_a_gray_wall_is_no_missing_data(tmp_path: Path, options: dict[str, Any]) -> None:
    """What a decoder puts where data is missing is a colour that pictures have, too."""
    wall = np.full((100, 130, 3), 128, np.uint8)
    wall[:50] = picture(50, 130)
    for more in (b"", b"what a phone puts behind a photo" * 20):
        photo, said = reading(tmp_path, "a.jpg", encoded("JPEG", wall, quality=90, **options) + more)
        assert said == "" and photo.pixels.shape == wall.shape


# --- EXIF ------------------------------------------------------------------------------------------------------------

ORIENTATION_6 = (0x0112, 3, 1, 6)
BEYOND = 1_000_000


def exif(*fields: tuple[int, int, int, int], order: str = ">", following: int = 0, count: int | None = None) -> bytes:
    """Return an EXIF block of (tag, type, count, number) in a single directory; it may point at anything."""
    head = b"MM\0*\0\0\0\x08" if order == ">" else b"II*\0\x08\0\0\0"
    code = {3: "Hxx"}
    packed = b"".join(
        struct.pack(f"{order}HHI{code.get(kind, 'I')}", tag, kind, number, value) for tag, kind, number, value in fields
    )
    return head + struct.pack(f"{order}H", len(fields) if count is None else count) + packed + struct.pack(f"{order}I", following)


CUT = ("beyond the end", "far beyond", "in the header", "promised", "cut behind the field")


def gps(kind: int, value: int) -> tuple[int, int, int, int]:
    return (0x8825, kind, 1, value)


DAMAGED: dict[str, Callable[[str], bytes]] = {
    "GPS beyond the end": lambda order: exif(ORIENTATION_6, gps(4, BEYOND), order=order),
    "GPS far beyond": lambda order: exif(ORIENTATION_6, gps(4, 0xFFFFFFFF), order=order),
    "GPS in the header": lambda order: exif(ORIENTATION_6, gps(4, 2), order=order),
    "camera in the header": lambda order: exif(ORIENTATION_6, (0x8769, 4, 1, 1), order=order),
    "GPS is the directory itself": lambda order: exif(ORIENTATION_6, gps(4, 8), order=order),
    "camera beyond the end": lambda order: exif(ORIENTATION_6, (0x8769, 4, 1, BEYOND), order=order),
    "next in a circle": lambda order: exif(ORIENTATION_6, order=order, following=8),
    "next to nowhere": lambda order: exif(ORIENTATION_6, order=order, following=BEYOND),
    "more fields promised": lambda order: exif(ORIENTATION_6, order=order, count=500),
    "most fields promised": lambda order: exif(ORIENTATION_6, order=order, count=0xFFFF),
    "cut behind the field": lambda order: exif(ORIENTATION_6, (0x010F, 2, 99, 200), order=order)[:22],
    "no next": lambda order: exif(ORIENTATION_6, order=order)[:-4],
    "a value beyond": lambda order: exif((0x010F, 2, 99, BEYOND), ORIENTATION_6, order=order),
    "a value without end": lambda order: exif((0x010F, 2, 0xFFFFFFFF, 26), ORIENTATION_6, order=order),
    "an unknown type": lambda order: exif((0x010F, 99, 1, 0), ORIENTATION_6, order=order),
    "as a long": lambda order: exif((0x0112, 4, 1, 6), order=order),
    "counted twice": lambda order: exif((0x0112, 3, 2, 6), order=order),
    "not counted": lambda order: exif((0x0112, 3, 0, 6), order=order),
    "counted without end": lambda order: exif((0x0112, 3, 10**9, 6), order=order),
    "the other byte order": lambda order: exif(order="<>"[order == "<"])[:8] + exif(ORIENTATION_6, order=order)[8:],
    "another number": lambda order: exif(order=order)[:2] + b"\0\0" + exif(ORIENTATION_6, order=order)[4:],
    "a first place beyond": lambda order: exif(order=order)[:4] + b"\x10\x10\x10\x10" + exif(ORIENTATION_6, order=order)[8:],
    "header twice": lambda order: b"Exif\0\0" + exif(ORIENTATION_6, order=order),
}  # fmt: skip


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_damaged_exif_block_turns_no_photo_on_its_side(tmp_path: Path, suffix: str, damage: str, order: str) -> None:
    """Whatever else is wrong with it: right way up in reading, and again when the result is read."""
    kind = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[suffix]
    block = DAMAGED[damage](order)
    if suffix == ".png":
        data = with_chunk(encoded("PNG"), chunk(b"eXIf", block))
    else:
        data = encoded(kind, exif=b"Exif\0\0" + block, **({"lossless": True} if suffix == ".webp" else {"quality": 95}))
    photo, said = reading(tmp_path, f"a{suffix}", data)
    expected = np.rot90(picture(), -1)
    assert photo.pixels.shape == (96, 72, 3) and np.abs(photo.pixels.astype(int) - expected).mean() < (
        8 if suffix == ".heic" else 4
    )
    assert ("cut short" in said) == damage.endswith(CUT)
    write_photo(tmp_path / f"b{suffix}", photo.pixels, photo)
    assert read_photo(tmp_path / f"b{suffix}").pixels.shape == (96, 72, 3)
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("damage", ["GPS beyond the end", "more fields promised"])
def test_a_damaged_exif_block_turns_no_heic_twice(tmp_path: Path, damage: str) -> None:
    """The format states itself how it is turned, and the library has done so."""
    need_codec("HEIF", tmp_path)
    photo, said = reading(tmp_path, "a.heic", encoded("HEIF", quality=95, exif=b"Exif\0\0" + DAMAGED[damage](">")))
    assert photo.pixels.shape == (96, 72, 3) and np.abs(photo.pixels.astype(int) - np.rot90(picture(), -1)).mean() < 8
    assert ("cut short" in said) == damage.endswith(CUT)


def segment(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    ("blocks", "orientation"),
    [
        ([exif(ORIENTATION_6), exif(ORIENTATION_6)], 6),
        ([exif(ORIENTATION_6), exif((0x0112, 3, 1, 1))], 6),
        ([exif((0x0112, 3, 1, 1)), exif(ORIENTATION_6)], 1),
        ([b"MM\0*\xff\xff\xff\xff", exif(ORIENTATION_6)], 6),
        ([exif((0x0110, 2, 4, 0x41424300)), exif(ORIENTATION_6)], 6),
    ],
    ids=["same", "first", "first is upright", "first is damaged", "first states none"],
)  # fmt: skip
def test_exif_twice(tmp_path: Path, blocks: list[bytes], orientation: int) -> None:
    """The first block that can be read is kept, and the first orientation counts."""
    good = encoded("JPEG", quality=95)
    data = good[:2] + b"".join(segment(b"Exif\0\0" + block) for block in blocks) + good[2:]
    photo, said = reading(tmp_path, "a.jpg", data)
    assert photo.pixels.shape == ((96, 72, 3) if orientation == 6 else (72, 96, 3)) and "EXIF data 2 times" in said
    (tmp_path / "b.jpg").write_bytes(b"")
    write_photo(tmp_path / "b.jpg", photo.pixels, photo)
    assert (tmp_path / "b.jpg").read_bytes().count(b"Exif\0\0") == 1
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif().get(0x0112, 1) == 1


def test_exif_over_several_segments_is_one_block(tmp_path: Path) -> None:
    """Blocks above 64 kB go on in further segments."""
    block = exif((0x927C, 7, 100_000, 38), ORIENTATION_6) + bytes(range(250)) * 400
    good = encoded("JPEG", quality=95)
    parts = [block[:60_000], block[60_000:]]
    photo, said = reading(tmp_path, "a.jpg", good[:2] + b"".join(segment(b"Exif\0\0" + part) for part in parts) + good[2:])
    assert photo.pixels.shape == (96, 72, 3) and said == "" and photo.exif is not None and len(photo.exif) == len(block)


@pytest.mark.parametrize("name", ["exif", "APP1"])
def test_exif_as_text_in_a_png(tmp_path: Path, name: str) -> None:
    """As ImageMagick writes it, under either name; one that is no number is left out and said."""
    block = b"Exif\0\0" + exif(ORIENTATION_6)
    text = f"Raw profile type {name}\0".encode() + f"\n{name}\n{len(block):8}\n{block.hex()}\n".encode()
    photo, said = reading(tmp_path, "a.png", with_chunk(encoded("PNG"), chunk(b"tEXt", text)))
    assert photo.pixels.shape == (96, 72, 3) and said == ""
    broken = text.replace(block.hex().encode(), b"no numbers")
    photo, said = reading(tmp_path, "b.png", with_chunk(encoded("PNG"), chunk(b"tEXt", broken)))
    assert photo.pixels.shape == (72, 96, 3) and said == "its EXIF data is damaged and is left out."


# --- Colour profiles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [b"no profile" * 30, SRGB], ids=["damaged", "of RGB"])
def test_cmyk_whose_profile_cannot_be_used_is_converted_without_it(tmp_path: Path, profile: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(stream, "JPEG", quality=98, subsampling=0, icc_profile=profile)
    photo, said = reading(tmp_path, "a.jpg", stream.getvalue())
    assert np.abs(photo.pixels.astype(int) - picture()).mean() < 3 and photo.icc is None
    assert said == "CMYK is converted to sRGB without its profile, which is damaged or for other colours; the output will be RGB."


def test_a_profile_of_which_parts_are_missing_is_left_out_and_said(tmp_path: Path) -> None:
    good, content = encoded("JPEG", quality=95), b"ICC_PROFILE\0\1\2" + SRGB[:300]
    data = good[:2] + b"\xff\xe2" + struct.pack(">H", len(content) + 2) + content + good[2:]
    photo, said = reading(tmp_path, "a.jpg", data)
    assert photo.icc is None and said == "parts of its ICC profile are missing, and it is left out."
