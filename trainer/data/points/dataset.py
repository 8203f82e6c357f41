"""Training crops by number: a face as a photograph shows it, spoiled, cut out by points that are as wrong as a detector's.

All numbers are ours.
"""

from __future__ import annotations

from typing import TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor

from pfr_core.faces.face import MIRRORED
from pfr_core.faces.geometry import rescale, similarity, transform
from pfr_core.faces.points import FRAME, crop
from pfr_core.faces.retinaface import RetinaFace

from ...run.config import PointsConfig
from ...run.randomness import sample_seed
from ..dataset import RGB8
from ..detector.spoil import spoil
from ..loader import TrainingSet
from .material import KnownFace, Points, listed, load_faces

SMALLEST_EYES = 8.0
"""Distance of the eyes, px, of the smallest faces."""

TURNED, AWAY = 0.1, 0.05
"""Shares of the crops that show a face lying or standing on its head, and of those that show something else, or a part of one."""

HIDDEN = 0.25
"""Share of the faces behind a bar or a blot."""

OFF, SHIFT, GROWTH = 0.06, 0.06, 0.08
"""Spread of a detector's errors: of each point and of all of them, in distances of the eyes; of the logarithm of the size."""

TILT, STRONG_TILT, STRONGLY = 5.0, 20.0, 0.15
"""Spread of the angle in degrees; that of the share of faces that tilt strongly."""


class CropBatch(TypedDict):
    """B crops.

    Attributes:
        crop: [B,S,S] gray uint8.
        points: [B,5,2] px of the crop.
        seen: [B] whether it shows an upright face, about where it should be.
        counter: [B] numbers of the samples.
    """

    crop: Tensor
    points: Tensor
    seen: Tensor
    counter: Tensor


class CropDataset(TrainingSet):
    """Crops, of which a sample is what a :class:`CropBatch` holds B of.

    Args:
        config: the run.
        teacher: labels the faces.

    Raises:
        InputError: unusable data.
    """

    unit = "crops"

    def __init__(self, config: PointsConfig, teacher: RetinaFace) -> None:
        cv2.setNumThreads(1)  # crops are small: threads cost more than they bring
        self.config = config
        self.faces = load_faces(config.faces, config.wild, config.labels, config.most_faces, teacher)
        self.facts = {"faces": len(self.faces), "listed": listed(config.faces, config.wild, config.most_faces)}

    def __str__(self) -> str:
        return f"{len(self.faces)} faces"

    def __getitem__(self, counter: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(sample_seed(self.config.seed, "crop", counter))
        gray, points, seen = make_crop(self.faces[rng.integers(len(self.faces))], rng)
        return {
            "crop": torch.from_numpy(gray),
            "points": torch.from_numpy(points),
            "seen": torch.tensor(seen),
            "counter": torch.tensor(counter),
        }


def make_crop(face: KnownFace, rng: np.random.Generator) -> tuple[RGB8, Points, bool]:
    """Return a crop [S,S] of a face, its points there [5,2], and whether it shows the face as it should."""
    image, points = face.image, face.points
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        points = (points * (-1, 1) + (image.shape[1] - 1, 0))[MIRRORED]
    eyes = float(np.linalg.norm(points[0] - points[1]))
    scale = min(1.0, np.exp(rng.uniform(np.log(SMALLEST_EYES), np.log(1.5 * eyes))) / eyes)
    if scale < 1:
        size = tuple(max(8, round(side * scale)) for side in image.shape[1::-1])
        points = rescale(points.astype(np.float64), np.array(size) / image.shape[1::-1])
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        eyes *= scale
    if rng.random() < HIDDEN:
        image = _hide(image, points, eyes, rng)
    image = spoil(image, rng)
    middle, draw = points.mean(axis=0), rng.random()
    angle = np.deg2rad(rng.normal(0, STRONG_TILT if rng.random() < STRONGLY else TILT))
    growth, shift = np.exp(rng.normal(0, GROWTH)), rng.normal(0, SHIFT, 2) * eyes
    seen = draw >= TURNED + AWAY
    if draw < TURNED:
        angle += np.pi / 2 * rng.integers(1, 4)
    elif not seen and rng.random() < 0.5:
        growth *= np.exp(rng.choice([-1, 1]) * rng.uniform(0.7, 1.2))
    elif not seen:
        far = rng.uniform(0, 2 * np.pi)
        shift += rng.uniform(1.2, 2.0) * eyes * np.array([np.cos(far), np.sin(far)])
    turn = growth * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    given = (points - middle) @ turn.T + middle + shift + rng.normal(0, OFF, (5, 2)) * eyes
    matrix = similarity(given, FRAME)
    return crop(image, matrix), transform(points, matrix).astype(np.float32), bool(seen)


def _hide(image: RGB8, points: Points, eyes: float, rng: np.random.Generator) -> RGB8:
    """Lay a bar or a blot of one colour, or of another place of the picture, over a part of the face."""
    image, (height, width) = image.copy(), image.shape[:2]
    middle = points[rng.integers(5)] + rng.normal(0, 0.4, 2) * eyes
    extent = np.exp(rng.normal(np.log(0.5), 0.5, 2)) * eyes + 1
    mask = np.zeros((height, width), np.uint8)
    corners = cv2.boxPoints((tuple(middle.tolist()), tuple((2 * extent).tolist()), float(rng.uniform(-40, 40))))
    if rng.random() < 0.5:
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 1)
    else:
        cv2.ellipse(mask, cv2.minAreaRect(corners), 1, -1)
    if rng.random() < 0.5:
        image[mask > 0] = rng.integers(0, 256, 3)
    else:
        other = np.roll(image, tuple(rng.integers(1, (height, width))), axis=(0, 1))
        image[mask > 0] = other[mask > 0]
    return image
