"""A square of a photograph around a face, at the size at which a network is to look at it, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from .face import Face

Pixels = npt.NDArray[np.uint8]

COARSEST = 4
"""Pixels of the photograph to one of what is looked at; of a larger face whole squares of them are averaged first, so that a
close-up of it takes no more memory."""


@dataclass(frozen=True)
class CloseUp:
    """A square of a photograph; beyond the photograph's edge its border is repeated.

    Attributes:
        pixels: what is seen, [T,T,3] RGB uint8.
        photo: width and height of the photograph.
        left: column of the photograph where the square begins, below 0 beyond its edge.
        top: row where it begins.
        side: how wide it is in the photograph.
    """

    pixels: Pixels
    photo: tuple[int, int]
    left: int
    top: int
    side: int

    @classmethod
    def around(cls, face: Face, image: Pixels, across: float, target: int) -> CloseUp:
        """Return the square of about ``across`` px of ``image`` [H,W,3] with the face in its middle, resized to ``target`` px."""
        height, width = image.shape[:2]
        side = max(2, round(across))
        step = min(max(1, side // (COARSEST * target)), height, width)
        side = side // step * step
        left, top = (round((middle - side / 2) / step) * step for middle in face.center)
        columns = np.clip(np.arange(left, left + side, step), 0, (width // step - 1) * step) // step
        rows = np.clip(np.arange(top, top + side, step), 0, (height // step - 1) * step) // step
        part = image[rows[0] * step : (rows[-1] + 1) * step, columns[0] * step : (columns[-1] + 1) * step]
        if step > 1:
            part = cv2.resize(part, (len(part[0]) // step, len(part) // step), interpolation=cv2.INTER_AREA)
        part = part[rows - rows[0]][:, columns - columns[0]]
        how = cv2.INTER_AREA if len(part) > target else cv2.INTER_LINEAR
        return cls(np.asarray(cv2.resize(part, (target, target), interpolation=how), np.uint8), (width, height), left, top, side)

    def in_photo(self, face: Face) -> Face:
        """Return a face that was found here where it is in the photograph, its box without what lies beyond the edge."""
        moved = face.moved(self.side / len(self.pixels), (self.left, self.top))
        box = np.clip(np.reshape(moved.box, (2, 2)), 0, [size - 1 for size in self.photo])
        return replace(moved, box=tuple(box.ravel().tolist()))
