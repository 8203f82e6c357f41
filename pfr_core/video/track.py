"""Faces followed through a clip, so that a crop neither trembles nor vanishes for a frame. All of this is ours.

The detector looks at every n-th frame only; between, each face is carried on by the optical flow of what lies in it (Lucas and
Kanade's, both ways, a similarity by RANSAC). Flow is smooth but drifts, the detector trembles but does not drift: so what the
detector says is carried back to the track's first frame, where a face hardly moves, smoothed there over time, to both sides
and so without lag, and carried to every frame again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import ShouldStop, check_stop
from ..faces.align import align, alignment_matrix
from ..faces.detect import Detector
from ..faces.face import Face
from ..faces.geometry import Matrix, similarity
from ..find import choose_faces, find_candidates, missing_face, none_found
from ..options import RestoreOptions
from ..photo.arrays import Array, to_uint8
from ..support.notice import Notice, beside_no_face

FLOW_SIDE = 960
"""Flow is computed in frames of at most this many px; a pixel there is more than the flow's own error."""
FEATURES, FEWEST = 80, 8
"""Points followed in a face, and how many of them must agree."""
RETURN_PX = 1.0
"""A point followed to the next frame and back must return this closely."""
SAME_FACE_IOU = 0.3
"""A found face continues the track that it covers by this much."""
MISSES = 2
"""A track that the detector fails to see so many times in a row has ended."""
CUT = 45.0
"""Mean differences of brightness and of both colours between two small frames, added, from which on it may be a cut."""
SUDDEN, USUAL = 2.0, 5
"""A cut differs by so many times the median of so many frames before it; a shaking camera differs in all of them."""
CUT_SIDE = 64
SMOOTHING = 8.0
"""Standard deviation in frames over which the detector's points are averaged."""
REACH = 5
"""Standard deviations from which on a sighting weighs nothing."""
PICTURE = 128
"""Side in px of the picture of a track."""

Gray = npt.NDArray[np.uint8]
Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Move:
    """A similarity of the plane: a point z, as a complex number, goes to ``turn * z + shift``."""

    turn: complex = 1.0
    shift: complex = 0.0

    @classmethod
    def of(cls, matrix: Matrix) -> Move:
        """Return the similarity that a matrix [2,3] is."""
        return cls(complex(matrix[0, 0], matrix[1, 0]), complex(matrix[0, 2], matrix[1, 2]))

    def __call__(self, points: Complex) -> Complex:
        """Move points."""
        return self.turn * points + self.shift

    def after(self, other: Move) -> Move:
        """Return ``other`` followed by this."""
        return Move(self.turn * other.turn, self.turn * other.shift + self.shift)

    def inverse(self) -> Move:
        """Return the way back."""
        return Move(1 / self.turn, -self.shift / self.turn)


@dataclass(frozen=True, eq=False)
class Track:
    """One face through the clip.

    Attributes:
        number: from 0, in the order of appearance, from left to right of those that appear together.
        first: number of the first frame.
        rows: [T,15] float32, the face in each frame from the first on: box, score, five points.
        picture: [P,P,3] uint8, what the face looks like where it was seen best.
    """

    number: int
    first: int
    rows: npt.NDArray[np.float32]
    picture: npt.NDArray[np.uint8]

    def __contains__(self, frame: int) -> bool:
        return 0 <= frame - self.first < len(self.rows)

    def face(self, frame: int) -> Face:
        """Return the face in a frame."""
        box, score, points = np.split(self.rows[frame - self.first].astype(float), [4, 5])
        return Face.of(box, float(score[0]), points.reshape(5, 2))

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return self.first + len(self.rows) - 1

    @property
    def middle(self) -> Face:
        """The face halfway."""
        return self.face((self.first + self.last) // 2)


@dataclass(frozen=True)
class Tracks:
    """All faces of a clip.

    Attributes:
        tracks: in the order of appearance.
        frames: how many frames were looked at.
        cuts: the first frame of each scene but the first.
        size: width and height of a frame.
        notices: what a person should know of the search.
    """

    tracks: list[Track]
    frames: int
    cuts: list[int]
    size: tuple[int, int]
    notices: tuple[Notice, ...] = ()

    @property
    def most_at_once(self) -> int:
        """Number of faces in the frame that has the most."""
        ends = sorted([(track.first, 1) for track in self.tracks] + [(track.last + 1, -1) for track in self.tracks])
        return max(accumulate(change for _, change in ends), default=0)

    @property
    def scenes(self) -> set[int]:
        """Numbers of the frames with which scenes begin, and of the one after the last."""
        return {0, *self.cuts, self.frames}

    def only(self, numbers: Iterable[int]) -> Tracks:
        """Return the faces with these numbers."""
        kept = set(numbers)
        return replace(self, tracks=[track for track in self.tracks if track.number in kept])

    def chosen(self, options: RestoreOptions) -> tuple[list[Track], tuple[Notice, ...]]:
        """Return those that the options choose, and what is to be said of it.

        ``indices`` are the numbers of tracks; for all other choices each is judged by its face halfway. Sharp ones are restored
        too: a face that is sharp in one frame and not in the next would flicker.
        """
        if options.select == "index":
            chosen = [track for track in self.tracks if track.number in options.indices]
            missing = sorted(set(options.indices) - {track.number for track in chosen})
            if missing:
                return chosen, (*beside_no_face(self.notices), missing_face(missing, len(self.tracks)))
            return chosen, self.notices
        by_face: dict[Face, list[Track]] = {}  # a shot that occurs twice has equal faces
        for track in self.tracks:
            by_face.setdefault(track.middle, []).append(track)
        found = choose_faces(list(by_face), self.size, options)
        return [track for face in found.faces for track in by_face[face]], (*found.notices, *self.notices)


@dataclass
class _Growing:
    """A track being made, the ``number``-th begun. ``moves`` take the first sighting's frame to each frame."""

    number: int
    moves: dict[int, Move]
    seen: dict[int, Face]
    picture: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((PICTURE, PICTURE, 3), np.uint8))
    best: float = 0.0
    misses: int = 0
    lost: bool = False

    def now(self, frame: int) -> Face:
        """Return where the face is by the flow since it was last seen."""
        last = max(self.seen)
        return _moved(self.seen[last], self.moves[frame].after(self.moves[last].inverse()))

    def see(self, number: int, face: Face, pixels: npt.NDArray[np.uint8]) -> None:
        """Take what the detector says."""
        self.seen[number], self.misses, self.lost = face, 0, False
        if face.size * face.score > self.best:
            self.best = face.size * face.score
            self.picture = to_uint8(align(pixels, alignment_matrix(face, PICTURE), PICTURE))


@dataclass
class Follower:
    """Follows faces through frames that come one after the other; a few small gray ones are held, and what was found.

    Args:
        detector: finds faces.
        options: how to find them.
        every: the detector looks at each so many frames, at cuts, and where the flow has lost a face.
    """

    detector: Detector
    options: RestoreOptions
    every: int
    frames: int = field(default=0, init=False)
    cuts: list[int] = field(default_factory=list, init=False)
    size: tuple[int, int] = field(default=(0, 0), init=False)
    _growing: list[_Growing] = field(default_factory=list, init=False)
    _ended: list[Track] = field(default_factory=list, init=False)
    _begun: int = field(default=0, init=False)
    _given: dict[int, int] = field(default_factory=dict, init=False)
    _before: deque[tuple[int, Gray]] = field(default_factory=deque, init=False)
    _small: Gray | None = field(default=None, init=False)
    _changes: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL), init=False)

    def take(self, frame: Array, should_stop: ShouldStop | None = None) -> None:
        """Follow the faces into the next frame [H,W,3+]; look for faces in it if it is time.

        Raises:
            Cancelled: ``should_stop``, which is asked before each run of the detector's network, returned true.
        """
        number, self.frames, self.size = self.frames, self.frames + 1, (frame.shape[1], frame.shape[0])
        pixels = to_uint8(frame[..., :3])
        scale = min(1.0, FLOW_SIDE / max(pixels.shape[:2]))
        gray: Gray = cv2.cvtColor(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        if self._is_cut(pixels):
            self.cuts.append(number)
            for track in list(self._growing):
                self._end(track)
            self._before.clear()
        if self._before:
            for track in self._growing:
                move = None if track.lost else _flow(self._before[-1][1], gray, track.now(number - 1), scale)
                track.lost = move is None
                track.moves[number] = (move or Move()).after(track.moves[number - 1])
        if number % self.every == 0 or not self._before or any(track.lost for track in self._growing):
            self._look(number, pixels, gray, scale, should_stop)
        self._before.append((number, gray))
        while len(self._before) > self.every:
            self._before.popleft()

    def _is_cut(self, pixels: npt.NDArray[np.uint8]) -> bool:
        # Not hue: in a gray film noise makes it jump.
        small = cv2.cvtColor(cv2.resize(pixels, (CUT_SIDE, CUT_SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb)
        last, self._small = self._small, small
        if last is None:
            return False
        change = float(cv2.absdiff(small, last).mean(axis=(0, 1)).sum())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        self._changes.append(change)
        return change > max(CUT, SUDDEN * usual)

    def _look(
        self,
        number: int,
        pixels: npt.NDArray[np.uint8],
        gray: Gray,
        scale: float,
        should_stop: ShouldStop | None,
    ) -> None:
        found = find_candidates(self.detector, pixels, self.options, should_stop)
        free = list(self._growing)
        for face in found:  # the best score first
            expected = [(track.now(number).iou(face), track) for track in free]
            share, track = max(expected, key=lambda each: each[0], default=(0.0, None))
            if track is not None and share >= SAME_FACE_IOU:
                free.remove(track)
                if track.lost:
                    last = max(track.seen)
                    track.moves[number] = Move.of(similarity(track.seen[last].points, face.points)).after(track.moves[last])
                    _bridge(track.moves, last, number)
                track.see(number, face, pixels)
            else:
                self._growing.append(self._begin(number, face, pixels, gray, scale))
        for track in free:
            track.misses += 1
            if track.lost or track.misses >= MISSES:
                self._end(track)

    def _begin(self, number: int, face: Face, pixels: npt.NDArray[np.uint8], gray: Gray, scale: float) -> _Growing:
        """Begin a track, and follow it back to where the detector had not looked."""
        track = _Growing(self._begun, {number: Move()}, {})
        track.see(number, face, pixels)
        self._begun += 1
        later = gray
        for earlier, picture in reversed(self._before):
            move = _flow(later, picture, _moved(face, track.moves[earlier + 1]), scale)
            if move is None:
                break
            track.moves[earlier], later = move.after(track.moves[earlier + 1]), picture
        return track

    def _end(self, track: _Growing) -> None:
        self._growing.remove(track)
        self._ended += self._track(track)

    def _track(self, track: _Growing) -> list[Track]:
        """Return the track, smoothed; a face seen once and then looked for in vain was none."""
        if len(track.seen) == 1 and track.misses:
            return []
        end = max(track.seen) + (self.every // 2 if track.misses or track.lost else self.every)
        return [Track(track.number, *_smoothed(track, end), track.picture)]

    def found(self) -> Tracks:
        """Return the faces so far; the numbers that they have once stay when more frames come."""
        tracks = [*self._ended, *(each for track in self._growing for each in self._track(track))]
        for track in sorted(tracks, key=lambda track: (track.first, track.face(track.first).center)):
            self._given.setdefault(track.number, len(self._given))
        numbered = [replace(track, number=self._given[track.number]) for track in tracks]
        return Tracks(
            sorted(numbered, key=lambda track: track.number),
            self.frames,
            self.cuts,
            self.size,
            () if tracks else tuple(none_found(self.size, self.options, self.detector)),
        )


def find_tracks(
    frames: Iterable[Array],
    detector: Detector,
    options: RestoreOptions,
    *,
    every: int = 5,
    progress: Callable[[int], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> Tracks:
    """Follow the faces of a clip. One frame is held at a time, and a few small gray ones.

    Args:
        frames: [H,W,3+] of one size.
        detector: finds faces.
        options: how to find them.
        every: the detector looks at each so many frames, at cuts, and where the flow has lost a face.
        progress: called with the number of frames done.
        should_stop: asked between frames and before each run of the detector's network.

    Raises:
        Cancelled: ``should_stop`` asked for it.
    """
    follower = Follower(detector, options, every)
    for frame in frames:
        check_stop(should_stop, f"Stopped after {follower.frames} frames; nothing was written.")
        follower.take(frame, should_stop)
        if progress is not None:
            progress(follower.frames)
    return follower.found()


def _flow(old: Gray, new: Gray, face: Face, scale: float) -> Move | None:
    """Return how what lies in the face's box moves, in px of the frame; None if too few of its points agree."""
    height, width = old.shape
    left, top, right, bottom = (round(value * scale) for value in face.box)
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if right - left < 2 or bottom - top < 2:
        return None
    points = cv2.goodFeaturesToTrack(old[top:bottom, left:right], FEATURES, 0.01, max(2.0, (right - left) / 24))
    if points is None or len(points) < FEWEST:
        return None
    points += np.array((left, top), np.float32)
    forward, there, _ = cv2.calcOpticalFlowPyrLK(old, new, points, None)
    back, home, _ = cv2.calcOpticalFlowPyrLK(new, old, forward, None)
    good = (there[:, 0] == 1) & (home[:, 0] == 1) & (np.linalg.norm(back - points, axis=2)[:, 0] < RETURN_PX)
    if good.sum() < FEWEST:
        return None
    matrix, agreeing = cv2.estimateAffinePartial2D(points[good], forward[good], ransacReprojThreshold=RETURN_PX)
    if matrix is None or agreeing.sum() < FEWEST:
        return None
    move = Move.of(matrix)
    return Move(move.turn, move.shift / scale)


def _moved(face: Face, move: Move) -> Face:
    return _face(_carried(_numbers(face), move), face.score)


def _numbers(face: Face) -> Complex:
    """Return the five points, the box's middle and half its sides, as seven complex numbers."""
    left, top, right, bottom = face.box
    box = complex(left + right, top + bottom) / 2, complex(right - left, bottom - top) / 2
    return np.array([*(complex(*point) for point in face.points), *box])


def _carried(numbers: Complex, move: Move) -> Complex:
    """Move what :func:`_numbers` gave; a box stays upright."""
    return np.append(move(numbers[:6]), numbers[6] * abs(move.turn))


def _face(numbers: Complex, score: float) -> Face:
    *points, middle, half = numbers.tolist()
    box = (middle.real - half.real, middle.imag - half.imag, middle.real + half.real, middle.imag + half.imag)
    return Face.of(box, score, [(z.real, z.imag) for z in points])


def _bridge(moves: dict[int, Move], last: int, number: int) -> None:
    """Fill the frames between two sightings, over which the flow was lost, with a steady motion."""
    start, end = moves[last], moves[number]
    for frame in range(last + 1, number):
        share = (frame - last) / (number - last)
        moves[frame] = Move(start.turn + share * (end.turn - start.turn), start.shift + share * (end.shift - start.shift))


def _smoothed(track: _Growing, end: int) -> tuple[int, npt.NDArray[np.float32]]:
    """Return the first frame and the face from it up to ``end``: what was seen, averaged where the face stands still."""
    times = np.array(sorted(track.seen), dtype=np.float64)
    still = np.array([_carried(_numbers(track.seen[int(time)]), track.moves[int(time)].inverse()) for time in times])
    rows = []
    frames = sorted(frame for frame in track.moves if frame <= end)
    for frame in frames:
        near = slice(*np.searchsorted(times, (frame - REACH * SMOOTHING, frame + REACH * SMOOTHING)))
        nearest = int(np.abs(times - frame).argmin())
        near = near if near.stop > near.start else slice(nearest, nearest + 1)
        fitted, half = _fitted(times[near] - frame, still[near]), still[near, 6]
        # The line goes on beyond the sightings, where a face that grew fast would come to have no width.
        fitted[6] = complex(*(np.clip(part(fitted[6]), part(half).min(), part(half).max()) for part in (np.real, np.imag)))
        face = _face(_carried(fitted, track.moves[frame]), track.seen[int(times[nearest])].score)
        rows.append([*face.box, face.score, *(value for point in face.points for value in point)])
    return frames[0], np.array(rows, np.float32)


def _fitted(times: npt.NDArray[np.float64], values: Complex) -> Complex:
    """Return the value at time 0 of the line through ``values`` [T,N], near times weighing most."""
    weight = np.exp(-0.5 * (times / SMOOTHING) ** 2) + 1e-12
    weight /= weight.sum()
    middle, mean = weight @ times, weight @ values
    spread = weight @ (times - middle) ** 2
    if spread < 1:  # one sighting, or far from all but one
        return mean
    slope = (weight * (times - middle)) @ (values - mean) / spread
    return mean - slope * middle
