"""Whether a face needs the network's change at all, from statistics of its detail (ours; networks with a patch have it).

The encoder's z lies behind six halvings, where noise and JPEG's blocks have gone. How strong detail is at each scale, in the
quiet of the skin and at the edges, tells sharp faces from blurred, noisy, blocky and enlarged ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import EqualLinear, averaged, haar

SCALES = 4
"""Pixels of 1, 2, 4 and 8 across are compared with their neighbours."""

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.995)
"""Of each scale's detail: the low ones are of skin, the high ones of eyes and mouth."""

TOP, BOTTOM, LEFT, RIGHT = 0.2, 0.84, 0.2, 0.8
"""What is looked at, in shares of the side: brows to chin, without the background, which is often out of focus."""

HALF_A_STEP = 1 / 255
"""Half a step of 8 bits in [-1,1], which keeps the logarithm of no detail finite."""

HIDDEN = 32
STATISTICS = SCALES * 2 * len(QUANTILES)


class Need(nn.Module):
    """Aligned faces [B,3,S,S] in [-1,1] -> logit [B,1] of whether a face needs a change: likely, until it is fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = EqualLinear(STATISTICS, HIDDEN, activate=True)
        self.out = EqualLinear(HIDDEN, 1, bias_init=4.0)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(detail_statistics(x))

    def judge(self, statistics: Tensor) -> Tensor:
        """Return the logit [B,1] of what :func:`detail_statistics` gave."""
        logit: Tensor = self.out(self.hidden(statistics))
        return logit


def detail_statistics(x: Tensor) -> Tensor:
    """Return logarithms of quantiles of the detail of faces [B,3,S,S] in [-1,1], [B,STATISTICS] float32.

    At each scale, of the mean of the colours: the gradient's length, and the difference along diagonals, which JPEG drops first.
    """
    side = x.shape[-1]
    middle = slice(round(TOP * side), round(BOTTOM * side)), slice(round(LEFT * side), round(RIGHT * side))
    y = x[:, :, middle[0], middle[1]].float().mean(1, keepdim=True)
    found = []
    for _ in range(SCALES):
        y = y[..., : y.shape[-2] // 2 * 2, : y.shape[-1] // 2 * 2]
        columns, rows, diagonals = haar(y)
        for detail in ((columns.square() + rows.square()).sqrt(), diagonals.abs()):
            ordered = detail.flatten(1).sort(dim=1).values
            last = ordered.shape[1] - 1
            found.append(ordered[:, [round(q * last) for q in QUANTILES]])
        y = averaged(y, 2)
    return torch.log(torch.cat(found, 1) + HALF_A_STEP)
