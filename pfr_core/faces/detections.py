"""What a detector sees in one picture, before it is known which of it are faces of the photograph."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .geometry import rescale

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Detections:
    """N faces in pixels of a picture, best score first.

    Attributes:
        boxes: [N,4] float32: left, top, right, bottom.
        scores: [N] float32, 0 to 1.
        points: [N,5,2] float32: left eye, right eye, nose, left and right mouth corner.

    Example:
        >>> len(Detections.none())
        0
    """

    boxes: Floats
    scores: Floats
    points: Floats

    @classmethod
    def none(cls) -> Detections:
        """Return those of a picture without a face."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: npt.ArrayLike) -> Detections:
        """Return some of them, by their numbers or by a mask."""
        index = np.asarray(which)
        return Detections(self.boxes[index], self.scores[index], self.points[index])

    def __add__(self, other: Detections) -> Detections:
        parts = zip((self.boxes, self.scores, self.points), (other.boxes, other.scores, other.points), strict=True)
        return Detections(*(np.concatenate(pair) for pair in parts))

    @property
    def widths(self) -> Floats:
        """The widths [N] of the boxes."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    def rescaled(self, factor_x: float, factor_y: float) -> Detections:
        """Return them in the picture resized by the factors."""
        factors = np.array([factor_x, factor_y])
        boxes = rescale(self.boxes, np.tile(factors, 2)).astype(np.float32)
        return Detections(boxes, self.scores, rescale(self.points, factors).astype(np.float32))

    def suppressed(self, iou: float) -> Detections:
        """Return, of those whose boxes overlap with an IoU above ``iou``, only the one with the best score; best first."""
        # OpenCV's, for importing torchvision.ops takes nearly as long as importing torch.
        sides = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)
        return self[np.array(cv2.dnn.NMSBoxes(sides.tolist(), self.scores.tolist(), 0.0, iou), int).reshape(-1)]
