"""The configuration of a training run. Command-line options are generated from it, and it is saved beside the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pfr_core import PFRConfig
from pfr_core.errors import InputError
from pfr_core.network import PRESETS, Preset
from pfr_core.options import option

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a reconstruction run computes.

    Raises:
        InputError: a value is out of range.
    """

    data: str = option("", "folder with index.csv and the faces it lists, or a plain folder of aligned faces")
    out: str = option("", "folder of the run: checkpoints, log, configuration")
    preset: Preset = option("pfr-256-lite", "the network")
    size: int = option(0, "train the preset at another size in px (0: its own)")
    init_from: str = option("", "model file to start from; tensors that fit are taken, one of half the size is grown")
    pass_through: bool = option(False, "start as the identity, so that training only learns what to change (ours)")
    iterations: int = option(5000, "optimiser steps")
    batch: int = option(8, "faces in a step")
    learning_rate: float = option(6e-4, "Adam's, after the warm-up (ours; 2e-3 diverges without a trained prior)")
    warmup: int = option(200, "steps of linear warm-up")
    final_learning_rate: float = option(0.02, "share of the learning rate left at the end of the cosine decay")
    l1_weight: float = option(8.0, "weight of the pixel loss (section 3.4)")
    pyramid_weight: float = option(1.0, "weight of the decoder's loss at each scale (ours; GFPGAN's value)")
    grad_clip: float = option(1.0, "largest norm of the gradient")
    ema: float = option(0.999, "decay of the moving average of the weights, which is what gets exported (ours)")
    real_share: float = option(0.6, "share of real photographs in a batch, where the index tells the kind")
    precision: Precision = option("bf16", "autocast precision")
    device: str = option("cpu", "auto, cpu, cuda, cuda:1, mps, ...")
    workers: int = option(1, "data worker processes")
    licence: str = option("not stated", "licence of the weights, written into the exported file")
    seed: int = option(0, "seed of initialisation, data order and degradation")
    checkpoint_every: int = option(250, "steps between checkpoints")

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("warmup", "workers", "size", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it cannot be negative.")
        if not 0 <= self.ema < 1 or not 0 <= self.real_share <= 1:
            raise InputError("ema must be in [0, 1) and real_share in [0, 1].")
        if self.learning_rate <= 0 or self.grad_clip <= 0:
            raise InputError("learning_rate and grad_clip must be positive.")

    @property
    def network(self) -> PFRConfig:
        """The network's configuration: the preset, at ``size`` if that is given."""
        config = PRESETS[self.preset]
        return replace(config, size=self.size) if self.size else config

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file, or it holds a name this version does not know.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: no configuration of a run ({error}).") from error
