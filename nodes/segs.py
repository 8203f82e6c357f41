"""SEGS, in which ComfyUI's Impact Pack hands on what was found in a picture: to its detailers, and from its detectors.

Nothing of that pack is imported: SEGS are ``((height, width), [SEG, ...])``, and of a SEG only the names count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..pfr_core.errors import InputError
from ..pfr_core.faces.face import Face
from ..pfr_core.photo.arrays import Array, FloatImage

AROUND = 3.0
"""Side of the part that a detailer works on, in sides of the face's box: what that pack's detectors give by default."""


class Seg(NamedTuple):
    """One find."""

    cropped_image: Array | None  # [1,h,w,3], the part of the picture in crop_region
    cropped_mask: Array  # [h,w], 1 inside the box
    confidence: float
    crop_region: tuple[int, int, int, int]  # left, top, right, bottom in px
    bbox: tuple[int, int, int, int]  # the same
    label: str
    control_net_wrapper: Any = None


Segs = tuple[tuple[int, int], Sequence[Seg]]


def as_segs(frame: FloatImage, faces: Sequence[Face]) -> Segs:
    """Return the faces of a frame [H,W,3+]."""
    height, width = frame.shape[:2]
    return (height, width), [_as_seg(frame, face) for face in faces]


def _as_seg(frame: FloatImage, face: Face) -> Seg:
    sides = np.array(frame.shape[1::-1])
    first, last = (np.clip(np.rint(corner), 0, sides).astype(int) for corner in (face.box[:2], face.box[2:]))
    side = np.minimum(np.maximum(AROUND * (last - first), 1).astype(int), sides)
    start = np.clip((first + last - side) // 2, 0, sides - side)
    (left, top), (right, bottom) = start, start + side
    mask = np.zeros((bottom - top, right - left), np.float32)
    (x0, y0), (x1, y1) = first - start, last - start
    mask[y0:y1, x0:x1] = 1
    region, box = ((*map(int, corner), *map(int, other)) for corner, other in ((start, start + side), (first, last)))
    return Seg(frame[None, top:bottom, left:right, :3].copy(), mask, face.score, region, box, "face")  # type: ignore[arg-type]


def boxes_of(segs: Segs, size: tuple[int, int]) -> list[dict[str, float]]:
    """Return the boxes of SEGS as a BOUNDING_BOX has them, in px of a picture of another size, height and width, too.

    Raises:
        InputError: the input is no SEGS.
    """
    try:
        (height, width), found = segs
        corners = [[float(value) for value in seg.bbox] for seg in found]
        boxes = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners]
        factors = (size[1] / width, size[0] / height) * 2
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"The SEGS are not of the Impact Pack's form: {error}.") from error
    return [
        {name: value * factor for name, value, factor in zip(("x", "y", "width", "height"), box, factors, strict=True)}
        for box in boxes
    ]
