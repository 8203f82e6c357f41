"""The faces that the second look is trained on, each with five points on which several looks of the published RetinaFace agree.

A single look of it is off by a few hundredths of the eyes' distance, each time to another side; the middle of looks at other
sizes, in other turns and mirrored is a steadier aim (ours). The index's own points say which face is meant.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pfr_core.errors import InputError
from pfr_core.faces.detect import NMS_IOU
from pfr_core.faces.face import MIRRORED
from pfr_core.faces.geometry import Matrix, invert, rescale, transform
from pfr_core.faces.retinaface import RetinaFace
from pfr_core.support.files import replacing

from ..dataset import RGB8
from ..detector.photographs import (
    FACE_SIDE,
    LONGEST_SIDE,
    SURE,
    TEACHER,
    aligned_faces,
    index_points,
    read_picture,
    training_photographs,
)
from ..index import FaceFile

Points = npt.NDArray[np.float32]

LOOKS, FEWEST = 4, 3
"""Looks at each face, and how many of them must see it."""

LOOK_SIDE, LOOK_EYES = 256, (40, 75)
"""Side in px of a look, and between which distances the eyes lie in it."""

SEEN = 0.5
"""Lowest score in a look."""

KEPT = 128
"""Side in px at which an aligned face is kept; the network sees faces half as large."""

DISAGREED = np.zeros((0, 2), np.float32)
"""The points, in the file of labels, of a face on which looks do not agree: unlike one that was never looked at it is in it."""

AROUND = 2.5
"""What is kept of a photograph on each side of a face's middle, in distances of the eyes."""


@dataclass(frozen=True)
class KnownFace:
    """A face with its surroundings.

    Attributes:
        image: [H,W,3] RGB uint8, at most :data:`KEPT` px.
        points: [5,2] float32 px.
    """

    image: RGB8 = field(repr=False)
    points: Points


def real_faces(folder: str, most: int) -> list[FaceFile]:
    """Return the real ones of the aligned faces, the first ``most`` of the index.

    Raises:
        InputError: a folder is missing or holds nothing that can be used.
    """
    return [face for face in aligned_faces(folder) if face.real][:most]


def listed(faces: str, wild: str, most: int) -> dict[str, object]:
    """Return how many files :func:`load_faces` looks at, and the licences of the aligned faces.

    Raises:
        InputError: a folder is missing or holds nothing that can be used.
    """
    found = real_faces(faces, most)
    return {
        "aligned_faces": len(found),
        "licences": dict(Counter(face.licence for face in found)),
        "photographs": len(training_photographs(wild)),
    }


def load_faces(faces: str, wild: str, labels: str, most: int, teacher: RetinaFace) -> list[KnownFace]:
    """Read and label the real ones of the aligned faces, and the faces of ``wild``, of which what is for testing is left out.

    Args:
        faces: aligned faces with an index of their points.
        wild: folder of photographs, or empty.
        labels: file of the aligned faces' points; written if it is not there; empty: they are not kept.
        most: aligned faces, the first of the index.
        teacher: the published RetinaFace.

    Raises:
        InputError: a folder is missing or holds nothing that can be used, or a file cannot be read; the message names it.
    """
    known = _labels(Path(labels)) if labels and Path(labels).is_file() else None
    found, agreed = list[KnownFace](), dict[str, Points]()
    for face in tqdm(real_faces(faces, most), desc="faces"):
        image = read_picture(face.stored, FACE_SIDE)
        about = index_points(face, image.shape[1])
        name = face.name.removeprefix("train/")
        if known is not None and name not in known:
            raise InputError(f"{labels}: knows nothing of {name}. Delete the file, or lower --most-faces.")
        points = agreement(teacher, image, about) if known is None else known[name]
        agreed[name] = DISAGREED if points is None else points
        if len(agreed[name]):
            found.append(_kept(image, agreed[name]))
    if labels and known is None:
        with replacing(Path(labels)) as part, part.open("wb") as file:
            np.savez(file, **agreed)  # type: ignore[arg-type]  # its stubs take them for options
    for path in tqdm(training_photographs(wild), desc="photographs"):
        found += _faces_of(read_picture(path, LONGEST_SIDE), teacher)
    if not found:
        raise InputError(f"{faces}: no real aligned face that {TEACHER} sees.")
    return found


def _labels(path: Path) -> dict[str, Points]:
    try:
        return dict(np.load(path))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({error}). Delete it, and it is made anew.") from error


def _faces_of(photo: RGB8, teacher: RetinaFace) -> list[KnownFace]:
    """Return the faces of a photograph on which looks agree, each with its surroundings."""
    faces, (height, width) = list[KnownFace](), photo.shape[:2]
    for about in teacher.detect_faces(photo, SURE, NMS_IOU).points:
        points = agreement(teacher, photo, about)
        if points is None:
            continue
        middle, reach = points.mean(axis=0), AROUND * np.linalg.norm(points[0] - points[1])
        left, top = np.clip(np.floor(middle - reach), 0, None).astype(int)
        right, bottom = np.clip(np.ceil(middle + reach), 0, (width, height)).astype(int)
        faces.append(_kept(photo[top:bottom, left:right], points - np.array([left, top], np.float32)))
    return faces


def _kept(image: RGB8, points: Points) -> KnownFace:
    scale = min(1.0, KEPT / max(image.shape[:2]))
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return KnownFace(np.ascontiguousarray(image), rescale(points, scale).astype(np.float32))


def agreement(teacher: RetinaFace, image: RGB8, about: Matrix | Points, looks: int = LOOKS) -> Points | None:
    """Return the five points [5,2] of the face of ``image`` around ``about`` [5,2] on which looks agree; None if few see it."""
    rng, seen = np.random.default_rng(0), list[Matrix]()
    eyes, middle = float(np.linalg.norm(about[0] - about[1])), np.mean(about, axis=0)
    for look in range(looks):
        scale, angle = rng.uniform(*LOOK_EYES) / eyes, np.deg2rad(rng.normal(0, 6))
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        mirrored = bool(look % 2)
        if mirrored:
            turn = np.diag([-1.0, 1.0]) @ turn
        centre = LOOK_SIDE / 2 + rng.uniform(-16, 16, 2)
        matrix = np.hstack([turn, (centre - turn @ middle)[:, None]])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        view = cv2.warpAffine(image, matrix, (LOOK_SIDE, LOOK_SIDE), flags=how, borderMode=cv2.BORDER_REFLECT)
        found = teacher.detect_faces(np.asarray(view), SEEN, NMS_IOU)
        around = (found.boxes[:, :2] < centre).all(axis=1) & (centre < found.boxes[:, 2:]).all(axis=1)
        if around.any():
            points = transform(found.points[around][0], invert(matrix))
            seen.append(points[MIRRORED] if mirrored else points)
    return np.median(seen, axis=0).astype(np.float32) if len(seen) >= FEWEST else None
