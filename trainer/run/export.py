"""``export``: the averaged weights of a run as safetensors, from its newest checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from pfr_core.errors import InputError

from ..stages import build
from .config import ExportType, RestoreConfig, load_config, without_start
from .loop import CONFIG
from .provenance import provenance
from .run_state import load_state


def export_command(run: Path, out: Path, dtype: ExportType = "fp16", licence: str = "") -> list[Path]:
    """Write the newest checkpoint's average; returns the files. A prior and an adversarial run also get their discriminator.

    Args:
        run: the run's folder.
        out: ends in ``.safetensors``.
        dtype: stored precision.
        licence: of the weights; empty keeps the one the run was started with.

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
    stage = build(replace(bare, fm_weight=0.0, fp_weight=0.0) if isinstance(bare, RestoreConfig) else bare)
    state = stage.modern(load_state(run))
    stage.load(state["stage"])
    told = provenance(config, state["data"], state["step"], state["started_from"])
    return stage.export(out, told, torch.float16 if dtype == "fp16" else torch.float32)
