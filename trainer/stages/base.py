"""What a stage is: networks, optimisers and a loss with phases, which the loop drives without knowing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from pfr_core.errors import CheckpointError
from pfr_core.support.device import memory_format

from ..run.config import RunConfig

Batch = TypeVar("Batch", bound=Mapping[str, Any])
"""What a stage is given: tensors by name, whose first axis are the samples."""

Terms = dict[str, Tensor]
"""Scalars to report, by name; they carry no gradient."""


@dataclass(frozen=True)
class Phase:
    """An optimiser step of its own, every ``every`` steps.

    Attributes:
        name: what :meth:`Stage.loss` knows it by.
        optimiser: which of :attr:`Stage.optimisers` takes the step.
        parameters: what the loss is differentiated with respect to, and nothing else.
        every: steps between; the loss is multiplied by it (lazy regularisation).
        norm: name under which the gradient's norm is reported where it is limited; empty: it is not limited.
    """

    name: str
    optimiser: str
    parameters: list[nn.Parameter]
    every: int = 1
    norm: str = ""


class Stage(ABC, Generic[Batch]):
    """Networks, their average, optimisers and the losses of one stage.

    Attributes:
        networks: what is trained, by name.
        fixed: networks that losses use and that never change.
        ema: moving average of the generator.
        optimisers: by the names that the phases use.
        phases: in the order in which they run.
        started_from: provenance and licence of the file that the networks started from, as JSON; empty: of none.
    """

    networks: nn.ModuleDict
    fixed: nn.ModuleDict
    ema: nn.Module
    optimisers: dict[str, torch.optim.Optimizer]
    phases: list[Phase]
    started_from: str = ""
    advice: str = ""  # what to tell whoever begins a run

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.fixed = nn.ModuleDict()
        self.device = torch.device("cpu")
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    @abstractmethod
    def generator(self) -> nn.Module:
        """Return what the average follows."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Return network and size, in words."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch) -> tuple[Tensor, Terms]:
        """Return the loss of ``phase`` on one batch, and what to report of it."""

    def update(self, terms: Mapping[str, float], samples: int) -> None:
        """Adapt what is steered, if anything is, by the reported terms; they are means over the step and all processes.

        Args:
            terms: the means.
            samples: how many the step had.
        """

    def terms_of_weights(self) -> Terms:
        """Return what to report of the weights themselves."""
        return {}

    @abstractmethod
    def look(self, batch: Batch) -> dict[str, Tensor]:
        """Return grids of pictures to look at: name -> [rows,columns,3,H,W] in [-1,1]."""

    @abstractmethod
    def export(self, path: Path, provenance: dict[str, Any], licence: str, dtype: torch.dtype) -> list[Path]:
        """Write the average (and what the next stage needs) to safetensors; return the files."""

    def to(self, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        """Move everything to ``device``, in its layout; before the optimisers have a state."""
        self.device, self.autocast = device, autocast
        for module in (self.networks, self.fixed, self.ema):
            module.to(device).to(memory_format=memory_format(device))

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Let the average follow; closely at first."""
        decay = min(self.config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(_averaged(self.ema), _averaged(self.generator), 1 - decay)

    def steered(self) -> dict[str, float]:
        """Return what :meth:`update` has set, for the checkpoint."""
        return {}

    def steer(self, values: Mapping[str, float]) -> None:
        """Take over what :meth:`steered` gave."""

    def state(self) -> dict[str, Any]:
        """Return everything that changes in training."""
        return {
            "networks": self.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "steered": self.steered(),
        }

    def modern(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the checkpoint ``state``, perhaps of an earlier version, in today's form."""
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave, but for the learning rates: those are the configuration's.

        Raises:
            CheckpointError: it is another network's or another stage's.
        """
        try:
            self.networks.load_state_dict(state["networks"])
            self.ema.load_state_dict(state["ema"])
            for name, optimiser in self.optimisers.items():
                rates = [group["base_lr"] for group in optimiser.param_groups]
                optimiser.load_state_dict(state["optimisers"][name])
                for group, rate in zip(optimiser.param_groups, rates, strict=True):
                    group["base_lr"] = rate
            self.steer(state["steered"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this run's networks ({str(error).splitlines()[0]}). Resume with the configuration "
                "of the run, or start anew with --init-from."
            ) from error


def _averaged(net: nn.Module) -> list[Tensor]:
    """Return parameters and the batch normalisations' statistics."""
    return [*net.parameters(), *(buffer for buffer in net.buffers() if buffer.is_floating_point())]
