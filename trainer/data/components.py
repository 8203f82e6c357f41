"""The parts of the face that the local discriminators see: boxes from five points, cut out by ROI-align (section 3.4).

The paper takes 68 key points; ours come from five. Eyes are 80 px and the mouth 120 px at 512 px, the eyes enlarged 1.4
times (GFPGAN's sizes), times the size of the face. A turned head narrows the distance of the eyes but not that of eyes and
mouth, so the larger of the two decides; each box sits on its own landmark, also for the far eye. A smile is wider than the face's
size says: it gets the box that the mouth's corners ask for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pfr_core.faces.align import TEMPLATE, TEMPLATE_SIZE

COMPONENTS = ("left_eye", "right_eye", "mouth")
EYE, MOUTH, EYE_ENLARGEMENT = 80, 120, 1.4
SMALLEST_FACTOR = 0.75
"""Boxes never shrink below this share of their size on the template face."""
ON_COMPONENTS = 0.25
"""Share of the squares that are laid on an eye or the mouth, the others anywhere (ours)."""

Points = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.float32]


def component_boxes(points: npt.ArrayLike, size: int) -> Boxes:
    """Return boxes [3,4] (left, top, right, bottom) of left eye, right eye and mouth, in pixels from the crop's corner.

    Args:
        points: the five points [5,2] in pixels of a crop of ``size``, pixel centres at whole numbers.
        size: the crop's side.
    """
    xy = np.asarray(points, dtype=np.float64) + 0.5

    def distances(p: Points) -> Points:
        eyes, mouth = p[:2].mean(axis=0), p[3:].mean(axis=0)
        return np.array([np.linalg.norm(d) for d in (p[1] - p[0], mouth - eyes, p[4] - p[3])])

    scale = size / TEMPLATE_SIZE
    eye_distance, height, mouth_width = distances(xy) / (distances(TEMPLATE) * scale)
    factor = max(SMALLEST_FACTOR, eye_distance, height)
    eye, mouth = EYE * EYE_ENLARGEMENT * factor, MOUTH * max(factor, mouth_width)
    sides = np.array([eye, eye, mouth]) * scale
    centres = np.stack([xy[0], xy[1], xy[3:].mean(axis=0)])
    return np.concatenate([centres - sides[:, None] / 2, centres + sides[:, None] / 2], axis=1).astype(np.float32)


def flip_boxes(boxes: Boxes, size: int) -> Boxes:
    """Return the boxes [3,4] of the mirrored face: the eyes change places."""
    left, top, right, bottom = boxes.T
    return np.stack([size - right, top, size - left, bottom], axis=1)[[1, 0, 2]]


def patch_size(component: int, size: int) -> int:
    """Return side of the patch of a component cut from a crop of ``size``: a multiple of 4 (two halvings), at least 16 px."""
    full = MOUTH if component == 2 else EYE
    return max(16, round(full * size / TEMPLATE_SIZE / 4) * 4)


def inside(boxes: Tensor, size: int) -> Tensor:
    """Return which pixels [B,1,S,S] (bool) of faces of ``size`` px lie in one of their boxes [B,3,4]."""
    at = torch.arange(size, device=boxes.device) + 0.5  # pixels' centres, from the corner as boxes are
    left, top, right, bottom = boxes[..., None].unbind(dim=2)  # each [B,3,1]
    across, down = ((at >= low) & (at < high) for low, high in ((left, right), (top, bottom)))
    return (across[:, :, None, :] & down[:, :, :, None]).any(dim=1, keepdim=True)


def places(boxes: Tensor, size: int, side: int, chances: Tensor) -> list[tuple[int, int]]:
    """Return where a square of ``side`` px is cut from each face (left, top); see :data:`ON_COMPONENTS`.

    Args:
        boxes: [B,3,4] in pixels of the faces.
        size: the faces' side.
        side: the squares'.
        chances: [B,4] from [0,1).
    """
    found = []
    for parts, (kind, which, across, down) in zip(boxes.tolist(), chances.tolist(), strict=True):
        left, top, right, bottom = parts[int(which * len(parts))]
        x, y = across * (size - side), down * (size - side)
        if kind < ON_COMPONENTS:
            x, y = (left + right - side) / 2, (top + bottom - side) / 2
        found.append((round(min(max(x, 0), size - side)), round(min(max(y, 0), size - side))))
    return found


def squares(images: Tensor, at: list[tuple[int, int]], side: int) -> Tensor:
    """Return the pieces [B,C,side,side] of :func:`places` of images [B,C,S,S]."""
    return torch.stack([image[:, y : y + side, x : x + side] for image, (x, y) in zip(images, at, strict=True)])


def cut(images: Tensor, boxes: Tensor) -> list[Tensor]:
    """Return the three components of each face by ROI-align.

    Args:
        images: [B,3,S,S].
        boxes: [B,3,4] in pixels of ``images``.

    Returns:
        Three tensors [B,3,P,P] float32, P from :func:`patch_size`.
    """
    from torchvision.ops import roi_align  # data workers import this module and need neither it nor its 190 MB

    images = images.float()
    numbers = torch.arange(len(images), device=images.device, dtype=boxes.dtype)[:, None]
    size = images.shape[-1]
    return [
        roi_align(images, torch.cat([numbers, boxes[:, i]], dim=1), patch_size(i, size), sampling_ratio=2, aligned=True)
        for i in range(len(COMPONENTS))
    ]
