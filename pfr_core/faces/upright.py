"""Which way up faces are, at little cost (ours).

A detector made for upright faces sees one that lies, or stands on its head, as if it stood upright, badly, or not at all. Each
face is looked at once more in its own surroundings, turned by 90, 180 and 270 degrees: the right turn is seen best. Only a
photograph without a face that surely stands upright is itself looked at in all turns, small. ``sideways`` of
:class:`pfr_core.RestoreOptions` does that at the full size always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from .detect import OVERLAP, Detector, is_upright, overlap
from .face import Face
from .geometry import unturned

Pixels = npt.NDArray[np.uint8]

CROP, FACE_SHARE = 192, 0.5
"""Side in px of the surroundings in which a face is looked at again, and its size as a share of it."""

LOOK = 640
"""Longer side in px at which a whole photograph is looked at in all turns."""

SURE = 0.95
"""A face with this score surely stands upright; one that only the turned photograph shows needs it, too, to be taken."""

WEAK = 0.3
"""Lowest score that counts when a face's turns are compared."""


def stand_upright(detector: Detector, image: Pixels, faces: Sequence[Face], *, threshold: float, size: int) -> list[Face]:
    """Return the faces as they are seen the right way up, and those that only the turned photograph shows; best score first.

    Args:
        detector: what found the faces.
        image: the photograph, [H,W,3] RGB uint8.
        faces: what was found in it as it stands. One that stands upright, or in doubt, comes back as it is.
        threshold: lowest score that counts as a face.
        size: longer side in px at which the faces were looked for.
    """
    righted, sure = list[Face](), False
    for face in faces:
        turns, best = _best_turn(detector, image, face)
        righted.append(best if best is not None and turns and best.score >= threshold else face)
        sure |= best is not None and not turns and best.score >= SURE
    if not sure:
        for face in _look_around(detector, image, min(size, LOOK)):
            turns, best = _best_turn(detector, image, face)
            if best is None or not turns or best.score < max(SURE, threshold):
                continue
            if all(overlap(best.box, other.box) <= OVERLAP for other in righted):
                righted.append(best)
    return sorted(righted, key=lambda face: face.score, reverse=True)


def _look_around(detector: Detector, image: Pixels, size: int) -> list[Face]:
    """Return what is surely a face in the photograph turned by 90, 180 and 270 degrees, best score first."""
    height, width = image.shape[:2]
    scale = min(1.0, size / max(height, width))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = image if scale == 1 else cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    seen = [face for turns in (1, 2, 3) for face in _seen_turned(detector, small, turns, SURE)]
    return [face.moved(1 / scale) for face in sorted(seen, key=lambda face: face.score, reverse=True)]


def _best_turn(detector: Detector, image: Pixels, face: Face) -> tuple[int, Face | None]:
    """Return the quarter turns after which a face stands upright, and the face as it is seen then; None if it never is."""
    side = max(2, round(face.size / FACE_SHARE))
    left, top = round(face.center[0] - side / 2), round(face.center[1] - side / 2)
    crop = _square(image, left, top, side)
    best: tuple[int, Face | None] = 0, None
    for turns in range(4):
        for seen in _seen_turned(detector, crop, turns, WEAK):
            middle = all(low <= (CROP - 1) / 2 <= high for low, high in zip(seen.box[:2], seen.box[2:], strict=True))
            if middle and (best[1] is None or seen.score > best[1].score):
                best = turns, seen
    if best[1] is None:
        return best
    found = best[1].moved(side / CROP, (left, top))
    box = np.clip(np.reshape(found.box, (2, 2)), 0, [image.shape[1] - 1, image.shape[0] - 1])
    return best[0], replace(found, box=tuple(box.ravel().tolist()))


def _seen_turned(detector: Detector, image: Pixels, turns: int, threshold: float) -> list[Face]:
    """Return the faces that stand upright after ``turns`` quarter turns of ``image``, in its own pixels."""
    height, width = image.shape[:2]
    turned = np.ascontiguousarray(np.rot90(image, turns))
    found = detector.detect(turned, threshold=threshold, size=max(height, width))
    faces = []
    for face in found:
        if is_upright(face.points):
            xy = unturned(np.array([face.box[:2], face.box[2:], *face.points]), turns, width, height)
            (left, top), (right, bottom) = xy[:2].min(axis=0).tolist(), xy[:2].max(axis=0).tolist()
            faces.append(Face((left, top, right, bottom), face.score, tuple(map(tuple, xy[2:].tolist()))))  # type: ignore[arg-type]
    return faces


def _square(image: Pixels, left: int, top: int, side: int) -> Pixels:
    """Return a square of the photograph at :data:`CROP`, its border repeated beyond the edge."""
    height, width = image.shape[:2]
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    part = part[rows - rows[0]][:, columns - columns[0]]
    how = cv2.INTER_AREA if side > CROP else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (CROP, CROP), interpolation=how), np.uint8)
