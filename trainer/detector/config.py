"""The configuration of a detector run. Command-line options are generated from it, and it is saved beside the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfr_core.errors import InputError
from pfr_core.support.files import replacing
from pfr_core.support.schema import check_fields, option


@dataclass(frozen=True)
class DetectorConfig:
    """Everything that decides what a detector run computes. All values are ours unless a source is named.

    Raises:
        InputError: a value is out of range.
    """

    faces: str = option("", "folder of aligned faces: train/ and an index.csv with five points for each")
    wild: str = option("", "folder of photographs of which one half is for testing and left out (see split.py)")
    photos: tuple[str, ...] = option((), "folders of further photographs; all are labelled by the published RetinaFace")
    negatives: tuple[str, ...] = option((), "folders of pictures without faces")
    out: str = option("", "folder of the run: checkpoints, log, configuration, detector.safetensors")
    init_from: str = option("", "folder of an earlier run whose averaged weights to start from, instead of random ones")
    iterations: int = option(6000, "optimiser steps", 1, 10**9)
    pictures: int = option(6, "pictures in a step", 1, 4096)
    side: int = option(320, "of training pictures, px; about twice the largest face", 64, 4096)
    composite_share: float = option(
        0.4, "share of pictures that are made of aligned faces; the rest are pieces of photographs", 0, 1
    )
    learning_rate: float = option(3e-3, "AdamW's, after the warm-up", 1e-9, 1)
    warmup: int = option(200, "steps of linear warm-up", 0, 10**9)
    weight_decay: float = option(5e-4, "AdamW's", 0, 1e6)
    ema: float = option(0.998, "decay of the moving average of the weights, which is what gets exported", 0, 0.999999)
    negatives_per_face: int = option(7, "background anchors, the worst ones, for each that is a face (RetinaFace: 7)", 1, 10**6)
    points_weight: float = option(1.2, "of the loss of the five points, beside 1 for the score (RetinaFace: 1 beside 1)", 0, 1e3)
    largest_face: int = option(
        160, "px; wider faces are looked for in the photograph shrunk; may be set at the end, of a finished run", 32, 4096
    )
    score_shift: float = option(
        0.0, "added to the logit of a face in the exported file, so that its scores suit the threshold 0.8; may be set at the end"
    )
    device: str = option("cpu", "auto, cpu, cuda, cuda:1, mps, ...")
    licence: str = option("not stated", "licence of the weights, written into the exported file")
    seed: int = option(0, "seed of initialisation and pictures", 0, 2**31)
    checkpoint_every: int = option(250, "steps between checkpoints", 1, 10**9)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.composite_share < 1 and not (self.photos or self.wild):
            raise InputError("Say with --wild or --photos where photographs are, or pass --composite-share 1 to do without.")

    def save(self, path: Path) -> None:
        """Write as JSON."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> DetectorConfig:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file, or it holds a name this version does not know.
        """
        try:
            values = json.loads(path.read_text()).items()
            known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values}
            return cls(**known)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: no configuration of a detector run ({error}).") from error
