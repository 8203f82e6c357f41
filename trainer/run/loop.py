"""The training loop: draws batches, drives a stage's phases, watches, validates, checkpoints, resumes."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from pfr_core import __version__
from pfr_core.errors import CheckpointError, InputError, PFRError

from ..data.dataset import Batch, FaceDataset, FaceFile, batches, list_faces
from ..judge.validate import Validation
from ..stages import Phase, Stage, build
from .config import RestoreConfig, RunConfig, stage_of, without_start
from .engine import average_gradients, start
from .initialise import read_start
from .optim import rate_factor, set_rates
from .run_state import save_state, state_to_resume
from .watch import Watch, stop_on_signal

log = logging.getLogger(__name__)

CONFIG, MODEL, BEST = "config.json", "model.safetensors", "best.safetensors"
FACES_IN_GRID = 8


class Clock:
    """Seconds by name. With ``exact`` the device finishes its work before each reading."""

    def __init__(self, device: torch.device, *, exact: bool) -> None:
        self.device, self.exact = device, exact and device.type == "cuda"
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the block's time to ``name``."""
        started = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - started

    def _now(self) -> float:
        if self.exact:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Run:
    """A stage, its data and its engine, ready to take steps.

    Args:
        config: the run.
        state: a checkpoint to go on from.

    Raises:
        InputError: unusable data, device or start.
        CheckpointError: a file or checkpoint does not fit.
        WeightsError: a feature network cannot be had.
    """

    def __init__(self, config: RunConfig, state: dict[str, Any] | None = None) -> None:
        self.config = config
        self.faces = list_faces(config.data, "train", min_native=config.min_native, max_out_of_photo=config.max_out_of_photo)
        self.data = summary(self.faces)
        self.fabric: Fabric = start(config)
        self.device = self.fabric.device
        torch.manual_seed(config.seed)
        # A checkpoint replaces what the run started from, whose files need not be there any more.
        self.stage: Stage = build(config if state is None else without_start(config))
        self.started_from = started_from(config) if state is None else state["started_from"]
        self.stage.to(self.device, self.fabric.autocast)
        self.faces_per_step = config.batch * config.accumulate * self.fabric.world_size
        self.step = 0
        self.best: float | None = None
        if state is not None:
            if state["faces_per_step"] != self.faces_per_step:
                raise CheckpointError(
                    f"The run had {state['faces_per_step']} faces a step, now there are {self.faces_per_step}. "
                    "Resume with the same batch x accumulate x processes."
                )
            self.stage.load(state["stage"])
            self.step, self.best = state["step"], state["best"]
        dataset = FaceDataset(
            self.faces,
            config.shape.size,
            seed=config.seed,
            real_share=config.real_share,
            degrade=self.stage.needs_degraded,
            clean_share=config.clean_share if isinstance(config, RestoreConfig) else 0.0,
        )
        self.batches = batches(dataset, config, self.step, self.fabric.global_rank, self.fabric.world_size)

    def take_step(self, clock: Clock) -> dict[str, float]:
        """One optimiser step of every phase that is due; returns the reported scalars, means over all processes.

        Raises:
            PFRError: a loss is not finite; the message names step and loss.
        """
        with clock.measure("data"):
            drawn = [self._on_device(self._draw()) for _ in range(self.config.accumulate)]
        rates = {
            name: rate
            for optimiser in self.stage.optimisers.values()
            for name, rate in set_rates(optimiser, rate_factor(self.config, self.step)).items()
        }
        reported: dict[str, Tensor] = {}
        for phase in self.stage.phases:
            if self.step % phase.every == 0:
                with clock.measure(phase.name):
                    reported |= self.gradients(phase, drawn)
                    self.stage.optimisers[phase.optimiser].step()
                    _forget_gradients(phase)  # Adam must not meet them again in another phase of the same network
        reported |= self.stage.terms_of_weights()
        reported["data/skipped"] = torch.stack([batch["skipped"].sum() for batch in drawn]).sum().float()
        means = self._means(reported)
        for name, value in means.items():
            if not math.isfinite(value):
                raise PFRError(
                    f"{name} is {value} at step {self.step}. The last checkpoint is kept: lower the learning rate, use --resume."
                )
        self.stage.update(means, self.faces_per_step)
        with clock.measure("average"):
            self.stage.average(self.step)
        self.step += 1
        steered = {f"steered/{name}": value for name, value in self.stage.steered().items()}
        return {**means, **{f"lr/{name}": rate for name, rate in rates.items()}, **steered}

    def gradients(self, phase: Phase, drawn: list[Batch]) -> dict[str, Tensor]:
        """Put the phase's gradient, the mean over all forward passes and processes, into its parameters; returns its terms."""
        _forget_gradients(phase)
        reported: dict[str, Tensor] = {}
        for batch in drawn:
            loss, terms = self.stage.loss(phase.name, batch)
            (loss * (phase.every / len(drawn))).backward(inputs=phase.parameters)
            for name, term in terms.items():
                reported[name] = reported.get(name, torch.zeros((), device=self.device)) + term / len(drawn)
        average_gradients(self.fabric, phase.parameters)
        if phase.optimiser == "g" and self.config.grad_clip:
            reported["G/gradient"] = torch.nn.utils.clip_grad_norm_(phase.parameters, self.config.grad_clip)
        return reported

    def agree(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.fabric.world_size == 1:
            return flag
        total = self.fabric.all_reduce(torch.tensor(float(flag), device=self.device), reduce_op="sum")
        return bool(total > 0)  # type: ignore[operator]

    def checkpoint(self, folder: Path) -> None:
        """Write the state and the exported weights; only the first process does."""
        if self.fabric.is_global_zero:
            if not all(parameter.isfinite().all() for parameter in self.stage.networks.parameters()):
                raise PFRError(
                    f"weights are no longer finite after step {self.step}, so it is not written. The last checkpoint is kept: "
                    "lower the learning rate, use --resume."
                )
            state = {
                "step": self.step,
                "best": self.best,
                "faces_per_step": self.faces_per_step,
                "started_from": self.started_from,
                "data": self.data,
                "stage": self.stage.state(),
            }
            save_state(folder, state, self.config.keep)
            self.export(folder / MODEL)

    def export(self, path: Path, dtype: torch.dtype = torch.float16, **extra: Any) -> list[Path]:
        """Write the average with its provenance."""
        return self.stage.export(path, provenance(self.config, self.data, self.step, self.started_from) | extra, dtype)

    def _draw(self) -> Batch:
        try:
            return next(self.batches)
        except InputError as error:  # from a data worker it comes with that one's traceback; the message is the last line
            message = str(error).strip().splitlines()[-1]
            raise InputError(message.removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")) from error

    def _on_device(self, batch: Batch) -> Batch:
        # The counters seed generators and are needed as numbers.
        return {name: value if name == "counter" else value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def _means(self, values: dict[str, Tensor]) -> dict[str, float]:
        flat = torch.stack([value.detach().float().reshape(()).to(self.device) for value in values.values()])
        if self.fabric.world_size > 1:
            flat = self.fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
        return dict(zip(values, flat.tolist(), strict=True))


def _forget_gradients(phase: Phase) -> None:
    for parameter in phase.parameters:
        parameter.grad = None


def train(config: RunConfig, *, resume: bool = False, after_step: Callable[[Run], None] | None = None) -> Path:
    """Run or continue a training run; returns the exported model's path.

    Args:
        config: the run; with ``resume`` that of the folder.
        resume: go on from the newest checkpoint, or begin if there is none yet.
        after_step: called after each step.

    Raises:
        InputError: the folder of the run is taken, or the data are unusable.
        CheckpointError: a checkpoint cannot be written or read.
        PFRError: a loss or a weight is no longer finite; the last checkpoint is kept.
    """
    if not config.out:
        raise InputError("Say with --out where the run's files go.")
    folder = Path(config.out)
    if not resume and (folder / CONFIG).exists():
        raise InputError(f"{folder}: holds a run already. Continue it with --resume, or choose another --out.")
    run = Run(config, state_to_resume(folder) if resume else None)
    first = run.fabric.is_global_zero
    validation = Validation(config, run.stage) if config.validate_every and first else None
    # Only now that everything was found and fits: a run that cannot start must not occupy its folder.
    run.fabric.barrier()
    watch = None
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        config.save(folder / CONFIG)
        watch = Watch(folder, run.step, config.log_every)
        if run.step == config.iterations:
            run.export(folder / MODEL)  # it was killed between its last checkpoint and this
    try:
        with stop_on_signal() as stopped:
            finished = _loop(run, folder, watch, validation, stopped, after_step)
        if not finished:
            log.warning("stopped at step %d; continue with --resume", run.step)
    finally:
        if watch is not None:
            watch.close()
    return folder / MODEL


def _loop(
    run: Run,
    folder: Path,
    watch: Watch | None,
    validation: Validation | None,
    stopped: Callable[[], bool],
    after_step: Callable[[Run], None] | None,
) -> bool:
    """Step until the end (True) or until asked to stop (False); checkpoints on the way and at the end."""
    config = run.config
    with tqdm(initial=run.step, total=config.iterations, unit="it", dynamic_ncols=True, disable=watch is None) as bar:
        while run.step < config.iterations:
            clock, started = Clock(run.device, exact=False), time.perf_counter()
            values = run.take_step(clock)
            seconds = time.perf_counter() - started
            bar.update()
            if watch is not None:
                pace = {"step": seconds, "data_share": clock.seconds["data"] / seconds, "faces": run.faces_per_step / seconds}
                watch.add(run.step, {**values, **{f"time/{name}": value for name, value in pace.items()}})
                if run.step % 10 == 0:
                    bar.set_postfix({name: f"{value:.3f}" for name, value in list(values.items())[:3]}, refresh=False)
                if config.image_every and (run.step % config.image_every == 0 or run.step == 1):
                    watch.pictures(run.step, pictures(run))
            if config.validate_every and (run.step % config.validate_every == 0 or run.step == config.iterations):
                if validation is not None and watch is not None:
                    _validate(run, folder, watch, validation)
                run.fabric.barrier()
            if after_step is not None:
                after_step(run)
            stop = run.agree(stopped())
            if stop or run.step % config.checkpoint_every == 0 or run.step == config.iterations:
                run.checkpoint(folder)
            if stop and run.step < config.iterations:
                return False
    return True


def _validate(run: Run, folder: Path, watch: Watch, validation: Validation) -> None:
    scores = validation(run.stage)
    watch.write(run.step, {f"validation/{name}": value for name, value in scores.items()})
    score = validation.rank(scores)
    if run.best is None or score > run.best:
        run.best = score
        run.export(folder / BEST, best_by=run.config.best_by, scores=scores)


def pictures(run: Run) -> dict[str, Tensor]:
    """Return what :meth:`Stage.look` shows of the first training faces."""
    dataset = FaceDataset(
        run.faces, run.config.shape.size, seed=run.config.seed, real_share=1.0, degrade=run.stage.needs_degraded
    )
    samples = [dataset[i] for i in range(FACES_IN_GRID)]
    batch = {name: torch.stack([sample[name] for sample in samples]).to(run.device) for name in samples[0]}
    return run.stage.look(batch)


def started_from(config: RunConfig) -> str:
    """Provenance and licence of the file that a run starts from, as JSON; empty if it starts from nothing."""
    if not config.init_from:
        return ""
    given = read_start(config.init_from)
    return json.dumps({**given.provenance, "licence": given.licence})


def summary(faces: list[FaceFile]) -> dict[str, Any]:
    """Return what is to be said of the training data in an exported file."""
    licences = Counter(face.licence for face in faces)
    return {"faces": len(faces), "real_faces": sum(face.real for face in faces), "data_licences": dict(sorted(licences.items()))}


def provenance(config: RunConfig, data: dict[str, Any], step: int, start: str) -> dict[str, Any]:
    """How weights came to be, for the exported file. Paths are reduced to names; ``data`` is :func:`summary`'s, ``start``
    :func:`started_from`'s."""
    values = asdict(config)
    for name in ("data", "out", "init_from", "discriminator"):
        values[name] = Path(values[name]).name
    found: dict[str, Any] = {
        "trainer": f"pfr {__version__}",
        "stage": stage_of(config),
        "iterations": step,
        **data,
        "config": values,
    }
    if start:
        found["started_from"] = json.loads(start)
    return found
