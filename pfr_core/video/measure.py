"""How much restored faces flicker, as figures: each result of a clip is judged by the motion in the clip itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..faces.align import align, alignment_matrix, template
from ..faces.detect import Detector
from ..faces.face import Face
from ..faces.geometry import transform
from ..find import find_candidates
from ..models.identity import IdentityNetwork
from ..options import RestoreOptions
from ..photo.arrays import Array, FloatImage
from ..support.notice import with_notices
from ..support.progress import Progress
from .flow import brought, gray, places
from .read import Clip
from .track import SAME_FACE_IOU, Track, find_tracks

SIDE = 256
"""Faces are compared in crops of so many px."""
INSIDE = slice(SIDE // 5, SIDE - SIDE // 5)
"""The face without its surroundings, in a crop (ours)."""
RETURN_PX = 1.0
"""A pixel whose flow there and back misses by more is hidden in one of the frames and left out."""


@dataclass(frozen=True)
class Figures:
    """How still faces hold; None where that could not be measured.

    Attributes:
        warping_error: root of the mean squared difference, in 8-bit levels, between a face and the one a frame ago brought along
            by the flow of the unrestored clip, where nothing is hidden (Lai et al. 2018, "Learning Blind Video Temporal
            Consistency", section 4; there of whole frames).
        jitter: root of the mean squared way, as a share of the eyes' distance, that the five points go from frame to frame
            beside what the flow of the unrestored clip says.
        identity: mean cosine between what a face recognition network says of a face and of the one a frame ago; 1 is the same.
        sharpness: variance of the Laplacian of the brightness, in 8-bit levels.
    """

    warping_error: float | None
    jitter: float | None
    identity: float | None
    sharpness: float | None


@dataclass(frozen=True)
class Sight:
    """One face in one frame and the one before; as :class:`Figures`, but the error and the way squared."""

    frame: int
    warping: float | None
    way: float | None
    identity: float | None
    sharpness: float


@dataclass(frozen=True)
class Flicker:
    """What was measured of a clip: all faces, in the order of frames."""

    sights: Sequence[Sight]

    def whole(self) -> Figures:
        """Return the means over all faces and frames."""
        return _means(self.sights)

    def frames(self) -> dict[int, Figures]:
        """Return the means over the faces of each frame, by its number; frames without a face are left out."""
        return {frame: _means(list(sights)) for frame, sights in groupby(self.sights, key=lambda sight: sight.frame)}

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values for JSON: the means, and ``faces``, how many pairs of frames were measured, over all faces."""
        figures = self.whole()
        return {each.name: getattr(figures, each.name) for each in fields(figures)} | {"faces": len(self.sights)}


def flicker(
    source: Path,
    results: Sequence[Path],
    detector: Detector,
    recognise: IdentityNetwork | None = None,
    progress: Progress | None = None,
) -> dict[Path, Flicker]:
    """Measure the clip itself and each of its results, frame by frame; only figures are held.

    Args:
        source: the clip before restoration.
        results: restored ones, with as many frames of the same proportions.
        detector: finds the faces and their points.
        recognise: says who a face is; None leaves identity out.
        progress: called after each frame with (frames done, frames in all).

    Raises:
        InputError: a result has another number of frames or other proportions, or there is no face in two frames of the clip.
        ImageError: a clip cannot be read.
    """
    clips = list(dict.fromkeys([source, *results]))
    about = {clip: Clip(clip).probe() for clip in clips}
    first = about[source]
    for clip, other in about.items():
        if other.frames != first.frames:
            raise InputError(f"{clip} has {other.frames} frames, {source} {first.frames}; compare results of one clip.")
        if abs(other.width * first.height - other.height * first.width) > 2 * max(first.width, first.height):
            sizes = f"{other.width} x {other.height} px, {source} {first.width} x {first.height}"
            raise InputError(f"{clip} has {sizes}: other proportions; compare results of one clip.")
    options = RestoreOptions()
    followed = find_tracks(Clip(source).frames(), detector, options)
    measured: dict[Path, list[Sight]] = {clip: [] for clip in clips}
    before: list[Array] | None = None
    found_before: list[list[Face]] = []
    for number, now in enumerate(zip(*(Clip(clip).frames() for clip in clips), strict=False)):
        found: list[list[Face]] = []
        present = [track for track in followed.tracks if number in track and number - 1 in track]
        if before is not None and present:
            found = [find_candidates(detector, frame, options) for frame in now]
            found_before = found_before or [find_candidates(detector, frame, options) for frame in before]
            for track in present:
                _measure(track, number, before, now, found_before, found, recognise, list(measured.values()))
        before, found_before = list(now), found
        if progress is not None:
            progress(number + 1, first.frames)
    if not measured[source]:
        text = f"{source}: no face in two frames running; there is nothing to measure."
        raise InputError(with_notices(text, followed.notices))
    return {clip: Flicker(sights) for clip, sights in measured.items()}


def _measure(
    track: Track,
    number: int,
    before: Sequence[Array],
    now: Sequence[Array],
    found_before: Sequence[Sequence[Face]],
    found: Sequence[Sequence[Face]],
    recognise: IdentityNetwork | None,
    into: Sequence[list[Sight]],
) -> None:
    """Add one face in two frames; the first of each is the unrestored clip's."""
    old, new = track.face(number - 1), track.face(number)
    field, seen = _flow(_crop(before[0], before[0], old), _crop(now[0], now[0], new))
    for one, other, earlier, later, sights in zip(before, now, found_before, found, into, strict=True):
        crops = _crop(one, before[0], old), _crop(other, now[0], new)
        squares = np.square(255 * (brought(crops[0], field, cv2.INTER_CUBIC) - crops[1])).mean(axis=2)[INSIDE, INSIDE][seen]
        light = cv2.cvtColor(crops[1], cv2.COLOR_RGB2GRAY)[INSIDE, INSIDE] * 255
        points = [
            _points(faces, face, frame, scale)
            for faces, face, frame, scale in ((earlier, old, one, before[0]), (later, new, other, now[0]))
        ]
        sights.append(
            Sight(
                number,
                float(squares.mean()) if squares.size else None,
                None if points[0] is None or points[1] is None else _way(points[0], points[1]),
                None if recognise is None else _likeness(recognise, crops),
                float(cv2.Laplacian(light, cv2.CV_32F).var()),
            )
        )


def _crop(frame: Array, like: Array, face: Face) -> FloatImage:
    """Return the face of a frame which may be ``like`` enlarged."""
    return align(frame, alignment_matrix(face.moved(frame.shape[1] / like.shape[1]), SIDE), SIDE)


def _points(faces: Sequence[Face], face: Face, frame: Array, like: Array) -> np.ndarray | None:
    """Return where the detector sees the five points of ``face``, in its crop; None if it does not see the face."""
    face = face.moved(frame.shape[1] / like.shape[1])
    nearest = max(faces, key=face.iou, default=None)
    if nearest is None or face.iou(nearest) < SAME_FACE_IOU:
        return None
    matrix = alignment_matrix(face, SIDE)
    return transform(nearest.points, matrix)


def _way(before: np.ndarray, now: np.ndarray) -> float:
    """Return the mean squared way of the points in crops that move with the face, as a share of the eyes' distance."""
    return float(np.square(now - before).sum(axis=1).mean() / np.square(now[0] - now[1]).sum())


def _likeness(recognise: IdentityNetwork, crops: Sequence[FloatImage]) -> float:
    """Return the cosine between what the network says of two crops."""
    device = next(recognise.parameters()).device
    both = torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2) * 2 - 1
    points = torch.from_numpy(template(SIDE)).float().to(device).expand(2, 5, 2)
    with torch.inference_mode():
        one, other = recognise(both, points)
    return float(one @ other)


def _flow(before: FloatImage, now: FloatImage) -> tuple[FloatImage, np.ndarray]:
    """Return where each pixel of ``now`` was before, and which of those inside the face were to be seen."""
    old, new = gray(before), gray(now)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, there = flow.calc(new, old, None), flow.calc(old, new, None)
    field = places(back)
    again = back + brought(there, field, cv2.INTER_LINEAR)
    return field, (np.linalg.norm(again, axis=2) < RETURN_PX)[INSIDE, INSIDE]


def _means(sights: Sequence[Sight]) -> Figures:
    def mean(values: Iterable[float | None]) -> float | None:
        measured = [value for value in values if value is not None]
        return sum(measured) / len(measured) if measured else None

    squares = (mean(sight.warping for sight in sights), mean(sight.way for sight in sights))
    error, jitter = (None if each is None else each**0.5 for each in squares)
    return Figures(error, jitter, mean(sight.identity for sight in sights), mean(sight.sharpness for sight in sights))
