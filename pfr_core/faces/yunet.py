"""OpenCV's face detector YuNet (Wu et al., 2023), run by OpenCV itself on the CPU."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from .detections import Detections

MOST_FACES = 5000


class YuNet:
    """``cv2.FaceDetectorYN`` with the interface of :class:`pfr_core.faces.retinaface.RetinaFace`.

    Args:
        path: the ONNX file.

    Raises:
        WeightsError: this OpenCV cannot use the file.
    """

    largest_face = 300
    """Width in px up to which it finds faces, as its authors say."""

    sure = 0.91
    """Score of a face that surely stands upright: its scores are lower than RetinaFace's (ours, as ``RetinaFace.sure``)."""

    def __init__(self, path: Path) -> None:
        try:
            # As bytes: OpenCV cannot open every path that Windows can.
            model = np.frombuffer(path.read_bytes(), np.uint8)
            self._detector = cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (320, 320), top_k=MOST_FACES)
        except (cv2.error, AttributeError, OSError) as error:
            raise WeightsError(
                f"{path}: OpenCV {cv2.__version__} cannot use it ({error}). Update OpenCV, or choose another detector."
            ) from error

    def detect_faces(self, rgb: npt.NDArray[np.uint8], conf_threshold: float, nms_threshold: float) -> Detections:
        """Return the faces of ``rgb`` [H,W,3], as :meth:`pfr_core.faces.retinaface.RetinaFace.detect_faces`."""
        self._detector.setInputSize((rgb.shape[1], rgb.shape[0]))
        self._detector.setScoreThreshold(conf_threshold)
        self._detector.setNMSThreshold(nms_threshold)
        _, found = self._detector.detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        if found is None:
            return Detections.none()
        found = found.astype(np.float32)  # left, top, width, height, five points, score
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
        return Detections(boxes, found[:, 14], found[:, 4:14].reshape(-1, 5, 2))[np.argsort(-found[:, 14], kind="stable")]
