"""NIQE: against the authors' definition by hand, and against the scores of their published code's port."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pfr_core.models.disk import supplied
from trainer.data.dataset import read_face
from trainer.data.index import list_faces
from trainer.judge import niqe as N

LINE = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
WINDOW = np.outer(LINE, LINE) / LINE.sum() ** 2


def test_halving_by_hand() -> None:
    """Taps -3 to 4 around the first pair of pixels; those before the border fall on pixels 0, 1 and 2."""
    weights = []
    for i in range(8):
        impulse = np.zeros((8, 8))
        impulse[:, i] = 256
        half = N._half(impulse)
        assert half.shape == (4, 4) and np.allclose(half, half[:1])
        weights.append(half[0, 0])
    assert weights == pytest.approx([111 + 29, 111 - 9, 29 - 3, -9, -3, 0, 0, 0])
    ramp = np.arange(32.0)
    halved = N._half(np.add.outer(ramp, ramp))[4:-4, 4:-4]
    places = 2 * np.arange(4, 12) + 0.5
    assert np.allclose(halved, np.add.outer(places, places))


@pytest.mark.parametrize(("shape", "scale"), [(1.0, 1 / math.sqrt(2)), (2.0, math.sqrt(2))])
def test_the_fit_finds_laplace_and_gauss_with_unequal_sides(shape: float, scale: float) -> None:
    """``scale``: sqrt(Gamma(1/shape) / Gamma(3/shape)) of a deviation of one. The left side is half as wide, so half as heavy."""
    quantiles = (np.arange(30_000) + 0.5) / 30_000
    if shape == 1.0:
        right = -np.log1p(-quantiles) / math.sqrt(2)
    else:
        grid = np.linspace(0, 8, 200_001)
        right = np.interp(quantiles, [math.erf(x / math.sqrt(2)) for x in grid[::20]], grid[::20])
    found = N._fit(np.concatenate([-0.5 * right[::2], right]))
    assert found == pytest.approx((shape, 0.5 * scale, scale), rel=0.02)


def test_the_distance_by_hand_and_what_a_flat_block_counts() -> None:
    """Mahalanobis by the mean of both covariances. Flat blocks count in each mean with the numbers they have (shape 0.2)."""
    picture = np.random.default_rng(0).integers(0, 255, (96 * 4, 96 * 4, 3), dtype=np.uint8)
    picture[:192, :192] = 128
    luma = np.rint(16 + picture @ np.array([65.481, 128.553, 24.966]) / 255)
    rows = np.concatenate([N._rows(luma, 96, WINDOW), N._rows(N._half(luma), 48, WINDOW)], axis=1)
    assert rows.shape == (16, 36) and rows[0, 0] == pytest.approx(0.2) and np.isnan(rows[0, 1])
    whole = rows[~np.isnan(rows).any(axis=1)]
    assert 8 <= len(whole) < 16
    mean = np.nanmean(rows, axis=0)
    # A covariance that makes the mean of both the identity.
    covariance = 2 * np.eye(36) - np.cov(whole, rowvar=False)
    away = np.zeros(36)
    away[[0, 20]] = 3.0, 4.0
    assert N.niqe(picture, N.Pristine(mean, covariance, WINDOW)) == pytest.approx(0.0, abs=1e-9)
    assert N.niqe(picture, N.Pristine(mean + away, covariance, WINDOW)) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("number", "change", "score"),
    [(0, "", 3.853815), (7, "", 2.798686), (23, "", 4.491567), (51, "flat corner", 6.521028), (51, "odd size", 2.955228)],
)
def test_scores_are_the_references(shared_dir: object, number: int, change: str, score: float) -> None:
    """BasicSR's port, which its authors checked against MATLAB (baboon: 5.7296), run in double precision on these faces."""
    image = read_face(list_faces(f"{shared_dir}/data/faces", "val")[number].stored).copy()
    if change == "flat corner":
        image[:200, :300] = 128
    elif change == "odd size":
        image = image[:301, :500]
    assert N.niqe(image, N.read_pristine(supplied(N.FILE))) == pytest.approx(score, abs=1e-4)
