"""Reconstruction training: the codec and the prior together on pixel L1 and the decoder's L1 pyramid.

Adam, linear warm-up and cosine decay, gradient clipping, a moving average of the weights. An interrupted run resumes
as if it had not stopped.
"""

from __future__ import annotations

import csv
import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from pfr_core import PFR, __version__, save_model
from pfr_core.checkpoint import read_checkpoint
from pfr_core.device import resolve_device
from pfr_core.errors import InputError, PFRError

from .config import TrainConfig
from .data import DegradedFaces, FaceFile, list_faces
from .initialise import pass_through, warm_start
from .losses import l1, l1_pyramid
from .run_state import load_state, save_state

log = logging.getLogger(__name__)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine decay to ``final_learning_rate`` of the peak."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.iterations - config.warmup)
    low = config.final_learning_rate
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def train(config: TrainConfig, *, resume: bool = False) -> Path:
    """Run or continue a training run; returns the exported model's path.

    Raises:
        InputError: the folder of the run is taken, or the data are unusable.
        CheckpointError: nothing to resume from, or a checkpoint cannot be written or read.
        PFRError: the loss is no longer finite; the last checkpoint is kept.
    """
    folder = Path(config.out)
    faces = list_faces(config.data, "train")
    if not resume and (folder / "config.json").exists():
        raise InputError(f"{folder}: holds a run already. Continue it with --resume, or choose another --out.")
    device = resolve_device(config.device)
    torch.manual_seed(config.seed)
    net = PFR(config.network).to(device).to(memory_format=torch.channels_last)
    if config.init_from:
        warm_start(net, config.init_from)
    if config.pass_through:
        pass_through(net)
    ema = PFR(config.network).to(device).requires_grad_(False).eval()
    ema.load_state_dict(net.state_dict())
    optimiser = torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
    step = 0
    if resume:
        state = load_state(folder)
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    # Only now that everything was found and fits: a run that cannot start must not occupy its folder.
    folder.mkdir(parents=True, exist_ok=True)
    config.save(folder / "config.json")

    def checkpoint() -> None:
        save_state(
            folder,
            {"net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict(), "step": step},
        )
        export(ema, folder, config, step, faces)

    data = DegradedFaces(
        faces, config.network.size, config.iterations * config.batch, seed=config.seed, real_share=config.real_share
    )
    with stop_on_signal() as stopped, Log(folder, step) as report:
        batches = tqdm(_batches(data, config, step), initial=step, total=config.iterations, unit="it", dynamic_ncols=True)
        for degraded, truth in batches:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step)
            losses = _step(net, ema, optimiser, degraded.to(device), truth.to(device), config, step)
            step += 1
            report.add(step, {**losses, "lr": optimiser.param_groups[0]["lr"]})
            batches.set_postfix(l1=f"{report.mean('l1'):.4f}", refresh=False)
            if step % config.checkpoint_every == 0 or stopped():
                checkpoint()
            if stopped():
                log.warning("stopped at step %d; continue with --resume", step)
                break
        else:
            checkpoint()
    return folder / "model.safetensors"


def export(ema: PFR, folder: Path, config: TrainConfig, step: int, faces: list[FaceFile]) -> None:
    """Write the averaged weights, in float16, as ``model.safetensors``."""
    licences = sorted({face.licence for face in faces})
    provenance = {
        "trainer": f"pfr {__version__}",
        "stage": "reconstruction",
        "iterations": step,
        "faces": len(faces),
        "real_faces": sum(face.real for face in faces),
        "data_licences": {name: sum(face.licence == name for face in faces) for name in licences},
        "config": {
            **asdict(config),
            "data": Path(config.data).name,
            "out": folder.name,
            "init_from": Path(config.init_from).name,
        },
    }
    if config.init_from:
        provenance["started_from"] = read_checkpoint(config.init_from).provenance
    save_model(ema, folder / "model.safetensors", provenance=provenance, licence=config.licence, dtype=torch.float16)


def _step(
    net: PFR,
    ema: PFR,
    optimiser: torch.optim.Optimizer,
    degraded: Tensor,
    truth: Tensor,
    config: TrainConfig,
    step: int,
) -> dict[str, float]:
    degraded = degraded.contiguous(memory_format=torch.channels_last)
    with torch.autocast(degraded.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        output, pyramid = net.forward_with_pyramid(degraded)
    pixel, scales = l1(output, truth), l1_pyramid(pyramid, truth)
    loss = config.l1_weight * pixel + config.pyramid_weight * scales
    if not torch.isfinite(loss):
        raise PFRError(f"The loss is {loss.item()} at step {step}. The last checkpoint is kept; lower --learning-rate.")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), config.grad_clip)
    optimiser.step()
    decay = min(config.ema, (1 + step) / (10 + step))  # follow closely at first
    with torch.no_grad():
        torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 1 - decay)
    return {"l1": pixel.item(), "pyramid": scales.item(), "grad_norm": norm.item()}


def _batches(data: DegradedFaces, config: TrainConfig, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    rest = Subset(data, range(step * config.batch, len(data)))
    return iter(DataLoader(rest, config.batch, num_workers=config.workers, persistent_workers=False))


class Log:
    """Losses to ``log.csv``, averaged over ``every`` steps."""

    def __init__(self, folder: Path, step: int, every: int = 25) -> None:
        self.path, self.every = folder / "log.csv", every
        self.rows: list[dict[str, float]] = []
        self.started = time.monotonic()
        self.new = step == 0

    def __enter__(self) -> Log:
        self.file = self.path.open("w" if self.new else "a", newline="")
        self.writer = csv.writer(self.file)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, step: int, values: dict[str, float]) -> None:
        if self.new:
            self.writer.writerow(["step", "seconds", *values])
            self.new = False
        self.rows = [*self.rows[-self.every + 1 :], values]
        if step % self.every == 0:
            seconds = time.monotonic() - self.started
            self.writer.writerow([step, f"{seconds:.0f}", *(f"{self.mean(name):.6g}" for name in values)])
            self.file.flush()

    def mean(self, name: str) -> float:
        return sum(row[name] for row in self.rows) / len(self.rows)


@contextmanager
def stop_on_signal() -> Iterator[Any]:
    """Within the block SIGTERM and SIGINT set a flag (returned as a callable) instead of killing the run."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
