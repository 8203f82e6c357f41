"""How far a face's aligned crop moves when its photograph changes a little: that is how far a clip's faces tremble.

Each test photograph is shifted by a pixel, scaled, and saved as JPEG; of every face found both times, the crop of the changed
photograph is taken back to the first one. It has moved by the mean distance of its corners, as a share of its width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pfr_core.faces.align import alignment_matrix
from pfr_core.faces.detect import Detector
from pfr_core.faces.face import Face
from pfr_core.faces.geometry import Matrix, corners, invert, invert_3x3, rescaling

from ..data.dataset import RGB8
from .turned import same_face

CROP = 512
JPEG_QUALITY = 80
SCALES = (0.9, 1.1)

Change = Callable[[RGB8], tuple[RGB8, Matrix]]
"""Gives a photograph changed, and where its pixels went [2,3]."""


def shift(image: RGB8) -> tuple[RGB8, Matrix]:
    """Move a photograph by a pixel, to the right and down; its border is repeated."""
    moved = np.pad(image, ((1, 0), (1, 0), (0, 0)), mode="edge")[:-1, :-1]
    return np.ascontiguousarray(moved), np.array([[1.0, 0, 1], [0, 1, 1]])


def scale(image: RGB8, factor: float) -> tuple[RGB8, Matrix]:
    """Resize a photograph."""
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how)), rescaling(size[0] / image.shape[1], size[1] / image.shape[0])


def save(image: RGB8) -> tuple[RGB8, Matrix]:
    """Save a photograph as JPEG of quality 80, and read it again."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    again = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(again[..., ::-1]), np.array([[1.0, 0, 0], [0, 1, 0]])


CHANGES: dict[str, Change] = {
    "shifted": shift,
    **{f"scaled by {factor:g}": lambda image, factor=factor: scale(image, factor) for factor in SCALES},  # type: ignore[misc]
    f"JPEG {JPEG_QUALITY}": save,
}


def movement(face: Face, changed: Face, where: Matrix) -> float:
    """Return by which share of its width the crop of ``face`` moved that is ``changed`` in the photograph that ``where`` gave."""
    first, second = (
        corners(invert(alignment_matrix(each, CROP)), CROP, CROP) for each in (face, changed)
    )  # [2,4], each in its own photograph
    back = invert_3x3(where)
    distance = np.linalg.norm(back[:2, :2] @ second + back[:2, 2:] - first, axis=0).mean()
    return float(distance * np.linalg.norm(alignment_matrix(face, CROP)[:, 0]) / CROP)


def movements(detector: Detector, images: Sequence[RGB8], *, threshold: float, size: int) -> dict[str, list[float]]:
    """Return, for each of :data:`CHANGES`, the movements of all faces that are found before and after it."""
    moved: dict[str, list[float]] = {name: [] for name in CHANGES}
    for image in images:
        faces = detector.detect(image, threshold=threshold, size=size)
        for name, change in CHANGES.items():
            other, where = change(image)
            back = invert(where)
            for changed in detector.detect(other, threshold=threshold, size=size):
                # A box of a resized photograph, back in the first one.
                left, top = back[:, :2] @ changed.box[:2] + back[:, 2]
                right, bottom = back[:, :2] @ changed.box[2:] + back[:, 2]
                there = Face((left, top, right, bottom), changed.score, changed.points)
                same = same_face(there, faces)
                if same is not None:
                    moved[name].append(movement(faces[same], changed, where))
    return moved
