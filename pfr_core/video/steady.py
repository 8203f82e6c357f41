"""Restored texture that holds still: the last frame's, brought along by the flow, is mixed in where the two agree (ours).

The flow is that of the crops before restoration, which is all that is known of how the face moved. Where the crop a frame ago,
brought along, does not look like the crop now (a blink, a turn, a hand), nothing of the past is taken. Mixing averages the noise
that the network left and blurs by parts of a pixel; what that takes from the finest detail is made up for.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..photo.arrays import FloatImage
from .flow import brought, gray, places

FLOW_SIDE = 256
"""Crops are compared at no more than this many px: flow and agreement are smooth, and cost by the pixel."""
BLUR = 0.02
"""Differences are averaged over this share of the crop: noise differs everywhere, a blink in one place."""
NOISE = 0.05
"""The most of the usual difference, of 1, that counts as noise. A cut differs everywhere too."""
FLOOR = 0.01
"""Difference, of 1, that means nothing even in a crop without noise."""
FINEST, FINE, MOST = 1 / 256, 1 / 100, 1.3
"""Detail is what a blur of that sigma, a share of the crop, takes away: the finest is compared; of the fine, which is still seen
where a face is small, at most so many times as much is given back."""


class Steady:
    """The restored crops of one face, one after the other.

    Args:
        strength: share of the past where it agrees, from 0 to below 1.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._last: tuple[int, FloatImage, FloatImage] | None = None

    def __call__(self, frame: int, crop: FloatImage, restored: FloatImage) -> FloatImage:
        """Return ``restored`` [S,S,3] in [0,1] with the past mixed in; the past begins anew after a gap.

        Args:
            frame: number of the frame.
            crop: what was restored, [S,S,3] in [0,1].
            restored: the network's answer.
        """
        last, mixed = self._last, restored
        if last is not None and last[0] == frame - 1 and self.strength > 0:
            now, before = _small(crop), _small(last[1])
            flow = self._flow.calc(gray(now), gray(before), None)
            share = self.strength * _agreement(now, brought(before, places(flow), cv2.INTER_LANCZOS4))
            scale, size = len(crop) / len(now), (len(crop), len(crop))
            flow, share = (cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in (flow * scale, share))
            past = brought(last[2], places(flow), cv2.INTER_LANCZOS4)
            mixed = restored + share[..., None] * (past - restored)
        self._last = frame, crop, mixed
        return mixed if mixed is restored else _as_sharp(mixed, restored)

    def state(self, frame: int) -> tuple[FloatImage, ...]:
        """Return what the frame after ``frame`` needs to know of it; nothing if the face was not there."""
        return () if self._last is None or self._last[0] != frame else self._last[1:]

    def take_up(self, frame: int, crop: FloatImage, mixed: FloatImage) -> None:
        """Go on after ``frame``, with its :meth:`state`."""
        self._last = frame, crop, mixed


def _as_sharp(mixed: FloatImage, restored: FloatImage) -> FloatImage:
    """Return ``mixed`` with its fine detail raised by what its finest detail lacks beside that of ``restored``."""
    quarter = len(mixed) // 4
    middle = slice(quarter, len(mixed) - quarter)
    has, had = (float(_detail(each[middle, middle], FINEST * len(mixed)).std()) for each in (mixed, restored))
    gain = min(max(had / max(has, 1e-6), 1.0), MOST)
    return mixed + (gain - 1) * _detail(mixed, FINE * len(mixed))


def _detail(crop: FloatImage, sigma: float) -> FloatImage:
    return np.asarray(crop - cv2.GaussianBlur(crop, (0, 0), sigma), np.float32)


def _small(crop: FloatImage) -> FloatImage:
    side = min(len(crop), FLOW_SIDE)
    return crop if side == len(crop) else cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)


def _agreement(now: FloatImage, before: FloatImage) -> FloatImage:
    """Return for each pixel from 0 to 1 whether the two look the same, noise aside."""
    difference = cv2.GaussianBlur(np.abs(now - before).mean(axis=2), (0, 0), BLUR * len(now))
    usual = min(float(np.median(difference)), NOISE)
    return np.exp(-np.square(difference / (2 * usual + FLOOR)))
