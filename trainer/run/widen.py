"""A network widened: more channels, the same function, in the manner of Net2Net (Chen et al., 2016). All of this is ours.

A new channel holds what an untrained layer makes of all channels, and no old one listens to it yet. So nothing is lost, and
training decides what the new ones are for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pfr_core.network.config import SMALLEST, PFRConfig


def can_widen(given: PFRConfig, config: PFRConfig) -> bool:
    """Return whether a network like ``given`` can become one like ``config``: but for channels alike, and none has fewer."""
    alike = ("size", "patch", "style_dim", "n_mlp", "mmrb", "decoder")
    return all(getattr(given, name) == getattr(config, name) for name in alike) and all(
        given.channels(r) <= config.channels(r) for r in config.resolutions
    )


def widened(state: Mapping[str, Tensor], own: Mapping[str, Tensor], given: PFRConfig, config: PFRConfig) -> dict[str, Tensor]:
    """Return the tensors of a network like ``given`` at their places in one like ``config``, see :func:`can_widen`.

    The wider one gives the same but for the noise behind a patch, of which the strokes of other channels are others.

    Args:
        state: of the narrower network, by name.
        own: of the wider one as it was drawn, by name. New channels keep what they have there.
        given: configuration of the narrower one.
        config: of the wider one.
    """
    places, found = _Places(given, config), dict(state)
    for name, value in state.items():
        if name not in own or own[name].shape == value.shape:
            continue
        found[name] = target = own[name].clone()
        value = value.to(target.dtype)  # files hold float16
        outputs, inputs = places.of(name)
        if outputs is None:
            outputs = torch.arange(len(value))
        if inputs is None or value.ndim == 1:
            target[outputs] = value
        else:
            scale = math.sqrt(target.shape[1] / value.shape[1])  # weights are divided by the root of their inputs at run time
            target[outputs] = 0.0
            target[outputs[:, None], inputs] = value if name == "prior.const" else value * scale
    return found


class _Places:
    """Where channels of the narrower network are in the wider one: each half grows, for MMRBs split channels in two (Eq. 4)."""

    def __init__(self, given: PFRConfig, config: PFRConfig) -> None:
        self.given, self.config = given, config

    def channels(self, resolution: int) -> Tensor:
        old, new = self.given.channels(resolution), self.config.channels(resolution)
        place = torch.arange(old)
        return torch.where(place < old // 2, place, place + (new - old) // 2)

    def doubled(self, resolution: int) -> Tensor:
        """Return those of a style block's output: its convolution's, then the noise branch's (Eq. 3)."""
        place = self.channels(resolution)
        return torch.cat([place, place + self.config.channels(resolution)])

    def of(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        """Return the places of a tensor's outputs and inputs, its first two axes; None for an axis that has no channels.

        Raises:
            KeyError: it has the same shape in every network.
        """
        match name.split("."):
            case ["encoder", "stem", _]:
                return self.channels(self.config.features), None
            case ["encoder", "convs", r, _]:
                return self.channels(int(r)), self.channels(2 * int(r))
            case ["encoder", "mmrb", r, "conv1" | "act1", _]:  # Eq. 9
                return self.channels(int(r)), self.channels(int(r))
            case ["encoder", "mmrb", r, layer, _]:  # Eq. 5-8: outputs are one half, inputs of the first two layers, too
                half = self.channels(int(r)).chunk(2)[0]
                return half, half if layer.endswith("_1") else self.channels(int(r))
            case ["encoder", "to_z", _]:
                return None, (self.channels(SMALLEST)[:, None] * SMALLEST**2 + torch.arange(SMALLEST**2)).flatten()
            case ["decoder", "convs", r, _]:
                return self.channels(int(r)), self.channels(int(r) // 2)
            case ["decoder", "to_rgb", r, _]:
                return None, self.channels(int(r))
            case ["gate", _]:
                return None, self.channels(self.config.features)
            case ["fine", "levels", r, "features" | "strength", _]:
                first = int(r) == 2 * self.config.features
                return None, self.doubled(self.config.features) if first else torch.arange(self.given.fine_channels(int(r) // 2))
            case ["fine", "levels", r, "conv", _]:  # the input's three come last
                old, new = self.given.fine_channels(int(r)), self.config.fine_channels(int(r))
                return None, torch.cat([torch.arange(old - 3), torch.arange(new - 3, new)])
            case ["fine", "levels", r, "residual", _]:
                return None, torch.arange(self.given.fine_channels(int(r)))
            case ["fine", "to_rgb", _]:
                return None, torch.arange(self.given.fine_channels(self.config.size))
            case ["prior", "const"]:
                return None, self.channels(SMALLEST)
            case ["prior", "blocks", r, number, "conv", *layer]:
                before = int(r) if number == "1" else int(r) // 2
                inputs = self.doubled(before) if int(r) > SMALLEST else self.channels(SMALLEST)
                return self.modulated(layer, self.channels(int(r)), inputs)
            case ["prior", "blocks", r, _, "bias"]:
                return self.doubled(int(r)), None
            case ["prior", "to_rgb", r, "conv", *layer]:
                return self.modulated(layer, None, self.doubled(int(r)))
        raise KeyError(name)

    @staticmethod
    def modulated(layer: list[str], outputs: Tensor | None, inputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return those of a modulated convolution; its modulation gives a factor for each of its inputs."""
        return (inputs, None) if layer[0] == "modulation" else (outputs, inputs)
