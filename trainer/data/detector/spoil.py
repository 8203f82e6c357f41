"""What photographs suffer, done to whole training pictures: gray, light, blur, noise, JPEG, scratches. Strengths are ours.

Old photographs matter: gray, low contrast and scratched ones are frequent here.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..dataset import RGB8


def spoil(image: RGB8, rng: np.random.Generator) -> RGB8:
    """Spoil ``image`` [H,W,3] RGB uint8 at random; sizes and positions stay."""
    if rng.random() < 0.25:
        image = _tint(image, rng)
    if rng.random() < 0.5:
        image = _tone(image, rng)
    if rng.random() < 0.15:
        image = _light(image, rng)
    if rng.random() < 0.08:
        image = _scratch(image, rng)
    if rng.random() < 0.2:
        image = _blur(image, rng)
    if rng.random() < 0.2:
        image = _noise(image, rng)
    if rng.random() < 0.35:
        image = _jpeg(image, rng)
    return image


def _tint(image: RGB8, rng: np.random.Generator) -> RGB8:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.3:  # sepia
        gray = cv2.multiply(gray, (1.0, 0.85 + 0.1 * rng.random(), 0.6 + 0.25 * rng.random(), 1.0))
    return gray


def _tone(image: RGB8, rng: np.random.Generator) -> RGB8:
    """Change gamma, contrast and brightness by one table, for each channel its own brightness."""
    ramp = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.35))
    contrast = rng.uniform(0.45, 1.25)
    low = rng.uniform(-0.1, max(0.0, 1.05 - contrast)) + rng.normal(0, 0.04, (3, 1))
    return cv2.LUT(image, (255 * np.clip(low + contrast * ramp, 0, 1)).astype(np.uint8).T.reshape(1, 256, 3))


def _light(image: RGB8, rng: np.random.Generator) -> RGB8:
    """Make one side bright, the other dark."""
    corners = rng.uniform(0.25, 1.9, (2, 2)).astype(np.float32)
    gain = cv2.resize(corners, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([gain] * 3), dtype=cv2.CV_8U)


def _scratch(image: RGB8, rng: np.random.Generator) -> RGB8:
    image, (height, width) = image.copy(), image.shape[:2]
    shade = tuple(int(v) for v in [rng.integers(170, 256)] * 3) if rng.random() < 0.8 else (30, 30, 30)
    for _ in range(rng.integers(1, 8)):
        walk = np.cumsum(rng.normal(0, 6, (12, 2)), axis=0) + np.linspace(0, 1, 12)[:, None] * rng.uniform(-1, 1, 2) * width
        line = (walk + rng.uniform(0, 1, 2) * (width, height)).astype(np.int32)
        cv2.polylines(image, [line], False, shade, int(rng.integers(1, 3)), cv2.LINE_AA)
    return image


def _blur(image: RGB8, rng: np.random.Generator) -> RGB8:
    sigma = rng.uniform(0.4, 1.7)
    return cv2.GaussianBlur(image, (0, 0), sigma, sigma * rng.uniform(0.5, 1.5))


def _noise(image: RGB8, rng: np.random.Generator) -> RGB8:
    """Add Gaussian noise, of each channel or gray."""
    height, width = image.shape[:2]
    sigma = rng.uniform(2, 18)
    noise = np.empty((height, width, 3), np.int16)
    cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
    cv2.randn(noise, 0, (sigma, sigma, sigma, 0))
    if rng.random() < 0.5:
        noise[..., 1] = noise[..., 2] = noise[..., 0]
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _jpeg(image: RGB8, rng: np.random.Generator) -> RGB8:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
