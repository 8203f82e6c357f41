"""What the detector is trained on, decoded once and kept in memory at several sizes.

Real photographs carry no labels: the published RetinaFace supplies them. Of the aligned faces it supplies the box, the
five points come from their index.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from pfr_core.errors import InputError
from pfr_core.faces.detect import NMS_IOU
from pfr_core.faces.geometry import rescale
from pfr_core.faces.retinaface import RetinaFace
from pfr_core.models.download import obtain
from pfr_core.photo.photo import images_below
from pfr_core.support.choices import DetectorName

from ..dataset import RGB8
from ..index import FaceFile, list_faces
from ..shards import Stored
from .split import is_test

log = logging.getLogger(__name__)

TEACHER: DetectorName = "retinaface_mobile0.25"
"""Labels photographs, and boxes of aligned faces."""

FACE_SIDE = 256
"""Aligned faces are kept at this size and at halves of it."""

LONGEST_SIDE = 1024
"""Photographs are shrunk to this."""

MINIMUM_HALF = 32
SURE, DOUBTFUL = 0.8, 0.3
"""Scores of the published RetinaFace: above the first a face to aim at; a face-free picture must stay below the second."""


@dataclass(frozen=True)
class Picture:
    """An image and its halves (RGB uint8, each half as large as the one before), with what is known of its faces.

    Attributes:
        levels: the image, at full size first.
        boxes: [N,4] float32 px of the first level.
        points: [N,5,2] float32 px of the first level.
    """

    levels: list[RGB8] = field(repr=False)
    boxes: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]

    def nearest(self, scale: float) -> tuple[RGB8, float]:
        """Return the level to resample by ``scale`` from, and the rest of the scale: above a half, so that nothing aliases."""
        level = 0
        while scale <= 0.5 and level + 1 < len(self.levels):
            scale, level = scale * 2, level + 1
        return self.levels[level], scale


@dataclass(frozen=True)
class Material:
    """All there is to make training pictures of, and what is to be said of it in the exported file."""

    faces: list[Picture]
    real_faces: list[Picture]
    photos: list[Picture]
    negatives: list[Picture]
    facts: dict[str, object]


def load_teacher(device: torch.device) -> RetinaFace:
    """Return the published RetinaFace.

    Raises:
        WeightsError: its weights are not to be had.
    """
    return RetinaFace.load("mobile0.25", obtain(TEACHER), device)


def load_material(faces: str, wild: str, photos: tuple[str, ...], negatives: tuple[str, ...], teacher: RetinaFace) -> Material:
    """Read everything, of ``wild`` only what is not for testing.

    Raises:
        InputError: a folder is missing or holds nothing that can be used, or a file cannot be read; the message names it.
    """
    listed = aligned_faces(faces)
    aligned = [_aligned(face, teacher) for face in tqdm(listed, desc="faces")]
    paths = training_photographs(wild)
    paths += [path for folder in photos for path in _images(Path(folder))]
    labelled = [_labelled(path, teacher, LONGEST_SIDE) for path in tqdm(paths, desc="photographs")]
    others = [path for folder in negatives for path in _images(Path(folder))]
    empty = [_labelled(path, teacher, LONGEST_SIDE // 2, DOUBTFUL) for path in tqdm(others, desc="face-free pictures")]
    empty = [picture for picture in empty if not len(picture.boxes)]
    found = [(face, picture) for face, picture in zip(listed, aligned, strict=True) if len(picture.boxes)]
    real = [picture for face, picture in found if face.real]
    facts: dict[str, object] = {
        "aligned_faces": len(found),
        "real_aligned_faces": len(real),
        "aligned_faces_licences": dict(Counter(face.licence for face, _ in found)),
        "photographs": len(labelled),
        "faces_in_photographs": sum(len(picture.boxes) for picture in labelled),
        "face_free_pictures": len(empty),
        "listed": {
            "aligned_faces": len(listed),
            "licences": dict(Counter(face.licence for face in listed)),
            "photographs": len(paths),
            "negatives": len(others),
        },
    }
    log.info("%s", facts)
    if not found:
        raise InputError(f"{faces}: no aligned face in which the published RetinaFace sees one.")
    return Material([picture for _, picture in found], real, labelled, empty, facts)


def aligned_faces(folder: str | Path, split: str = "train") -> list[FaceFile]:
    """Return the aligned faces of one split, small ones and cut ones, too, for they are shrunk and cut off in training anyway.

    Raises:
        InputError: as :func:`~trainer.data.index.list_faces`, also where the landmarks of a face are not stated.
    """
    return list_faces(folder, split, min_native=1, landmarks=True, lower="")


def training_photographs(wild: str) -> list[Path]:
    """Return the photographs below ``wild`` (none if that is empty) that are not for testing.

    Raises:
        InputError: no such folder, or no pictures in it.
    """
    return [path for path in (_images(Path(wild)) if wild else []) if not is_test(path)]


def _images(folder: Path) -> list[Path]:
    found = images_below(folder)
    if not found:
        raise InputError(f"{folder}: no such folder, or no pictures in it.")
    return found


def read_picture(picture: Path | Stored, longest: int) -> RGB8:
    """Return a picture [H,W,3] RGB, shrunk until its longer side is at most ``longest`` px.

    Raises:
        InputError: it cannot be read.
    """
    stored = picture if isinstance(picture, Stored) else Stored(str(picture))
    data = np.frombuffer(stored.read(), np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None  # alpha is dropped, gray becomes three channels
    if bgr is None:
        raise InputError(f"{stored}: cannot be read. Remove it from the training folder.")
    scale = longest / max(bgr.shape[:2])
    if scale < 1:
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(bgr[:, :, ::-1])


def _halves(image: RGB8) -> list[RGB8]:
    levels = [image]
    while min(levels[-1].shape[:2]) >= 2 * MINIMUM_HALF:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def _labelled(path: Path, teacher: RetinaFace, longest: int, threshold: float = SURE) -> Picture:
    image = read_picture(path, longest)
    seen = teacher.detect_faces(image, threshold, NMS_IOU)
    return Picture(_halves(image), seen.boxes, seen.points)


def index_points(face: FaceFile, side: int) -> npt.NDArray[np.float32]:
    """Return the five points [5,2] that the index gives a face, in px of its picture resized to ``side``."""
    return rescale(face.points.astype(np.float32), side / face.size).astype(np.float32)


def _aligned(face: FaceFile, teacher: RetinaFace) -> Picture:
    """Return an aligned face; without a box, and so of no use, if the published RetinaFace does not see it there."""
    image = read_picture(face.stored, FACE_SIDE)
    points = index_points(face, image.shape[0])[None]
    boxes, middle = teacher.detect_faces(image, SURE, NMS_IOU).boxes, points.mean(axis=(0, 1))
    around = (boxes[:, :2] < middle).all(axis=1) & (middle < boxes[:, 2:]).all(axis=1)
    return Picture(_halves(image), boxes[around][:1], points)
