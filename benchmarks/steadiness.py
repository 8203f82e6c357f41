"""How still restored faces hold in a clip: each frame by itself against faces followed and steadied.

The clip is one photograph under a moving camera, blurred, with noise and JPEG drawn anew in each frame, as an old film has them;
so the true motion is known, and errors are measured by it. Run it as ``python -m benchmarks.steadiness``; NIQE's pristine model,
``niqe_pris_params.npz``, is looked for in the folders of ``PFR_WEIGHTS_DIR``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pfr_core import Face, FaceRestorer, RestoreOptions
from pfr_core.faces.align import alignment_matrix
from pfr_core.faces.geometry import Matrix, invert, invert_3x3, transform
from pfr_core.find import find_faces
from pfr_core.models.disk import supplied
from pfr_core.options import ClipOptions
from pfr_core.photo.arrays import Array, to_uint8
from pfr_core.photo.read import read_photo
from pfr_core.video.track import Track, find_tracks
from pfr_core.video.tracked import TrackRestorer
from trainer.judge.niqe import FILE, SMALLEST, Pristine, niqe, read_pristine

WIDTH, HEIGHT, FACE = 480, 360, 110
SIDE, INSIDE = 128, slice(24, 104)

Frames = list[Array]


def film(photo: Array, face: Face, count: int) -> tuple[Frames, list[Matrix]]:
    """Return the frames and where the camera takes each pixel of the photograph."""
    rng, frames, motions = np.random.default_rng(0), Frames(), list[Matrix]()
    for number in range(count):
        angle = math.radians(4 * math.sin(number / 9))
        scale = FACE / face.size * (1 + 0.08 * math.sin(number / 13))
        x = face.center[0] + 0.3 * face.size * math.sin(number / 7)
        y = face.center[1] + 0.2 * face.size * math.cos(number / 11)
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        motion = np.hstack([turn, (np.array([WIDTH / 2, HEIGHT / 2]) - turn @ (x, y))[:, None]])
        sharp = cv2.warpAffine(photo, motion, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        noisy = cv2.GaussianBlur(sharp, (0, 0), 1.0) + rng.normal(0, 8, sharp.shape)
        _, coded = cv2.imencode(".jpg", noisy.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])
        frames.append(to_uint8(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))))
        motions.append(motion)
    return frames, motions


def trembling(faces: Sequence[Face], motions: Sequence[Matrix]) -> float:
    """Return how far the points go from frame to frame beside the true motion, as a share of the eyes' distance."""
    still = np.array([transform(face.points, invert(motion)) for face, motion in zip(faces, motions, strict=True)])
    eyes = np.linalg.norm(still[:, 0] - still[:, 1], axis=1).mean()
    return float(np.sqrt(np.square(np.diff(still, axis=0)).sum(axis=2).mean()) / eyes)


def warping_error(frames: Frames, track: Track, motions: Sequence[Matrix]) -> float:
    """Return the root mean squared difference inside the face, in 8-bit levels, between frames laid over each other."""
    squares = []
    for number in range(track.first + 1, track.last + 1):
        motion = (invert_3x3(invert(motions[number])) @ invert_3x3(motions[number - 1]))[:2]
        brought = cv2.warpAffine(frames[number - 1], motion, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        one, other = (_inside(frame, track.face(number)) for frame in (brought, frames[number]))
        squares.append(np.square(one - other).mean())
    return float(np.sqrt(np.mean(squares)))


def sharpness(frames: Frames, track: Track) -> float:
    """Return the variance of the Laplacian inside the face."""
    inside = (_inside(frames[number], track.face(number)) for number in range(track.first, track.last + 1))
    return float(np.mean([cv2.Laplacian(face.mean(axis=2), cv2.CV_64F).var() for face in inside]))


def naturalness(frames: Frames, track: Track, pristine: Pristine) -> float:
    """Return the mean NIQE of what lies around the face, in px of the frame, for magnifying would change it."""
    found = []
    for number in range(track.first, track.last + 1):
        left, top = (round(middle - SMALLEST / 2) for middle in track.face(number).center)
        left, top = min(max(0, left), WIDTH - SMALLEST), min(max(0, top), HEIGHT - SMALLEST)
        found.append(niqe(np.ascontiguousarray(frames[number][top : top + SMALLEST, left : left + SMALLEST]), pristine))
    return float(np.mean(found))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", default="examples/astronaut.jpg")
    parser.add_argument("--frames", type=int, default=30)
    arguments = parser.parse_args()
    pristine = read_pristine(supplied(FILE))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    restorer, options = FaceRestorer(device="cpu"), RestoreOptions(only_bad_faces=False)
    photo = read_photo(arguments.photo).pixels[..., :3]
    one = RestoreOptions(select="largest", only_bad_faces=False)
    largest = find_faces(restorer.detector, photo, one).faces[0]
    frames, motions = film(photo, largest, arguments.frames)

    def timed(work: Callable[[], Frames]) -> tuple[Frames, float]:
        started = time.process_time()
        return work(), time.process_time() - started

    found: list[Track] = []

    def each() -> Frames:
        return [restorer.restore(frame, options=options).image for frame in frames]

    def followed(clip: ClipOptions) -> Frames:
        found[:] = find_tracks(frames, restorer.detector, options).tracks
        work = TrackRestorer(restorer, found, options, clip)
        return [work.restore(number, frame).image for number, frame in enumerate(frames)]

    usual = ClipOptions()
    ways = {
        "followed, steady 0": ClipOptions(steady=0.0),
        f"followed, steady {usual.steady:g}, each frame restored": ClipOptions(restore_every=1),
        f"followed, steady {usual.steady:g}": usual,
    }
    results = {"unrestored": (frames, 0.0), "each frame by itself": timed(each)}
    results |= {name: timed(partial(followed, clip)) for name, clip in ways.items()}
    if not found:
        parser.error(f"{arguments.photo}: no face could be followed; choose another photograph.")
    track = max(found, key=lambda each: each.last - each.first)  # others in the photograph are restored, not measured
    alone = [find_faces(restorer.detector, frame, one).faces[0] for frame in frames]
    points = trembling(alone, motions), trembling([track.face(number) for number in range(len(frames))], motions)
    print("| | points tremble, of the eyes' distance | warping error | sharpness | NIQE | seconds of CPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (pictures, seconds) in results.items():
        shown = "" if name == "unrestored" else f"{points['followed' in name]:.4f}"
        error, sharp = warping_error(pictures, track, motions), sharpness(pictures, track)
        natural, cost = naturalness(pictures, track, pristine), f"{seconds:.1f}" if seconds else ""
        print(f"| {name} | {shown} | {error:.2f} | {sharp:.0f} | {natural:.2f} | {cost} |", flush=True)


def _inside(frame: Array, face: Face) -> npt.NDArray[np.float64]:
    matrix = alignment_matrix(face, SIDE)
    return cv2.warpAffine(frame, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA)[INSIDE, INSIDE].astype(np.float64)


if __name__ == "__main__":
    main()
