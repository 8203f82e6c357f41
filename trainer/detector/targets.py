"""What each anchor should say, and the loss that asks for it.

The loss is RetinaFace's multi-box loss: cross entropy over the faces' anchors and the worst of the others, smooth L1 on box
and points of the faces' anchors. Where the published RetinaFace labels a photograph, its probability of every
anchor is the target of the cross entropy (ours), and its boxes and points those of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from pfr_core.faces.retinaface import anchors, encode

Floats = npt.NDArray[np.float32]

MATCH_IOU = 0.35
"""An anchor belongs to the face it overlaps best if the IoU is at least this (RetinaFace); each face has one in any case."""

MINIMUM_IOU = 0.2
"""Faces that overlap no anchor this much are left out (RetinaFace)."""

FACE = 0.35
"""Anchors of a photograph with at least this probability count as faces (ours)."""

BOX_WEIGHT = 0.5
"""Beside 1 for the score (ours; RetinaFace has 2): from random weights, faces must first of all be told from the rest."""

BEND = 0.2
"""Of smooth L1 (RetinaFace: 1): its slope must not fade before the points are right to a few hundredths of a face (ours)."""

MINIMUM_NEGATIVES = 24
"""Background anchors that count in a picture without faces (ours)."""


@dataclass(frozen=True)
class Targets:
    """For each of B pictures and N anchors.

    Attributes:
        score: [B,N] probability of a face; below 0 where the anchor does not count.
        offsets: [B,N,4] coded boxes, used where ``score`` is at least :data:`FACE`.
        points: [B,N,10] coded points, likewise.
    """

    score: Tensor
    offsets: Tensor
    points: Tensor


def label(size: int, boxes: Floats, points: Floats, ignored: Floats) -> tuple[Floats, Floats, Floats]:
    """Return targets of one picture of ``size`` px with exact labels: boxes [M,4], points [M,5,2], doubtful boxes [K,4].

    Returns (score [N], offsets [N,4], points [N,10]).
    """
    at = anchors(size, size)
    score = np.zeros(len(at), np.float32)
    coded, five = np.zeros((len(at), 4), np.float32), np.zeros((len(at), 10), np.float32)
    if len(ignored):
        score[_iou(at, ignored).max(axis=1) >= MATCH_IOU] = -1
    if len(boxes):
        overlap = _iou(at, boxes)
        best = overlap.argmax(axis=0)
        for face, anchor in enumerate(best):
            if overlap[anchor, face] >= MINIMUM_IOU:
                overlap[anchor, face] = 2
        owner = overlap.argmax(axis=1)
        faces = overlap.max(axis=1) >= MATCH_IOU
        score[faces] = 1
        coded[faces], five[faces] = encode(boxes[owner[faces]], points[owner[faces]].reshape(-1, 10), at[faces])
    return score, coded, five


def multibox_loss(
    output: tuple[Tensor, Tensor, Tensor], targets: Targets, negatives_per_face: int, points_weight: float
) -> dict[str, Tensor]:
    """Return ``score``, ``box`` and ``points`` losses and their weighted sum ``loss``, divided by the number of faces' anchors.

    Args:
        output: the network's raw offsets [B,N,4], logits [B,N,2] and points [B,N,10].
        targets: what they should be.
        negatives_per_face: background anchors for each face's, the ones with the largest loss of each picture.
        points_weight: of the loss of the points, beside 1 for the score.
    """
    offsets, logits, points = (part.float() for part in output)
    faces = targets.score >= FACE
    count = faces.sum().clamp(min=1)
    log_p = F.log_softmax(logits, dim=2)
    entropy = -(targets.score.clamp(min=0) * log_p[..., 1] + (1 - targets.score.clamp(min=0)) * log_p[..., 0])
    background = entropy.detach().masked_fill(faces | (targets.score < 0), -1.0)
    rank = background.argsort(dim=1, descending=True).argsort(dim=1)
    quota = (negatives_per_face * faces.sum(dim=1, keepdim=True)).clamp(min=MINIMUM_NEGATIVES)
    counted = faces | ((rank < quota) & (background >= 0))
    weight = targets.score[faces][:, None]
    losses = {
        "score": entropy[counted].sum() / count,
        "box": (weight * F.smooth_l1_loss(offsets[faces], targets.offsets[faces], reduction="none", beta=BEND)).sum() / count,
        "points": (weight * F.smooth_l1_loss(points[faces], targets.points[faces], reduction="none", beta=BEND)).sum() / count,
    }
    return {"loss": losses["score"] + BOX_WEIGHT * losses["box"] + points_weight * losses["points"], **losses}


def _iou(at: Floats, boxes: Floats) -> Floats:
    """Return the IoU [N,M] between square anchors [N,3] and boxes [M,4]."""
    squares = np.concatenate([at[:, :2] - at[:, 2:] / 2, at[:, :2] + at[:, 2:] / 2], axis=1)
    sides = np.minimum(squares[:, None, 2:], boxes[None, :, 2:]) - np.maximum(squares[:, None, :2], boxes[None, :, :2])
    shared = np.clip(sides, 0, None).prod(axis=2)
    return shared / (at[:, 2:] ** 2 + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared)


def stack(parts: list[tuple[Floats, Floats, Floats]]) -> Targets:
    """Put the targets of several pictures together."""
    return Targets(*(torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True)))
