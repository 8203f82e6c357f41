"""Pasting restored crops back. Works inside each face's own box: cost grows with face area, not with photo area."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..photo.arrays import FloatImage, from_float, to_float
from .geometry import Matrix, invert, region, shifted, warp

STRIP = 1 << 14
"""Pixels blended at once: their floats stay in the processor's cache, which makes it twice as fast as all at once (ours)."""


def paste_face(
    image: npt.NDArray[np.generic],
    mask: FloatImage,
    change: FloatImage,
    crop_mask: FloatImage,
    matrix: Matrix,
    original: npt.NDArray[np.generic],
) -> bool:
    """Blend one face into ``image`` in place, raise ``mask`` to its weight there, and say whether any pixel became another.

    What is pasted is the resized DIFFERENCE between restored and original crop: an unchanged crop changes nothing, and a
    face larger than its crop keeps the detail that the crop could not hold. Where faces overlap, the later one lies on
    top instead of both being added.

    Args:
        image: [H,W,3+] of any type of the pipeline, the picture so far.
        mask: [H,W] float32, the largest weight of any face so far.
        change: [S,S,3] float32, restored minus original crop, scaled by the strength.
        crop_mask: [S,S] float32 in [0,1].
        matrix: [2,3], pixels of ``image`` to pixels of the crop.
        original: like ``image``, before any face was pasted.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = region(matrix, change.shape[0], width, height)
    if left == right or top == bottom:
        return False
    back = invert(shifted(matrix, left, top))
    size = (right - left, bottom - top)
    # Linear: a cubic kernel would ring, and touch pixels outside the mask.
    weight = warp(crop_mask, back, *size, border=cv2.BORDER_CONSTANT, interpolation=cv2.INTER_LINEAR)
    np.minimum(weight, 1, out=weight)  # a low-pass filter may round up
    placed = warp(change, back, *size)
    rows, changed = max(1, STRIP // size[0]), False
    for first in range(0, size[1], rows):
        strip = slice(first, first + rows)
        area = np.s_[top + first : min(top + first + rows, bottom), left:right, :3]
        changed |= _blend(image[area], original[area], placed[strip], weight[strip])
    np.maximum(mask[top:bottom, left:right], weight, out=mask[top:bottom, left:right])
    return changed


def _blend(image: npt.NDArray[np.generic], original: npt.NDArray[np.generic], change: FloatImage, weight: FloatImage) -> bool:
    """Set ``image`` [H,W,3] to ``image + weight * (original + change - image)`` in place, the weight [H,W] being in [0,1].

    Return whether that is anything else than it was.
    """
    weights = cv2.cvtColor(weight, cv2.COLOR_GRAY2RGB)  # NumPy is slow to broadcast over three channels
    now = to_float(image)
    blended = to_float(original)
    blended += change
    blended -= now
    blended *= weights
    blended += now
    result = from_float(blended, image.dtype)
    if not np.issubdtype(image.dtype, np.integer):  # of those weight 0 gives the same number again
        result = np.where(weights > 0, result, image)
    if np.array_equal(result, image):
        return False
    image[...] = result
    return True
