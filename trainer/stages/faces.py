"""What the stages on aligned faces have in common: a generator with noise branches and a global discriminator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pfr_core.errors import CheckpointError
from pfr_core.models.checkpoint import read_part
from pfr_core.network.config import PFRConfig
from pfr_core.network.discriminator import Discriminator

from ..data.dataset import FaceBatch
from ..run.config import FaceConfig, network_options
from ..run.optim import noise_scalars
from .base import Stage, Terms

PATH_DECAY = 0.01
"""Weight of a step's path lengths in their running mean (StyleGAN2's)."""


class FaceStage(Stage[FaceBatch]):
    """Has the phases Gmain, Greg, Dmain and Dreg, where Dmain takes the faces that Gmain made of the same batch."""

    config: FaceConfig

    def __init__(self, config: FaceConfig) -> None:
        super().__init__(config)
        self.compiled: dict[str, Callable[..., Any]] = {}
        self.path_mean = 0.0

    @property
    def title(self) -> str:
        return f"{self.config.network} at {self.config.shape.size} px"

    def terms_of_weights(self) -> Terms:
        """Return how alive the noise branches are: smallest and mean size of their scalars. Near 0 the decoder is cut off."""
        sizes = torch.stack([scalar.detach().abs().mean() for scalar in noise_scalars(self.generator)])
        return {"G/noise_smallest": sizes.min(), "G/noise_mean": sizes.mean()}

    def compiled_if_asked(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` compiled, if the configuration says so.

        Only for main phases: compiled code has no double backward.
        """
        if not self.config.compile:
            return function
        if name not in self.compiled:
            self.compiled[name] = torch.compile(function)
        return self.compiled[name]

    def update(self, terms: Mapping[str, float], samples: int) -> None:
        if "G/path_length" in terms:
            self.path_mean += PATH_DECAY * (terms["G/path_length"] - self.path_mean)

    def steered(self) -> dict[str, float]:
        return {"path_mean": self.path_mean}

    def steer(self, values: Mapping[str, float]) -> None:
        self.path_mean = values["path_mean"]


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


def scores(real: Tensor, fake: Tensor) -> Terms:
    """Return how the global discriminator stands: mean logits, and the mean sign on real faces (ADA's measure of overfitting)."""
    real, fake = real.detach().float(), fake.detach().float()
    return {"D/real": real.mean(), "D/fake": fake.mean(), "D/real_sign": real.sign().mean()}
