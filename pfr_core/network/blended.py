"""``BlendedPFR``: one network between two sets of weights, one close to the photograph, one with more texture (ours)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from ..support.choices import HALFWAY
from .config import PFRConfig
from .pfr import PFR


class BlendedPFR(PFR):
    """A PFR with :attr:`pfr_core.RestoreOptions.fidelity`, on the line through two sets of weights of one training.

    Weights of a network that was trained further, with other losses, lie near enough to its own that all between them restore
    faces, with as much of the one training as of the other (network interpolation, Wang et al. 2018).

    Its own weights are those of fidelity 0.5. :attr:`texture` is a network that never runs: its parameters lead from the faithful
    set to the textured one. :attr:`middle` says at which share of that way fidelity 0.5 lies; on either side of it the way is
    straight.
    """

    options = ("fidelity",)
    middle: Tensor

    def __init__(self, config: PFRConfig) -> None:
        super().__init__(config)
        self.texture = PFR(config).requires_grad_(False)
        self.register_buffer("middle", torch.tensor(HALFWAY))

    def forward(self, x: Tensor, fidelity: float = HALFWAY) -> Tensor:
        """Restore a batch; ``fidelity`` from 0, the textured set, to 1, the faithful one.

        Raises:
            InputError: as :meth:`PFR.forward`.
        """
        if fidelity == HALFWAY:
            return super().forward(x)
        image: Tensor = functional_call(self, self._weights(fidelity), (x,))
        return image

    @torch.no_grad()
    def at(self, fidelity: float) -> PFR:
        """Return the network at one fidelity by itself, in eval mode."""
        net, own = PFR(self.config), self.state_dict()
        net.load_state_dict({name: own[name] for name in net.state_dict()})
        for name, weight in self._weights(fidelity).items():
            net.get_parameter(name).copy_(weight)
        return net.eval()

    def _weights(self, fidelity: float) -> dict[str, Tensor]:
        ahead = 1 - self.middle if fidelity < HALFWAY else self.middle
        share = ahead * (HALFWAY - fidelity) / HALFWAY
        return {name: self.get_parameter(name) + share * direction for name, direction in self.texture.named_parameters()}

    @classmethod
    @torch.no_grad()
    def between(cls, faithful: PFR, textured: PFR, middle: float = HALFWAY) -> BlendedPFR:
        """Return the network in eval mode whose ends these two are; they have one configuration.

        Args:
            faithful: at fidelity 1.
            textured: at fidelity 0.
            middle: at which share of the way from the one to the other fidelity 0.5 lies, 0 to 1.

        Raises:
            RuntimeError: they have not.
        """
        net = cls(faithful.config)
        net.middle.fill_(middle)
        net.texture.load_state_dict(textured.state_dict())
        for name, end in faithful.named_parameters():
            direction = net.texture.get_parameter(name)
            net.get_parameter(name).copy_(torch.lerp(end, direction, middle))
            direction.sub_(end)
        return net.eval()
