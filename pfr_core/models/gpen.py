"""GPEN checkpoints: recognised by their keys and shapes, loaded into PFR's own classes, or made the start of a PFR.

GPEN publishes no licence for code or weights; nothing of either is in this project. Its file layout is a fact that
users' files follow, and with ``mmrb`` and ``decoder`` off our network is GPEN's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..network.config import PFRConfig
from ..network.discriminator import Discriminator
from ..network.pfr import PFR

StateDict = Mapping[str, Tensor]

DISCRIMINATOR = "a GPEN discriminator; convert it with pfr import-gpen G.pth --discriminator D.pth -o OUT.safetensors"
"""What to do with a file that is one."""


def is_gpen_generator(state: StateDict) -> bool:
    """Return whether the keys are those of a GPEN generator."""
    return "generator.input.input" in state and "final_linear.0.weight" in state


def is_gpen_discriminator(state: StateDict) -> bool:
    """Return whether the keys are those of a GPEN (StyleGAN2) discriminator."""
    return "final_linear.1.weight" in state and "convs.0.0.weight" in state


def generator_config(state: StateDict) -> PFRConfig:
    """Return the configuration that a GPEN generator's shapes imply.

    Ours: below 64 px the channel multiplier has no effect and is taken as 1.

    Raises:
        CheckpointError: tensors are missing, the shapes are not GPEN's, or its noise is added instead of concatenated.
    """
    try:
        channels = state["generator.input.input"].shape[1]
        size = 8 * 2 ** max(int(m[1]) for key in state if (m := re.fullmatch(r"generator\.to_rgbs\.(\d+)\.bias", key)))
        concatenated = state["generator.conv1.activate.bias"].shape[0]
        # The first layer whose channels depend on the multiplier makes 64 px; smaller networks do not have one.
        at_64 = state["generator.convs.6.conv.weight"].shape[1] if size >= 64 else 256 * channels // 512
        config = PFRConfig(
            size=size,
            channel_multiplier=round(2 * at_64 / channels),
            narrow=channels / 512,
            style_dim=state["final_linear.0.weight"].shape[0],
            n_mlp=sum(re.fullmatch(r"generator\.style\.\d+\.weight", key) is not None for key in state),
            mmrb=False,
            decoder=False,
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"This is no complete GPEN generator, or one of an unknown shape ({error}). Download the file again."
        ) from error
    if concatenated != 2 * channels:
        raise CheckpointError(
            "This GPEN file adds its noise (isconcat off); only the concatenating variant can be loaded. "
            "Use one of the published GPEN-BFR files."
        )
    return config


def _generator_keys(config: PFRConfig) -> dict[str, str]:
    """Map our parameters' names to GPEN's."""
    keys = {"prior.const": "generator.input.input"}

    def both(ours: str, theirs: str, bias: str) -> None:
        keys[f"{ours}.weight"], keys[f"{ours}.bias"] = f"{theirs}.weight", bias

    def modulated(ours: str, theirs: str) -> None:
        keys[f"{ours}.weight"] = f"{theirs}.weight"
        both(f"{ours}.modulation", f"{theirs}.modulation", f"{theirs}.modulation.bias")

    both("encoder.stem", "ecd0.0.0", "ecd0.0.1.bias")
    for i, r in enumerate(config.resolutions[-2::-1], start=1):
        both(f"encoder.convs.{r}", f"ecd{i}.0.1", f"ecd{i}.0.2.bias")
    both("encoder.to_z", "final_linear.0", "final_linear.0.bias")
    for i in range(config.n_mlp):
        both(f"prior.mapping.{i}", f"generator.style.{i + 1}", f"generator.style.{i + 1}.bias")
    for i, r in enumerate(config.resolutions):
        theirs = ["generator.conv1"] if i == 0 else [f"generator.convs.{2 * i - 2}", f"generator.convs.{2 * i - 1}"]
        for j, name in enumerate(theirs):
            modulated(f"prior.blocks.{r}.{j}.conv", f"{name}.conv")
            keys[f"prior.blocks.{r}.{j}.noise.weight"] = f"{name}.noise.weight"
            keys[f"prior.blocks.{r}.{j}.bias"] = f"{name}.activate.bias"
        rgb = "generator.to_rgb1" if i == 0 else f"generator.to_rgbs.{i - 1}"
        modulated(f"prior.to_rgb.{r}.conv", f"{rgb}.conv")
        keys[f"prior.to_rgb.{r}.bias"] = f"{rgb}.bias"
    return keys


def _discriminator_keys(config: PFRConfig) -> dict[str, str]:
    """Map our parameters' names to GPEN's."""
    keys = {"convs.0.weight": "convs.0.0.weight", "convs.0.bias": "convs.0.1.bias"}
    for i in range(1, len(config.resolutions)):
        for part, (weight, bias) in {"conv1": ("0", "1"), "conv2": ("1", "2")}.items():
            keys[f"convs.{i}.{part}.weight"] = f"convs.{i}.{part}.{weight}.weight"
            keys[f"convs.{i}.{part}.bias"] = f"convs.{i}.{part}.{bias}.bias"
        keys[f"convs.{i}.skip.weight"] = f"convs.{i}.skip.1.weight"
    keys |= {"final_conv.weight": "final_conv.0.weight", "final_conv.bias": "final_conv.1.bias"}
    keys |= {name: name for j in (0, 1) for name in (f"final_linear.{j}.weight", f"final_linear.{j}.bias")}
    return keys


def _translate(state: StateDict, keys: dict[str, str], target: nn.Module, what: str) -> dict[str, Tensor]:
    """Rename and reshape, without copying; every tensor of the file must find its place and fit."""
    # Blur kernels are constants of the architecture; GPEN stores them beside the weights.
    unknown = {key for key in state if not key.endswith(".kernel")} - set(keys.values())
    missing = set(keys.values()) - set(state)
    if unknown or missing:
        raise CheckpointError(
            f"This is not a complete {what}: {len(missing)} tensors missing {sorted(missing)[:3]}, "
            f"{len(unknown)} unknown {sorted(unknown)[:3]}. Download the file again, or pass the right one."
        )
    shapes = {name: parameter.shape for name, parameter in target.named_parameters()}
    # GPEN's convolutions and RGB biases have extra dimensions of one.
    wrong = [theirs for ours, theirs in keys.items() if _squeezed(state[theirs].shape) != _squeezed(shapes[ours])]
    if wrong:
        raise CheckpointError(
            f"This {what} has shapes that no configuration explains, first at {wrong[0]!r}. Pass the right file."
        )
    return {ours: state[theirs].reshape(shapes[ours]) for ours, theirs in keys.items()}


def _squeezed(shape: torch.Size) -> list[int]:
    return [length for length in shape if length != 1]


def generator_from_gpen(state: StateDict) -> tuple[PFRConfig, dict[str, Tensor]]:
    """Return the configuration (``mmrb`` and ``decoder`` off) and our state dict of a GPEN generator's state dict.

    Raises:
        CheckpointError: not a GPEN generator, or an incomplete one.
    """
    if not is_gpen_generator(state):
        raise CheckpointError("This is not a GPEN generator: its keys are not there. Give a file such as GPEN-BFR-512.pth.")
    config = generator_config(state)
    with torch.device("meta"):
        target = PFR(config)
    return config, _translate(state, _generator_keys(config), target, "GPEN generator")


def discriminator_from_gpen(state: StateDict, config: PFRConfig) -> dict[str, Tensor]:
    """Return the state dict of our Discriminator of a configuration from that of a GPEN discriminator of the same.

    Raises:
        CheckpointError: not a GPEN discriminator, or of another size than ``config``.
    """
    if not is_gpen_discriminator(state):
        raise CheckpointError("This is not a GPEN discriminator: its keys are not there.")
    with torch.device("meta"):
        target = Discriminator(config)
    return _translate(state, _discriminator_keys(config), target, f"GPEN discriminator of {config.size} px")


def initialise_from_gpen(state: StateDict) -> PFR:
    """Return a full PFR (MMRB and decoder on) that starts out returning GPEN's own output.

    Section 4.2: fine-tuning starts from GPEN. GPEN's prior, mapping network and encoder are taken over; a new MMRB is
    the identity, and zeroing the decoder's convolutions leaves the encoder's features, which are GPEN's noise.

    Raises:
        CheckpointError: as :func:`generator_from_gpen`.
    """
    config, weights = generator_from_gpen(state)
    net = PFR(PFRConfig(**{**config.to_dict(), "mmrb": True, "decoder": True}))
    net.load_state_dict({**net.state_dict(), **weights})
    silence_decoder(net)
    return net


def silence_decoder(net: PFR) -> None:
    """Set the decoder's convolutions to zero: the noise branches get the encoder's features, as without a decoder."""
    assert net.decoder is not None
    for conv in net.decoder.convs.values():
        nn.init.zeros_(conv.weight)  # type: ignore[arg-type]  # a ConvLayer's parameter
