"""A closer look at what may be a face (ours): a small network's score depends on how wide the face is.

It finds faces best at one width, and what looks like a face at a glance, a fist or a knee, seldom does at another. So what has a
middling score is looked at once more by itself, at the width that the network knows best, and both looks count the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..errors import ShouldStop, check_stop
from .closeup import CloseUp, Pixels
from .face import Face
from .upright import See, is_upright

UNSURE = 0.4, 0.95
"""Scores, from the first up to the second, that a closer look changes; those outside stay, whatever their rank then."""

SIDE, FACE = 256, 80
"""Side in px of what is looked at, and the face's width in it."""

NARROWEST = 0.8
"""A box that is narrower than this share of its height, as of a face seen from its side, counts as so wide."""

SAME = 0.4
"""IoU from which on what is seen there is the same face."""

MOST = 64
"""Faces that are looked at again, best first: to look at each of a crowd would take longer than to find it."""

LOWEST = 0.01
"""Lowest score that a closer look gives, which it gives also where it sees no face."""

HIGHEST = 0.995
"""Highest score that counts: of a network's surest finds 1 is the rounding."""


def look_closer(see: See, image: Pixels, faces: Sequence[Face], should_stop: ShouldStop | None = None) -> list[Face]:
    """Return the faces, their scores changed by a closer look where they are unsure, best first.

    Args:
        see: the network.
        image: the photograph, [H,W,3] RGB uint8.
        faces: what was found in it, best first. Those that do not stand upright keep their scores.
        should_stop: asked before each look.

    Raises:
        Cancelled: ``should_stop`` asked for it.
    """
    unsure = [face for face in faces if UNSURE[0] <= face.score < UNSURE[1] and is_upright(face.points)]
    anew = dict[Face, Face]()
    for face in unsure[:MOST]:
        check_stop(should_stop)
        anew[face] = replace(face, score=_mean(face.score, _score(see, image, face)))
    return sorted((anew.get(face, face) for face in faces), key=lambda face: face.score, reverse=True)


def _score(see: See, image: Pixels, face: Face) -> float:
    width = max(face.width, NARROWEST * (face.box[3] - face.box[1]))
    part = CloseUp.around(face, image, width * SIDE / FACE, SIDE)
    seen = (part.in_photo(other) for other in see(part.pixels, LOWEST))
    return max((other.score for other in seen if other.iou(face) > SAME), default=LOWEST)


def _mean(first: float, second: float) -> float:
    """Return the score whose logit is the mean of both scores' logits."""
    logits = [math.log(score / (1 - score)) for score in (first, min(second, HIGHEST))]
    return 1 / (1 + math.exp(-sum(logits) / 2))
