"""TIFF files of scanners and editors: the photograph is taken among several pages, the rest is kept or named; other layouts."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pfr_core.errors import ImageError
from pfr_core.photo.read import read_photo
from pfr_core.photo.write import write_photo

Fields = dict[int, tuple[int, Sequence[int]]]
"""Tag: type (3 short, 4 long) and numbers."""


def picture(height: int = 60, width: int = 80, channels: int = 3, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((5, 6, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)
    return np.rint(fine * np.iinfo(dtype).max).astype(dtype)


def tiff(*pages: tuple[np.ndarray, Fields], order: str = "<", following: int = 0, inside: bool = False) -> bytes:
    """Return an uncompressed TIFF file of [H,W,C] pages with further tags, written by hand.

    Args:
        pages: pixels, and tags that a page has besides or instead.
        order: the byte order.
        following: what the last page's pointer says.
        inside: the pages after the first are not chained to it: it holds them (SubIFDs).
    """
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    pointers = [4]
    for number, (pixels, more) in enumerate(pages):
        height, width, channels = pixels.shape
        strip = len(data)
        data += pixels.astype(f"{order}u{pixels.itemsize}").tobytes()
        data += bytes(len(data) % 2)
        held = {330: (4, [0] * (len(pages) - 1))} if inside and number == 0 and len(pages) > 1 else {}
        fields: Fields = {
            256: (4, [width]), 257: (4, [height]), 258: (3, [8 * pixels.itemsize] * channels), 259: (3, [1]),
            262: (3, [2 if channels == 3 else 1]), 273: (4, [strip]), 277: (3, [channels]), 278: (4, [height]),
            279: (4, [pixels.nbytes]), **more, **held,
        }  # fmt: skip
        values: dict[int, bytes] = {}
        for tag, (kind, numbers) in fields.items():
            packed = struct.pack(f"{order}{len(numbers)}{'HI'[kind == 4]}", *numbers)
            if len(packed) > 4:
                if tag == 330:
                    pointers += [len(data) + 4 * index for index in range(len(numbers))]
                values[tag] = struct.pack(f"{order}I", len(data))
                data += packed + bytes(len(packed) % 2)
            else:
                values[tag] = packed.ljust(4, b"\0")
        at = len(data)
        struct.pack_into(f"{order}I", data, pointers.pop(0), at)
        data += struct.pack(f"{order}H", len(fields))
        for tag, (kind, numbers) in sorted(fields.items()):
            if tag == 330 and len(numbers) == 1:
                pointers.append(len(data) + 8)
            data += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + values[tag]
        if not inside:
            pointers.append(len(data))
        data += struct.pack(f"{order}I", following if number == len(pages) - 1 else 0)
    return bytes(data)


def reading(folder: Path, data: bytes) -> tuple[Any, str]:
    path = folder / "scan.tif"
    path.write_bytes(data)
    photo = read_photo(path)
    return photo, " ".join(notice.text.removeprefix(f"{path}: ") for notice in photo.notices)


PHOTO, PREVIEW, INFRARED = picture(), picture(15, 20), picture(channels=1, seed=3)
REDUCED: Fields = {254: (4, [1])}
MASK: Fields = {254: (4, [4])}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("others", "kept", "said"),
    [
        ([(PREVIEW, REDUCED)], 0, "a preview"),
        ([(PREVIEW, {})], 0, "a preview"),
        ([(PHOTO[::-1].copy(), REDUCED)], 0, "a preview"),
        ([(PREVIEW, {}), (picture(30, 40), REDUCED)], 0, "2 previews"),
        ([(INFRARED, {})], 1, "another channel"),
        ([(INFRARED, MASK)], 1, "another channel"),
        ([(PREVIEW, REDUCED), (INFRARED, {}), (picture(channels=1), MASK)], 2, "a preview"),
    ],
    ids=["preview", "unnamed preview", "large preview", "two previews", "infrared", "mask", "all"],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_scan_is_read_and_its_channels_stay(
    tmp_path: Path, others: list[tuple[np.ndarray, Fields]], kept: int, said: str, first: bool, dtype: Any, order: str
) -> None:
    photograph = picture(dtype=dtype)
    pages = [(photograph, {}), *others] if first else [*others, (photograph, {})]
    photo, text = reading(tmp_path, tiff(*pages, order=order))
    np.testing.assert_array_equal(photo.pixels, photograph)
    assert said in text and len(photo.channels) == kept
    restored = photo.pixels.copy()
    restored[10:20] //= 2
    assert write_photo(tmp_path / "new.tif", restored, photo) == ()
    with Image.open(tmp_path / "new.tif") as image:
        assert getattr(image, "n_frames", 1) == 1 + kept
        channels = [pixels for pixels, fields in others if pixels.shape[:2] == PHOTO.shape[:2] and fields is not REDUCED]
        for number, pixels in enumerate(channels):
            image.seek(number + 1)
            np.testing.assert_array_equal(np.asarray(image), pixels[..., 0])
    again = read_photo(tmp_path / "new.tif")
    np.testing.assert_array_equal(again.pixels, restored)
    assert again.channels == photo.channels or [page.data for page in again.channels] == [page.data for page in photo.channels]
    notices = write_photo(tmp_path / "new.png", restored, photo)
    assert [notice.kind for notice in notices] == (["not_kept"] if kept else [])


def test_a_compressed_channel_stays_as_it_is(tmp_path: Path) -> None:
    infrared = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8))
    photograph = Image.fromarray(picture(300, 400))
    photograph.save(tmp_path / "scan.tif", save_all=True, append_images=[infrared], compression="tiff_lzw")
    photo = read_photo(tmp_path / "scan.tif")
    write_photo(tmp_path / "new.tif", photo.pixels, photo)
    with Image.open(tmp_path / "new.tif") as image:
        image.seek(1)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(infrared))


@pytest.mark.parametrize("order", "<>")
def test_the_photograph_may_be_held_by_its_preview(tmp_path: Path, order: str) -> None:
    """As in DNG files: what the first page says of the picture, its orientation too, holds for it."""
    whole = tiff((PREVIEW, {**REDUCED, 274: (3, [6])}), (PHOTO, {254: (4, [0])}), order=order, inside=True)
    photo, said = reading(tmp_path, whole)
    np.testing.assert_array_equal(photo.pixels, np.rot90(PHOTO, -1))
    assert "a preview" in said
    photo, said = reading(tmp_path, tiff((PHOTO, {274: (3, [6])}), (PREVIEW, REDUCED), order=order, inside=True))
    np.testing.assert_array_equal(photo.pixels, np.rot90(PHOTO, -1))
    assert "a preview" in said


@pytest.mark.parametrize("other", [PHOTO[::-1].copy(), picture(58, 78)], ids=["same size", "nearly"])
def test_pages_of_equal_right_are_refused(tmp_path: Path, other: np.ndarray) -> None:
    (tmp_path / "album.tif").write_bytes(tiff((PHOTO, {}), (other, {})))
    with pytest.raises(ImageError, match=r"album\.tif: a TIFF with several pages; save the page you want"):
        read_photo(tmp_path / "album.tif")


def test_a_second_smaller_photograph_is_not_taken_for_a_preview(tmp_path: Path) -> None:
    page, postcard, preview = picture(700, 500), picture(300, 450), picture(420, 300)
    assert not reading(tmp_path, tiff((page, {}), (preview, {})))[1].startswith("a TIFF")
    (tmp_path / "two.tif").write_bytes(tiff((page, {}), (postcard, {})))
    with pytest.raises(ImageError, match=r"two\.tif: a TIFF with several pages"):
        read_photo(tmp_path / "two.tif")


@pytest.mark.parametrize("nowhere", [3, 100_000_000])
def test_a_pointer_to_no_page_is_read_over(tmp_path: Path, nowhere: int) -> None:
    photo, said = reading(tmp_path, tiff((PHOTO, {}), following=nowhere))
    np.testing.assert_array_equal(photo.pixels, PHOTO)
    assert said == "its pointer to a further page leads nowhere."


@pytest.mark.parametrize("pointer", [0x8825, 0x8769])
@pytest.mark.parametrize("where", [2, 10**8])
def test_a_tiff_whose_exif_is_cut_keeps_its_orientation(tmp_path: Path, pointer: int, where: int) -> None:
    photo, said = reading(tmp_path, tiff((PHOTO, {274: (3, [6]), pointer: (4, [where])})))
    np.testing.assert_array_equal(photo.pixels, np.rot90(PHOTO, -1))
    assert "part of its EXIF data is cut short" in said
    write_photo(tmp_path / "new.tif", photo.pixels, photo)
    np.testing.assert_array_equal(read_photo(tmp_path / "new.tif").pixels, np.rot90(PHOTO, -1))


def test_a_channel_that_no_longer_fits_is_left_out_aloud(tmp_path: Path) -> None:
    turned, text = reading(tmp_path, tiff((PHOTO, {274: (3, [6])}), (INFRARED, {})))
    assert turned.pixels.shape[:2] == PHOTO.shape[1::-1] and not turned.channels and "is not turned" in text
    photo, _ = reading(tmp_path, tiff((PHOTO, {}), (INFRARED, {})))
    larger = np.repeat(photo.pixels, 2, axis=0).repeat(2, axis=1)
    for like in (photo, replace(photo, pixels=larger)):
        (notice,) = write_photo(tmp_path / "new.tif", larger, like)
        assert notice.kind == "not_kept" and "another channel" in notice.text
        assert not read_photo(tmp_path / "new.tif").notices


def test_a_channel_of_a_bigtiff_is_left_out_aloud(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "scan.tif", bigtiff=True) as file:
        file.write(PHOTO, photometric="rgb")
        file.write(INFRARED[..., 0], photometric="minisblack")
    photo, said = reading(tmp_path, (tmp_path / "scan.tif").read_bytes())
    assert not photo.channels and "another channel" in said and "is not kept from a BigTIFF" in said


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({339: (3, [2])}, r"8-bit signed samples \(SampleFormat 2\)"),
        ({262: (3, [32803])}, r"PhotometricInterpretation 32803"),
        ({262: (3, [8])}, "Lab"),
        ({259: (3, [34000])}, "compression 34000"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_refused_says_which_tag(tmp_path: Path, fields: Fields, reason: str, channels: int) -> None:
    if channels == 3 and 339 in fields:
        fields = {339: (3, [2] * 3)}
    (tmp_path / "a.tif").write_bytes(tiff((picture(channels=channels), fields)))
    with pytest.raises(ImageError, match=r"a\.tif: .*8- or 16-bit RGB") as caught:
        read_photo(tmp_path / "a.tif")
    assert re.search(reason, str(caught.value)), str(caught.value)


def test_sixteen_bits_of_cmyk_become_eight_and_it_is_said(tmp_path: Path) -> None:
    rgb = picture(dtype=np.uint16)
    inks = np.concatenate([65535 - rgb, np.zeros_like(rgb[..., :1])], axis=2)
    photo, said = reading(tmp_path, tiff((inks, {262: (3, [5])})))
    assert np.abs(photo.pixels.astype(float) - rgb / 257).max() <= 2 and photo.pixels.dtype == np.uint8
    assert "16 bits of CMYK are reduced to 8" in said


def test_another_ink_beside_cmyk_is_missed_aloud(tmp_path: Path) -> None:
    _, said = reading(tmp_path, tiff((picture(channels=5), {262: (3, [5]), 338: (3, [0])})))
    assert "another channel" in said and "CMYK is converted" in said


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_what_a_scan_says_of_itself_stays_and_the_rest_is_named(tmp_path: Path, mode: str) -> None:
    """Its colorimetry not where its colours become others."""
    described: dict[int, Any] = {269: "Album 3", 285: "Seite 7", 297: (6, 12), 282: 300.0, 283: 150.0, 296: 1}
    colours: dict[int, Any] = {318: (0.3127, 0.329), 319: (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)}
    fields = {**described, **colours, 301: tuple(range(256)), 65000: 7}
    Image.fromarray(PHOTO).convert(mode).save(tmp_path / "a.tif", tiffinfo=fields)
    photo, said = reading(tmp_path, (tmp_path / "a.tif").read_bytes())
    lost = "301, 318, 319, 65000" if mode == "CMYK" else "301, 65000"
    assert f"its TIFF tags {lost} will not be in a result" in said
    assert write_photo(tmp_path / "new.tif", photo.pixels // 2, photo) == ()
    with Image.open(tmp_path / "a.tif") as old, Image.open(tmp_path / "new.tif") as new:
        kept = described if mode == "CMYK" else {**described, **colours}
        assert {tag: new.tag_v2[tag] for tag in kept} == {tag: old.tag_v2[tag] for tag in kept}  # type: ignore[attr-defined]
        assert not ({301, 65000, *colours} - kept.keys()) & {*new.tag_v2}  # type: ignore[attr-defined]
    assert not read_photo(tmp_path / "new.tif").notices
    write_photo(tmp_path / "new.jpg", photo.pixels // 2, photo)
    with Image.open(tmp_path / "new.jpg") as new:
        assert new.getexif()[269] == "Album 3"


def test_a_photograph_is_not_numbered_as_its_preview_is(tmp_path: Path) -> None:
    photo, said = reading(tmp_path, tiff((PREVIEW, {**REDUCED, 297: (3, [0, 2])}), (PHOTO, {297: (3, [1, 2])})))
    assert "TIFF tags" not in said
    write_photo(tmp_path / "new.tif", photo.pixels // 2, photo)
    with Image.open(tmp_path / "new.tif") as image:
        assert image.tag_v2[297] == (1, 2)  # type: ignore[attr-defined]
    photo, _ = reading(tmp_path, tiff((PREVIEW, {**REDUCED, 297: (3, [0, 2])}), (PHOTO, {})))
    write_photo(tmp_path / "new.tif", photo.pixels // 2, photo)
    with Image.open(tmp_path / "new.tif") as image:
        assert 297 not in image.tag_v2  # type: ignore[attr-defined]


def test_heic_of_several_photos_is_read_as_its_first(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    Image.fromarray(PHOTO).save(stream, "HEIF", save_all=True, append_images=[Image.fromarray(PREVIEW)], quality=95)
    (tmp_path / "a.heic").write_bytes(stream.getvalue())
    photo = read_photo(tmp_path / "a.heic")
    assert photo.pixels.shape == PHOTO.shape and [notice.kind for notice in photo.notices] == ["further_pictures"]


@pytest.mark.parametrize("bits", [10, 12])
def test_ten_bits_of_heic_become_eight_and_it_is_said(tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    deep = pillow_heif.from_bytes(mode="RGB;16", size=(80, 60), data=picture(dtype=np.uint16).tobytes())
    deep.save(tmp_path / "a.heic", quality=95)
    (notice,) = read_photo(tmp_path / "a.heic").notices
    assert notice.kind == "sixteen_bits" and f"{bits} bits a channel are reduced to 8" in notice.text


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("how", [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}, {"compression": "zlib", "predictor": 2}])
def test_sixteen_bits_in_separate_planes(tmp_path: Path, how: dict[str, Any], channels: int, order: Any) -> None:
    """As scanners and Photoshop ("per channel") write them; turned as the file says, its resolution kept."""
    tifffile = pytest.importorskip("tifffile")
    pixels = picture(channels=channels, dtype=np.uint16)
    alpha = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    turn = (274, 3, 1, 6, True)
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate", byteorder=order,
        resolution=(300, 300), resolutionunit=2, extratags=[turn], **alpha, **how,
    )  # fmt: skip
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels, np.rot90(pixels, -1))
    assert photo.notices == () and photo.dpi == (300, 300) and not photo.gray
    with pytest.raises(ImageError, match=r"a\.tif: .*(limit of 1,000|PlanarConfiguration 2)"):
        read_photo(tmp_path / "a.tif", max_pixels=1000)
