"""``export``: the averaged weights of a run as safetensors, from its newest checkpoint. ``blend``: two models as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from pfr_core import PFR, load_model
from pfr_core.errors import InputError
from pfr_core.models.checkpoint import read_checkpoint, save_model, save_training
from pfr_core.network.blended import BlendedPFR
from pfr_core.support.choices import HALFWAY, ExportType
from pfr_core.support.device import DTYPES

from ..stages import RestoreStage, build
from .config import RestoreConfig, load_config, without_start
from .loop import CONFIG
from .provenance import licence_of, provenance
from .run_state import load_state


def export_command(run: Path, out: Path, dtype: ExportType = "fp16", licence: str = "", training: bool = False) -> list[Path]:
    """Write the newest checkpoint's average; returns the files. A prior and an adversarial run also get their discriminator.

    Args:
        run: the run's folder.
        out: ends in ``.safetensors``.
        dtype: stored precision.
        licence: of the weights; empty keeps the one the run was started with, or that of what it started from.
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
    if isinstance(bare, RestoreConfig):  # of what only losses need nothing has to be here
        bare = replace(bare, fm_weight=0.0, unit_weight=0.0, fp_weight=0.0, anchor="", anchor_weight=0.0)
    stage = build(bare)
    state = stage.modern(load_state(run))
    stage.load(state["stage"])
    told = provenance(config, state["data"], state["step"], state["started_from"])
    licence = licence_of(config, state["started_from"])
    if training:
        if not isinstance(stage, RestoreStage):
            raise InputError("--training is for runs of restore; a prior's two files are all that restore needs.")
        if dtype != "fp16":
            raise InputError(f"--training writes fp16, so --dtype {dtype} cannot be given; checkpoints are exact.")
        discriminators = {name: network for name, network in stage.networks.items() if name != "generator"}
        assert isinstance(stage.ema, PFR)
        save_training(stage.ema, discriminators, out, provenance=told, licence=licence)
        return [out]
    return stage.export(out, told, licence, DTYPES[dtype])


def blend_command(
    faithful: Path,
    textured: Path,
    out: Path,
    licence: str,
    share: float = 1.0,
    middle: float = HALFWAY,
    dtype: ExportType = "fp16",
) -> Path:
    """Write one model with the option ``fidelity`` from two; returns its file.

    Args:
        faithful: model at fidelity 1; of one with that option its fidelity 1.
        textured: model that was trained on from it; of one with that option its fidelity 0.
        out: ends in ``.safetensors``.
        licence: of the weights.
        share: how far on the way from ``faithful`` to ``textured`` fidelity 0 lies, above 0, at most 1.
        middle: how far on the way from fidelity 1 to fidelity 0 fidelity 0.5 lies, 0 to 1.
        dtype: stored precision.

    Raises:
        InputError: ``share`` or ``middle`` is out of range, or the two networks differ.
        CheckpointError: one of the files cannot be read, or ``out`` cannot be written.
    """
    if not 0 < share <= 1:
        raise InputError(f"--share {share}: must be above 0 and at most 1.")
    if not 0 <= middle <= 1:
        raise InputError(f"--middle {middle}: must be 0 to 1.")
    (start, faithful_told), (end, textured_told) = _end(faithful, 1.0), _end(textured, 0.0)
    if start.config != end.config:
        raise InputError(f"{textured}: another network than {faithful}'s. Blend a model with one that was trained on from it.")
    with torch.no_grad():
        for parameter, target in zip(start.parameters(), end.parameters(), strict=True):
            target.copy_(torch.lerp(parameter, target, share))
        if start.config.patch > 1:  # whether a face is to be changed is no question of fidelity, and half of two answers is none
            end.need.load_state_dict(start.need.state_dict())
    # What the textured one was trained on is all of it, for it started from the faithful one.
    told = {**textured_told, "blend": {"share": share, "middle": middle, "faithful": faithful_told}}
    net = BlendedPFR.between(start, end, middle)
    save_model(net, out, provenance=told, licence=licence, dtype=DTYPES[dtype])
    return out


def _end(path: Path, fidelity: float) -> tuple[PFR, dict[str, Any]]:
    """Return a model, of one with the option ``fidelity`` the network there, and what its file says of its training."""
    net, told = load_model(path), read_checkpoint(path).provenance
    if not isinstance(net, BlendedPFR):
        return net, told
    blend = told.get("blend", {})
    return net.at(fidelity), blend.get("faithful", told) if fidelity == 1 else told
