"""Stage ``points``: the second look at found faces that ships inside ``pfr_core``, from random weights. All of it is ours.

The loss is the distance of the points; how likely that distance is if it is distributed exponentially with the mean that the
network says; and the cross entropy of whether the crop shows an upright face at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfr_core.faces.points import EYES, SIDE, PointsNetwork, save, to_input

from ..data.dataset import to_signed
from ..data.detector.photographs import TEACHER
from ..data.points.dataset import CropBatch
from ..run.config import PointsConfig
from .base import Phase, Stage, Terms

SEEN_WEIGHT = 0.1
"""Of the cross entropy, beside 1 for the distance."""

SURE_WEIGHT = 0.05
"""Of the likelihood, which only teaches how sure the network may be, beside 1 for the distance."""

NARROWEST = -4.0
"""Logarithm of the smallest expected error, in distances of the eyes: below, a single point would outweigh all others."""


def points_loss(output: tuple[Tensor, Tensor, Tensor], truth: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """Return ``distance``, ``sure`` and ``seen`` losses and their weighted sum ``loss``.

    Args:
        output: points [B,5,2] in px of the crop, log errors [B,5], logits [B].
        truth: [B,5,2] where the points are.
        seen: [B] whether there is a face to be seen; the points of others do not count.
    """
    points, spread, logits = output
    distance = torch.linalg.vector_norm(points - truth, dim=2)[seen] / EYES
    spread = spread[seen].clamp(min=NARROWEST)
    losses = {
        "distance": distance.sum() / max(1, distance.numel()),
        "sure": (distance.detach() * (-spread).exp() + spread).sum() / max(1, distance.numel()),
        "seen": F.binary_cross_entropy_with_logits(logits, seen.float()),
    }
    return {"loss": losses["distance"] + SURE_WEIGHT * losses["sure"] + SEEN_WEIGHT * losses["seen"], **losses}


class PointsStage(Stage[CropBatch]):
    """See the module."""

    config: PointsConfig

    def __init__(self, config: PointsConfig) -> None:
        super().__init__(config)
        self.net, self.ema = PointsNetwork(), PointsNetwork()
        self.ema.load_state_dict(self.net.state_dict())
        self.ema.requires_grad_(False).eval()
        self.networks = nn.ModuleDict({"points": self.net.train()})
        parameters, rate = list(self.net.parameters()), config.learning_rate
        group = {"params": parameters, "name": "points", "lr": rate, "base_lr": rate}
        self.optimisers = {"points": torch.optim.AdamW([group], weight_decay=config.weight_decay, fused=True)}
        self.phases = [Phase("main", "points", parameters, norm="gradient" if config.grad_clip else "")]

    @property
    def generator(self) -> nn.Module:
        return self.net

    @property
    def title(self) -> str:
        return f"second look, crops of {SIDE} px"

    def loss(self, phase: str, batch: CropBatch) -> tuple[Tensor, Terms]:
        with self.autocast():
            output = self.net(to_input(batch["crop"]))
        losses = points_loss(output, batch["points"], batch["seen"])
        return losses["loss"], {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def look(self, batch: CropBatch) -> dict[str, Tensor]:
        """Return ``crops``: with the points that should be found, and with those that the average finds."""
        rows = [drawn(batch["crop"], points) for points in (batch["points"], self.ema(to_input(batch["crop"]))[0])]
        return {"crops": torch.stack(rows, dim=1)}

    def export(self, path: Path, provenance: dict[str, Any], licence: str, dtype: torch.dtype) -> list[Path]:
        told = {
            **provenance,
            "labels": f"the middle of several looks of {TEACHER} at each face",
            "initialisation": "random; no published weights are in this file",
        }
        save(self.ema, path, provenance=told, licence=licence, dtype=dtype)
        return [path]


def drawn(crops: Tensor, points: Tensor) -> Tensor:
    """Return ``crops`` [B,S,S] gray uint8 with ``points`` [B,5,2] drawn in, as [B,3,S,S] RGB in [-1,1]."""
    canvases = np.repeat(crops.cpu().numpy()[..., None], 3, axis=3)
    for canvas, five in zip(canvases, points.cpu().round().int().tolist(), strict=True):
        for x, y in five:
            cv2.circle(canvas, (x, y), 1, (255, 0, 0))
    return to_signed(torch.from_numpy(canvases).permute(0, 3, 1, 2))
