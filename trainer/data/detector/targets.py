"""What each anchor should say of a picture whose faces are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pfr_core.faces.retinaface import anchors, encode

Floats = npt.NDArray[np.float32]

MATCH_IOU = 0.35
"""An anchor belongs to the face it overlaps best if the IoU is at least this (RetinaFace); each face has one in any case."""

MINIMUM_IOU = 0.2
"""Faces that overlap no anchor this much are left out (RetinaFace)."""


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


def _iou(at: Floats, boxes: Floats) -> Floats:
    """Return the IoU [N,M] between square anchors [N,3] and boxes [M,4]."""
    squares = np.concatenate([at[:, :2] - at[:, 2:] / 2, at[:, :2] + at[:, 2:] / 2], axis=1)
    sides = np.minimum(squares[:, None, 2:], boxes[None, :, 2:]) - np.maximum(squares[:, None, :2], boxes[None, :, :2])
    shared = np.clip(sides, 0, None).prod(axis=2)
    return shared / (at[:, 2:] ** 2 + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared)
