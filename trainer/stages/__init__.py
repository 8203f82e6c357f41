"""The two stages of training: the prior from scratch, and the restoration around it."""

from ..run.config import PriorConfig, RunConfig
from .base import Phase, Stage, Terms
from .prior import PriorStage
from .restore import RestoreStage

__all__ = ["Phase", "PriorStage", "RestoreStage", "Stage", "Terms", "build"]


def build(config: RunConfig) -> Stage:
    """Return the networks, optimisers and losses for ``config``, on the CPU."""
    return PriorStage(config) if isinstance(config, PriorConfig) else RestoreStage(config)  # type: ignore[arg-type]
