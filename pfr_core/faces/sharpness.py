"""Whether a face is sharp already, from its pixels: a network that restores ruined faces would only make it softer.

All of it is ours, and meant to be cheap: what is finer than a Gaussian of one pixel is looked at in the middle of the face. In a
sharp face the edges of eyes and mouth are strong, the skin between them is quiet, and there is detail along the diagonals, which
JPEG drops first. Blur takes the edges, noise the quiet, JPEG the diagonals. ``benchmarks/sharpness.py`` measures how often that
is wrong; the values were chosen on faces of the training split.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..photo.arrays import Array, FloatImage, to_float
from .align import TEMPLATE_SIZE, alignment_matrix
from .color import LUMA
from .face import Face
from .geometry import invert, scale_of, transform

JUDGED_SIDE = 512
"""Side in px of the aligned crop at which a face is judged if nothing says how large the network's are: as the shipped one's."""

SMALLEST_CROP = 96
"""A face whose crop is smaller, its box about half of that, has too few pixels to be called sharp."""

MOST_ENLARGED = 1.25
"""A face that is shown larger than its own pixels by more than this can do with detail, however sharp it is."""

MIDDLE, HALF = (0.5, 0.55), 0.29
"""What is looked at, in shares of the crop: eyes to mouth."""

LEAST_EDGES, OF_SIDE = 16.0, 256
"""For a crop of that side in px, in 8-bit units, of the 99th percentile of what is finer than a pixel; of larger crops less is
asked, for they show the same edges wider."""
EDGES_BY_SIZE = -0.37

MOST_FINE = 0.14
"""Of the edges' strength: the median of the fine detail; more is noise."""

LEAST_DIAGONAL = 0.6
"""Of the median of the fine detail: that of its diagonals; less is what JPEG left."""

_SIGMA_OF_MEDIAN = 0.6745


def is_sharp(image: Array, face: Face, *, side: int = JUDGED_SIDE, scale: float = 1.0) -> bool:
    """Return whether a face of a photograph [H,W,3+] needs no restoration.

    Args:
        image: the photograph.
        face: one of its faces.
        side: of the network's crops in px; finer detail than they hold is not asked for.
        scale: by how much the photograph is enlarged.
    """
    matrix = alignment_matrix(face, TEMPLATE_SIZE)
    crop = TEMPLATE_SIZE / scale_of(matrix)  # its side in pixels of the photograph
    if crop < SMALLEST_CROP or min(crop * scale, side) > MOST_ENLARGED * crop:
        return False
    ((x, y),) = transform([(MIDDLE[0] * TEMPLATE_SIZE, MIDDLE[1] * TEMPLATE_SIZE)], invert(matrix))
    left, right = (int(np.clip(round(x + sign * HALF * crop), 0, image.shape[1])) for sign in (-1, 1))
    top, bottom = (int(np.clip(round(y + sign * HALF * crop), 0, image.shape[0])) for sign in (-1, 1))
    if min(right - left, bottom - top) < HALF * crop:  # half of it lies outside
        return False
    luma = to_float(image[top:bottom, left:right, :3]) @ LUMA * 255
    if (times := int(crop / side)) > 1:  # a whole number: any other would blur
        height, width = (length // times for length in luma.shape)
        luma = cv2.resize(luma[: height * times, : width * times], (width, height), interpolation=cv2.INTER_AREA)
        crop /= times
    return _looks_sharp(luma, crop)


def _looks_sharp(luma: FloatImage, crop: float) -> bool:
    """Return whether the middle of a face, in 8-bit units, is sharp; ``crop`` is the side of the whole crop in its pixels."""
    fine = np.abs(luma - cv2.GaussianBlur(luma, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT))
    diagonal = np.abs(luma[:-1, :-1] - luma[1:, :-1] - luma[:-1, 1:] + luma[1:, 1:]) / 2
    edges, middle = float(np.percentile(fine, 99)), float(np.median(fine))
    return (
        edges >= LEAST_EDGES * (crop / OF_SIDE) ** EDGES_BY_SIZE
        and middle <= MOST_FINE * edges
        and float(np.median(diagonal)) / _SIGMA_OF_MEDIAN >= LEAST_DIAGONAL * middle
    )
