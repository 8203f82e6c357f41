"""How much restored faces flicker, as figures: each result of a clip is judged by the motion in the clip itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..faces.align import align, alignment_matrix
from ..faces.detect import Detector
from ..faces.face import Face
from ..faces.geometry import transform
from ..find import find_candidates
from ..options import RestoreOptions
from ..photo.arrays import Array, FloatImage
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
class Flicker:
    """Means over all faces and frames of a clip.

    Attributes:
        warping_error: root of the mean squared difference, in 8-bit levels, between a face and the one a frame ago brought along
            by the flow of the unrestored clip, where nothing is hidden (Lai et al. 2018, "Learning Blind Video Temporal
            Consistency", section 4; there of whole frames).
        jitter: root of the mean squared way, as a share of the eyes' distance, that the five points go from frame to frame
            beside what the flow of the unrestored clip says.
        sharpness: variance of the Laplacian of the brightness, in 8-bit levels.
        faces: how many pairs of frames were measured, over all faces.
    """

    warping_error: float
    jitter: float
    sharpness: float
    faces: int

    def to_dict(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return asdict(self)


def flicker(source: Path, results: Sequence[Path], detector: Detector) -> dict[Path, Flicker]:
    """Measure the clip itself and each of its results, frame by frame in constant memory.

    Args:
        source: the clip before restoration.
        results: restored ones, with as many frames of the same proportions.
        detector: finds the faces and their points.

    Raises:
        InputError: a result has another number of frames, or there is no face in two frames of the clip.
        ImageError: a clip cannot be read.
    """
    clips = list(dict.fromkeys([source, *results]))
    counts = {clip: Clip(clip).probe().frames for clip in clips}
    for clip, count in counts.items():
        if count != counts[source]:
            raise InputError(f"{clip} has {count} frames, {source} {counts[source]}; compare results of one clip.")
    options = RestoreOptions()
    tracks = find_tracks(Clip(source).frames(), detector, options).tracks
    sums: dict[Path, defaultdict[str, float]] = {clip: defaultdict(float) for clip in clips}
    before: list[Array] | None = None
    found_before: list[list[Face]] = []
    for number, now in enumerate(zip(*(Clip(clip).frames() for clip in clips), strict=False)):
        if before is not None and any(number in track and number - 1 in track for track in tracks):
            found = [find_candidates(detector, frame, options) for frame in now]
            found_before = found_before or [find_candidates(detector, frame, options) for frame in before]
            for track in tracks:
                if number in track and number - 1 in track:
                    _measure(track, number, before, now, found_before, found, list(sums.values()))
        else:
            found = []
        before, found_before = list(now), found
    if not sums[source]["pairs"]:
        raise InputError(f"{source}: no face in two frames running; there is nothing to measure.")
    return {clip: _means(each) for clip, each in sums.items()}


def _measure(
    track: Track,
    number: int,
    before: Sequence[Array],
    now: Sequence[Array],
    found_before: Sequence[Sequence[Face]],
    found: Sequence[Sequence[Face]],
    sums: Sequence[defaultdict[str, float]],
) -> None:
    """Add one face in two frames; the first of each is the unrestored clip's."""
    old, new = track.face(number - 1), track.face(number)
    field, seen = _flow(_crop(before[0], before[0], old), _crop(now[0], now[0], new))
    for one, other, earlier, later, into in zip(before, now, found_before, found, sums, strict=True):
        crops = _crop(one, before[0], old), _crop(other, now[0], new)
        squares = np.square(255 * (brought(crops[0], field, cv2.INTER_CUBIC) - crops[1])).mean(axis=2)[INSIDE, INSIDE][seen]
        into["warping"] += float(squares.mean()) if squares.size else 0.0
        light = cv2.cvtColor(crops[1], cv2.COLOR_RGB2GRAY)[INSIDE, INSIDE] * 255
        into["sharpness"] += float(cv2.Laplacian(light, cv2.CV_32F).var())
        into["pairs"] += 1
        points = [
            _points(faces, face, frame, scale)
            for faces, face, frame, scale in ((earlier, old, one, before[0]), (later, new, other, now[0]))
        ]
        if points[0] is not None and points[1] is not None:
            way = points[1] - points[0]  # in crops that move with the face
            into["way"] += float(np.square(way).sum(axis=1).mean()) / float(np.square(points[1][0] - points[1][1]).sum())
            into["points"] += 1


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


def _flow(before: FloatImage, now: FloatImage) -> tuple[FloatImage, np.ndarray]:
    """Return where each pixel of ``now`` was before, and which of those inside the face were to be seen."""
    old, new = gray(before), gray(now)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, there = flow.calc(new, old, None), flow.calc(old, new, None)
    field = places(back)
    again = back + brought(there, field, cv2.INTER_LINEAR)
    return field, (np.linalg.norm(again, axis=2) < RETURN_PX)[INSIDE, INSIDE]


def _means(sums: defaultdict[str, float]) -> Flicker:
    pairs, points = sums["pairs"], max(1.0, sums["points"])
    return Flicker((sums["warping"] / pairs) ** 0.5, (sums["way"] / points) ** 0.5, sums["sharpness"] / pairs, round(pairs))
