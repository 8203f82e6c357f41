"""How the restoration network starts: from a trained prior, from another model, or as the identity. All of this is ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from pfr_core import PFR, PFRConfig, load_model
from pfr_core.errors import CheckpointError, InputError
from pfr_core.models.checkpoint import DISCRIMINATORS, PRIOR_FORMAT, Checkpoint, read_start
from pfr_core.models.gpen import silence_decoder
from pfr_core.network.blended import BlendedPFR
from pfr_core.network.layers import GAIN, SLOPE, ConvLayer
from pfr_core.network.prior import StyleBlock, ToRGB
from pfr_core.support.choices import HALFWAY

from .config import network_options
from .optim import noise_scalars
from .widen import can_widen, widened

log = logging.getLogger(__name__)

OPEN = 0.1
"""Where noise scalars start (ours): StyleGAN2's and GPEN's 0 is slow to leave, 1 buries the first faces of a prior."""

Layer = TypeVar("Layer", bound=nn.Module)


def warm_start(net: PFR, source: str, fidelity: float = HALFWAY) -> Checkpoint:
    """Start ``net`` from ``source``, a model, or a prior that ``python -m trainer prior`` made (:func:`take_over`).

    A network of half the size is grown (:func:`grow`). From one without a decoder, such as GPEN's, the new decoder changes
    nothing yet.

    Args:
        net: the network.
        source: the file.
        fidelity: at which a model that has this option is taken.

    Raises:
        InputError: the file's network has other channels, or a fidelity is named and it has none.
        CheckpointError: the file cannot be read.
    """
    start = take_over(net, net.config, source, fidelity)
    if start.layout == PRIOR_FORMAT:
        open_noise(net)
    if net.decoder is not None and not start.config.decoder:
        silence_decoder(net)
    half = net.config.features // 2
    if start.config.features == half and net.config.patch == 1 and "encoder.stem.weight" in start.state:
        grow(net, start.state["encoder.stem.weight"].float(), start.state["encoder.stem.bias"].float())
        log.info("grown from %d to %d px", half, net.config.size)
    return start


def take_over_discriminators(networks: nn.ModuleDict, start: Checkpoint) -> None:
    """Give ``networks`` the discriminators of the run that ``start`` holds, if it does; others begin from scratch.

    Raises:
        CheckpointError: one of them has another shape.
    """
    for name, network in networks.items():
        prefix = f"{DISCRIMINATORS}.{name}."
        if given := {key.removeprefix(prefix): value for key, value in start.state.items() if key.startswith(prefix)}:
            try:
                network.load_state_dict(given)
            except RuntimeError as error:
                raise CheckpointError(
                    f"The discriminator {name!r} of --init-from does not fit ({str(error).splitlines()[-1].strip()}). "
                    "Take the options of that run, or --init-from its model."
                ) from error


@torch.no_grad()
def open_noise(net: PFR) -> None:
    """Raise the prior's noise scalars that training took near 0 to :data:`OPEN` (ours).

    There the prior's noise meant nothing, and the decoder's features, which take its place, would be cut off until training had
    opened the branch again.
    """
    for scalar in noise_scalars(net):
        if scalar.abs() < OPEN:
            scalar.fill_(OPEN)


def take_over(net: nn.Module, config: PFRConfig, source: str, fidelity: float = HALFWAY) -> Checkpoint:
    """Give ``net`` the tensors of ``source`` that have a place in it, and return the file's content.

    Parameters are named by resolution, so a network trained at 128 px fills all but the outer scales of one of 256 px. One that
    differs by fewer channels alone is widened (:func:`trainer.run.widen.widened`).

    Raises:
        InputError: the file's network has other channels and cannot be widened: most of the rest would start at random; or a
            fidelity is named and it has none.
        CheckpointError: the file cannot be read.
    """
    start = read_start(source)
    if fidelity != HALFWAY:
        blend = load_model(source)
        if not isinstance(blend, BlendedPFR):
            raise InputError(f"--init-fidelity {fidelity:g}: {source} has no such option. Leave it out.")
        start = replace(start, state=blend.at(fidelity).state_dict())
    given = start.config
    common = set(config.resolutions) & set(given.resolutions)
    if given.patch not in (1, config.patch):
        raise InputError(
            f"{source}: its network has a patch of {given.patch}, this one of {config.patch}. Use --patch {given.patch}."
        )
    alike = (config.style_dim, config.n_mlp) == (given.style_dim, given.n_mlp)
    same = alike and all(config.channels(r) == given.channels(r) for r in common)
    if not same and not can_widen(given, config):
        raise InputError(f"{source}: its network has other channels than this one. {network_options(given)}")
    own = net.state_dict()
    state = start.state if config.patch == given.patch else spread(start.state, config)
    if not same:
        state = widened(state, own, given, config)
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    net.load_state_dict({**own, **fitting})
    log.info("took %d of %d tensors from %s", len(fitting), len(own), source)
    return start


def spread(state: Mapping[str, Tensor], config: PFRConfig) -> dict[str, Tensor]:
    """Return the tensors of a network without a patch for ``config``, which has one: its stem takes the mean of each patch."""
    stem = "encoder.stem.weight"
    scale = 1 / config.patch  # run-time scaling is by 1 / sqrt(3 patch^2)
    return {**state, stem: state[stem].repeat_interleave(config.patch**2, dim=1) * scale} if stem in state else dict(state)


def origin(start: Checkpoint) -> str:
    """Return provenance and licence of what a run started from, as JSON."""
    return json.dumps({**start.provenance, "licence": start.licence})


@torch.no_grad()
def grow(net: PFR, stem_weight: Tensor, stem_bias: Tensor) -> None:
    """Make the new outermost scale neutral: the network is the smaller one between a shrinking and an enlarging by two.

    The new stem keeps x, the down-sampling convolution behind it does what the smaller network's stem did, and the new
    ToRGB adds nothing yet.

    Args:
        net: holds the smaller network's tensors already.
        stem_weight: the smaller network's stem, [C,3,1,1].
        stem_bias: its bias, [C].
    """
    size = net.config.size
    conv, last = layer(ConvLayer, net.encoder.convs[str(size // 2)]), layer(ToRGB, net.prior.to_rgb[str(size)])
    keep_colours(net)
    conv.weight.zero_()
    old_scale = 1.0 / stem_weight.shape[1] ** 0.5
    for colour in range(3):
        # lrelu(x) - lrelu(-x) = (1 + slope) x, at the filter's centre
        tap = stem_weight[:, colour, 0, 0] * (old_scale / (conv.scale * GAIN * (1.0 + SLOPE)))
        conv.weight[:, 2 * colour, 1, 1] = tap
        conv.weight[:, 2 * colour + 1, 1, 1] = -tap
    bias(conv).copy_(stem_bias)
    last.conv.weight.zero_()
    last.bias.zero_()


@torch.no_grad()
def pass_through(net: PFR) -> None:
    """Make the network the identity: x goes through stem, skip, noise branch and last ToRGB, all else adds 0.

    Training then only has to learn what to change. After two activations in a row the channel of x holds x and that of -x
    holds ``-slope^2 x`` where x is positive, and the other way round where it is negative, so their difference is
    ``(1 + slope^2) x``. Channels that carry no colour stay as they were.

    Raises:
        InputError: the network has no decoder, or fewer than six channels at full size.
    """
    size, channels = net.config.features, net.config.channels(net.config.features)
    if net.decoder is None:
        raise InputError("pass_through needs a network with a decoder.")
    keep_colours(net)
    if net.config.patch > 1:
        net.gate.weight.zero_()
        bias(net.gate).zero_()
        net.fine.to_rgb.weight.zero_()
        bias(net.fine.to_rgb).zero_()
    conv, last = layer(ConvLayer, net.decoder.convs[str(size)]), layer(ToRGB, net.prior.to_rgb[str(size)])
    block = layer(StyleBlock, layer(nn.ModuleList, net.prior.blocks[str(size)])[-1])
    for head in (layer(ToRGB, head) for head in net.prior.to_rgb.values()):
        head.conv.weight.zero_()
        head.bias.zero_()
    conv.weight[:6] = 0.0
    bias(conv)[:6] = 0.0
    noise = slice(channels, channels + 6)  # the first six of the noise half of the style block's output
    block.bias[noise] = 0.0
    last.conv.modulation.weight[noise] = 0.0
    last.conv.modulation.bias[noise] = 1.0
    block.noise.weight.abs_()  # it is applied before the second activation; noise of N(0,1) has no sign to lose
    gain = GAIN * GAIN * block.noise.weight * (1.0 + SLOPE**2)  # of the two activations and the noise branch
    for colour in range(3):
        for i, sign in ((2 * colour, 1.0), (2 * colour + 1, -1.0)):
            last.conv.weight[colour, channels + i] = sign / (last.conv.scale * gain)


def keep_colours(net: PFR) -> None:
    """Make the stem's first six channels lrelu(r), lrelu(-r), lrelu(g), ... (means over the patch); called without gradients.

    Raises:
        InputError: it has fewer than six channels.
    """
    stem = net.encoder.stem
    if stem.weight.shape[0] < 6:
        raise InputError("A network that is to start from what it sees needs at least 6 channels at its full size.")
    stem.weight[:6] = 0.0
    pixels = net.config.patch**2
    for colour in range(3):
        for i, sign in ((2 * colour, 1.0), (2 * colour + 1, -1.0)):
            stem.weight[i, colour * pixels : (colour + 1) * pixels] = sign / (stem.scale * pixels)
    bias(stem)[:6] = 0.0


def layer(kind: type[Layer], module: nn.Module | Tensor) -> Layer:
    """Return ``module`` with the type that a ModuleDict hides."""
    assert isinstance(module, kind)
    return module


def bias(conv: ConvLayer) -> Tensor:
    """Return the bias of a layer that has one."""
    assert conv.bias is not None
    return conv.bias
