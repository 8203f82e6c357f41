"""Arrays, PIL images and tensors: in and out unchanged, and what is refused."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms

from pfr_core.errors import InputError
from pfr_core.photo.arrays import fitted, resize, unpack
from pfr_core.photo.depth import ROWS, to_8_bits
from pfr_core.photo.pillow import notices_of
from pfr_core.photo.read import read_photo

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_numpy_round_trip(dtype: Any, channels: int) -> None:
    image = RNG.random((5, 7, channels))
    image = image.astype(dtype) if np.issubdtype(dtype, np.floating) else (image * np.iinfo(dtype).max).astype(dtype)
    frames, repack = unpack(image)
    result = repack([frame.copy() for frame in frames])
    assert len(frames) == 1 and result.dtype == image.dtype and np.array_equal(result, image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 5, 7), (1, 3, 5, 7), (3, 4, 5, 7), (0, 3, 5, 7)])
def test_tensor_round_trip(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """float64 too must not lose a bit on the way."""
    image = torch.from_numpy(RNG.random(shape)).to(dtype)
    frames, repack = unpack(image)
    assert len(frames) == (shape[0] if len(shape) == 4 else 1)
    assert all(frame.shape == (5, 7, shape[-3]) for frame in frames)
    result = repack([frame.copy() for frame in frames])
    assert result.shape == image.shape and result.dtype == dtype and torch.equal(result, image)


def test_tensor_channels_become_the_last_axis() -> None:
    image = torch.zeros(3, 5, 7)
    image[1, 2, 6] = 1
    assert unpack(image)[0][0][2, 6].tolist() == [0, 1, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P"])
def test_pil_round_trip(mode: str) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)).convert("LA" if mode == "LA" else "RGBA")
    image = image if mode in ("RGBA", "LA") else image.convert("RGB").convert(mode)
    frames, repack = unpack(image)
    result = repack(frames)
    assert result.mode == {"1": "L", "P": "RGB"}.get(mode, mode) and result.size == (7, 5)
    assert result.tobytes() == image.convert(result.mode).tobytes()


def test_sixteen_bits_of_pil_stay_sixteen() -> None:
    """Pillow holds them in gray only: what became coloured has 8, rounded."""
    deep = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    (frame,), repack = unpack(Image.fromarray(deep))
    assert frame.dtype == np.uint16 and (frame == deep[..., None]).all()
    assert np.array_equal(np.array(repack([frame])), deep)
    coloured = frame.copy()
    coloured[0, 0] = (65535, 129, 128)
    assert np.array(repack([coloured]))[0, 0].tolist() == [255, 1, 0]


@pytest.mark.parametrize(
    ("size", "side", "expected"), [((40, 30), 20, (20, 15)), ((30, 40), 40, (30, 40)), ((400, 1), 20, (20, 1))]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_picture_is_shrunk_until_it_fits(size: tuple[int, int], side: int, expected: tuple[int, int], dtype: Any) -> None:
    image = np.full((*size, 3), 1, dtype)
    small = fitted(image, side)
    assert small.shape == (*expected, 3) and small.dtype == dtype and (small == 1).all()


def test_a_pil_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.info["transparency"] = 1
    (frame,), repack = unpack(image)
    assert frame.tolist() == [[[10, 20, 30, 255], [40, 50, 60, 0]]]
    assert repack([frame]).mode == "RGBA" and "transparency" not in repack([frame]).info


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_as_its_file_is_and_keeps_its_metadata(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = orientation, "A. Photographer"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:8, :8], picture[8:, :8] = 255, (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / f"a{suffix}", exif=exif, icc_profile=profile, dpi=(204, 98))
    with Image.open(tmp_path / f"a{suffix}") as image:
        (frame,), repack = unpack(image)
    np.testing.assert_array_equal(frame, read_photo(tmp_path / f"a{suffix}").pixels)
    result = repack([frame])
    if suffix in (".jpg", ".png"):
        assert result.info["dpi"] == pytest.approx((98, 204) if orientation >= 5 else (204, 98), abs=0.1)
    assert result.info["icc_profile"] == profile and result.getexif()[ExifTags.Base.Artist] == "A. Photographer"
    assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
    result.save(tmp_path / "b.png", exif=result.getexif(), icc_profile=result.info["icc_profile"])
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png").pixels, frame)


def test_a_pil_image_without_readable_exif_is_as_it_is() -> None:
    image = Image.new("RGB", (4, 3))
    image.info["exif"] = b"Exif\0\0nothing"
    (frame,), repack = unpack(image)
    assert frame.shape == (3, 4, 3) and repack([frame]).info["exif"] == image.info["exif"]
    (notice,) = notices_of(image)
    assert notice.kind == "damaged_exif" and "nothing of its EXIF data can be read" in notice.text


def test_a_pil_image_says_that_its_exif_is_cut(tmp_path: Path) -> None:
    """A GPS block beyond the end: what can be read is kept, the orientation too, and it is said."""
    orientation, gps = struct.pack(">HHIHxx", 0x0112, 3, 1, 6), struct.pack(">HHII", 0x8825, 4, 1, 1_000_000)
    block = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + orientation + gps + b"\0" * 4
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (4, 3)).save(tmp_path / name, exif=block)
        with Image.open(tmp_path / name) as image:
            (frame,), _ = unpack(image)
            (notice,) = notices_of(image)
        assert frame.shape == (4, 3, 3) and notice.kind == "damaged_exif" and "the GPS part" in notice.text


def test_a_gray_profile_goes_with_the_gray() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("L", (4, 3))
    image.info["icc_profile"] = profile
    (frame,), repack = unpack(image)
    assert repack([frame]).info["icc_profile"] == profile
    coloured = np.full_like(frame, (1, 2, 3))
    assert "icc_profile" not in repack([coloured]).info


def test_slightly_overshooting_floats_are_taken() -> None:
    unpack(np.full((2, 2, 3), 1.0005, np.float32))
    unpack(torch.full((3, 2, 2), -0.0005))


def nan(value: float, shape: tuple[int, ...] = (4, 4, 3)) -> np.ndarray:
    array = np.zeros(shape, np.float32)
    array.flat[5] = value
    return array


def half_of_a_jpeg() -> Image.Image:
    whole = BytesIO()
    Image.effect_noise((64, 64), 99).save(whole, "JPEG")
    return Image.open(BytesIO(whole.getvalue()[: len(whole.getvalue()) // 2]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (nan(float("nan")), "NaN"),
        (nan(float("inf")), "NaN or inf"),
        (nan(-float("inf")), "NaN or inf"),
        (torch.from_numpy(nan(float("nan"), (3, 4, 4))), "NaN"),
        (torch.from_numpy(nan(float("inf"), (2, 3, 4, 4))), "NaN or inf"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (np.zeros((4, 4, 3), np.complex64), "complex64"),
        (np.zeros((4, 4, 3), object), "object"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), "int32"),
        (np.full((4, 4, 3), 255, np.float32), "Divide by 255"),
        (np.full((4, 4, 3), -1, np.float32), r"\(x \+ 1\) / 2"),
        (torch.full((3, 4, 4), 255.0), "255"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\]"),
        (np.zeros((3, 14, 24), np.uint8), r"\[3, 14, 24\]"),
        (np.zeros((4, 4, 1), np.uint8), r"\[4, 4, 1\]"),
        (np.zeros((4, 4, 5), np.uint8), r"\[4, 4, 5\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\[2, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
        (torch.zeros(4, 4), r"\[4, 4\]"),
        (torch.zeros(5, 4, 4), r"\[5, 4, 4\]"),
        (torch.zeros(1, 14, 24, 3), r"\[1, 14, 24, 3\]"),
        (torch.zeros(1, 1, 3, 4, 4), r"\[1, 1, 3, 4, 4\]"),
        (torch.zeros(3, 0, 4), r"\[3, 0, 4\]"),
        (torch.zeros(0, 3, 0, 4), r"\[0, 3, 0, 4\]"),
        (Image.new("CMYK", (4, 4)), "'CMYK'; pass its file"),
        (Image.new("F", (4, 4)), "'F'"),
        (half_of_a_jpeg(), "cannot be read .*complete copy"),
        (Image.new("RGB", (0, 4)), r"\[4, 0, 3\]"),
        ([[1, 2, 3]], "list"),
        (None, "NoneType"),
    ],
)
def test_refused_by_name(image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        unpack(image)


def test_sixteen_bits_become_eight_by_rounding_in_every_row() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(2 * ROWS, -1)[: 2 * ROWS - 1]
    assert np.array_equal(to_8_bits(every), np.rint(every / 257).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_of_what_is_transparent_bleed_into_nothing(dtype: Any) -> None:
    """A white cut-out whose transparent surroundings are black, as editors store them."""
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    image: Any = np.zeros((20, 30, 4), dtype)
    image[5:15, 8:20] = white
    large: Any = resize(image, 60, 40)
    seen = large[..., 3] > 0.1 * white
    assert seen.sum() > 400 and (large[seen][:, :3] >= 0.99 * white).all()
    opaque = np.concatenate([image[..., :3], np.full_like(image[..., :1], white)], axis=2)
    assert np.array_equal(resize(opaque, 60, 40)[..., :3], resize(image[..., :3].copy(), 60, 40)), "opaque ones as ever"
