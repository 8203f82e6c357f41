"""The detector's training run: AdamW, one warm-up and cosine decay, a moving average of the weights that is exported.

A step's pictures are a pure function of (run seed, step), so an interrupted run resumes as if it had not stopped.
"""

from __future__ import annotations

import logging
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pfr_core import __version__
from pfr_core.errors import InputError, PFRError
from pfr_core.faces.retinaface import RetinaFace, build, describe, save, to_input
from pfr_core.models.download import obtain
from pfr_core.support.device import resolve_device

from ..run.optim import warmup_cosine
from ..run.run_state import checkpoints, load_state, save_state, state_to_resume
from ..run.watch import Watch, stop_on_signal
from .config import DetectorConfig
from .photographs import Material, load_material
from .pictures import Sample, composite, piece
from .targets import FACE, Targets, label, multibox_loss, stack

log = logging.getLogger(__name__)

TEACHER = "retinaface_mobile0.25"
"""Labels photographs, and boxes of aligned faces."""

REAL_FACES = 0.3
"""Share of photographs' pieces that come from the real ones of the aligned faces."""

GRADIENT_NORM = 5.0
FINAL_RATE = 0.01
"""Share of the learning rate left at the end."""

LOG_EVERY, KEEP = 25, 2
FILE = "detector.safetensors"


def train(config: DetectorConfig, *, resume: bool = False, limit: int = 0) -> Path:
    """Run or continue a training run; returns the exported detector's path.

    Args:
        config: the run.
        resume: go on from the last checkpoint in ``config.out``, or begin if there is none yet.
        limit: use only the first so many files of each kind, 0 for all (for tests).

    Raises:
        InputError: the folder of the run is taken, or the data are unusable.
        WeightsError: the published RetinaFace, which labels the photographs, is not to be had.
        CheckpointError: nothing to start from, or a checkpoint cannot be written or read.
        PFRError: the loss is no longer finite; the last checkpoint is kept.
    """
    folder = Path(config.out)
    if not resume and (folder / "config.json").exists():
        raise InputError(f"{folder}: holds a run already. Continue it with --resume, or choose another --out.")
    device = resolve_device(config.device)
    cv2.setNumThreads(1)  # pictures are small: threads cost more than they bring
    torch.manual_seed(config.seed)
    net, ema = (build("mobile0.25", device, raw=True).to(memory_format=torch.channels_last) for _ in range(2))
    earlier: dict[str, Any] | None = None
    state = state_to_resume(folder) if resume else None
    if config.init_from and state is None:
        if not checkpoints(Path(config.init_from)):
            raise InputError(f"--init-from {config.init_from}: no run with a checkpoint there.")
        net.load_state_dict(load_state(Path(config.init_from))["ema"])
        earlier = describe(Path(config.init_from) / FILE)["provenance"]
    ema.load_state_dict(net.state_dict())
    ema.requires_grad_(False)
    # Fused: the network is so small that the ordinary update of each tensor would cost a tenth of the step.
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    step = 0
    if state is not None:
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step, earlier = state["step"], state["earlier"]
    teacher = RetinaFace.load("mobile0.25", obtain(TEACHER), device)
    material = load_material(config.faces, config.wild, config.photos, config.negatives, teacher, limit)
    # Only now that everything was found and fits: a run that cannot start must not occupy its folder.
    folder.mkdir(parents=True, exist_ok=True)
    config.save(folder / "config.json")

    def checkpoint() -> None:
        parts = {"net": net, "ema": ema, "optimiser": optimiser}
        state = {name: part.state_dict() for name, part in parts.items()} | {"step": step, "earlier": earlier}
        save_state(folder, state, KEEP)
        save(
            _shifted(ema, config.score_shift),
            folder / FILE,
            largest_face=config.largest_face,
            provenance=_provenance(config, step, material, earlier),
            licence=config.licence,
        )

    net.train()
    with stop_on_signal() as stopped, closing(Watch(folder, step, LOG_EVERY)) as watch:
        for _ in (bar := tqdm(range(step, config.iterations), initial=step, total=config.iterations, unit="it")):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * warmup_cosine(step, config.iterations, config.warmup, FINAL_RATE)
            inputs, targets = batch(material, teacher, config, step, device)
            losses = _step(net, ema, optimiser, inputs, targets, config, step)
            step += 1
            watch.add(step, {**losses, "lr": optimiser.param_groups[0]["lr"]})
            bar.set_postfix(loss=f"{losses['loss']:.3f}", refresh=False)
            if step % config.checkpoint_every == 0 or stopped():
                checkpoint()
            if stopped():
                log.warning("stopped at step %d; continue with --resume", step)
                break
        else:
            checkpoint()
    return folder / FILE


def batch(
    material: Material, teacher: RetinaFace, config: DetectorConfig, step: int, device: torch.device
) -> tuple[Tensor, Targets]:
    """Return the pictures of a step as the network's input [B,3,S,S], and what it should say of them."""
    samples = [_sample(material, config, np.random.default_rng((config.seed, step, n))) for n in range(config.pictures)]
    inputs = to_input(np.stack([sample.image for sample in samples]), device)
    targets = stack([label(config.side, sample.boxes, sample.points, sample.ignored) for sample in samples])
    targets = Targets(*(part.to(device) for part in (targets.score, targets.offsets, targets.points)))
    asked = torch.tensor([not sample.exact for sample in samples], device=device)
    if asked.any():
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            offsets, probability, points = teacher.network(inputs[asked])
        targets.score[asked] = probability[..., 1].float()
        targets.offsets[asked], targets.points[asked] = offsets.float(), points.float()
    return inputs, targets


def _sample(material: Material, config: DetectorConfig, rng: np.random.Generator) -> Sample:
    if rng.random() < config.composite_share:
        return composite(material, config.side, rng)
    pool = material.photos
    if material.real_faces and (not pool or rng.random() < REAL_FACES):
        pool = material.real_faces
    return piece(pool[rng.integers(len(pool))], config.side, rng)


def _step(
    net: Any, ema: Any, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Targets, config: DetectorConfig, step: int
) -> dict[str, float]:
    with torch.autocast(inputs.device.type, torch.bfloat16):
        output = net(inputs)
    losses = multibox_loss(output, targets, config.negatives_per_face, config.points_weight)
    if not torch.isfinite(losses["loss"]):
        raise PFRError(f"The loss is not finite at step {step}. The last checkpoint is kept; lower --learning-rate.")
    optimiser.zero_grad(set_to_none=True)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), GRADIENT_NORM)
    optimiser.step()
    decay = min(config.ema, (1 + step) / (10 + step))  # follow closely at first
    with torch.no_grad():
        torch._foreach_lerp_(_floats(ema), _floats(net), 1 - decay)
    return {name: value.item() for name, value in losses.items()} | {"faces": (targets.score >= FACE).sum().item()}


def _shifted(net: Any, shift: float) -> Any:
    """Return a copy of ``net`` that adds ``shift`` to the logit of a face, at every anchor."""
    copy = deepcopy(net)
    for head in copy.ClassHead:
        head.conv1x1.bias.data[1::2] += shift  # background, face, background, face: two anchors a cell
    return copy


def _floats(net: nn.Module) -> list[Tensor]:
    """Return parameters and the batch normalisations' statistics."""
    return [*net.parameters(), *(buffer for buffer in net.buffers() if buffer.is_floating_point())]


def _provenance(config: DetectorConfig, step: int, material: Material, earlier: dict[str, Any] | None) -> dict[str, Any]:
    names = {
        "faces": Path(config.faces).name,
        "wild": Path(config.wild).name,
        "photos": [Path(folder).name for folder in config.photos],
        "negatives": [Path(folder).name for folder in config.negatives],
        "out": Path(config.out).name,
        "init_from": Path(config.init_from).name,
    }
    return {
        "trainer": f"pfr {__version__}",
        "iterations": step,
        "labels": f"boxes, and everything on photographs, by {TEACHER} (soft targets); points of aligned faces by their index",
        "initialisation": f"{'an earlier run' if earlier else 'random'}; no published weights are in this file",
        **material.provenance,
        "config": {**asdict(config), **names},
        "earlier_run": earlier,
    }
