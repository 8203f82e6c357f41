"""Augmentation of what the discriminator sees, for small sets: DiffAugment's transforms, ADA's control of their probability.

Every transform is differentiable twice (R1 goes through it), which rules out ``grid_sample``. Restoration needs none of
this: its pairs anchor the generator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..run.randomness import SampleRandom

SHIFT, HOLE = 1 / 8, 1 / 2
"""Largest translation and side of the cut-out square, as shares of the image (DiffAugment's values)."""


def augment(images: Tensor, random: SampleRandom, probability: float) -> Tensor:
    """Give colour, translation and cut-out, each to each image [B,3,S,S] with ``probability``."""
    if probability <= 0:
        return images
    size = images.shape[-1]
    on = (random.uniform(3) < probability).float()  # [B,3]
    amount = random.uniform(7)  # [B,7]

    def column(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    colour = column(on[:, 0])
    x = images + colour * column(amount[:, 0] - 0.5)  # brightness
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (1 + colour * column(2 * amount[:, 1] - 1))  # saturation
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + colour * column(amount[:, 2] - 0.5))  # contrast

    reach = round(size * SHIFT)
    shift = torch.round((2 * amount[:, 3:5] - 1) * reach * on[:, 1:2]).long() + reach  # [B,2] into the padded image
    x = F.pad(x, (reach, reach, reach, reach))
    line = torch.arange(size, device=x.device)
    rows, columns = line + shift[:, :1], line + shift[:, 1:]  # [B,S] each
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    x = x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    corner = (amount[:, 5:7] * size - size * HOLE / 2).round()  # [B,2]
    inside = [(line >= corner[:, i : i + 1]) & (line < corner[:, i : i + 1] + size * HOLE) for i in range(2)]  # [B,S] each
    hole = (inside[0][:, :, None] & inside[1][:, None, :]).float()[:, None]  # [B,1,S,S]
    return x * (1 - hole * column(on[:, 2]))


def steer(probability: float, real_sign: float, target: float, faces: int, full: int) -> float:
    """Raise the probability if D knows the real faces too well, lower it otherwise (ADA).

    Args:
        probability: the present one.
        real_sign: mean sign of D's logits on real faces, -1 to 1; near 1 it overfits.
        target: the sign to aim at.
        faces: real faces seen since the last call.
        full: faces over which the probability may go from 0 to 1.
    """
    step = faces / full * (1 if real_sign > target else -1)
    return min(1.0, max(0.0, probability + step))
