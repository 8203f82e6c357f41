"""``BlendedPFR``: one network between two sets of weights, one close to the photograph, one with more texture (ours)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from .config import PFRConfig
from .pfr import PFR

HALFWAY = 0.5


class BlendedPFR(PFR):
    """A PFR with :attr:`pfr_core.RestoreOptions.fidelity`, on the line through two sets of weights of one training.

    Weights of a network that was trained further, with other losses, lie near enough to its own that all between them restore
    faces, with as much of the one training as of the other (network interpolation, Wang et al. 2018).

    Its own weights are those halfway. :attr:`texture` is a network that never runs: its parameters lead from the faithful set to
    the textured one.
    """

    options = ("fidelity",)

    def __init__(self, config: PFRConfig) -> None:
        super().__init__(config)
        self.texture = PFR(config).requires_grad_(False)

    def forward(self, x: Tensor, fidelity: float = HALFWAY) -> Tensor:
        """Restore a batch; ``fidelity`` from 0, the textured set, to 1, the faithful one.

        Raises:
            InputError: as :meth:`PFR.forward`.
        """
        if fidelity == HALFWAY:
            return super().forward(x)
        weights = {
            name: self.get_parameter(name).add(direction, alpha=HALFWAY - fidelity)
            for name, direction in self.texture.named_parameters()
        }
        image: Tensor = functional_call(self, weights, (x,))
        return image

    @classmethod
    @torch.no_grad()
    def between(cls, faithful: PFR, textured: PFR) -> BlendedPFR:
        """Return the network in eval mode whose ends these two are; they have one configuration.

        Raises:
            RuntimeError: they have not.
        """
        net = cls(faithful.config)
        net.texture.load_state_dict(textured.state_dict())
        for name, end in faithful.named_parameters():
            direction = net.texture.get_parameter(name)
            net.get_parameter(name).copy_(torch.lerp(end, direction, HALFWAY))
            direction.sub_(end)
        return net.eval()
