"""Photograph to crop and back: where points land, no aliasing, no border leaking in, no shift; and the masks."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pfr_core import Face
from pfr_core.errors import InputError, WeightsError
from pfr_core.faces.align import TEMPLATE, align, alignment_matrix, resemblance, template
from pfr_core.faces.color import Tone, is_gray, match_color
from pfr_core.faces.geometry import Matrix, invert, region, rescale, rescaling, scale_of, scaled, similarity, warp
from pfr_core.faces.mask import FaceParser, make_mask
from pfr_core.models import identity
from pfr_core.photo.arrays import from_float, to_float, to_uint8

Array = npt.NDArray[Any]


def face_for(x: float, y: float, side: float, degrees: float = 0) -> Face:
    """Return a face whose crop has its middle at (x, y) and is ``side`` pixels of the photograph wide."""
    turn = np.exp(1j * np.radians(degrees))
    unit = ((TEMPLATE + 0.5) / 512 - 0.5) @ (1, 1j)
    points = unit * turn * side + complex(x, y)
    half = 0.3 * side
    box = (x - half, y - half, x + half, y + half)
    return Face.of(box, 0.9, [(p.real, p.imag) for p in points])


def apply(matrix: Matrix, points: npt.ArrayLike) -> Array:
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def smooth_photo(height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 6)
    return ((blurred - blurred.min()) / (blurred.max() - blurred.min()) * 0.8 + 0.1).astype(np.float32)


def dot(height: int, width: int, x: float, y: float, sigma: float) -> npt.NDArray[np.float32]:
    yy, xx = np.mgrid[:height, :width]
    return np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def centroid(image: Array) -> tuple[float, float]:
    yy, xx = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image.astype(np.float64)
    return float((xx * weight).sum() / weight.sum()), float((yy * weight).sum() / weight.sum())


# --- where points land ---------------------------------------------------------------------------------------------------


@given(
    x=st.floats(-50, 500), y=st.floats(-50, 500), side=st.floats(8, 3000), degrees=st.floats(-180, 180),
    size=st.sampled_from([64, 256, 512]),
)  # fmt: skip
def test_the_points_map_to_the_template_and_back(x: float, y: float, side: float, degrees: float, size: int) -> None:
    face = face_for(x, y, side, degrees)
    matrix = alignment_matrix(face, size)
    assert np.abs(apply(matrix, face.points) - template(size)).max() < 1e-6 * size
    assert np.abs(apply(invert(matrix), template(size)) - face.points).max() < 1e-6 * max(side, 100)
    assert scale_of(matrix) == pytest.approx(size / side)
    assert np.linalg.det(matrix[:, :2]) > 0, "never mirrored"


def test_the_left_eye_lands_left() -> None:
    """Defect 1: columns of the wrong points."""
    matrix = alignment_matrix(face_for(100, 80, 120), 512)
    eyes = apply(matrix, face_for(100, 80, 120).points)[:2]
    assert eyes[0] == pytest.approx(TEMPLATE[0]) and eyes[1] == pytest.approx(TEMPLATE[1])
    assert eyes[0][0] < eyes[1][0]


def test_least_squares_where_the_points_do_not_fit_exactly() -> None:
    """No similarity nearby does better than the one that is returned."""
    rng = np.random.default_rng(1)
    points = np.asarray(face_for(60, 50, 90, 20).points) + rng.normal(0, 3, (5, 2))
    face = Face.of((0, 0, 1, 1), 1, points)
    matrix = alignment_matrix(face, 64)
    best = np.square(apply(matrix, points) - template(64)).sum()
    for a, b, tx, ty in np.vstack([np.eye(4), -np.eye(4)]) * 1e-3:
        other = matrix + np.array([[a, -b, tx], [b, a, ty]])
        assert np.square(apply(other, points) - template(64)).sum() > best


@given(x=st.floats(-100, 100), first=st.floats(0.1, 10), second=st.floats(0.1, 10))
def test_rescaling_is_one_equation(x: float, first: float, second: float) -> None:
    """As a number and as a matrix; twice is once by the product; back is back."""
    assert apply(rescaling(first, second), [x, x]) == pytest.approx([rescale(x, first), rescale(x, second)])
    assert rescale(rescale(x, first), second) == pytest.approx(rescale(x, first * second))
    assert rescale(rescale(x, first), 1 / first) == pytest.approx(x)
    assert rescale(-0.5, first) == -0.5, "the corner of the first pixel stays"


def test_the_batch_on_a_device_is_aligned_by_the_same_similarity() -> None:
    """Networks that recognise faces look at them through the same equation as the pipeline."""
    rng = np.random.default_rng(2)
    source, target = rng.normal(size=(2, 4, 5, 2)) * 30 + 50
    matrices, offsets = identity.similarity(torch.from_numpy(source), torch.from_numpy(target))
    for number in range(4):
        expected = similarity(source[number], target[number])
        assert matrices[number].numpy() == pytest.approx(expected[:, :2])
        assert offsets[number].numpy() == pytest.approx(expected[:, 2])


def test_templates_of_two_sizes_show_the_same_picture() -> None:
    """Halving a crop of 512 gives the crop of 256: pixel centres are (x + 0.5) / 2 - 0.5."""
    assert template(256) == pytest.approx((template(512) + 0.5) / 2 - 0.5)


def test_coinciding_points_are_refused() -> None:
    with pytest.raises(InputError, match="coincide"):
        alignment_matrix(Face((0, 0, 9, 9), 1, ((5, 5),) * 5), 64)


@given(degrees=st.floats(-180, 180), side=st.floats(5, 1000))
def test_resemblance_tells_the_turn(degrees: float, side: float) -> None:
    fit = resemblance(face_for(3, 4, side, degrees).points)
    assert abs(fit) == pytest.approx(1)
    assert abs(np.exp(-1j * np.radians(degrees)) - fit) < 1e-6


def test_a_mirrored_or_pointless_face_resembles_nothing() -> None:
    upside_down = (TEMPLATE * (1, -1)).tolist()
    assert abs(resemblance(upside_down)) < 0.5
    assert resemblance([(1, 1)] * 5) == 0


@given(factor=st.floats(1, 4), side=st.floats(20, 200), degrees=st.floats(-180, 180))
def test_scaled_keeps_pixel_centres(factor: float, side: float, degrees: float) -> None:
    """Defect 10: an offset that is right for one factor only."""
    matrix = alignment_matrix(face_for(40, 30, side, degrees), 64)
    points = np.array([[0, 0], [17, 3], [40, 90]])
    large = (points + 0.5) * factor - 0.5
    assert np.abs(apply(scaled(matrix, factor, factor), large) - apply(matrix, points)).max() < 1e-6


# --- resampling ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 30, 90, -135])
@pytest.mark.parametrize("side", [40, 64, 200, 320])
def test_a_dot_lands_where_the_matrix_says(side: float, degrees: float) -> None:
    face = face_for(160.3, 170.8, side, degrees)
    matrix = alignment_matrix(face, 64)
    x, y = face.points[2]
    photo = np.repeat(dot(340, 330, x, y, side / 16)[..., None], 3, axis=2)
    assert centroid(align(photo, matrix, 64)[..., 0]) == pytest.approx(tuple(template(64)[2]), abs=0.1)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(60, 90), y=st.floats(60, 90), side=st.floats(24, 64), degrees=st.floats(-180, 180))
def test_crop_and_back_is_the_photo(x: float, y: float, side: float, degrees: float) -> None:
    """Pasting the whole crop, not a difference: for a face no larger than its crop nothing is lost and nothing shifts."""
    photo = smooth_photo(150, 150)
    matrix = alignment_matrix(face_for(x, y, side, degrees), 64)
    back = warp(align(photo, matrix, 64), invert(matrix), 150, 150)
    inside = warp(make_mask("box", 64, 0.1), invert(matrix), 150, 150, border=cv2.BORDER_CONSTANT) > 0.9
    assert np.abs(back - photo)[inside].mean() < 0.5 / 255
    for axis in (0, 1):  # the shift that would best explain what is left (Lucas and Kanade)
        gradient = np.gradient(photo, axis=axis)[inside]
        assert abs((gradient * (back - photo)[inside]).sum() / np.square(gradient).sum()) < 0.1


@pytest.mark.parametrize("factor", [3, 5, 8])
def test_a_fine_checkerboard_becomes_flat_gray(factor: int) -> None:
    """Defect 8: no low-pass filter before minifying."""
    side = 64 * factor
    board = np.indices((side + 40, side + 40)).sum(axis=0) % 2
    photo = np.repeat((board * 255).astype(np.uint8)[..., None], 3, axis=2)
    crop = align(photo, alignment_matrix(face_for(side / 2 + 20, side / 2 + 20, side), 64), 64)
    assert np.abs(crop - 0.5).max() < 0.02


def test_magnifying_does_not_blur() -> None:
    """The low-pass filter is for minifying only: a crop at the photo's own size is the photo."""
    photo = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    assert np.abs(align(photo, alignment_matrix(face_for(31.5, 31.5, 64), 64), 64) - photo).max() < 1e-4


@pytest.mark.parametrize("side", [30, 64, 200])
@pytest.mark.parametrize("degrees", [0, 45])
@pytest.mark.parametrize("corner", [(0, 0), (79, 0), (0, 59), (79, 59)])
def test_beyond_the_edge_the_border_is_repeated(side: float, degrees: float, corner: tuple[int, int]) -> None:
    """Defect 8: a gray or black border leaking in."""
    photo = np.full((60, 80, 3), 0.75, np.float32)
    crop = align(photo, alignment_matrix(face_for(*corner, side, degrees), 64), 64)
    assert crop == pytest.approx(0.75, abs=1e-4)


def test_the_repeated_border_is_the_nearest_pixel() -> None:
    photo = np.zeros((60, 80, 3), np.float32)
    photo[:, 0] = 0.5
    crop = align(photo, alignment_matrix(face_for(0, 30, 64), 64), 64)
    assert crop[:, :28] == pytest.approx(0.5, abs=1e-3) and crop[:, 36:] == pytest.approx(0, abs=1e-3)


def test_only_the_surroundings_of_the_face_are_looked_at() -> None:
    """Crops of the photograph and of a part of it agree: nothing beyond the margin has an influence."""
    photo = np.random.default_rng(2).random((400, 500, 3), dtype=np.float32)
    whole = align(photo, alignment_matrix(face_for(250, 200, 150, 25), 64), 64)
    part = align(photo[60:340, 110:390], alignment_matrix(face_for(140, 140, 150, 25), 64), 64)
    assert np.abs(whole - part).max() < 1e-3


def test_a_face_outside_is_refused() -> None:
    with pytest.raises(InputError, match="outside"):
        align(np.zeros((50, 50, 3), np.uint8), alignment_matrix(face_for(500, 20, 40), 64), 64)


@given(x=st.floats(-80, 180), y=st.floats(-80, 180), side=st.floats(4, 300), degrees=st.floats(-180, 180))
def test_region_covers_the_crop_and_stays_in_the_photo(x: float, y: float, side: float, degrees: float) -> None:
    matrix = alignment_matrix(face_for(x, y, side, degrees), 64)
    left, top, right, bottom = region(matrix, 64, 100, 70)
    assert 0 <= left <= right <= 100 and 0 <= top <= bottom <= 70
    yy, xx = np.mgrid[:70, :100]
    crop = apply(matrix, np.stack([xx, yy], axis=-1))
    covered: Array = np.all((crop > -0.5) & (crop < 63.5), axis=-1)
    covered[top:bottom, left:right] = False
    assert not covered.any()


def test_one_pixel() -> None:
    crop = align(np.full((1, 1, 3), 200, np.uint8), alignment_matrix(face_for(0, 0, 10), 64), 64)
    assert crop == pytest.approx(200 / 255, abs=1e-5)


# --- depths ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_survives_float(dtype: type[np.unsignedinteger]) -> None:
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    assert np.array_equal(from_float(to_float(values), dtype), values)


def test_rounded_and_clipped_not_truncated_or_wrapped() -> None:
    """Defects 3 and 9."""
    values = np.array([-0.5, 0.9 / 255, 0.4 / 255, 254.6 / 255, 1.7], np.float32)
    assert from_float(values, np.uint8).tolist() == [0, 1, 0, 255, 255]
    assert to_uint8(np.array([128, 129, 65535], np.uint16)).tolist() == [0, 1, 255]


# --- masks -------------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(kind=st.sampled_from(["box", "oval"]), size=st.sampled_from([64, 128, 256]), feather=st.floats(0, 0.5))
def test_masks(kind: str, size: int, feather: float) -> None:
    mask = make_mask(kind, size, feather)
    assert mask.shape == (size, size) and mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
    assert np.array_equal(mask, mask[:, ::-1]) or np.abs(mask - mask[:, ::-1]).max() < 1e-3
    if feather <= 0.3:
        assert mask[round(size * 0.56), size // 2] == 1
    if feather > 2 / size:
        steps = max(np.abs(np.diff(mask, axis=0)).max(), np.abs(np.diff(mask, axis=1)).max())
        assert steps < 3 / (feather * size), "a seam"
        assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) < 1 / (feather * size)


def test_a_wider_feather_pastes_less() -> None:
    for kind in ("box", "oval"):
        sums = [make_mask(kind, 64, feather).sum() for feather in (0, 0.05, 0.1, 0.2, 0.5)]
        assert sums == sorted(sums, reverse=True) and len(set(sums)) == 5
    assert make_mask("box", 64, 0).min() == 1
    assert make_mask("oval", 64, 0)[0, 0] == 0 == make_mask("oval", 64, 0)[-1, 0]


def test_a_parsed_mask_needs_the_picture_and_facexlib(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="FaceParser"):
        make_mask("parse", 64, 0.1)
    monkeypatch.setitem(sys.modules, "facexlib.parsing.parsenet", None)
    with pytest.raises(WeightsError, match="pip install --no-deps facexlib"):
        FaceParser().mask(np.zeros((64, 64, 3), np.float32), 0.1)


# --- colours -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    method=st.sampled_from(["adain", "wavelet"]), seed=st.integers(0, 99), low=st.floats(0, 1), high=st.floats(0, 1),
    gain=st.floats(0, 1), offset=st.floats(-0.5, 0.5),
)  # fmt: skip
def test_matched_colours_stay_in_range(method: str, seed: int, low: float, high: float, gain: float, offset: float) -> None:
    """Defect 9: colours beyond 1, taken for 16 bit later."""
    rng = np.random.default_rng(seed)
    original = (low + (high - low) * rng.random((32, 32, 3))).astype(np.float32)
    restored = np.clip(gain * rng.random((32, 32, 3)) + offset, 0, 1).astype(np.float32)
    matched = match_color(restored, original, method)  # type: ignore[arg-type]
    assert matched.dtype == np.float32 and matched.min() >= 0 and matched.max() <= 1


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_a_cast_is_taken_away_and_detail_stays(method: str) -> None:
    original = smooth_photo(64, 64) * 0.5 + 0.25
    detail = np.float32(0.02) * np.where(np.indices((64, 64)).sum(axis=0) % 2, 1, -1)[..., None].astype(np.float32)
    cast = np.array([0.15, -0.1, 0.05], np.float32)
    matched = match_color(original + detail + cast, original, method)  # type: ignore[arg-type]
    assert np.abs(matched - original - detail).mean() < 0.005
    assert np.array_equal(match_color(original + cast, original, "none"), original + cast)


def test_broad_colours_are_those_of_the_blur_at_full_size() -> None:
    original, rng = smooth_photo(512, 512) * 0.5 + 0.25, np.random.default_rng(0)
    restored = original[::-1] + rng.normal(0, 0.03, original.shape).astype(np.float32)
    exact = restored + cv2.GaussianBlur(original - restored, (0, 0), 32, borderType=cv2.BORDER_REFLECT)
    assert np.abs(match_color(restored, original, "wavelet") - np.clip(exact, 0, 1)).max() < 2e-3  # half a step of 8 bits


def test_gray() -> None:
    photo = (smooth_photo(20, 20) * 255).astype(np.uint8)
    gray = np.repeat(photo[..., :1], 3, axis=2)
    assert is_gray(gray) and not is_gray(photo)
    nearly = gray.copy()
    nearly[3, 4, 2] ^= 1
    assert not is_gray(nearly)


def sepia(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Print [H,W,3] of equal channels in brown, whose shade depends on the brightness."""
    return np.clip(gray + 0.12 * np.sin(np.pi * gray) * np.array([1, 0, -1], np.float32), 0, 1)


def test_a_gray_photograph_has_a_gray_tone() -> None:
    photo = smooth_photo(200, 200)
    gray = np.repeat(photo[..., :1], 3, axis=2)
    for image in (gray, (gray * 255).astype(np.uint8), (gray * 65535).astype(np.uint16)):
        tone = Tone.of(image)
        assert tone is not None
        result = tone.give(photo)
        assert is_gray(result)
        assert np.abs(result[..., 0] - photo @ (0.299, 0.587, 0.114)).max() < 1e-6


def test_a_tinted_photograph_has_the_tone_of_its_print() -> None:
    """With a scanner's noise and JPEG's colour blocks; what is restored has that colour, whatever its own was."""
    rng, photo = np.random.default_rng(0), smooth_photo(300, 300)
    gray = np.repeat(photo[..., :1], 3, axis=2)
    noisy = np.clip(sepia(gray) * 255 + rng.normal(0, 2, gray.shape), 0, 255).astype(np.uint8)
    scan = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    assert scan is not None
    tone = Tone.of(scan)
    assert tone is not None
    coloured = gray * np.array([1, 0.9, 1.1], np.float32) * 0.9
    luma = coloured @ np.array([0.299, 0.587, 0.114], np.float32)
    given = tone.give(coloured)
    assert np.abs(given @ (0.299, 0.587, 0.114) - luma).max() < 2e-3
    expected = sepia(np.linspace(0, 1, 1001, dtype=np.float32)[:, None].repeat(3, axis=1))
    lumas = expected @ (0.299, 0.587, 0.114)
    for c in range(3):
        assert np.abs(given[..., c] - np.interp(luma, lumas, expected[:, c])).max() < 0.02


def test_lips_coloured_by_hand_make_a_photograph_of_more_than_one_tone() -> None:
    gray = np.repeat(smooth_photo(600, 600)[..., :1], 3, axis=2)
    assert Tone.of(gray) is not None
    gray[400:430, 280:340] *= np.array([1, 0.5, 0.5], np.float32)
    assert Tone.of(gray) is None
    assert Tone.of(smooth_photo(60, 60)) is None


def test_a_face_may_be_all_that_has_colours() -> None:
    """In a photograph of snow; a small face's noise is not colours."""
    rng, gray = np.random.default_rng(0), np.repeat(smooth_photo(600, 600)[..., :1], 3, axis=2)
    snow = gray.copy()
    snow[300:312, 300:312] = (0.8, 0.6, 0.45)
    tone = Tone.of(snow)
    assert tone is not None, "it is less than a thousandth of the picture"
    assert not tone.holds(cv2.resize(snow[296:316, 296:316], (128, 128)))
    assert tone.holds(gray[:128, :128] + rng.normal(0, 0.015, (128, 128, 3)).astype(np.float32))
