"""What a stage is: networks and a loss with phases (Gmain, Greg, Dmain, Dreg), which the loop drives without knowing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfr_core.errors import CheckpointError
from pfr_core.models.checkpoint import read_part
from pfr_core.network.config import PFRConfig
from pfr_core.network.discriminator import Discriminator
from pfr_core.support.device import memory_format

from ..data.dataset import Batch
from ..run.config import RunConfig, network_options

Terms = dict[str, Tensor]
"""Scalars to report, by name; they carry no gradient."""


@dataclass(frozen=True)
class Phase:
    """An optimiser step of its own, every ``every`` steps.

    Attributes:
        name: Gmain, Greg, Dmain or Dreg.
        optimiser: ``"g"`` or ``"d"``.
        parameters: what the loss is differentiated with respect to, and nothing else.
        every: steps between; the loss is multiplied by it (lazy regularisation).
    """

    name: str
    optimiser: str
    parameters: list[nn.Parameter]
    every: int = 1


class Stage(ABC):
    """Networks, their average, optimisers and the losses of one stage.

    Attributes:
        networks: what is trained, by name.
        fixed: networks that losses use and that never change.
        ema: moving average of the generator.
        optimisers: ``"g"`` and, if there is a discriminator, ``"d"``.
        phases: in the order in which they run.
        needs_degraded: whether batches must hold degraded faces.
    """

    networks: nn.ModuleDict
    fixed: nn.ModuleDict
    ema: nn.Module
    optimisers: dict[str, torch.optim.Optimizer]
    phases: list[Phase]
    needs_degraded: bool

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.fixed = nn.ModuleDict()
        self.device = torch.device("cpu")
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.compiled: dict[str, Callable[..., Any]] = {}

    @property
    @abstractmethod
    def generator(self) -> nn.Module:
        """What the average follows."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch) -> tuple[Tensor, Terms]:
        """Return the loss of ``phase`` on one batch, and what to report of it.

        In a step Gmain comes before Dmain, which takes the faces that Gmain made of the same batch.
        """

    @abstractmethod
    def update(self, terms: Mapping[str, float], faces: int) -> None:
        """Adapt what is steered by the reported terms; they are means over the step and all processes.

        Args:
            terms: the means.
            faces: faces in the step.
        """

    def noise_scalars(self) -> list[nn.Parameter]:
        """Return the scalars of the prior's noise branches, the only ones of that name."""
        return [parameter for name, parameter in self.generator.named_parameters() if name.endswith("noise.weight")]

    def terms_of_weights(self) -> Terms:
        """How alive the noise branches are: smallest and mean size of their scalars. Near 0 the decoder would be cut off."""
        sizes = torch.stack([scalar.detach().abs().mean() for scalar in self.noise_scalars()])
        return {"G/noise_smallest": sizes.min(), "G/noise_mean": sizes.mean()}

    @abstractmethod
    def look(self, batch: Batch) -> dict[str, Tensor]:
        """Grids of pictures to look at: name -> [rows,columns,3,H,W] in [-1,1]."""

    @abstractmethod
    def export(self, path: Path, provenance: dict[str, Any], dtype: torch.dtype) -> list[Path]:
        """Write the average (and what the next stage needs) to safetensors; returns the files."""

    def to(self, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        """Move everything to ``device``, in its layout; before the optimisers have a state."""
        self.device, self.autocast = device, autocast
        for module in (self.networks, self.fixed, self.ema):
            module.to(device).to(memory_format=memory_format(device))

    def run(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` compiled, if the configuration says so. For main phases only: it has no double backward."""
        if not self.config.compile:
            return function
        if name not in self.compiled:
            self.compiled[name] = torch.compile(function)
        return self.compiled[name]

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Let the average follow; closely at first."""
        decay = min(self.config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1 - decay)

    @abstractmethod
    def steered(self) -> dict[str, float]:
        """Return what :meth:`update` has set, for the checkpoint."""

    @abstractmethod
    def steer(self, values: Mapping[str, float]) -> None:
        """Take over what :meth:`steered` gave."""

    def state(self) -> dict[str, Any]:
        """Everything that changes in training."""
        return {
            "networks": self.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "steered": self.steered(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave.

        Raises:
            CheckpointError: it is another network's or another stage's.
        """
        try:
            self.networks.load_state_dict(state["networks"])
            self.ema.load_state_dict(state["ema"])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
            self.steer(state["steered"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this run's networks ({str(error).splitlines()[0]}). Resume with the configuration "
                "of the run, or start anew with --init-from."
            ) from error


def start_discriminator(shape: PFRConfig, stddev_group: int, source: str) -> Discriminator:
    """Return a global discriminator, from ``source`` if that is given.

    Raises:
        CheckpointError: the file is no discriminator, or one of another size.
    """
    net = Discriminator(shape, stddev_group=stddev_group or None)
    if source:
        given = read_part(source, "discriminator")
        config = given.config
        try:
            net.load_state_dict(given.state)
        except RuntimeError as error:
            raise CheckpointError(
                f"{source}: a discriminator of {config.size} px with {config.channels(config.features)} channels at full "
                f"size, but the network has {shape.size} px and {shape.channels(shape.features)}. {network_options(config)}"
            ) from error
    return net


def count(net: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
