"""Training pictures by number, with what their anchors should say."""

from __future__ import annotations

from typing import TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor

from pfr_core.errors import InputError
from pfr_core.faces.retinaface import RetinaFace

from ...run.config import DetectorConfig
from ...run.randomness import sample_seed
from ..loader import TrainingSet
from .photographs import load_material
from .pictures import LabelledPicture, composite, piece
from .targets import label

REAL_FACES = 0.3
"""Share of photographs' pieces that come from the real ones of the aligned faces."""


class PictureBatch(TypedDict):
    """B pictures of S px and what their N anchors should say.

    Attributes:
        image: [B,S,S,3] RGB uint8.
        exact: [B] whether the labels are known; else the teacher has to look at the picture.
        score: [B,N] probability of a face; below 0 where the anchor does not count.
        offsets: [B,N,4] coded boxes.
        points: [B,N,10] coded points.
        counter: [B] numbers of the samples.
    """

    image: Tensor
    exact: Tensor
    score: Tensor
    offsets: Tensor
    points: Tensor
    counter: Tensor


class PictureDataset(TrainingSet):
    """Pictures of ``config.side`` px, of which a sample is what a :class:`PictureBatch` holds B of.

    Args:
        config: the run.
        teacher: labels the photographs that the pictures are made of.

    Raises:
        InputError: unusable data.
    """

    unit = "pictures"

    def __init__(self, config: DetectorConfig, teacher: RetinaFace) -> None:
        cv2.setNumThreads(1)  # pictures are small: threads cost more than they bring
        self.config = config
        self.material = load_material(config.faces, config.wild, config.photos, config.negatives, teacher)
        if config.composite_share < 1 and not (self.material.photos or self.material.real_faces):
            raise InputError(
                f"{config.wild}: all its photographs are kept for testing, as half of many are, and no aligned face is a "
                "photograph's. Add photographs with --photos, or pass --composite-share 1 to do without."
            )
        self.facts = dict(self.material.facts)

    def __str__(self) -> str:
        return f"{len(self.material.faces)} faces, {len(self.material.photos)} photographs"

    def __getitem__(self, counter: int) -> dict[str, Tensor]:
        picture = self._picture(np.random.default_rng(sample_seed(self.config.seed, "picture", counter)))
        score, offsets, points = label(self.config.side, picture.boxes, picture.points, picture.ignored)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(picture.image)),
            "exact": torch.tensor(picture.exact),
            "score": torch.from_numpy(score),
            "offsets": torch.from_numpy(offsets),
            "points": torch.from_numpy(points),
            "counter": torch.tensor(counter),
        }

    def _picture(self, rng: np.random.Generator) -> LabelledPicture:
        if rng.random() < self.config.composite_share:
            return composite(self.material, self.config.side, rng)
        pool = self.material.photos
        if self.material.real_faces and (not pool or rng.random() < REAL_FACES):
            pool = self.material.real_faces
        return piece(pool[rng.integers(len(pool))], self.config.side, rng)
