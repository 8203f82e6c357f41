"""Colour of the restored crop: match it to the original's, or keep the one tone of a gray or sepia photograph. All in float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..photo.arrays import Array, FloatImage, fitted, to_float
from ..support.choices import ColorMatch

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
BROAD = 128
"""Side in px at which the broad colours are taken (ours)."""
SEEN_AT = 256
"""Side in px at which a photograph's tone is taken: noise is averaged, and a mouth is still some dozens of pixels (ours)."""
FACE_AT = 64
"""Side in px at which a face's is (ours)."""
STEPS = 32
"""Brightnesses of which each has a tone of its own (ours)."""
FEW = 16 * STEPS
"""Pixels that are too few to tell a tone from colours that happen to differ in brightness (ours)."""
ONE_TONE = 8 / 255
"""How far from its tone's colour a photograph of one tone may lie: toned scans stay below 6 of 255, colours reach 17 (ours)."""


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


@dataclass(frozen=True, eq=False)
class Tone:
    """What colour each brightness has in a photograph of one tone: gray, sepia, a faded or tinted print (ours).

    Attributes:
        lumas: [N], brightnesses, rising from 0 to 1.
        offsets: [N,3], the colour of each, less the brightness itself.
    """

    lumas: FloatImage
    offsets: FloatImage

    @classmethod
    def of(cls, image: Array) -> Tone | None:
        """Return the tone of [H,W,3+] of any depth; None if its colours do not follow from the brightness alone.

        Scanners' noise and JPEG's colour blocks do not count, and red lips on a gray photograph do: all but a thousandth of the
        picture, :data:`SEEN_AT` px large, must lie within :data:`ONE_TONE`. Of a picture of a few pixels only gray can be told.
        """
        if image.dtype == np.float16:  # of which OpenCV knows nothing
            image = to_float(image)
        small = to_float(fitted(np.ascontiguousarray(image), SEEN_AT)[..., :3])
        luma = _luma(small)
        offsets = small - luma[..., None]
        step = np.clip((luma * STEPS).astype(int), 0, STEPS - 1).ravel()
        counts = np.bincount(step, minlength=STEPS)
        sums = np.stack([np.bincount(step, offsets[..., c].ravel(), STEPS) for c in range(3)], axis=1)
        there = np.flatnonzero(counts)
        lumas = np.concatenate([[0], (there + 0.5) / STEPS, [1]])
        means = np.pad(sums[there] / counts[there, None], ((1, 1), (0, 0)))  # black and white have no colour
        tone = cls(lumas.astype(np.float32), means.astype(np.float32))
        return tone if np.quantile(tone._apart(small), 0.999) <= (ONE_TONE if luma.size >= FEW else 0) else None

    def holds(self, crop: FloatImage) -> bool:
        """Return whether a face [S,S,3] has this tone, too: it may be all that has colours in a photograph of snow.

        A small one's noise is not averaged; so twice as much is let pass.
        """
        return bool(np.quantile(self._apart(fitted(crop, FACE_AT)), 0.99) <= 2 * ONE_TONE)

    def give(self, image: FloatImage) -> FloatImage:
        """Return [S,S,3] float32 in [0,1] in this tone: its brightness is kept."""
        luma = _luma(image)
        return np.clip(luma[..., None] + self._at(luma), 0, 1).astype(np.float32)

    def _apart(self, image: FloatImage) -> FloatImage:
        """Return how far the colours of [H,W,3] lie from this tone's, [H,W]."""
        luma = _luma(image)
        return np.abs(image - luma[..., None] - self._at(luma)).max(axis=2)

    def _at(self, luma: FloatImage) -> FloatImage:
        """Return the offsets of each brightness, [...,3]."""
        return np.stack([np.interp(luma, self.lumas, self.offsets[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def _luma(image: FloatImage) -> FloatImage:
    """Return the brightness of [...,3]: of equal channels exactly their value."""
    green = image[..., 1]
    return green + LUMA[0] * (image[..., 0] - green) + LUMA[2] * (image[..., 2] - green)
