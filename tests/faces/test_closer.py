"""A closer look at faces with middling scores."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pfr_core.errors import Cancelled
from pfr_core.faces.closer import FACE, LOWEST, MOST, SIDE, UNSURE, look_closer
from pfr_core.faces.closeup import CloseUp, Pixels
from pfr_core.faces.detect import Detector
from pfr_core.faces.face import Face
from pfr_core.faces.upright import See
from pfr_core.photo.read import read_photo

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
UPRIGHT = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
PHOTO = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


def face_at(left: float, top: float, width: float, height: float, score: float, points: tuple[tuple[float, float], ...]) -> Face:
    box = (left, top, left + width, top + height)
    return Face.of(box, score, [(left + x * width, top + y * height) for x, y in points])


def upright(left: float, top: float, width: float, score: float) -> Face:
    return face_at(left, top, width, 1.25 * width, score, UPRIGHT)


def middle(width: float, score: float) -> Face:
    """Return a face in the middle of what a closer look sees."""
    return upright((SIDE - 1 - width) / 2, (SIDE - 1 - 1.25 * width) / 2, width, score)


def test_unsure_faces_get_the_score_of_two_looks_and_the_others_keep_theirs() -> None:
    sure, unsure, hopeless = upright(200, 50, 60, UNSURE[1]), upright(40, 100, 40, 0.5), upright(300, 200, 40, UNSURE[0] - 0.01)
    lying = face_at(100, 20, 40, 50, 0.7, tuple((y, 1 - x) for x, y in UPRIGHT))
    looked = list[Pixels]()

    def see(picture: Pixels, threshold: float) -> list[Face]:
        assert threshold == LOWEST
        looked.append(picture)
        return [middle(FACE, 0.9), upright(0, 0, FACE, 0.99)]  # the second is another face

    found = look_closer(see, PHOTO, [sure, lying, unsure, hopeless])
    assert [face.score for face in found] == pytest.approx([UNSURE[1], 0.75, 0.7, UNSURE[0] - 0.01])  # odds of 9 and 1: of 3
    assert (found[1].box, found[1].points) == (unsure.box, unsure.points) and [found[0], *found[2:]] == [sure, lying, hopeless]
    (picture,) = looked
    assert picture.shape == (SIDE, SIDE, 3)
    (certain,) = look_closer(lambda *_: [middle(FACE, 1.0)], PHOTO, [unsure])
    assert 0.9 < certain.score < 1


@pytest.mark.parametrize("width", [30, 60, 200])
def test_a_look_shows_the_face_at_its_width_with_its_surroundings(width: int) -> None:
    """A white face on black stands in the middle of what is seen, whatever its own width, also where the photograph ends."""
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[20 : 20 + round(1.25 * width), 5 : 5 + width] = 255

    def see(picture: Pixels, threshold: float) -> list[Face]:
        columns, rows = (np.flatnonzero(picture[..., 0].max(axis=axis) > 127) for axis in (0, 1))
        assert abs(len(columns) - FACE) <= 4 and abs(len(rows) - 1.25 * FACE) <= 4
        assert abs(columns.mean() - SIDE / 2) < 4 and abs(rows.mean() - SIDE / 2) < 4
        return []

    (found,) = look_closer(see, photo, [upright(5, 20, width, 0.7)])
    assert found.score < 0.2, "what nothing sees there is hardly a face"


def test_of_a_face_cut_by_the_border_what_is_in_the_photograph_is_compared() -> None:
    """Its box ends at the border, that of a look at what is repeated beyond it does not."""
    cut = Face((0, 100, 16, 150), 0.7, upright(-24, 100, 40, 0.7).points)

    def see(picture: Pixels, threshold: float) -> list[Face]:
        scale = 40 / FACE  # as wide as 0.8 of its height
        return [upright(-24, 100, 40, 0.99).moved(1, (SIDE * scale / 2 - 8, SIDE * scale / 2 - 125)).moved(1 / scale)]

    (found,) = look_closer(see, PHOTO, [cut])
    assert found.score > 0.9


def test_of_a_crowd_the_first_are_looked_at_and_each_look_can_be_stopped() -> None:
    crowd = [upright(10, 10, 20, 0.9 - number / 1000) for number in range(MOST + 5)]
    seen = list[int]()

    def see(picture: Pixels, threshold: float) -> list[Face]:
        seen.append(1)
        return []

    found = look_closer(see, PHOTO, crowd)
    assert len(seen) == MOST and [face.score < 0.5 for face in found] == [False] * 5 + [True] * MOST
    with pytest.raises(Cancelled):
        look_closer(see, PHOTO, crowd, lambda: len(seen) == MOST + 3)
    assert len(seen) == MOST + 3


def test_the_built_in_detector_looks_closer() -> None:
    """What is found does not depend on the threshold's side of the scores that are looked at again."""
    photo = read_photo(EXAMPLES / "two_faces.jpg").pixels
    detector = Detector("builtin")
    low, usual = detector.detect(photo, threshold=0.3), detector.detect(photo)
    assert len(usual) == 2 and [face for face in low if face.score >= 0.8] == usual


def test_other_detectors_and_turned_photographs_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = read_photo(EXAMPLES / "two_faces.jpg").pixels
    looked = list[int]()

    def look(see: See, image: Pixels, faces: list[Face], stop: None) -> list[Face]:
        looked.append(len(faces))
        return faces

    monkeypatch.setattr("pfr_core.faces.detect.look_closer", look)
    detector = Detector("builtin")
    usual = detector.detect(photo)
    assert len(usual) == 2 and len(looked) == 1
    assert len(detector.detect(photo, sideways=True)) == 2 and len(looked) == 1
    detector._unsure = False  # as another detector
    assert detector.detect(photo) == usual and len(looked) == 1


def test_lying_faces_that_a_closer_look_takes_for_none_are_still_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe_nothing(see: See, image: Pixels, faces: list[Face], stop: None) -> list[Face]:
        return [replace(face, score=0.1) for face in faces]

    monkeypatch.setattr("pfr_core.faces.detect.look_closer", believe_nothing)
    photo, detector = read_photo(EXAMPLES / "two_faces.jpg").pixels, Detector("builtin")
    assert detector.detect(photo, right_way_up=True) == []
    assert len(detector.detect(np.ascontiguousarray(np.rot90(photo)), right_way_up=True)) == 2


@pytest.mark.parametrize("left", [-60.0, 40.0, 340.0])
def test_a_large_face_is_seen_as_a_small_one_is_at_no_more_cost(left: float) -> None:
    """In the middle of the photograph and beyond its edges; what is found there goes back to its place."""
    times, width, target = 24, 100.0, 64
    smooth = np.asarray(cv2.resize(PHOTO[::30, ::30], (400, 300), interpolation=cv2.INTER_CUBIC), np.uint8)
    large = np.ascontiguousarray(smooth.repeat(times, 0).repeat(times, 1))
    small_face, face = upright(left, 100, width, 0.5), upright(left * times, 100 * times, width * times, 0.5)
    expected = CloseUp.around(small_face, smooth, 2 * width, target)
    tracemalloc.start()
    seen = CloseUp.around(face, large, 2 * width * times, target)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.abs(seen.pixels.astype(int) - expected.pixels).mean() < 3
    assert most < seen.side**2, "a byte for each pixel of the square would be more"
    there = seen.in_photo(upright(target / 4, target / 4, target / 2, 0.9))
    assert there.points[0] == pytest.approx([seen.left + 0.4 * seen.side, seen.top + 0.5 * seen.side], abs=2 * times)
    assert seen.side == pytest.approx(2 * width * times, abs=2 * times)
    assert 0 <= there.box[0] < there.box[2] <= large.shape[1] - 1
