"""What a user decides about a training set that is prepared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from pfr_core.support.choices import DetectorName
from pfr_core.support.schema import check_fields, option

from ..run.config import NOT_STATED

Kind = Literal["real", "synthetic", "unknown"]

FULL_SIZE = 512
"""Faces are degraded at this size, for which the ranges of Eq. 17 are stated, and then resized to the network's."""


@dataclass(frozen=True)
class PrepareOptions:
    """What is kept, and how it is written.

    Raises:
        InputError: a value is out of range.
    """

    aligned: bool = option(False, "the images are aligned faces (FFHQ and the like): kept as they are, landmarks are found")
    detector: DetectorName = option("retinaface_mobile0.25", "face detector")
    threshold: float = option(0.9, "lowest detection score that counts as a face", 0, 1)
    min_native: int = option(400, "leave out faces with fewer source pixels across the crop", 1, 8192)
    min_sharpness: float = option(15.0, "leave out more blurred faces: variance of the Laplacian at 256 px (ours)", 0, 1e6)
    max_out_of_photo: float = option(0.3, "leave out faces with a larger share of the crop beyond the photo's edge", 0, 1)
    val_share: float = option(0.02, "share of photographs held out for validation", 0, 1)
    kind: Kind = option("real", "what the faces are")
    licence: str = option(NOT_STATED, "licence of the photographs")
    workers: int = option(max(1, (os.cpu_count() or 2) // 2), "worker processes", 1, 1024)

    def __post_init__(self) -> None:
        check_fields(self)
