"""OpenCV's face detector YuNet (Wu et al., 2023), run by OpenCV itself on the CPU."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import WeightsError

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

    def __init__(self, path: Path) -> None:
        try:
            # As bytes: OpenCV cannot open every path that Windows can.
            model = np.frombuffer(path.read_bytes(), np.uint8)
            self._detector = cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (320, 320), top_k=MOST_FACES)
        except (cv2.error, AttributeError, OSError) as error:
            raise WeightsError(
                f"{path}: OpenCV {cv2.__version__} cannot use it ({error}). Update OpenCV, or choose another detector."
            ) from error

    def detect_faces(self, rgb: npt.NDArray[np.uint8], conf_threshold: float, nms_threshold: float) -> npt.NDArray[np.float32]:
        """Return [N,15] float32, best score first: box, score, five points, in px of ``rgb`` [H,W,3] uint8."""
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
        self._detector.setScoreThreshold(conf_threshold)
        self._detector.setNMSThreshold(nms_threshold)
        _, found = self._detector.detect(bgr)  # left, top, width, height, five points, score; None without a face
        if found is None:
            return np.empty((0, 15), np.float32)
        rows = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4], found[:, 14:], found[:, 4:14]], axis=1)
        return rows[np.argsort(-rows[:, 4], kind="stable")].astype(np.float32)
