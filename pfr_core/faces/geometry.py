"""Pixels and similarities: points that fit one another, pictures that are resized, turned, cut out and resampled.

The centre of the top-left pixel is (0, 0), so a picture of width W reaches from -0.5 to W - 0.5. Matrices are [2,3] and take
pixels of one picture to pixels of another.
"""

from __future__ import annotations

import math
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..photo.arrays import FloatImage

Matrix = npt.NDArray[np.float64]
Coordinates = TypeVar("Coordinates", float, npt.NDArray[np.float32], npt.NDArray[np.float64])


def rescale(coordinates: Coordinates, factor: float | Matrix) -> Coordinates:
    """Return where pixel coordinates lie in the picture resized by ``factor``: corners stay at corners, not centres at centres.

    Example:
        >>> rescale(0.0, 2)  # the first pixel becomes two, 0 and 1
        0.5
    """
    return (coordinates + 0.5) * factor - 0.5  # type: ignore[return-value]  # float32 times a matrix of factors is float64


def unturned(xy: Matrix, turns: int, width: int, height: int) -> Matrix:
    """Return where points [N,2] of ``np.rot90(picture, turns)`` lie in the picture of that width and height.

    Example:
        >>> unturned(np.array([[0.0, 0.0]]), 1, 30, 20)  # a turn to the left: the first pixel was the last of the first row
        array([[29.,  0.]])
    """
    for side in reversed([width, height, width][:turns]):  # last turn first: (x, y) -> (side - 1 - y, x)
        xy = np.stack([side - 1 - xy[:, 1], xy[:, 0]], axis=1)
    return xy


def rescaling(factor_x: float, factor_y: float) -> Matrix:
    """Return :func:`rescale` as a matrix."""
    return np.array([[factor_x, 0, factor_x / 2 - 0.5], [0, factor_y, factor_y / 2 - 0.5]])


def similarity(source: npt.ArrayLike, target: npt.ArrayLike) -> Matrix:
    """Return the similarity (turn, scale and shift, never a mirror) that takes ``source`` to ``target`` by least squares.

    Args:
        source: points [N,2].
        target: where they belong, [N,2].

    Raises:
        InputError: the points coincide.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s = (source - source_mean) @ (1, 1j)  # as complex numbers a similarity is one multiplication
    t = (target - target_mean) @ (1, 1j)
    spread = np.vdot(s, s).real
    if spread < 1e-6:
        raise InputError("The points of a face coincide; it cannot be aligned.")
    factor = np.vdot(s, t) / spread
    rotation = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.hstack([rotation, (target_mean - rotation @ source_mean)[:, None]])


def transform(points: npt.ArrayLike, matrix: Matrix) -> Matrix:
    """Return points [N,2] taken through a matrix [2,3]."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def scale_of(matrix: Matrix) -> float:
    """Return by how much a similarity enlarges."""
    return math.hypot(matrix[0, 0], matrix[1, 0])


def scaled(matrix: Matrix, factor_x: float, factor_y: float) -> Matrix:
    """Return ``matrix`` for a photograph that was enlarged by the factors."""
    return matrix @ invert_3x3(rescaling(factor_x, factor_y))


def shifted(matrix: Matrix, left: int, top: int) -> Matrix:
    """Return ``matrix`` for the part of the photograph that begins at (left, top)."""
    return np.hstack([matrix[:, :2], (matrix[:, 2] + matrix[:, :2] @ (left, top))[:, None]])


def invert_3x3(matrix: Matrix) -> Matrix:
    """Return the inverse [3,3] of an affine map given as [2,3] or [3,3]."""
    return np.linalg.inv(np.vstack([matrix[:2], [0, 0, 1]]))


def invert(matrix: Matrix) -> Matrix:
    """Return the inverse [2,3] of a similarity [2,3]."""
    return invert_3x3(matrix)[:2]


def corners(matrix: Matrix, width: int, height: int) -> Matrix:
    """Return where the four corners of a picture land: [2,4], x above y, clockwise from the top left."""
    ends = np.array([[-0.5, width - 0.5, width - 0.5, -0.5], [-0.5, -0.5, height - 0.5, height - 0.5]])
    return matrix[:, :2] @ ends + matrix[:, 2:]


def region(matrix: Matrix, size: int, width: int, height: int, margin: int = 0) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the part of a ``width`` x ``height`` photograph that a crop of ``size`` covers.

    Half-open, clipped to the photograph; empty (left == right) if the crop lies outside.
    """
    ends = corners(invert(matrix), size, size)
    left, top = np.floor(ends.min(axis=1)).astype(int) - margin
    right, bottom = np.ceil(ends.max(axis=1)).astype(int) + 1 + margin
    left, right = (int(v) for v in np.clip([left, right], 0, width))
    top, bottom = (int(v) for v in np.clip([top, bottom], 0, height))
    return left, top, max(left, right), max(top, bottom)


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
