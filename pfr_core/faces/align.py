"""From photograph to aligned crop and back: the FFHQ frame by a similarity transform, resampled without aliasing."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..photo.arrays import FloatImage, to_float
from .face import Face

Matrix = npt.NDArray[np.float64]

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
    return (TEMPLATE + 0.5) * (size / TEMPLATE_SIZE) - 0.5


def alignment_matrix(face: Face, size: int) -> Matrix:
    """Return the similarity [2,3] that takes photograph pixels to pixels of a crop of ``size``: least squares over five points.

    Raises:
        InputError: the points coincide.
    """
    source, target = np.asarray(face.points, dtype=np.float64), template(size)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s = (source - source_mean) @ (1, 1j)  # as complex numbers a similarity is one multiplication
    t = (target - target_mean) @ (1, 1j)
    spread = np.vdot(s, s).real
    if spread < 1e-6:
        raise InputError("The five points of a face coincide; it cannot be aligned.")
    factor = np.vdot(s, t) / spread
    rotation = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.hstack([rotation, (target_mean - rotation @ source_mean)[:, None]])


def resemblance(points: npt.ArrayLike) -> complex:
    """Return how well five points fit the template whatever their place and size: magnitude 1 is a perfect fit, 0 none.

    The angle is by how much they would have to be turned; 0 is an upright face.
    """
    xy = np.asarray(points, dtype=np.float64)
    source = (xy - xy.mean(axis=0)) @ (1, 1j)
    target = (TEMPLATE - TEMPLATE.mean(axis=0)) @ (1, 1j)
    norm = np.linalg.norm(source) * np.linalg.norm(target)
    return complex(np.vdot(source, target) / norm) if norm > 0 else 0j


def scale_of(matrix: Matrix) -> float:
    """Return by how much a similarity [2,3] enlarges."""
    return math.hypot(matrix[0, 0], matrix[1, 0])


def scaled(matrix: Matrix, factor_x: float, factor_y: float) -> Matrix:
    """Return ``matrix`` for a photograph that was enlarged by the factors (pixel centres kept)."""
    return matrix @ invert_3x3(np.array([[factor_x, 0, factor_x / 2 - 0.5], [0, factor_y, factor_y / 2 - 0.5], [0, 0, 1]]))


def invert_3x3(matrix: Matrix) -> Matrix:
    """Return the inverse [3,3] of an affine map [2,3] or [3,3]."""
    return np.linalg.inv(np.vstack([matrix[:2], [0, 0, 1]]))


def invert(matrix: Matrix) -> Matrix:
    """Return the inverse [2,3] of a similarity [2,3]."""
    return invert_3x3(matrix)[:2]


def warp(
    image: FloatImage,
    matrix: Matrix,
    width: int,
    height: int,
    *,
    border: int = cv2.BORDER_REPLICATE,
    interpolation: int = cv2.INTER_CUBIC,
) -> FloatImage:
    """Resample ``image`` [H,W] or [H,W,C] float32 by ``matrix`` (source to target pixels) to [height,width,...].

    When the target is smaller than the source, a Gaussian takes away first what the target cannot hold.
    """
    shrink = 1.0 / scale_of(matrix)
    if shrink > 1:
        image = cv2.GaussianBlur(image, (0, 0), (shrink - 1) / 2 + 1e-3, borderType=cv2.BORDER_REPLICATE)
    return cv2.warpAffine(image, matrix, (width, height), flags=interpolation, borderMode=border)


def region(matrix: Matrix, size: int, width: int, height: int, margin: int = 0) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the part of a ``width`` x ``height`` photograph that a crop of ``size`` covers.

    Half-open, clipped to the photograph; empty (left == right) if the crop lies outside.
    """
    ends = np.array([[-0.5, size - 0.5, size - 0.5, -0.5], [-0.5, -0.5, size - 0.5, size - 0.5]])
    inverse = invert(matrix)
    corners = inverse[:, :2] @ ends + inverse[:, 2:]
    left, top = np.floor(corners.min(axis=1)).astype(int) - margin
    right, bottom = np.ceil(corners.max(axis=1)).astype(int) + 1 + margin
    left, right = (int(v) for v in np.clip([left, right], 0, width))
    top, bottom = (int(v) for v in np.clip([top, bottom], 0, height))
    return left, top, max(left, right), max(top, bottom)


def shifted(matrix: Matrix, left: int, top: int) -> Matrix:
    """Return ``matrix`` for the part of the photograph that begins at (left, top)."""
    return np.hstack([matrix[:, :2], (matrix[:, 2] + matrix[:, :2] @ (left, top))[:, None]])


def align(image: npt.NDArray[np.generic], matrix: Matrix, size: int) -> FloatImage:
    """Return the aligned crop [size,size,3] float32 in [0,1] of a photograph [H,W,3+] uint8, uint16 or float.

    Only the face's own surroundings are touched; beyond the photograph's edge its border is repeated.
    """
    height, width = image.shape[:2]
    margin = math.ceil(4 / scale_of(matrix)) + 4  # room for the low-pass filter
    left, top, right, bottom = region(matrix, size, width, height, margin)
    if left == right or top == bottom:
        raise InputError("A face lies outside the photograph; it cannot be cropped.")
    part = to_float(image[top:bottom, left:right, :3])
    return np.clip(warp(part, shifted(matrix, left, top), size, size), 0, 1)
