"""MMRB, the mixed multi-path residual block: section 3.2, Figure 3, Eq. 4-10."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .layers import normal_parameter

PRELU_INIT = 0.25


class _Conv(nn.Module):
    """Same-size convolution; with ``equalised`` the weight is stored at unit variance and scaled at run time (ours)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, equalised: bool) -> None:
        super().__init__()
        he = math.sqrt(2.0 / (1.0 + PRELU_INIT**2) / (in_channels * kernel**2))  # He initialisation for a PReLU
        self.weight = normal_parameter(out_channels, in_channels, kernel, kernel, std=1.0 if equalised else he)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = he if equalised else 1.0
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class MMRB(nn.Module):
    """Mixed multi-path residual block: [B,C,H,W] -> [B,C,H,W], so it can be put into any convolutional network.

    Ours, where the paper is silent: PReLU has one slope per channel; the last 1x1 convolution starts at zero, so that a
    new block is the identity and can be inserted into a trained network without disturbing it.

    Args:
        channels: C, even (Eq. 4 splits the channels in two).
        weights: ``"equalised"`` (learning rate, as in StyleGAN2 and inside PFR) or ``"plain"`` for other networks.

    Raises:
        InputError: ``channels`` is odd or not positive.

    Example:
        >>> head, tail = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 3, 3, padding=1)
        >>> nn.Sequential(head, MMRB(64, weights="plain"), tail)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, channels: int, *, weights: Literal["equalised", "plain"] = "equalised") -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise InputError(f"MMRB needs an even number of channels, got {channels}: Eq. 4 splits them in two.")
        if weights not in ("equalised", "plain"):
            raise InputError(f"MMRB: weights={weights!r} is unknown; choose 'equalised' or 'plain'.")
        half, equalised = channels // 2, weights == "equalised"
        self.conv3_1 = _Conv(half, half, 3, equalised=equalised)
        self.conv5_1 = _Conv(half, half, 5, equalised=equalised)
        self.conv3_2 = _Conv(channels, half, 3, equalised=equalised)
        self.conv5_2 = _Conv(channels, half, 5, equalised=equalised)
        self.conv1 = _Conv(channels, channels, 1, equalised=equalised)
        self.act3_1, self.act5_1 = nn.PReLU(half, PRELU_INIT), nn.PReLU(half, PRELU_INIT)
        self.act3_2, self.act5_2 = nn.PReLU(half, PRELU_INIT), nn.PReLU(half, PRELU_INIT)
        self.act1 = nn.PReLU(channels, PRELU_INIT)
        nn.init.zeros_(self.conv1.weight)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, dim=1)  # Eq. 4   [B,C/2,H,W] each
        p1 = self.act3_1(self.conv3_1(x1))  # Eq. 5
        p2 = self.act5_1(self.conv5_1(x2))  # Eq. 6
        c1 = torch.cat([p1, p2], dim=1)  # [B,C,H,W]
        p1 = self.act3_2(self.conv3_2(c1))  # Eq. 7
        p2 = self.act5_2(self.conv5_2(c1))  # Eq. 8
        p = self.act1(self.conv1(torch.cat([p1, p2], dim=1)))  # Eq. 9
        return x + p  # Eq. 10
