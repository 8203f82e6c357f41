"""The discriminators of section 3.4: StyleGAN2's for the whole face, a shallow one for each eye and the mouth."""

from __future__ import annotations

import math

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from ..errors import InputError
from .config import SMALLEST, PFRConfig
from .layers import ConvLayer, EqualLinear, as_channels


class ResBlock(nn.Module):
    """StyleGAN2's down-sampling residual block: [B,in,H,W] -> [B,out,H/2,W/2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(in_channels, in_channels, 3)
        self.conv2 = ConvLayer(in_channels, out_channels, 3, down=True)
        self.skip = ConvLayer(in_channels, out_channels, 1, down=True, activate=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2.0)


def minibatch_stddev(x: Tensor, group: int | None) -> Tensor:
    """Append one channel, the mean standard deviation over groups of ``group`` samples (None: the whole batch).

    Raises:
        InputError: the batch is no multiple of ``group``.
    """
    batch = x.shape[0]
    group = group or batch
    if batch % group:
        raise InputError(f"Mini-batch standard deviation: a batch of {batch} is no multiple of the group size {group}.")
    y = rearrange(x.float(), "(group n) c h w -> group n c h w", group=group)
    stddev = torch.sqrt(y.var(dim=0, unbiased=False) + 1e-8).mean(dim=(1, 2, 3))  # [n]
    channel = repeat(stddev.to(x.dtype), "n -> (group n) 1 h w", group=group, h=x.shape[2], w=x.shape[3])
    return torch.cat([x, channel], dim=1)


class Discriminator(nn.Module):
    """The global discriminator (StyleGAN2's, GPEN's): [B,3,S,S] in [-1,1] -> [B,1] logits.

    ``convs`` holds the stem and then one residual block per halving; FreezeD freezes its first entries (section 4.2).

    Args:
        config: sizes and channels, the same as the generator's.
        stddev_group: samples per group of the mini-batch standard deviation; None takes the whole batch (as GPEN).
    """

    def __init__(self, config: PFRConfig, *, stddev_group: int | None = None) -> None:
        super().__init__()
        down = config.resolutions[:0:-1]  # S ... 8
        self.patch = config.patch
        self.convs = nn.ModuleList(
            [
                ConvLayer(3 * config.patch**2, config.channels(config.features), 1),
                *(ResBlock(config.channels(r), config.channels(r // 2)) for r in down),
            ]
        )
        channels = config.channels(SMALLEST)
        self.final_conv = ConvLayer(channels + 1, channels, 3)
        self.final_linear = nn.Sequential(EqualLinear(channels * SMALLEST**2, channels, activate=True), EqualLinear(channels, 1))
        self.stddev_group = stddev_group

    def forward(self, x: Tensor) -> Tensor:
        x = as_channels(x, self.patch)
        for layer in self.convs:
            x = layer(x)
        x = self.final_conv(minibatch_stddev(x, self.stddev_group))  # [B,C,4,4]
        return self.final_linear(x.flatten(1))


class LocalDiscriminator(nn.Module):
    """Discriminator of one facial component: [B,3,H,W] -> logits [B,1,H/4,W/4], two down-samplings (section 3.4).

    Ours: 64 channels at full resolution, doubled at each of the two residual blocks.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvLayer(3, channels, 1), ResBlock(channels, 2 * channels), ResBlock(2 * channels, 4 * channels)
        )
        self.to_logits = ConvLayer(4 * channels, 1, 1, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_logits(self.body(x))
