"""A square of a photograph around a face, at the size at which a network is to look at it, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from .face import Face

Pixels = npt.NDArray[np.uint8]


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
        side = max(2, round(across))
        left, top = (round(middle - side / 2) for middle in face.center)
        height, width = image.shape[:2]
        columns = np.clip(np.arange(left, left + side), 0, width - 1)
        rows = np.clip(np.arange(top, top + side), 0, height - 1)
        part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part = part[rows - rows[0]][:, columns - columns[0]]
        how = cv2.INTER_AREA if side > target else cv2.INTER_LINEAR
        return cls(np.asarray(cv2.resize(part, (target, target), interpolation=how), np.uint8), (width, height), left, top, side)

    def in_photo(self, face: Face) -> Face:
        """Return a face that was found here where it is in the photograph, its box without what lies beyond the edge."""
        moved = face.moved(self.side / len(self.pixels), (self.left, self.top))
        box = np.clip(np.reshape(moved.box, (2, 2)), 0, [size - 1 for size in self.photo])
        return replace(moved, box=tuple(box.ravel().tolist()))
