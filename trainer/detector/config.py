"""The configuration of a detector run. Command-line options are generated from it, and it is saved beside the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfr_core.errors import InputError
from pfr_core.options import option


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
    iterations: int = option(6000, "optimiser steps")
    pictures: int = option(8, "pictures in a step")
    composite_share: float = option(0.4, "share of pictures that are made of aligned faces; the rest are pieces of photographs")
    learning_rate: float = option(3e-3, "AdamW's, after the warm-up")
    warmup: int = option(200, "steps of linear warm-up")
    weight_decay: float = option(5e-4, "AdamW's")
    ema: float = option(0.998, "decay of the moving average of the weights, which is what gets exported")
    negatives_per_face: int = option(7, "background anchors, the worst ones, for each that is a face (RetinaFace: 7)")
    score_shift: float = option(
        0.0, "added to the logit of a face in the exported file, so that its scores suit the threshold 0.8; may be set at the end"
    )
    device: str = option("cpu", "auto, cpu, cuda, cuda:1, mps, ...")
    licence: str = option("not stated", "licence of the weights, written into the exported file")
    seed: int = option(0, "seed of initialisation and pictures")
    checkpoint_every: int = option(250, "steps between checkpoints")

    def __post_init__(self) -> None:
        for name in ("iterations", "pictures", "checkpoint_every", "negatives_per_face"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("warmup", "seed", "weight_decay"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it cannot be negative.")
        if not 0 <= self.ema < 1 or not 0 <= self.composite_share <= 1:
            raise InputError("ema must be in [0, 1) and composite_share in [0, 1].")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}; it must be positive.")
        if self.composite_share < 1 and not (self.photos or self.wild):
            raise InputError("Say with --wild or --photos where photographs are, or pass --composite-share 1 to do without.")

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

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
