"""``Face``: what is known of one face in a photograph. Produced by detection, consumed by every later step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .geometry import rescale, unturned

Point = tuple[float, float]

MIRRORED = [1, 0, 2, 4, 3]
"""Order of the five points of a mirrored face: eyes and corners of the mouth change places."""


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the photograph; the centre of the top-left pixel is (0, 0).

    Attributes:
        box: left, top, right, bottom.
        score: the detector's confidence, 0 to 1.
        points: left eye, right eye, nose, left and right mouth corner; left as the viewer sees it.

    Raises:
        InputError: not five points, a number that is not finite, or a box whose ends are swapped.

    Example:
        >>> Face((10, 10, 50, 60), 0.99, ((20, 30), (40, 30), (30, 40), (22, 50), (38, 50))).size
        50.0
    """

    box: tuple[float, float, float, float]
    score: float
    points: tuple[Point, Point, Point, Point, Point]

    def __post_init__(self) -> None:
        numbers = [*self.box, self.score, *(value for point in self.points for value in point)]
        lengths = [len(self.box), *(len(point) for point in self.points)]
        if lengths != [4, 2, 2, 2, 2, 2] or not all(math.isfinite(value) for value in numbers):
            raise InputError("Face needs a box of 4 and 5 points of 2 finite numbers: eyes, nose, mouth corners.")
        if self.box[0] > self.box[2] or self.box[1] > self.box[3]:
            raise InputError(f"A face's box is left, top, right, bottom; {self.box} has its ends swapped.")
        # Lists, as JSON has them, and arrays are taken, too; a face is a key.
        object.__setattr__(self, "box", tuple(float(value) for value in self.box))
        object.__setattr__(self, "points", tuple((float(x), float(y)) for x, y in self.points))

    @classmethod
    def of(cls, box: npt.ArrayLike, score: float, points: npt.ArrayLike) -> Face:
        """Return a face from arrays, or lists, of 4 and of 5 x 2 numbers; raises as the class."""
        return cls(np.asarray(box).tolist(), score, np.asarray(points).tolist())

    def overlaps(self, width: float, height: float) -> bool:
        """Return whether a part of the box lies in a picture of that size."""
        left, top, right, bottom = self.box
        return left < width and top < height and right > 0 and bottom > 0

    @property
    def width(self) -> float:
        """The width of the box in pixels."""
        return self.box[2] - self.box[0]

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.width, self.box[3] - self.box[1])

    @property
    def center(self) -> Point:
        """The middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def iou(self, other: Face) -> float:
        """Return the intersection over union of the two boxes; 0 if both are empty."""
        width = min(self.box[2], other.box[2]) - max(self.box[0], other.box[0])
        height = min(self.box[3], other.box[3]) - max(self.box[1], other.box[1])
        shared = max(0.0, width) * max(0.0, height)
        areas = sum(face.width * (face.box[3] - face.box[1]) for face in (self, other))
        return shared / (areas - shared) if areas > shared else 0.0

    def moved(self, scale: float, shift: Point = (0.0, 0.0)) -> Face:
        """Return the face in the photograph resized by ``scale``, then put at ``shift`` px of another; pixel centres are kept."""
        (left, top), (right, bottom), *points = (
            (rescale(x, scale) + shift[0], rescale(y, scale) + shift[1]) for x, y in (self.box[:2], self.box[2:], *self.points)
        )
        return Face.of((left, top, right, bottom), self.score, points)

    def unturned(self, turns: int, width: int, height: int) -> Face:
        """Return the face of ``np.rot90(picture, turns)`` where it lies in the picture of that width and height."""
        xy = unturned(np.array([self.box[:2], self.box[2:], *self.points]), turns, width, height)
        return Face.of([*xy[:2].min(axis=0), *xy[:2].max(axis=0)], self.score, xy[2:])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"box": list(self.box), "score": self.score, "points": [list(point) for point in self.points]}
