"""Colour of the restored crop: match it to the original's, or keep gray photographs gray. All in float."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..photo.arrays import FloatImage
from ..support.choices import ColorMatch

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
BROAD = 128
"""Side in px at which the broad colours are taken (ours)."""


def match_color(restored: FloatImage, original: FloatImage, method: ColorMatch) -> FloatImage:
    """Give ``restored`` the colours of ``original``, both [S,S,3] float32 in [0,1].

    ``"adain"``: mean and standard deviation of each channel. ``"wavelet"``: everything coarser than an eighth of the crop
    comes from the original, everything finer from the restored crop. ``"none"``: unchanged.

    Raises:
        InputError: unknown method.
    """
    if method not in get_args(ColorMatch):
        raise InputError(f"Unknown color match {method!r}; choose from {', '.join(get_args(ColorMatch))}.")
    if method == "none":
        return restored
    if method == "adain":
        mean, std = restored.mean(axis=(0, 1)), restored.std(axis=(0, 1))
        target_mean, target_std = original.mean(axis=(0, 1)), original.std(axis=(0, 1))
        matched = (restored - mean) * (target_std / np.maximum(std, 1e-4)) + target_mean
    else:
        difference = original - restored
        # Nothing that this blur leaves needs more pixels; at full size it took half the time of pasting.
        small = cv2.resize(difference, (min(len(difference), BROAD),) * 2, interpolation=cv2.INTER_AREA)
        low = cv2.GaussianBlur(small, (0, 0), len(small) / 16, borderType=cv2.BORDER_REFLECT)
        matched = restored + cv2.resize(low, difference.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(matched, 0, 1).astype(np.float32)


def is_gray(image: npt.NDArray[np.generic]) -> bool:
    """Return whether red, green and blue of [H,W,3+] agree in every pixel."""
    return bool(np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 1], image[..., 2]))


def to_gray(image: FloatImage) -> FloatImage:
    """Turn [S,S,3] into [S,S,3] with equal channels, the luma."""
    return np.repeat((image @ LUMA)[..., None], 3, axis=2)
