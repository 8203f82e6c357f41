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
    """The restored crops of one face, one after the other, and the masks that they are pasted with.

    Args:
        strength: share of the past where it agrees, from 0 to below 1.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._frame: int | None = None
        self._past: tuple[FloatImage, ...] = ()
        """Of the frame at hand: the crop, made small; the restored one with its past mixed in; the mask, once it is known."""
        self._before: tuple[FloatImage, FloatImage, tuple[FloatImage, ...]] | None = None
        """Of the frame at hand: where each pixel was a frame ago, what share of it is from there, and the mask there, if any."""

    def __call__(self, frame: int, crop: FloatImage, restored: FloatImage) -> FloatImage:
        """Return ``restored`` [S,S,3] in [0,1] with the past mixed in; the past begins anew after a gap.

        Args:
            frame: number of the frame.
            crop: what was restored, [S,S,3] in [0,1].
            restored: the network's answer.
        """
        now, mixed, past = _small(crop), restored, self.state(frame - 1)
        self._before = None
        if past and self.strength > 0:
            flow = self._flow.calc(gray(now), gray(past[0]), None)
            share = self.strength * _agreement(now, brought(past[0], places(flow), cv2.INTER_CUBIC))
            scale, size = len(crop) / len(now), (len(crop), len(crop))
            flow, share = (cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in (flow * scale, share))
            field = places(flow)
            mixed = _mixed(restored, brought(past[1], field, cv2.INTER_CUBIC), cv2.cvtColor(share, cv2.COLOR_GRAY2RGB))
            self._before = field, share, past[2:]
        self._frame, self._past = frame, (now, mixed)
        return mixed if mixed is restored else _as_sharp(mixed, restored)

    def mask(self, mask: FloatImage) -> FloatImage:
        """Return the mask [S,S] in [0,1] of the frame at hand with the one before mixed in, by the same flow and shares."""
        if self._before is not None:
            field, share, masks = self._before
            for past in masks:
                mask = _mixed(mask, brought(past, field, cv2.INTER_LINEAR), share)
        self._past = *self._past[:2], mask
        return mask

    def state(self, frame: int) -> tuple[FloatImage, ...]:
        """Return what the frame after ``frame`` needs to know of it; nothing if the face was not there."""
        return self._past if self._frame == frame else ()

    def take_up(self, frame: int, state: tuple[FloatImage, ...]) -> None:
        """Go on after ``frame``, with its :meth:`state`."""
        self._frame, self._past = frame, state


def _mixed(now: FloatImage, past: FloatImage, share: FloatImage) -> FloatImage:
    """Return ``now`` with a share of ``past``, which is written to."""
    past -= now
    past *= share  # all of one shape: NumPy is slow to broadcast over three channels
    past += now
    return past


def _as_sharp(mixed: FloatImage, restored: FloatImage) -> FloatImage:
    """Return ``mixed`` with its fine detail raised by what its finest detail lacks beside that of ``restored``."""
    quarter = len(mixed) // 4
    middle = slice(quarter, len(mixed) - quarter)
    parts = (each[middle, middle] for each in (mixed, restored))
    sigma = FINEST * len(mixed)
    has, had = (float((each - cv2.GaussianBlur(each, (0, 0), sigma)).std()) for each in parts)
    gain = min(max(had / max(has, 1e-6), 1.0), MOST)
    return np.asarray(cv2.addWeighted(mixed, gain, cv2.GaussianBlur(mixed, (0, 0), FINE * len(mixed)), 1 - gain, 0), np.float32)


def _small(crop: FloatImage) -> FloatImage:
    side = min(len(crop), FLOW_SIDE)
    return crop if side == len(crop) else cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)


def _agreement(now: FloatImage, before: FloatImage) -> FloatImage:
    """Return for each pixel from 0 to 1 whether the two look the same, noise aside."""
    difference = cv2.transform(cv2.absdiff(now, before), np.full((1, 3), 1 / 3))
    difference = cv2.GaussianBlur(difference, (0, 0), BLUR * len(now))
    usual = min(float(np.median(difference)), NOISE)
    return np.exp(-np.square(difference / (2 * usual + FLOOR)))
