"""Which way up faces are, at little cost (ours).

A detector made for upright faces sees one that lies, or stands on its head, as if it stood upright, badly, or not at all. A
face that the second look (see ``points``) does not see clearly by these points is looked at once more in its own surroundings,
turned by 90, 180 and 270 degrees: the right turn is seen best. Only a photograph without a face that surely stands upright is
itself looked at in all turns, small. ``sideways`` of
:class:`pfr_core.RestoreOptions` does that at the full size always.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from ..photo.arrays import fitted
from .align import resemblance
from .closeup import CloseUp, Pixels
from .face import Face

See = Callable[[Pixels, float], list[Face]]
"""Gives the faces that a detector sees in a small picture [H,W,3], of this score at least."""

# The detector is just as sure of faces that lie on their side or upside down, but its points betray them: a face belongs
# to the turn in which its points look like a face. All values ours, from the photographs of the tests.
UPRIGHT_DEGREES, UPRIGHT_RESEMBLANCE = 50, 0.93
OVERLAP = 0.5

CROP, FACE_SHARE = 192, 0.5
"""Side in px of the surroundings in which a face is looked at again, and its size as a share of it."""

LOOK = 640
"""Longer side in px at which a whole photograph is looked at in all turns."""

CROWD = 48
"""If so many of a photograph's surest faces all stand upright, the others are taken as they were found: to look at each of a
crowd would take far longer than to find it."""

WEAK = 0.3
"""Lowest score that counts when a face's turns are compared."""


def stand_upright(
    see: See,
    image: Pixels,
    faces: Sequence[Face],
    clear: Sequence[bool],
    *,
    threshold: float,
    sure: float,
    size: int,
    doubted: Collection[Face] = (),
) -> list[Face]:
    """Return the faces as they are seen the right way up, and those that only the turned photograph shows; best score first.

    Args:
        see: the detector.
        image: the photograph, [H,W,3] RGB uint8.
        faces: what was found in it as it stands, best score first. One that stands upright, or in doubt, comes back as it is.
        clear: which of them are surely as their points say, standing or lying; those are not looked at again.
        threshold: lowest score that counts as a face.
        sure: a face that is seen upright with this score surely is; in a turned photograph one must have it for its faces to be
            taken.
        size: longer side in px at which the faces were looked for.
        doubted: which of them are none unless they lie; they do not come back as they are.
    """
    stand = [seen and is_upright(face.points) for face, seen in zip(faces, clear, strict=True)]
    stands, lying = any(stand), any(seen and not upright for seen, upright in zip(clear, stand, strict=True))
    righted, anew = list[Face](), list[Face]()
    for number, (face, seen) in enumerate(zip(faces, clear, strict=True)):
        if seen or (number >= CROWD and stands and not lying):
            righted.append(face)
            continue
        turns, best = _best_turn(see, image, face)
        turned = best if turns and best is not None and best.score >= threshold else None
        if turned is None:
            righted.append(face)
        else:
            anew.append(turned)
        lying |= turned is not None
        stands |= best is not None and not turns and best.score >= sure
    # What is no face must not hide one: it may be a part of one that lies.
    righted = [face for face in righted if face not in doubted]
    # One face that lies may have been found twice.
    righted += distinct(sorted(anew, key=lambda face: face.score, reverse=True))
    if not stands:
        for face in _look_around(see, image, min(size, LOOK), threshold, sure):
            turns, best = _best_turn(see, image, face)
            if best is None or not turns or best.score < threshold:
                continue
            if all(overlap(best.box, other.box) <= OVERLAP for other in righted):
                righted.append(best)
    return sorted(righted, key=lambda face: face.score, reverse=True)


def is_upright(points: npt.ArrayLike) -> bool:
    """Return whether five points look like a face that stands upright."""
    fit = resemblance(points)
    return abs(fit) >= UPRIGHT_RESEMBLANCE and abs(cmath.phase(fit)) <= math.radians(UPRIGHT_DEGREES)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Return what two boxes share, as a part of the smaller one: a wrong turn often sees but a part of the face."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def distinct(faces: Sequence[Face]) -> list[Face]:
    """Return the faces, given best first, without those that are one with a better."""
    kept = list[Face]()
    for face in faces:
        if all(overlap(face.box, other.box) <= OVERLAP for other in kept):
            kept.append(face)
    return kept


def _look_around(see: See, image: Pixels, size: int, threshold: float, sure: float) -> list[Face]:
    """Return the faces of the photograph in those turns by 90, 180 and 270 degrees in which one is sure, best score first."""
    scale, small = min(1.0, size / max(image.shape[:2])), fitted(image, size)
    seen = list[Face]()
    for turns in (1, 2, 3):
        faces = _seen_turned(see, small, turns, threshold)
        if any(face.score >= sure for face in faces):
            seen += faces
    return [face.moved(1 / scale) for face in sorted(seen, key=lambda face: face.score, reverse=True)]


def _best_turn(see: See, image: Pixels, face: Face) -> tuple[int, Face | None]:
    """Return the quarter turns after which a face stands upright, and the face as it is seen then; None if it never is."""
    part = CloseUp.around(face, image, face.size / FACE_SHARE, CROP)
    best: tuple[int, Face | None] = 0, None
    for turns in range(4):
        for seen in _seen_turned(see, part.pixels, turns, WEAK):
            middle = all(low <= (CROP - 1) / 2 <= high for low, high in zip(seen.box[:2], seen.box[2:], strict=True))
            if middle and (best[1] is None or seen.score > best[1].score):
                best = turns, seen
    if best[1] is None:
        return best
    return best[0], part.in_photo(best[1])


def _seen_turned(see: See, image: Pixels, turns: int, threshold: float) -> list[Face]:
    """Return the faces that stand upright after ``turns`` quarter turns of ``image``, in its own pixels."""
    height, width = image.shape[:2]
    turned = np.ascontiguousarray(np.rot90(image, turns))
    return [face.unturned(turns, width, height) for face in see(turned, threshold) if is_upright(face.points)]
