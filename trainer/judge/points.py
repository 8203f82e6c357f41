"""How far the five points of faces are off, and what the published RetinaFace's own are worth as the truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pfr_core.faces.detect import Detector
from pfr_core.faces.face import Face
from pfr_core.faces.geometry import rescale

from ..data.dataset import RGB8
from ..data.detector.photographs import TEACHER, aligned_faces, index_points, load_teacher, read_picture
from ..data.points.material import LOOK_EYES, LOOKS, agreement
from .landmarks import largest_face

ALIGNED_SIDE = 192
"""Size in px at which aligned faces are looked at; the face is half as wide."""


class SeveralLooks(Detector):
    """The published RetinaFace with the points on which several of its looks at each face agree, as the second look is taught.

    Args:
        looks: how many there are at each face.
    """

    def __init__(self, looks: int = LOOKS) -> None:
        super().__init__(TEACHER, second_look=False)
        self.teacher = load_teacher(self.device)
        self.looks = looks

    def detect(self, image: RGB8, **how: Any) -> list[Face]:
        """Return the faces as :class:`Detector` does, their points those of :meth:`agreed`."""
        return [self.agreed(image, face) for face in super().detect(image, **how)]

    def agreed(self, image: RGB8, face: Face) -> Face:
        """Return a face of ``image`` with the points on which looks agree; with its own if they do not."""
        scale = min(1.0, LOOK_EYES[1] / math.dist(*face.points[:2]))  # a look takes too few of a larger face's pixels
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        factors = np.array(small.shape[1::-1]) / image.shape[1::-1]
        points = agreement(self.teacher, np.asarray(small), rescale(np.array(face.points), factors), self.looks)
        if points is None:
            return face
        return Face.of(face.box, face.score, rescale(points, 1 / factors))


def aligned_errors(detector: Detector, folder: Path, **how: Any) -> list[float]:
    """Return how far the points of held-out aligned faces are from those of their index, in distances of the eyes.

    Args:
        detector: places the points.
        folder: the faces and their index.
        how: what :meth:`Detector.detect` takes.

    Raises:
        InputError: no such faces.
    """
    errors = []
    for face in aligned_faces(folder, "val"):
        image = read_picture(face.stored, ALIGNED_SIDE)
        found = largest_face(detector, image, **how)
        if found is not None:
            truth = index_points(face, image.shape[1])
            errors.append(off(np.array(found.points), truth))
    return errors


def off(points: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> float:
    """Return the mean distance of five points [5,2] from where they should be, in distances of the eyes."""
    return float(np.linalg.norm(points - truth, axis=1).mean() / np.linalg.norm(truth[0] - truth[1]))
