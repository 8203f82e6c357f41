"""Parameter groups with their learning rates, Adam under lazy regularisation, and how the rates fall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from pfr_core import PFR
from pfr_core.errors import InputError
from pfr_core.network.prior import NoiseBranch

from .config import FaceConfig, RunConfig

Groups = dict[str, list[nn.Parameter]]


def noise_scalars(net: nn.Module) -> list[nn.Parameter]:
    """Return the scalars of the noise branches in ``net``, in its order."""
    return [module.weight for module in net.modules() if isinstance(module, NoiseBranch)]


def generator_groups(net: PFR) -> Groups:
    """Return every parameter of ``net`` in exactly one of the groups of section 4.2, or in ours.

    ``noise``: the scalars of the noise branches. ``prior``: mapping network, constant, style convolutions, ToRGB. ``codec``:
    encoder, projection to z, MMRBs, decoder and its training heads, and ``need``, which is frozen. ``fine`` (ours): gate and
    levels of a network with a patch.
    """
    groups: Groups = {"codec": [], "prior": [], "noise": [], "fine": []}
    scalars = set(noise_scalars(net))
    for name, parameter in net.named_parameters():
        group = "codec"
        if name.startswith("prior."):
            group = "noise" if parameter in scalars else "prior"
        elif name.startswith(("fine.", "gate.")):
            group = "fine"
        groups[group].append(parameter)
    return groups


def freeze_first(convs: nn.ModuleList, count: int) -> None:
    """Keep the first ``count`` entries from any gradient (FreezeD).

    The paper's "first five convolution layers" are, in our reading, the first five entries: stem and four residual blocks.

    Raises:
        InputError: there are fewer.
    """
    if count > len(convs):
        raise InputError(f"freeze_d is {count}, but this discriminator has {len(convs)} entries. Choose at most {len(convs)}.")
    for entry in list(convs)[:count]:
        entry.requires_grad_(False)


def trainable(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Return those that may change."""
    return [parameter for parameter in parameters if parameter.requires_grad]


def adam(groups: Groups, rates: Mapping[str, float], config: FaceConfig, lazy_every: Mapping[str, int]) -> torch.optim.Adam:
    """Return Adam with a named group for each non-empty entry of ``groups``.

    A network that also takes a step of its own for a regulariser every k steps takes k + 1 steps where it would take k;
    StyleGAN2 scales rate and betas by k / (k + 1) for that.

    Args:
        groups: parameters by name; frozen ones are left out.
        rates: nominal learning rate of each group.
        config: for the betas.
        lazy_every: k of the groups that have a lazy regulariser.
    """
    entries = []
    for name, parameters in groups.items():
        if not trainable(parameters):
            continue
        every = lazy_every.get(name)
        share = every / (every + 1) if every else 1.0
        betas = (config.beta1**share, config.beta2**share)
        rate = rates[name] * share
        entries.append({"params": trainable(parameters), "name": name, "lr": rate, "base_lr": rate, "betas": betas})
    return torch.optim.Adam(entries, fused=True)  # the step of a small network on a CPU is dominated by it otherwise


def rate_factor(config: RunConfig, step: int) -> float:
    """Return factor on all learning rates at ``step``: linear warm-up, then the piecewise decay (section 4.2) or a cosine."""
    if config.schedule == "piecewise" and step >= config.warmup:
        return config.decay ** sum(step >= share * config.iterations for share in config.decay_at)
    return warmup_cosine(step, config.iterations, config.warmup, config.final_rate)


def warmup_cosine(step: int, iterations: int, warmup: int, final: float) -> float:
    """Return a factor: linear from 0 over ``warmup`` steps to 1, then a cosine down to ``final`` at ``iterations``."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, iterations - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Apply :func:`rate_factor`; returns the rates by group."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
    return {group["name"]: group["lr"] for group in optimiser.param_groups}
