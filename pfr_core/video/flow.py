"""Optical flow between two crops of one face, and bringing one of them along by it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from ..photo.arrays import FloatImage, to_uint8

Gray = npt.NDArray[np.uint8]


def gray(crop: FloatImage) -> Gray:
    """Return the brightness of [S,S,3] in about [0,1], as flow is computed from it."""
    return to_uint8(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).clip(0, 1))


def places(flow: FloatImage) -> FloatImage:
    """Return, for flow [S,S,2] from now to before, where each pixel was before, [S,S,2] in px."""
    return flow + _grid(len(flow))


def brought(image: FloatImage, field: FloatImage, interpolation: int) -> FloatImage:
    """Return what was at the places of ``field``; its border is repeated beyond the edge."""
    return cv2.remap(image, field, None, interpolation, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=4)
def _grid(side: int) -> FloatImage:
    """Return each pixel's own place, [S,S,2]."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    return np.stack([x, y], axis=2)
