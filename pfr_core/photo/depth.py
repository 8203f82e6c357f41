"""From 16 bits to the 8 that most formats and every network see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROWS = 256
"""Converted at a time: a copy of a large scan in a wider type would take gigabytes."""


def to_8_bits(image: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Convert uint16 of any shape to uint8, rounded."""
    reduced = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), ROWS):
        reduced[top : top + ROWS] = (image[top : top + ROWS].astype(np.uint32) + 128) // 257
    return reduced
