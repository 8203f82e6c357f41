"""``export``: the averaged weights of a run as safetensors, from its newest checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from pfr_core import PFR
from pfr_core.errors import InputError
from pfr_core.models.checkpoint import save_training

from ..stages import RestoreStage, build
from .config import ExportType, RestoreConfig, load_config, without_start
from .loop import CONFIG
from .provenance import provenance
from .run_state import load_state


def export_command(run: Path, out: Path, dtype: ExportType = "fp16", licence: str = "", training: bool = False) -> list[Path]:
    """Write the newest checkpoint's average; returns the files. A prior and an adversarial run also get their discriminator.

    Args:
        run: the run's folder.
        out: ends in ``.safetensors``.
        dtype: stored precision.
        licence: of the weights; empty keeps the one the run was started with.
        training: write one file in float16 that a run elsewhere can go on from, with all discriminators.

    Raises:
        InputError: no such run or precision.
        CheckpointError: no readable checkpoint.
    """
    if dtype not in get_args(ExportType):
        raise InputError(f"dtype is {dtype!r}; choose from {', '.join(get_args(ExportType))}.")
    config = load_config(run / CONFIG)
    if licence:
        config = replace(config, licence=licence)
    bare = without_start(config)
    stage = build(replace(bare, fm_weight=0.0, unit_weight=0.0, fp_weight=0.0) if isinstance(bare, RestoreConfig) else bare)
    state = stage.modern(load_state(run))
    stage.load(state["stage"])
    told = provenance(config, state["data"], state["step"], state["started_from"])
    if training:
        if not isinstance(stage, RestoreStage):
            raise InputError("--training is for runs of restore; a prior's two files are all that restore needs.")
        discriminators = {name: network for name, network in stage.networks.items() if name != "generator"}
        assert isinstance(stage.ema, PFR)
        save_training(stage.ema, discriminators, out, provenance=told, licence=config.licence)
        return [out]
    return stage.export(out, told, torch.float16 if dtype == "fp16" else torch.float32)
