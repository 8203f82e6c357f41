"""Which faces are chosen: limits, order, choice; and ``Face`` itself."""

from __future__ import annotations

import itertools
import json
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from pfr_core import Face, RestoreOptions
from pfr_core.errors import InputError
from pfr_core.faces.align import TEMPLATE
from pfr_core.faces.select import filter_by_size, select_faces, sort_faces
from pfr_core.find import find_candidates


def face(x: float, y: float, size: float, score: float) -> Face:
    half = size / 2
    points = ((x - 2, y - 2), (x + 2, y - 2), (x, y), (x - 2, y + 2), (x + 2, y + 2))
    return Face((x - half, y - half, x + half, y + half), score, points)


LEFT, TOP, BIG, SURE = face(10, 60, 20, 0.85), face(40, 10, 30, 0.90), face(50, 50, 60, 0.80), face(90, 40, 10, 0.99)
FACES = (LEFT, TOP, BIG, SURE)
IMAGE = (101, 101)

ORDERS = {
    "left-to-right": [LEFT, TOP, BIG, SURE],
    "top-to-bottom": [TOP, SURE, BIG, LEFT],
    "size": [BIG, TOP, LEFT, SURE],
    "score": [SURE, TOP, LEFT, BIG],
    "right-to-left": [SURE, BIG, TOP, LEFT],
    "bottom-to-top": [LEFT, BIG, SURE, TOP],
    "smallest-first": [SURE, LEFT, TOP, BIG],
}


@pytest.mark.parametrize("order", ORDERS)
def test_order_does_not_depend_on_how_the_faces_came(order: Any) -> None:
    for faces in itertools.permutations(FACES):
        assert sort_faces(faces, order) == ORDERS[order]
        assert select_faces(faces, IMAGE, order=order) == ORDERS[order]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_count_takes_the_first_of_the_order(order: Any, count: int) -> None:
    assert select_faces(FACES, IMAGE, order=order, count=count) == ORDERS[order][:count]


@pytest.mark.parametrize("order", ORDERS)
def test_indices_are_positions_in_the_order(order: Any) -> None:
    for n in range(1, 5):
        for indices in itertools.combinations(range(5), n):
            expected = [ORDERS[order][index] for index in indices if index < 4]
            assert select_faces(FACES, IMAGE, select="index", order=order, indices=indices[::-1]) == expected


def test_largest_and_center() -> None:
    for faces in itertools.permutations(FACES):
        assert select_faces(faces, IMAGE, select="largest") == [BIG]
        assert select_faces(faces, IMAGE, select="center") == [BIG]
        assert select_faces(faces, (201, 81), select="center") == [SURE], "width and height are not swapped"


@pytest.mark.parametrize("select", ["all", "largest", "center"])
def test_no_faces(select: Any) -> None:
    assert select_faces([], IMAGE, select=select) == []


def test_size_limits_are_inclusive() -> None:
    assert filter_by_size(FACES) == list(FACES)
    assert filter_by_size(FACES, 20) == [LEFT, TOP, BIG]
    assert filter_by_size(FACES, 20, 30) == [LEFT, TOP]
    assert filter_by_size(FACES, 0, 9.9) == []


def test_face_measures() -> None:
    assert Face((10, 20, 40, 80), 0.5, LEFT.points).size == 60
    assert Face((10, 20, 40, 80), 0.5, LEFT.points).center == (25, 50)
    assert json.loads(json.dumps(LEFT.to_dict()))["points"][1] == [12, 58]


@pytest.mark.parametrize(
    ("box", "points"),
    [
        ((0, 0, 10), LEFT.points),
        ((0, 0, float("nan"), 10), LEFT.points),
        ((10, 0, 0, 10), LEFT.points),
        ((0, 10, 10, 0), LEFT.points),
        ((0, 0, 10, 10), LEFT.points[:4]),
        ((0, 0, 10, 10), (*LEFT.points[:4], (1, float("inf")))),
        ((0, 0, 10, 10), tuple((*point, 1.0) for point in LEFT.points)),
    ],
)
def test_a_face_that_is_none_is_refused(box: Any, points: Any) -> None:
    with pytest.raises(InputError, match=r"[Bb]ox|box"):
        Face(box, 0.9, points)


def test_what_has_no_face_s_points_is_no_face() -> None:
    """Its crop would be many times the face; and what hands it on as a caller's would be refused."""
    good = Face((0, 0, 512, 512), 0.9, tuple((float(x), float(y)) for x, y in TEMPLATE))  # type: ignore[arg-type]
    odd = Face(good.box, 0.99, tuple(good.points[number] for number in (1, 0, 2, 4, 3)))  # type: ignore[arg-type]
    finder = Mock(detect=Mock(return_value=[odd, good]))
    assert find_candidates(finder, np.zeros((512, 512, 3), np.uint8), RestoreOptions()) == [good]
