"""A picture that shows what the detector found: boxes with their numbers, and the five points."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from .face import Face

BOX, POINT, TEXT = (0, 220, 90), (255, 60, 60), (0, 0, 0)


def annotate(image: npt.NDArray[np.uint8], faces: Sequence[Face], numbers: Sequence[int] | None = None) -> npt.NDArray[np.uint8]:
    """Return a copy of [H,W,3+] RGB uint8 with every face drawn: [H,W,3].

    Args:
        image: the photograph.
        faces: what to draw.
        numbers: what to write beside each; their positions in ``faces`` if left out.

    Example:
        >>> annotate(np.zeros((64, 64, 3), np.uint8), []).shape
        (64, 64, 3)
    """
    canvas = np.array(image[..., :3], order="C")  # a copy: the caller's picture is not drawn on
    for number, face in zip(range(len(faces)) if numbers is None else numbers, faces, strict=True):
        left, top, right, bottom = (round(value) for value in face.box)
        width = max(1, round(face.size / 80))
        cv2.rectangle(canvas, (left, top), (right, bottom), BOX, width)
        for x, y in face.points:
            cv2.circle(canvas, (round(x), round(y)), max(1, width), POINT, -1)
        height = max(0.4, face.size / 250)
        (text_width, text_height), base = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, height, width)
        corner = (left, max(top, text_height + base))
        cv2.rectangle(canvas, (corner[0], corner[1] - text_height - base), (corner[0] + text_width, corner[1]), BOX, -1)
        cv2.putText(canvas, str(number), (corner[0], corner[1] - base // 2), cv2.FONT_HERSHEY_SIMPLEX, height, TEXT, width)
    return canvas
