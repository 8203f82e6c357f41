"""From photograph to aligned crop: the FFHQ frame by a similarity, resampled without aliasing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..photo.arrays import FloatImage, to_float
from .face import Face
from .geometry import Matrix, region, rescale, scale_of, shifted, similarity, warp

TEMPLATE_SIZE = 512
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""Eyes, nose and mouth corners in the FFHQ frame of 512 px, the five-point template that all face restorers share."""


def template(size: int) -> Matrix:
    """Return the five points in a crop of ``size`` px, [5,2]; pixel centres are kept, so 256 px are 512 px halved."""
    return rescale(TEMPLATE, size / TEMPLATE_SIZE)


def alignment_matrix(face: Face, size: int) -> Matrix:
    """Return the similarity [2,3] that takes photograph pixels to pixels of a crop of ``size``: least squares over five points.

    Raises:
        InputError: the points coincide.
    """
    return similarity(face.points, template(size))


def resemblance(points: npt.ArrayLike) -> complex:
    """Return how well five points fit the template whatever their place and size: magnitude 1 is a perfect fit, 0 none.

    The angle is by how much they would have to be turned; 0 is an upright face.
    """
    xy = np.asarray(points, dtype=np.float64)
    source = (xy - xy.mean(axis=0)) @ (1, 1j)
    target = (TEMPLATE - TEMPLATE.mean(axis=0)) @ (1, 1j)
    norm = np.linalg.norm(source) * np.linalg.norm(target)
    return complex(np.vdot(source, target) / norm) if norm > 0 else 0j


def align(image: npt.NDArray[np.generic], matrix: Matrix, size: int) -> FloatImage:
    """Return the aligned crop [size,size,3] float32 in [0,1] of a photograph [H,W,3+] uint8, uint16 or float.

    Only the face's own surroundings are touched; beyond the photograph's edge its border is repeated.

    Raises:
        InputError: the crop lies wholly outside the photograph.
    """
    height, width = image.shape[:2]
    margin = math.ceil(4 / scale_of(matrix)) + 4  # room for the low-pass filter
    left, top, right, bottom = region(matrix, size, width, height, margin)
    if left == right or top == bottom:
        raise InputError("A face lies outside the photograph; it cannot be cropped.")
    part = to_float(image[top:bottom, left:right, :3])
    crop = warp(part, shifted(matrix, left, top), size, size)
    return np.clip(crop, 0, 1, out=crop)
