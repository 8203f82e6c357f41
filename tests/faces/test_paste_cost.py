"""Cropping and pasting a face touch its own surroundings only, so their cost grows with face area, not with photo area.

Asserted by what is allocated and by what OpenCV is given, never by the clock; `benchmarks/paste.py` measures seconds.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from pfr_core import Face, RestoreOptions
from pfr_core.compose import Canvas, Layer, Pasted, cut_face, paste_faces
from pfr_core.faces.align import alignment_matrix, template
from pfr_core.faces.geometry import scale_of
from pfr_core.faces.mask import FaceParser, make_mask
from pfr_core.faces.paste import paste_face

CROP = 32
SIDES = [20, 100, 250]  # of a crop in px of the photograph: smaller and larger than the network's, and much larger
CANVASES = [(400, 600), (1600, 2400)]
MARGIN = 1.5  # the bounding box of a turned square, and the low-pass filter's surroundings


def face(side: float, angle: float = 0.3) -> Face:
    """Return a turned face whose crop covers ``side`` px around (300, 200)."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = ((template(CROP) + 0.5) / CROP - 0.5) @ turn * side + (300, 200)
    half = side / 4
    box = (300 - half, 200 - half, 300 + half, 200 + half)
    return Face(box, 1.0, tuple((float(x), float(y)) for x, y in points))  # type: ignore[arg-type]


def negatives(photo: np.ndarray, faces: list[Face]) -> list[Layer]:
    """Return the faces cut out, and restored to their negatives."""
    layers = [cut_face(photo, each, CROP) for each in faces]
    for layer in layers:
        layer.restored = 1 - layer.crop
    return layers


def paste(photo: np.ndarray | Canvas, layers: list[Layer]) -> Pasted:
    canvas = photo if isinstance(photo, Canvas) else Canvas(photo)
    return paste_faces(canvas, layers, options=RestoreOptions(), parser=FaceParser())


@pytest.fixture
def areas(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of every picture that OpenCV's filters are given or give back."""
    seen: list[int] = []

    def watch(function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(source: np.ndarray, *arguments: Any, **keywords: Any) -> Any:
            result = function(source, *arguments, **keywords)
            seen.extend(picture.shape[0] * picture.shape[1] for picture in (source, result))
            return result

        return watched

    for name in ("warpAffine", "GaussianBlur", "blur", "boxFilter", "erode", "dilate", "resize", "cvtColor"):
        monkeypatch.setattr(cv2, name, watch(getattr(cv2, name)))
    return seen


def allocated(work: Callable[[], object]) -> int:
    """Bytes that NumPy and OpenCV's arrays took at once, at the most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("side", SIDES)
def test_filters_see_the_face_and_not_the_photo(areas: list[int], side: int) -> None:
    seen = []
    for height, width in CANVASES:
        photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        canvas = Canvas(photo)
        assert canvas.tone is None  # for which the whole of it is looked at, once
        areas.clear()
        pasted = paste(canvas, negatives(photo, [face(side)]))
        assert (pasted.image != photo).any(axis=2).sum() > 0.3 * side**2, "nothing was pasted"
        assert pasted.mask.shape == (height, width) and pasted.changed
        seen.append(areas.copy())
        areas.clear()
    assert seen[0], "OpenCV was not watched"
    assert seen[0] == seen[1], "the work depends on the photograph"
    margin = 4 * side / CROP + 5  # of the low-pass filter, px on each side
    assert max(seen[0]) <= max(CROP, MARGIN * side + 2 * margin) ** 2


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_memory_of_a_paste_is_the_faces(kind: Any) -> None:
    change = np.full((CROP, CROP, 3), 0.1, np.float32)
    peaks = {}
    for side in SIDES:
        matrix = alignment_matrix(face(side), CROP)
        assert scale_of(matrix) == pytest.approx(CROP / side)
        for height, width in CANVASES:
            image, mask = np.zeros((height, width, 3), kind), np.zeros((height, width), np.float32)
            original, crop_mask = image.copy(), make_mask("box", CROP, 0.1)
            paste = lambda args=(image, mask, change, crop_mask, matrix, original): paste_face(*args)  # noqa: E731
            peaks[side, height] = allocated(paste)
            assert mask.any() and image.any()
    for side in SIDES:
        small, large = (peaks[side, height] for height, _ in CANVASES)
        assert large < 1.1 * small + 10_000, "the work depends on the photograph"
        # Floats of three channels are 12 bytes a pixel; a handful of them at once, for the turned square's bounding box.
        assert small < 8 * 12 * (MARGIN * max(side, CROP)) ** 2 + 50_000


def test_the_photo_is_copied_once_for_all_faces() -> None:
    photo = np.zeros((1600, 2400, 3), np.uint8)
    peaks = []
    for count in (1, 8):
        faces = [face(100, angle) for angle in np.linspace(-0.3, 0.3, count)]
        layers = negatives(photo, faces)
        peaks.append(allocated(lambda layers=layers: paste(photo, layers)))  # type: ignore[misc]
    assert peaks[1] < 1.02 * peaks[0], "something of the photograph's size is made for each face"
    assert peaks[0] < 4.5 * photo.nbytes  # two copies, the mask (floats), and the look at its tone
