"""Five points of a face by our own detector, and how far two pictures' points are apart (LMD)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pfr_core.faces.detect import Detector
from pfr_core.faces.face import Face

from ..data.dataset import RGB8

Points = npt.NDArray[np.float64]
"""Two eyes, nose and two corners of the mouth [5,2] in px."""


def largest_face(detector: Detector, picture: RGB8, **how: Any) -> Face | None:
    """Return the largest face that the detector sees, None if it sees none; ``how`` is what :meth:`Detector.detect` takes."""
    return max(detector.detect(picture, **how), key=lambda face: face.size, default=None)


class Landmarks:
    """Five points by the built-in detector; those of a truth are kept for the next picture of it."""

    def __init__(self, device: torch.device) -> None:
        self.detector = Detector("builtin", device)
        self._truth: tuple[RGB8, Points | None] | None = None

    def distance(self, image: RGB8, truth: RGB8) -> float | None:
        """Return the mean distance of the points in px (LMD); None if a face is not found in one of the pictures."""
        if self._truth is None or self._truth[0] is not truth:
            self._truth = truth, self._points(truth)
        there, here = self._truth[1], self._points(image)
        return None if here is None or there is None else float(np.linalg.norm(here - there, axis=1).mean())

    def _points(self, picture: RGB8) -> Points | None:
        face = largest_face(self.detector, picture)
        return None if face is None else np.array(face.points)
