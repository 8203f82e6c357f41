"""The losses of section 3.4 and 3.1, one function each. All reductions are means per element (ours)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor


def l1(output: Tensor, truth: Tensor) -> Tensor:
    """Pixel loss, first term of Eq. 14: mean absolute difference of two [B,3,S,S]."""
    return F.l1_loss(output.float(), truth.float())


def l1_pyramid(pyramid: Mapping[int, Tensor], truth: Tensor) -> Tensor:
    """Restoration loss of the decoder (section 3.1): the sum over scales r of the pixel loss at r.

    ``pyramid`` maps r to [B,3,r,r]; ``truth`` [B,3,S,S] is shrunk by averaging areas.
    """
    return sum((l1(image, F.adaptive_avg_pool2d(truth, r)) for r, image in pyramid.items()), start=truth.new_zeros(()))
