"""Which faces to restore: size limits, order, choice. Pure functions of lists of faces."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..support.choices import Order, Select
from .face import Face


def filter_by_size(faces: Sequence[Face], minimum: float = 0, maximum: float | None = None) -> list[Face]:
    """Return the faces whose :attr:`Face.size` is within the limits (pixels)."""
    return [face for face in faces if face.size >= minimum and (maximum is None or face.size <= maximum)]


def sort_faces(faces: Sequence[Face], order: Order) -> list[Face]:
    """Sort left to right and top to bottom by the boxes' centres, size and score largest first; or the other way round."""
    keys = {
        "left-to-right": lambda face: face.center[0],
        "top-to-bottom": lambda face: face.center[1],
        "size": lambda face: -face.size,
        "score": lambda face: -face.score,
        "right-to-left": lambda face: -face.center[0],
        "bottom-to-top": lambda face: -face.center[1],
        "smallest-first": lambda face: face.size,
    }
    return sorted(faces, key=keys[order])


def select_faces(
    faces: Sequence[Face],
    image_size: tuple[int, int],
    *,
    select: Select = "all",
    order: Order = "left-to-right",
    indices: Sequence[int] = (),
    count: int | None = None,
) -> list[Face]:
    """Choose among ``faces``. Which options go together is known, and checked, by :class:`pfr_core.RestoreOptions`.

    Args:
        faces: candidates.
        image_size: width and height of the photograph, for ``"center"``.
        select: ``"all"``; the ``"largest"``; the one nearest the ``"center"``; or those at ``indices``.
        order: in which order they are listed, counted and numbered.
        indices: positions in that order, from 0, for ``"index"``; positions that are not there are left out.
        count: at most so many, for ``"all"``.
    """
    ordered = sort_faces(faces, order)
    if select == "index":
        return [face for position, face in enumerate(ordered) if position in indices]
    if select == "largest":
        return sorted(ordered, key=lambda face: -face.size)[:1]
    if select == "center":
        middle = ((image_size[0] - 1) / 2, (image_size[1] - 1) / 2)
        return sorted(ordered, key=lambda face: math.dist(face.center, middle))[:1]
    return ordered[:count]
