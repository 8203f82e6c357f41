"""Whether faces are found the right way up in photographs that were turned by quarters, as scanners and telephones leave them."""

from __future__ import annotations

import cmath
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pfr_core.faces.align import resemblance
from pfr_core.faces.detect import Detector
from pfr_core.faces.face import Face

from ..data.dataset import RGB8

IOU = 0.5
"""From this on two faces are one."""

UPRIGHT = 30.0
"""By so many degrees at most a face that is found the right way up is turned against what it should be."""


@dataclass
class Turned:
    """What a detector made of photographs that were turned by so many quarters.

    Attributes:
        off: for each face that should be found, by how many degrees what was found there is turned; None if nothing was.
        extras: what was found beyond them, or again.
        seconds: CPU time.
    """

    off: list[float | None] = field(default_factory=list)
    extras: list[Face] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def right(self) -> list[bool]:
        """Of each face, whether it was found the right way up."""
        return [off is not None and off <= UPRIGHT for off in self.off]

    @property
    def wrong(self) -> list[bool]:
        """Of each face, whether it was found, but not the right way up."""
        return [off is not None and off > UPRIGHT for off in self.off]


def look_turned(
    detector: Detector, photos: Sequence[tuple[RGB8, Sequence[Face]]], turns: int, *, threshold: float, size: int
) -> Turned:
    """Turn each photograph to the left by quarters, find its faces, and compare them with those that it should show.

    Args:
        detector: what is judged.
        photos: photographs [H,W,3] as they stand, each with its faces.
        turns: how many quarters.
        threshold: lowest score that counts as a face.
        size: longer side in px at which faces are looked for.
    """
    result = Turned()
    for image, faces in photos:
        turned = np.ascontiguousarray(np.rot90(image, turns))
        start = time.process_time()
        found = detector.detect(turned, threshold=threshold, size=size, right_way_up=True)
        result.seconds += time.process_time() - start
        off: list[float | None] = [None] * len(faces)
        for face in (each.unturned(turns, image.shape[1], image.shape[0]) for each in found):
            best = same_face(face, faces)
            if best is None or off[best] is not None:
                result.extras.append(face)
            else:
                off[best] = degrees_between(face, faces[best])
        result.off += off
    return result


def same_face(face: Face, faces: Sequence[Face]) -> int | None:
    """Return which of ``faces`` this one is, that of the largest IoU; None if it is none of them."""
    overlaps = [face.iou(other) for other in faces]
    best = int(np.argmax(overlaps)) if overlaps else -1
    return None if best < 0 or overlaps[best] < IOU else best


def degrees_between(face: Face, other: Face) -> float:
    """Return by how many degrees the five points of one face are turned against those of another, 0 to 180."""
    return abs(math.degrees(cmath.phase(resemblance(face.points) * resemblance(other.points).conjugate())))
