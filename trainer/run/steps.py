"""A run in memory: its stage, data and engine, ready to take steps from wherever it is."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pfr_core.errors import CheckpointError, InputError, PFRError
from pfr_core.support.arguments import flag

from ..data.loader import TrainingSet, batches
from ..stages import Phase, Stage, build, open_data
from .clock import Clock
from .config import RunConfig, without_start
from .engine import average_gradients, means, start
from .optim import rate_factor, set_rates
from .provenance import licence_of, provenance, with_earlier

log = logging.getLogger(__name__)


class Run:
    """Networks, data and engine of a run.

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
        self.fabric = start(config)
        self.device = self.fabric.device
        self.data: TrainingSet = open_data(config, self.device)  # first: what is wrong with it shows before any download
        self.facts = self._next_facts = self.data.facts
        torch.manual_seed(config.seed)
        with self.fabric.rank_zero_first(local=True):  # which fetches the networks that are needed, once for all on a machine
            # A checkpoint replaces what the run started from, whose files need not be there any more.
            self.stage: Stage[Any] = build(config if state is None else without_start(config))
        self.started_from = self.stage.started_from
        if state is None:
            if self.stage.advice:
                log.warning("%s", self.stage.advice)
            licence = licence_of(config, self.started_from)
            if licence != config.licence:
                log.info("what the run starts from is under this licence, which holds for its weights, too: %s", licence)
        self.stage.to(self.device, self.fabric.autocast)
        self.samples_per_step = config.samples * config.accumulate * self.fabric.world_size
        self.step = self.skipped = self.validated = 0
        self.best: float | None = None
        if state is not None:
            self._go_on(self.stage.modern(state))
        self.batches = batches(self.data, config, self.step, self.fabric.global_rank, self.fabric.world_size)

    def _go_on(self, state: dict[str, Any]) -> None:
        if state["faces_per_step"] != self.samples_per_step:
            raise CheckpointError(
                f"The run had {state['faces_per_step']} samples a step, now there are {self.samples_per_step}. "
                "Say --batch (--pictures, --crops) or --accumulate so that their product with the processes stays."
            )
        if self.config.iterations < state["step"]:
            raise InputError(f"--iterations {self.config.iterations}: the run has taken {state['step']} steps already. Say more.")
        self.stage.load(state["stage"])
        self._next_facts = with_earlier(
            self.facts, state["data"], state["step"], compared=self.data.compared, options=self.config.DATA
        )
        self.facts = state["data"] or self.facts  # until a step is taken with the new ones
        self.step, self.best, self.started_from = state["step"], state["best"], state["started_from"]
        self.skipped = state.get("skipped", 0)  # checkpoints of earlier versions have neither
        self.validated = state.get("validated", self.step)

    def state(self) -> dict[str, Any]:
        """Return everything that an interrupted run needs to go on.

        Raises:
            PFRError: a weight is no longer finite.
        """
        if not all(parameter.isfinite().all() for parameter in self.stage.networks.parameters()):
            raise PFRError(f"weights are no longer finite after step {self.step}, so it is not written. {self._way_on}")
        return {
            "step": self.step,
            "best": self.best,
            "skipped": self.skipped,
            "validated": self.validated,
            "faces_per_step": self.samples_per_step,
            "started_from": self.started_from,
            "data": self.facts,
            "stage": self.stage.state(),
        }

    @property
    def _way_on(self) -> str:
        """What to do about numbers that are no longer finite."""
        rates = ", ".join(map(flag, self.config.RATES))
        return f"The last checkpoint is kept: go on from it with --resume and lower rates ({rates})."

    def export(self, path: Path, **extra: Any) -> list[Path]:
        """Write the average with its provenance; return the files."""
        told = provenance(self.config, self.facts, self.step, self.started_from)
        return self.stage.export(path, told | extra, licence_of(self.config, self.started_from), torch.float16)

    def take_step(self, clock: Clock) -> dict[str, float]:
        """Take one optimiser step of every phase that is due; return the reported scalars, means over all processes.

        ``data/skipped`` is how many unreadable images all processes met since the run began.

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
        if "skipped" in drawn[0]:
            reported["data/skipped"] = torch.stack([batch["skipped"].sum() for batch in drawn]).sum()
        told = means(self.fabric, reported)
        for name, value in told.items():
            if not math.isfinite(value):
                raise PFRError(f"{name} is {value} at step {self.step}. {self._way_on}")
        if "data/skipped" in told:
            self.skipped += round(told["data/skipped"] * self.fabric.world_size)
            told["data/skipped"] = self.skipped
        self.stage.update(told, self.samples_per_step)
        with clock.measure("average"):
            self.stage.average(self.step)
        self.step += 1
        self.facts = self._next_facts
        steered = {f"steered/{name}": value for name, value in self.stage.steered().items()}
        return {**told, **{f"lr/{name}": rate for name, rate in rates.items()}, **steered}

    def gradients(self, phase: Phase, drawn: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Put the phase's gradient, the mean over all forward passes and processes, into its parameters; return its terms."""
        _forget_gradients(phase)
        reported: dict[str, Tensor] = {}
        for batch in drawn:
            loss, terms = self.stage.loss(phase.name, batch)
            (loss * (phase.every / len(drawn))).backward(inputs=phase.parameters)
            for name, term in terms.items():
                reported[name] = reported.get(name, torch.zeros((), device=self.device)) + term / len(drawn)
        average_gradients(self.fabric, phase.parameters)
        if phase.norm:
            reported[phase.norm] = torch.nn.utils.clip_grad_norm_(phase.parameters, self.config.grad_clip)
        return reported

    def _draw(self) -> dict[str, Tensor]:
        try:
            return next(self.batches)
        except InputError as error:  # from a data worker it comes with that one's traceback; the message is the last line
            message = str(error).strip().splitlines()[-1]
            raise InputError(message.removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")) from error
        except (RuntimeError, OSError, EOFError) as error:
            # A worker that was killed is told of by the loader or by a broken connection; what it raised itself is "Caught".
            told = str(error)
            gone = told.startswith("DataLoader worker") if isinstance(error, RuntimeError) else not told.startswith("Caught")
            if not (self.config.workers and gone):
                raise
            raise InputError(
                f"a data worker has ended ({error}). Most likely there was too little memory, or shared memory: say fewer "
                "--workers, or --workers 0; a container gets more by docker run --shm-size."
            ) from error

    def _on_device(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        # The counters seed generators and are needed as numbers.
        return {name: value if name == "counter" else value.to(self.device, non_blocking=True) for name, value in batch.items()}


def _forget_gradients(phase: Phase) -> None:
    for parameter in phase.parameters:
        parameter.grad = None
