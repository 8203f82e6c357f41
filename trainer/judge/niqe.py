"""NIQE (Mittal, Soundararajan and Bovik, 2013): how far an image's local statistics are from those of pristine photographs.

Needs no truth, and nothing here is trained on it. Of an image's luma: blocks of 96 px and their halves, statistics of the
locally normalised brightness and of products of neighbours, and the distance to the pristine model. Lower is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pfr_core.errors import InputError, WeightsError

BLOCK = 96
SMALLEST = 2 * BLOCK
"""Least width and height of an image that has a NIQE."""

Values = npt.NDArray[np.float64]
FILE = "niqe_pris_params.npz"
HALVING = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
"""Keys' cubic kernel (a = -1/2) at the distances 1/4, 3/4, 5/4, 7/4, for sampling between two pixels at half the rate."""


@dataclass(frozen=True)
class Pristine:
    """The pristine model: ``mu`` [36], ``covariance`` [36,36], ``window`` [7,7]."""

    mu: Values
    covariance: Values
    window: Values


def read_pristine(path: Path) -> Pristine:
    """Read ``niqe_pris_params.npz``.

    Raises:
        WeightsError: not such a file.
    """
    try:
        with np.load(path) as file:
            return Pristine(file["mu_pris_param"].ravel(), file["cov_pris_param"], file["gaussian_window"])
    except (OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not NIQE's pristine model ({error}).") from error


def niqe(image: npt.NDArray[np.uint8], pristine: Pristine) -> float:
    """Return NIQE of [H,W,3] RGB uint8, at least two blocks (192 px) wide and high.

    Raises:
        InputError: the image is smaller.
    """
    height, width = (side // BLOCK * BLOCK for side in image.shape[:2])
    if min(height, width) < SMALLEST:
        raise InputError(f"NIQE needs images of at least {SMALLEST} px, got {image.shape[1]}x{image.shape[0]}.")
    rgb = image[:height, :width].astype(np.float64)
    luma = np.rint(16 + rgb @ (65.481, 128.553, 24.966) / 255)  # ITU-R BT.601, 16-235
    rows = np.concatenate([_rows(luma, BLOCK, pristine.window), _rows(_half(luma), BLOCK // 2, pristine.window)], axis=1)
    whole = rows[np.isfinite(rows).all(axis=1)]
    if len(whole) < 2:
        raise InputError("NIQE: the image is flat.")
    difference = pristine.mu - np.nanmean(rows, axis=0)  # as the authors: a flat block still counts with what it has
    inverse = np.linalg.pinv((pristine.covariance + np.cov(whole, rowvar=False)) / 2)
    return float(np.sqrt(difference @ inverse @ difference))


def _rows(luma: Values, block: int, window: Values) -> Values:
    """Return 18 features of each block [blocks,18]; NaN where a flat block has none."""
    normalised = _normalise(luma, window)
    places = product(range(0, luma.shape[0], block), range(0, luma.shape[1], block))
    return np.array([_features(normalised[y : y + block, x : x + block]) for y, x in places])


def _half(luma: Values) -> Values:
    """Halve the size as MATLAB's imresize does it: the bicubic kernel stretched by two, borders mirrored."""
    halved = cv2.sepFilter2D(luma, cv2.CV_64F, HALVING, HALVING, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)
    return np.asarray(halved[::2, ::2])


def _normalise(luma: Values, window: Values) -> Values:
    """Subtract the mean and normalise the contrast."""
    mean = cv2.filter2D(luma, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)
    square = cv2.filter2D(luma * luma, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)
    return (luma - mean) / (np.sqrt(np.abs(square - mean * mean)) + 1)


def _features(block: Values) -> list[float]:
    """Return 18 numbers: the fit of the block itself, and of its products with four neighbours."""
    alpha, left, right = _fit(block)
    found = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = _fit(block * np.roll(block, shift, axis=(0, 1)))
        gamma = _gamma(alpha)
        found += [alpha, (right - left) * gamma, left, right]
    return found


def _fit(values: Values) -> tuple[float, float, float]:
    """Return an asymmetric generalised Gaussian by moments: shape, left and right scale."""
    with np.errstate(all="ignore"):
        left = np.sqrt(np.mean(values[values < 0] ** 2)) if (values < 0).any() else np.nan
        right = np.sqrt(np.mean(values[values > 0] ** 2)) if (values > 0).any() else np.nan
        ratio = left / right
        r = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
        r *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, expected, scale = _table()
    i = int(np.argmin((expected - r) ** 2)) if np.isfinite(r) else 0
    return float(shapes[i]), float(left * scale[i]), float(right * scale[i])


@lru_cache(maxsize=1)
def _table() -> tuple[Values, Values, Values]:
    """Return, for shapes 0.2-10, the shape, its moment ratio, and the factor from deviation to scale."""
    shapes = np.arange(0.2, 10.001, 0.001)
    one, two, three = (np.vectorize(math.lgamma)(k / shapes) for k in (1, 2, 3))
    return shapes, np.exp(2 * two - one - three), np.exp((one - three) / 2)


def _gamma(alpha: float) -> float:
    return math.exp(math.lgamma(2 / alpha) - math.lgamma(1 / alpha))
