"""What the detector is trained on, decoded once and kept in memory at several sizes.

Real photographs carry no labels: the published RetinaFace supplies them. Of the aligned faces it supplies the box, the
five points come from their index.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
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
from ..index import CSV_INDEX, CSV_POINTS, csv_index, csv_points
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
    rows = read_index(Path(faces))
    aligned = [_aligned(Path(faces) / "train" / row["file"], row, teacher) for row in tqdm(rows, desc="faces")]
    paths = training_photographs(wild)
    paths += [path for folder in photos for path in _images(Path(folder))]
    labelled = [_labelled(path, teacher, LONGEST_SIDE) for path in tqdm(paths, desc="photographs")]
    others = [path for folder in negatives for path in _images(Path(folder))]
    empty = [_labelled(path, teacher, LONGEST_SIDE // 2, DOUBTFUL) for path in tqdm(others, desc="face-free pictures")]
    empty = [picture for picture in empty if not len(picture.boxes)]
    found = [(row, face) for row, face in zip(rows, aligned, strict=True) if len(face.boxes)]
    real = [face for row, face in found if row["kind"] == "real"]
    facts: dict[str, object] = {
        "aligned_faces": len(found),
        "real_aligned_faces": len(real),
        "aligned_faces_licences": dict(Counter(row["licence"] for row, _ in found)),
        "photographs": len(labelled),
        "faces_in_photographs": sum(len(picture.boxes) for picture in labelled),
        "face_free_pictures": len(empty),
    }
    log.info("%s", facts)
    if not found:
        raise InputError(f"{faces}: no aligned face in which the published RetinaFace sees one.")
    return Material([face for _, face in found], real, labelled, empty, facts)


def read_index(folder: Path, split: str = "train") -> list[dict[str, str]]:
    """Return the rows of one split in the index of aligned faces.

    Raises:
        InputError: as :func:`~trainer.data.index.csv_index`, no faces of that split in it, or columns are missing.
    """
    rows = [row for row in csv_index(folder / CSV_INDEX) if row.get("split") == split]
    missing = {"file", "size", "kind", "licence", *CSV_POINTS} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{folder / CSV_INDEX}: no {split} faces, or columns are missing: {', '.join(sorted(missing))}.")
    return rows


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


def read_picture(path: Path, longest: int) -> RGB8:
    """Return a picture [H,W,3] RGB, shrunk until its longer side is at most ``longest`` px.

    Raises:
        InputError: it cannot be read.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)  # alpha is dropped, gray becomes three channels
    if bgr is None:
        raise InputError(f"{path}: cannot be read. Remove it from the training folder.")
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


def index_points(row: Mapping[str, str], side: int) -> npt.NDArray[np.float32]:
    """Return the five points [5,2] that an index's row gives a face, in px of its picture resized to ``side``.

    Raises:
        InputError: the row holds something else than numbers.
    """
    try:
        return rescale(csv_points(row).astype(np.float32), side / float(row["size"])).astype(np.float32)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"index.csv: the size or points of {row['file']} are no numbers ({error}).") from error


def _aligned(path: Path, row: dict[str, str], teacher: RetinaFace) -> Picture:
    """Return the face of an index's row; without a box, and so of no use, if the published RetinaFace does not see it there."""
    image = read_picture(path, FACE_SIDE)
    points = index_points(row, image.shape[0])[None]
    boxes, middle = teacher.detect_faces(image, SURE, NMS_IOU).boxes, points.mean(axis=(0, 1))
    around = (boxes[:, :2] < middle).all(axis=1) & (middle < boxes[:, 2:]).all(axis=1)
    return Picture(_halves(image), boxes[around][:1], points)
