"""Restored texture that holds still: the last frame's, brought along by the flow, is mixed in where the two agree (ours).

The flow is that of the crops before restoration, which is all that is known of how the face moved. Where the crop a frame ago,
brought along, does not look like the crop now (a blink, a turn, a hand), nothing of the past is taken. Mixing averages the noise
that the network left and blurs by parts of a pixel; what that takes from the finest detail is made up for. A face nothing of
which has changed can do with its last restoration, brought along, which saves the network.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..faces.mask import make_mask
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
UNCHANGED = 0.5
"""How much two crops must agree at every place of a face that has not changed; noise alone gives about 0.8."""
FINEST, FINE, MOST = 1 / 256, 1 / 100, 1.3
"""Detail is what a blur of that sigma, a share of the crop, takes away: the finest is compared; of the fine, which is still seen
where a face is small, at most so many times as much is given back."""


class Steady:
    """The restored crops of one face, one after the other, and the masks that they are pasted with.

    Args:
        strength: share of the past where it agrees, from 0 to below 1.
        every: a face that has not changed is to be restored in every so many frames only; of no effect with ``strength`` 0.
    """

    def __init__(self, strength: float, every: int = 1) -> None:
        self.strength, self.every = strength, every
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._frame: int | None = None
        self._looked: int | None = None
        self._small: FloatImage
        self._past: tuple[FloatImage, ...] = ()
        """Of the frame at hand: the crop, made small; the restored one with its past mixed in; how strong its finest detail was
        when the network gave it; the parser's mask, if there is one."""
        self._before: tuple[FloatImage, FloatImage, tuple[FloatImage, ...]] | None = None
        """Of the frame at hand: where each pixel was a frame ago, what share of it is from there, and what was known there."""

    def __call__(self, frame: int, crop: FloatImage, restored: FloatImage) -> FloatImage:
        """Return ``restored`` [S,S,3] in [0,1] with the past mixed in; the past begins anew after a gap.

        Args:
            frame: number of the frame.
            crop: what was restored, [S,S,3] in [0,1].
            restored: the network's answer.
        """
        self._look(frame, crop)
        mixed, detail = restored, _finest(restored)
        if self._before is not None:
            field, share, past = self._before
            mixed = _mixed(restored, brought(past[1], field, cv2.INTER_CUBIC), cv2.cvtColor(share, cv2.COLOR_GRAY2RGB))
        self._frame, self._past = frame, (self._small, mixed, detail)
        return mixed if mixed is restored else _as_sharp(mixed, detail)

    def unchanged(self, frame: int, crop: FloatImage) -> FloatImage | None:
        """Return what stands for the restored crop of ``frame``: the last, brought along. None: the face is to be restored.

        Args:
            frame: number of the frame.
            crop: what would be restored, [S,S,3] in [0,1].
        """
        if frame % self.every == 0:
            return None
        self._look(frame, crop)
        if self._before is None:
            return None
        field, share, past = self._before
        agreement = share / (UNCHANGED * self.strength)
        if agreement[make_mask("oval", len(crop), 0.0) > 0].min() < 1:
            return None
        kept, detail = brought(past[1], field, cv2.INTER_CUBIC), past[2]
        # Beside the face something may have come to light: there the crop itself is all that is known.
        kept = _mixed(crop, kept, cv2.cvtColor(np.minimum(agreement, 1), cv2.COLOR_GRAY2RGB))
        self._frame, self._past = frame, (self._small, kept, detail)
        return _as_sharp(kept, detail)

    def _look(self, frame: int, crop: FloatImage) -> None:
        """Compare ``crop`` with the one before, if that is not done yet."""
        if self._looked == frame:
            return
        self._looked, self._small, self._before = frame, _small(crop), None
        if (past := self.state(frame - 1)) and self.strength > 0:
            flow = self._flow.calc(gray(self._small), gray(past[0]), None)
            share = self.strength * _agreement(self._small, brought(past[0], places(flow), cv2.INTER_CUBIC))
            scale, size = len(crop) / len(self._small), (len(crop), len(crop))
            flow, share = (cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in (flow * scale, share))
            self._before = places(flow), share, past

    def mask(self, mask: FloatImage) -> FloatImage:
        """Return the mask [S,S] in [0,1] of the frame at hand with the one before mixed in, by the same flow and shares."""
        if self._before is not None:
            field, share, past = self._before
            for each in past[3:]:
                mask = _mixed(mask, brought(each, field, cv2.INTER_LINEAR), share)
        self._past = *self._past[:3], mask
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


def _finest(image: FloatImage) -> FloatImage:
    """Return how strong the finest detail in the middle of [S,S,3] is, []."""
    quarter = len(image) // 4
    middle = image[quarter : len(image) - quarter, quarter : len(image) - quarter]
    return np.asarray((middle - cv2.GaussianBlur(middle, (0, 0), FINEST * len(image))).std(), np.float32)


def _as_sharp(mixed: FloatImage, detail: FloatImage) -> FloatImage:
    """Return ``mixed`` with its fine detail raised by what its finest lacks to be as strong as ``detail``."""
    gain = min(max(float(detail) / max(float(_finest(mixed)), 1e-6), 1.0), MOST)
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
