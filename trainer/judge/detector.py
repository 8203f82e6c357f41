"""How good a detector is, on the photographs that are for testing only.

The reference is the published RetinaFace mobile0.25 at its threshold 0.8, run at the photograph's full size: a detector is
asked to find the faces which that one finds, not the truth. What it finds beyond them counts as false, so each of those has
to be looked at (:func:`write_extras`). Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import cast, get_args

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pfr_core.errors import InputError
from pfr_core.faces.align import align, alignment_matrix
from pfr_core.faces.detect import Detector
from pfr_core.faces.face import Face
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import to_uint8
from pfr_core.photo.photo import images_below
from pfr_core.photo.write import writable_format, write_photo
from pfr_core.support.choices import DETECTION_SIZE, DETECTION_THRESHOLD, LARGEST_DETECTION, DetectorName
from pfr_core.support.text import markdown

from ..data.dataset import RGB8
from ..data.detector.photographs import TEACHER, aligned_faces, index_points, read_picture
from ..data.detector.pictures import paint_mask
from ..data.detector.split import is_test
from .crops import CHANGES, movements
from .folders import read_rgb
from .points import ALIGNED_SIDE, SeveralLooks, aligned_errors, off
from .turned import look_turned, same_face

REFERENCE = TEACHER
"""Others are judged by what it finds, as the shipped one was taught to find it."""
LOW = 0.05
"""Threshold for curves."""

MANY_LOOKS = 16
"""Looks of the reference at a face that tell where it puts the points when its own noise has been averaged out."""

STILL = 0.01
"""Of its width: a crop that moves less does not tremble."""

CURVES = (".png", ".svg", ".pdf")
"""Endings of a drawn curve."""

CLASSES = ((48.0, math.inf), (24.0, 48.0))
"""Widths in px of the photograph; narrower faces are neither asked for nor counted as false."""

CROWD_FACE, CROWD_SIDES, LARGE = 30, (DETECTION_SIZE, 4000), 3000
"""For the table of detection sizes: small faces in groups, and a portrait from a good camera."""


@dataclass(frozen=True)
class JudgedPhoto:
    """A photograph with the faces of the reference."""

    path: Path
    image: RGB8
    faces: list[Face]


@dataclass
class Result:
    """What a detector found on all photographs.

    Attributes:
        scores: for each reference face, in order, the score of the detection that is it, or None.
        extras: detections that are no reference face, or one that was found already: (photo's number, face).
        points: distance of the five points from the reference's, mean, in eye distances, for each face found.
        seconds: CPU time to detect, all photographs together.
    """

    scores: list[float | None]
    extras: list[tuple[int, Face]]
    points: list[float]
    seconds: float

    @property
    def hit(self) -> npt.NDArray[np.bool_]:
        """Of each reference face, whether it was found."""
        return np.array([score is not None for score in self.scores], bool)


def evaluate_detector_command(
    photos: Path,
    *,
    everything: bool = False,
    detectors: Sequence[str] = ("builtin",),
    threshold: float = DETECTION_THRESHOLD,
    size: int = DETECTION_SIZE,
    sizes: Sequence[int] = (),
    turned: bool = False,
    masked: bool = False,
    points: bool = False,
    faces: Path | None = None,
    second_look: Path | None = None,
    curve: Path | None = None,
    extras: Path | None = None,
    crops: Path | None = None,
) -> str:
    """Return a Markdown table for ``python -m trainer evaluate-detector``; its options say what is drawn beside it.

    Raises:
        InputError: a name that is no detector, a value out of range, no photographs, or no faces where some are needed.
        WeightsError: a detector's weights are not to be had.
    """
    for side in (size, *sizes):
        RestoreOptions(threshold=threshold, detection_size=side)  # refuses what the product refuses
    if sum(map(bool, (turned, masked, points, sizes))) > 1:
        raise InputError("--turned, --points, --masked and --sizes are each a table of its own; choose one of them.")
    if faces and not (masked or points):
        raise InputError("--faces is for --masked or --points; add one of them, or leave it out.")
    if everything and masked:
        raise InputError("--everything is for photographs, and --masked takes the faces of --faces; leave one of them out.")
    if (turned or masked or points or sizes) and (curve or extras or crops):
        raise InputError(
            "--curve, --extras and --crops go with the usual table, not with --turned, --points, --masked or --sizes."
        )
    if curve and curve.suffix.lower() not in CURVES:
        raise InputError(f"{curve}: the curve is drawn as {', '.join(CURVES)}; give it one of these endings.")
    if curve and find_spec("matplotlib") is None:
        raise InputError('matplotlib is not installed. Install it with: python -m pip install ".[train]"')
    if crops:
        writable_format(crops)
    if curve:
        curve.parent.mkdir(parents=True, exist_ok=True)
    if masked and faces is None:
        raise InputError("--masked needs aligned faces: say with --faces where they are.")
    opened = {name: open_detector(name, second_look or True) for name in detectors}
    first = next(iter(opened.values()))
    if masked and faces:
        return masked_table(opened, faces, threshold=threshold, size=size)
    labelled = load_photos(photos, everything=everything)
    if turned:
        return turned_table(opened, labelled, threshold=threshold, size=size)
    if points:
        rows = dict[str, Detector]()
        for name, detector in opened.items():
            rows |= {f"{name}, own points": open_detector(name, False), f"{name}, second look": detector}
        if REFERENCE in opened:
            rows[f"{REFERENCE}, middle of several looks"] = SeveralLooks()
        return points_table(rows, labelled, faces, threshold=threshold, size=size)
    if sizes:
        return size_table(first, labelled, sizes, threshold=threshold)
    results = {name: judge(detector, labelled, threshold=threshold, size=size) for name, detector in opened.items()}
    if extras:
        write_extras(next(iter(results.values())), labelled, extras)
    if crops:
        write_crops(first, labelled, crops, threshold=threshold, size=size)
    if curve:
        low = {name: judge(detector, labelled, threshold=LOW, size=size) for name, detector in opened.items()}
        draw_curves(low, labelled, curve)
    return table(results.items(), labelled)


def open_detector(name: str, second_look: bool | Path = True) -> Detector:
    """Return a detector by name, or the built-in one with the weights of a file that training wrote.

    Args:
        name: the name or the file.
        second_look: as for :class:`Detector`.

    Raises:
        InputError: neither a known name nor a file.
    """
    if name in get_args(DetectorName):
        return Detector(cast("DetectorName", name), second_look=second_look)
    if not Path(name).is_file():
        raise InputError(f"{name}: neither a file nor one of {', '.join(get_args(DetectorName))}.")
    return Detector("builtin", weights=Path(name), second_look=second_look)


def load_photos(folder: str | Path, *, everything: bool = False) -> list[JudgedPhoto]:
    """Return the photographs below ``folder`` that are for testing (or all of them), with the reference's faces.

    Raises:
        InputError: no such folder, or no photographs in it.
        WeightsError: the reference's weights are not to be had.
    """
    paths = [path for path in images_below(Path(folder)) if everything or is_test(path)]
    if not paths:
        raise InputError(f"{folder}: no such folder, or no photographs for testing in it.")
    reference = Detector(REFERENCE, second_look=False)  # as it was published
    photos = []
    for path in tqdm(paths, desc="reference"):
        image = read_rgb(path)
        photos.append(JudgedPhoto(path, image, reference.detect(image, threshold=DETECTION_THRESHOLD, size=LARGEST_DETECTION)))
    return photos


def judge(detector: Detector, photos: Sequence[JudgedPhoto], *, threshold: float, size: int) -> Result:
    """Detect on every photograph and compare with the reference, best score first, each face once."""
    result = Result([], [], [], 0.0)
    for number, photo in enumerate(photos):
        start = time.process_time()
        found = detector.detect(photo.image, threshold=threshold, size=size)
        result.seconds += time.process_time() - start
        scores: list[float | None] = [None] * len(photo.faces)
        for face in found:
            best = same_face(face, photo.faces)
            if best is None or scores[best] is not None:
                result.extras.append((number, face))
            else:
                scores[best] = face.score
                result.points.append(_distance(face, photo.faces[best]))
        result.scores += scores
    return result


def table(results: Iterable[tuple[str, Result]], photos: Sequence[JudgedPhoto]) -> str:
    """Return Markdown: recall by size with intervals, false positives, points, photographs a second of CPU time."""
    widths = np.array([face.width for photo in photos for face in photo.faces])
    head = [
        f"{len(photos)} photographs",
        *(f"recall, {_words(low, high)}" for low, high in CLASSES),
        "not in the reference",
        "median point error",
        "photographs a second of CPU time",
    ]
    rows = []
    for name, result in results:
        cells = [recall(result.hit[(widths >= low) & (widths < high)]) for low, high in CLASSES]
        extras = len(wide(result.extras))
        error = f"{100 * np.median(result.points):.1f} % of the eye distance" if result.points else "none found"
        cells += [f"{extras} ({20 * extras / len(photos):.1f} in 20)", error, f"{len(photos) / result.seconds:.1f}"]
        rows.append([name, *cells])
    return markdown(head, rows)


def points_table(
    detectors: Mapping[str, Detector],
    photos: Sequence[JudgedPhoto],
    faces: Path | None,
    *,
    threshold: float,
    size: int,
) -> str:
    """Return Markdown: how far points are off and how far crops move.

    Args:
        detectors: what places points, by what the rows are called.
        photos: the test photographs.
        faces: aligned faces, on the held-out ones of which points are compared with those of the index; None: they are not.
        threshold: lowest score that counts as a face.
        size: longer side in px at which faces are looked for.

    Raises:
        InputError: no such aligned faces.
    """
    if faces:
        aligned_faces(faces, "val")  # what is wrong with it shows before minutes of looks
    many = SeveralLooks(MANY_LOOKS)
    calm = [replace(photo, faces=[many.agreed(photo.image, face) for face in photo.faces]) for photo in photos]
    head = [
        f"{len(photos)} photographs",
        "off the reference",
        f"off {MANY_LOOKS} looks of it",
        *(["off the index"] if faces else ()),
        *(f"moved, {name}" for name in CHANGES),
        "moved by at most 1 %",
    ]
    rows = []
    for name, detector in detectors.items():
        errors = [judge(detector, some, threshold=threshold, size=size).points for some in (photos, calm)]
        if faces:
            errors.append(aligned_errors(detector, faces, threshold=threshold, size=size))
        moved = list(movements(detector, [photo.image for photo in photos], threshold=threshold, size=size).values())
        still = np.array([each <= STILL for some in moved for each in some], bool)
        rows.append([name, *map(_percent, errors + moved), recall(still)])
    return markdown(head, rows)


def turned_table(detectors: Mapping[str, Detector], photos: Sequence[JudgedPhoto], *, threshold: float, size: int) -> str:
    """Return Markdown: which faces are found the right way up in photographs that were turned by quarters, by default.

    Asked for are the reference's faces of the first of :data:`CLASSES`, of the photographs as they stand.

    Raises:
        InputError: there is none.
    """
    low = CLASSES[0][0]
    asked = [(photo.image, [face for face in photo.faces if face.width >= low]) for photo in photos]
    asked = [(image, faces) for image, faces in asked if faces]
    if not asked:
        raise InputError(f"--turned needs photographs for testing with a face at least {low:g} px wide; there are none.")
    head = [
        f"{len(asked)} photographs",
        *(f"turned by {90 * turns}°" for turns in range(4)),
        "turned, together",
        "wrong way up",
        "not in the reference",
        "CPU time for a photograph that stands, is turned",
    ]
    rows = []
    for name, detector in detectors.items():
        detector.detect(asked[0][0])  # loads
        results = [look_turned(detector, asked, turns, threshold=threshold, size=size) for turns in range(4)]
        cells = [recall(np.array(result.right, bool)) for result in results]
        cells.append(recall(np.array([right for result in results[1:] for right in result.right], bool)))
        cells.append(", ".join(str(sum(result.wrong)) for result in results))
        cells.append(", ".join(str(sum(face.width >= low for face in result.extras)) for result in results))
        seconds = [results[0].seconds, sum(result.seconds for result in results[1:]) / 3]
        cells.append(", ".join(f"{each / len(asked):.2f} s" for each in seconds))
        rows.append([name, *cells])
    return markdown(head, rows)


def masked_table(detectors: Mapping[str, Detector], folder: Path, *, threshold: float, size: int) -> str:
    """Return Markdown: which held-out aligned faces are found bare, and with a mask painted over nose and mouth.

    Asked for is what the reference finds bare, in the faces shrunk to :data:`ALIGNED_SIDE`.

    Raises:
        InputError: no such aligned faces.
    """
    bare, masked = list[JudgedPhoto](), list[JudgedPhoto]()
    reference = Detector(REFERENCE, second_look=False)
    for number, face in enumerate(aligned_faces(folder, "val")):
        path = Path(face.name)
        image = read_picture(face.stored, ALIGNED_SIDE)
        asked = sorted(reference.detect(image), key=lambda face: face.size)[-1:]
        painted = image.copy()
        paint_mask(painted, index_points(face, image.shape[1]), np.random.default_rng(number))
        bare.append(JudgedPhoto(path, image, asked))
        masked.append(JudgedPhoto(path, painted, asked))
    rows = []
    for name, detector in detectors.items():
        results = [judge(detector, some, threshold=threshold, size=size) for some in (bare, masked)]
        rows.append([name, *(recall(result.hit) for result in results), ", ".join(str(len(result.extras)) for result in results)])
    return markdown([f"{len(bare)} aligned faces of {ALIGNED_SIDE} px", "bare", "with a mask", "not in the reference"], rows)


def size_table(detector: Detector, photos: Sequence[JudgedPhoto], sizes: Sequence[int], *, threshold: float) -> str:
    """Return Markdown: what is found at each detection size, in crowds of small faces and in portraits of :data:`LARGE` px."""
    sets = [*(crowd(photos, side) for side in CROWD_SIDES), portraits(photos)]
    head = [
        "longer side",
        *(f"faces {CROWD_FACE} px wide in a crowd of {side} px" for side in CROWD_SIDES),
        f"portraits of {LARGE} px",
        "not in the reference",
        "seconds of CPU time for the crowds",
    ]
    rows = []
    for size in sizes:
        results = [judge(detector, some, threshold=threshold, size=size) for some in sets]
        cells = [recall(result.hit) for result in results]
        cells.append(str(sum(len(result.extras) for result in results)))
        cells.append(", ".join(f"{result.seconds:.2f}" for result in results[: len(CROWD_SIDES)]))
        rows.append([str(size), *cells])
    return markdown(head, rows)


def crowd(photos: Sequence[JudgedPhoto], side: int) -> list[JudgedPhoto]:
    """Return one picture of ``side`` px put together of photographs, again and again, shrunk until their faces are 30 px wide."""
    canvas, faces = np.full((side * 3 // 4, side, 3), 128, np.uint8), []
    x = y = lowest = 0
    for photo in [*photos] * (side // DETECTION_SIZE) ** 2:
        widths = [face.width for face in photo.faces]
        if not widths or np.median(widths) < CROWD_FACE:
            continue
        scale = CROWD_FACE / np.median(widths)
        small = cv2.resize(photo.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if x + small.shape[1] > canvas.shape[1]:
            x, y = 0, lowest
        if y + small.shape[0] > canvas.shape[0] or small.shape[1] > canvas.shape[1]:
            continue
        canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
        faces += [face.moved(scale, (x, y)) for face in photo.faces]
        x, lowest = x + small.shape[1], max(lowest, y + small.shape[0])
    return [JudgedPhoto(Path("crowd"), canvas, faces)]


def portraits(photos: Sequence[JudgedPhoto]) -> list[JudgedPhoto]:
    """Return the photographs of one large face, enlarged to :data:`LARGE` px."""
    chosen = []
    for photo in photos:
        scale = LARGE / max(photo.image.shape[:2])
        if len(photo.faces) == 1 and photo.faces[0].width * scale > LARGE / 3:
            image = cv2.resize(photo.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            chosen.append(JudgedPhoto(photo.path, image, [photo.faces[0].moved(scale)]))
    return chosen


def recall(hit: npt.NDArray[np.bool_]) -> str:
    """Return the share of True with count and interval, as text."""
    if not len(hit):
        return "no such face"
    low, high = wilson(int(hit.sum()), len(hit))
    return f"{hit.mean():.3f} ({hit.sum()} of {len(hit)}; {low:.3f}-{high:.3f})"


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927)."""
    z, share = 1.96, hits / total
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (middle - spread) / (1 + z * z / total)), min(1.0, (middle + spread) / (1 + z * z / total))


def wide(extras: Sequence[tuple[int, Face]]) -> list[Face]:
    """Return those of a result's extras that are wide enough to be counted as false."""
    return [face for _, face in extras if face.width >= CLASSES[-1][0]]


def precision_recall(result: Result, total: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (recall, precision) at every threshold, of ``total`` faces, highest threshold first."""
    scored = [(score, True) for score in result.scores if score is not None]
    scored += [(face.score, False) for face in wide(result.extras)]
    scored.sort(key=lambda item: -item[0])
    true = np.cumsum([found for _, found in scored])
    return true / total, true / np.arange(1, len(scored) + 1)


def draw_curves(curves: dict[str, Result], photos: Sequence[JudgedPhoto], path: Path) -> None:
    """Draw precision over recall of each detector into one picture; a dot marks :data:`DETECTION_THRESHOLD`."""
    from matplotlib.figure import Figure

    total = sum(len(photo.faces) for photo in photos)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot(
        xlabel=f"recall of the {total} faces that {REFERENCE} finds at {DETECTION_THRESHOLD}",
        ylabel="precision",
        title=f"{len(photos)} test photographs",
        xlim=(0.5, 1.005),
        ylim=(0.5, 1.005),
    )
    for name, result in curves.items():
        reach, precision = precision_recall(result, total)
        (line,) = axes.plot(reach, precision, label=name)
        scores = [score for score in result.scores if score is not None] + [face.score for face in wide(result.extras)]
        at = sum(score >= DETECTION_THRESHOLD for score in scores) - 1
        if 0 <= at < len(reach):
            axes.plot(reach[at], precision[at], "o", color=line.get_color())
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def write_extras(result: Result, photos: Sequence[JudgedPhoto], folder: Path) -> None:
    """Write a picture of each detection that is not in the reference, with its surroundings, to be looked at."""
    for count, (number, face) in enumerate(result.extras):
        image = photos[number].image.copy()
        left, top, right, bottom = (int(value) for value in face.box)
        cv2.rectangle(image, (left, top), (right, bottom), (0, 255, 0), max(1, image.shape[0] // 400))
        reach = max(right - left, bottom - top)
        part = image[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
        write_photo(folder / f"{count:03d}_{face.score:.2f}_{photos[number].path.stem}.png", np.ascontiguousarray(part))


def write_crops(
    detector: Detector, photos: Sequence[JudgedPhoto], path: Path, *, threshold: float, size: int, crop: int = 128, most: int = 40
) -> None:
    """Write aligned crops side by side, the reference's above the detector's: do they look the same?"""
    columns: list[RGB8] = []
    for photo in photos:
        found = detector.detect(photo.image, threshold=threshold, size=size)
        for face in photo.faces:
            match = same_face(face, found)
            if match is not None and len(columns) < most:
                pair = [to_uint8(align(photo.image, alignment_matrix(each, crop), crop)) for each in (face, found[match])]
                columns.append(np.concatenate(pair))
    if columns:
        rows = [columns[start : start + 10] for start in range(0, len(columns), 10)]
        blank = np.zeros_like(columns[0])
        write_photo(path, np.concatenate([np.concatenate(row + [blank] * (10 - len(row)), axis=1) for row in rows]))


def _distance(face: Face, reference: Face) -> float:
    return off(np.array(face.points), np.array(reference.points))


def _percent(values: Sequence[float]) -> str:
    """Return median and 90th percentile of shares, as text."""
    return "{:.1f} % ({:.1f} %)".format(*(100 * np.percentile(values, [50, 90]))) if values else "none found"


def _words(low: float, high: float) -> str:
    return f"{low:g} px and wider" if math.isinf(high) else f"{low:g} to {high:g} px"
