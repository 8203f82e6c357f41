"""The stages of training: the prior from scratch, the restoration around it, the face detector and its second look."""

from __future__ import annotations

from typing import Any

import torch

from ..data.dataset import FaceDataset
from ..data.detector.dataset import PictureDataset
from ..data.detector.photographs import load_teacher
from ..data.index import list_faces
from ..data.loader import TrainingSet
from ..data.points.dataset import CropDataset
from ..run.config import DetectorConfig, FaceConfig, PointsConfig, PriorConfig, RestoreConfig, RunConfig
from .base import Phase, Stage, Terms
from .detector import DetectorStage
from .faces import FaceStage
from .points import PointsStage
from .prior import PriorStage
from .restore import RestoreStage

__all__ = [
    "DetectorStage",
    "FaceStage",
    "Phase",
    "PointsStage",
    "PriorStage",
    "RestoreStage",
    "Stage",
    "Terms",
    "build",
    "open_data",
]


def build(config: RunConfig) -> Stage[Any]:
    """Return the networks, optimisers and losses for ``config``, on the CPU."""
    kinds: dict[type[RunConfig], Any] = {
        PriorConfig: PriorStage,
        RestoreConfig: RestoreStage,
        DetectorConfig: DetectorStage,
        PointsConfig: PointsStage,
    }
    return kinds[type(config)](config)


def open_data(config: RunConfig, device: torch.device) -> TrainingSet:
    """Return what ``config`` trains on.

    Raises:
        InputError: unusable data.
        WeightsError: a network that labels them cannot be had.
    """
    if isinstance(config, DetectorConfig):
        return PictureDataset(config, load_teacher(device))
    if isinstance(config, PointsConfig):
        return CropDataset(config, load_teacher(device))
    assert isinstance(config, FaceConfig)
    restores = isinstance(config, RestoreConfig)
    faces = list_faces(
        config.data, "train", min_native=config.min_native, max_out_of_photo=config.max_out_of_photo, masked=restores
    )
    return FaceDataset(
        faces,
        config.shape.size,
        seed=config.seed,
        real_share=config.real_share,
        degrade=restores,
        clean_share=config.clean_share if isinstance(config, RestoreConfig) else 0.0,
        mild_share=config.mild_share if isinstance(config, RestoreConfig) else 0.0,
    )
