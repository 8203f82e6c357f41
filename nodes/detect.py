"""Finding and choosing faces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from ..pfr_core.errors import InputError
from ..pfr_core.faces.align import TEMPLATE
from ..pfr_core.faces.annotate import annotate
from ..pfr_core.faces.detect import Detector
from ..pfr_core.faces.face import Face
from ..pfr_core.faces.sharpness import JUDGED_SIDE
from ..pfr_core.faces.upright import distinct
from ..pfr_core.find import Found, advised, choose_in, find_candidates
from ..pfr_core.photo.arrays import Array, FloatImage, to_float, to_uint8
from ..pfr_core.support.choices import DetectorName
from ..pfr_core.support.notice import Notice
from . import inputs, runtime
from .images import Batch, Frames, preview
from .model import CATEGORY
from .segs import Segs, as_segs, boxes_of


@dataclass(frozen=True)
class Faces:
    """What a PFR_FACES wire carries: the chosen faces of every frame of one IMAGE."""

    frames: list[list[Face]]
    height: int
    width: int

    @property
    def count(self) -> int:
        """Faces over all frames."""
        return sum(len(faces) for faces in self.frames)

    def check(self, image: Tensor) -> None:
        """Refuse an IMAGE that is not the one the faces were found in.

        Raises:
            InputError: it has another number of frames or another size.
        """
        own, other = [len(self.frames), self.height, self.width], list(image.shape[:3])
        if own != other:
            raise InputError(
                f"The faces were found in an IMAGE of {own[0]} x {own[2]}x{own[1]} px, this one is {other[0]} x "
                f"{other[2]}x{other[1]}. Connect the IMAGE that Detect Faces got."
            )


Box = Mapping[str, Any]
Boxes = Box | Sequence[Box] | Sequence[Sequence[Box]]
"""What a BOUNDING_BOX wire may carry: ``x``, ``y``, ``width``, ``height`` in px; one, several, or several for each frame."""

GIVEN = "Boxes of your own, one around each face: for faces that the detector misses. Nothing is looked for elsewhere."
GIVEN_THRESHOLD = 0.2
"""In a given box a face is expected, so the detector need not be sure."""

NO_BOXES = "The given boxes are no BOUNDING_BOX: each needs x, y, width and height, numbers of px."

IN_THE_TEMPLATE = np.array([128.0, 100.0, 384.0, 440.0])
"""Left, top, right and bottom of a face's box where its points are those of the template."""

NONE_CHOSEN = Notice("missing_face", "No face is chosen: which faces is index, and there are no face numbers.")

UNPAINTED = (64, 64)
"""Height and width of the black mask that ComfyUI's Load Image gives of a picture that has no transparency."""
NOTHING_PAINTED = "Look only here was ignored: nothing is painted there (in Load Image, the mask editor paints)."

IN_SEGS = "Finds of the Impact Pack's detectors, taken as boxes of your own."


class PFRDetectFaces:
    """IMAGE -> faces, and what they look like on the picture."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds the faces of a picture, or of every frame of a batch, and chooses among them. After a run, click a face on the "
        "node to drop it or to take it again. No face is no error."
    )
    SEARCH_ALIASES = ("face detection", "RetinaFace", "face boxes", "face mask", "face picker")
    RETURN_TYPES = ("PFR_FACES", "IMAGE", "MASK", "INT", "BOUNDING_BOX", "BOUNDING_BOX", "SEGS")
    RETURN_NAMES = ("faces", "preview", "mask", "count", "boxes", "first_box", "segs")
    OUTPUT_TOOLTIPS = (
        "The chosen faces, for Crop Faces and Paste Faces Back.",
        "The picture with the chosen faces' boxes and numbers.",
        "1 inside the boxes of the chosen faces.",
        "How many faces were chosen, over all frames.",
        "For every frame the boxes of the chosen faces, for nodes of newer versions of ComfyUI.",
        "The box of the first chosen face, for Crop Image; the whole picture if there is none.",
        "The chosen faces of the first picture, for the Impact Pack's detailers.",
    )
    FUNCTION = "detect"
    HAS_INTERMEDIATE_OUTPUT = True  # newer cores show it again after a reload, though nothing runs

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "Photograph, or the frames of a video."}),
                "detector": inputs.DETECTOR,
                **inputs.widgets(inputs.FINDING),
            },
            "optional": {
                **inputs.widgets([name for name in inputs.LATER if name not in inputs.OF_MODELS]),
                "region": ("MASK", {"tooltip": "Faces are looked for in the white part only, where smaller ones are found."}),
                "given": ("BOUNDING_BOX", {"forceInput": True, "tooltip": GIVEN}),
                "segs": ("SEGS", {"tooltip": IN_SEGS}),
            },
        }

    def detect(
        self,
        image: Tensor,
        detector: DetectorName,
        region: Tensor | None = None,
        given: Boxes | None = None,
        segs: Segs | None = None,
        **values: Any,
    ) -> dict[str, Any]:
        widgets, frames = inputs.options(values), Frames(image)
        finder, steps = runtime.detector(detector), runtime.Steps(len(frames))
        runtime.fetch_around(detector)
        runtime.make_room(finder.device)
        unpainted = region is not None and tuple(region.shape[-2:]) == UNPAINTED and not region.any()
        regions, boxes_given = None if unpainted else _masks(region, image), _boxes(given, len(frames))
        height, width = image.shape[1:3]
        if segs is not None:
            found_before = boxes_of(segs, (height, width))
            boxes_given = [[*(each or ()), *found_before] for each in boxes_given]
        chosen, previews, masks = [], Batch(len(frames)), Batch(len(frames))
        picker: list[dict[str, Any]] = []
        notices = runtime.Notices(len(frames), (*widgets.ignored, *([NOTHING_PAINTED] if unpainted else [])))
        for number, frame in enumerate(frames):
            with steps.frame(number):
                found = find_in_frame(finder, frame, widgets, None if regions is None else regions[number], boxes_given[number])
                notices.add(number, found.notices)
                mask = np.zeros((height, width), np.float32)
                for face in found.faces:
                    left, top, right, bottom = (max(0, round(value)) for value in face.box)
                    mask[top:bottom, left:right] = 1
                masks.append(mask)
                chosen.append(found.faces)
                previews.append(to_float(annotate(to_uint8(np.nan_to_num(frame[..., :3])), found.faces, found.numbers)))
                if found.candidates and not picker:  # the numbers mean the same in every frame; the first with faces shows them
                    picker = [_picker(frame, found, number, len(frames))]
        every = Faces(chosen, height, width)
        boxes = [[_box(face) for face in faces] for faces in chosen]
        whole = {"x": 0, "y": 0, "width": width, "height": height}
        first = next((box for each in boxes for box in each), whole)
        segs = as_segs(frames[0], chosen[0]) if chosen else ((height, width), [])
        result = (every, previews.result(image[..., :3]), masks.result(image[..., 0]), every.count, boxes, first, segs)
        return {"ui": {"pfr_picker": picker, **notices.ui()}, "result": result}


def find_in_frame(
    finder: Detector,
    frame: FloatImage,
    widgets: inputs.Chosen,
    region: Array | None = None,
    given: Sequence[Box] | None = None,
    *,
    side: int = JUDGED_SIDE,
    scale: float = 1.0,
) -> Found:
    """Find the faces of one frame and choose among them; none in a frame that holds NaN or infinity, so that it stops no batch.

    Args:
        finder: the detector.
        frame: [H,W,3+].
        widgets: how, and which.
        region: [H,W], where faces are looked for; everywhere without.
        given: boxes, in each of which there is a face; nothing is looked for elsewhere. With ``region`` those count whose middle
            lies in it.
        side: as for :func:`choose_in`.
        scale: as for :func:`choose_in`.
    """
    options = widgets.options
    if not np.isfinite(frame).all():
        return Found([], [], (Notice("not_finite", runtime.NOT_FINITE),))
    if given is not None:
        boxes = given if region is None else [box for box in given if _middle_in(region, box)]
        faces = [_face_in(finder, frame, box, widgets) for box in boxes]
        candidates = distinct(sorted(faces, key=lambda face: face.score, reverse=True))  # several boxes may be of one face
    elif region is not None:
        candidates = _within(finder, frame, region, widgets)
    else:
        candidates = find_candidates(finder, frame, options, runtime.interrupted)
    found = choose_in(frame, candidates, options, side=side, scale=scale, should_stop=runtime.interrupted)
    if widgets.none:
        return replace(found, numbers=[], notices=(NONE_CHOSEN,))
    if candidates and not found.candidates and not found.notices:  # all are smaller or larger than is asked for
        return replace(found, notices=(runtime.NOTHING_FOUND,))
    return advised(found, candidates, (frame.shape[1], frame.shape[0]), options, finder)


def _within(finder: Detector, frame: FloatImage, region: Array, widgets: inputs.Chosen) -> list[Face]:
    """Return the faces whose middle lies in the white part of ``region``; the rest of the frame is not even looked at."""
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    part = np.ascontiguousarray(frame[top : rows[-1] + 1, left : columns[-1] + 1])
    found = find_candidates(finder, part, widgets.options, runtime.interrupted)
    faces = [face.moved(1, (left, top)) for face in found]
    return [face for face in faces if _is_white(region, *face.center)]


def _middle_in(region: Array, box: Box) -> bool:
    x, y = (float(box[start]) + float(box[side]) / 2 for start, side in (("x", "width"), ("y", "height")))
    return _is_white(region, x, y)


def _is_white(region: Array, x: float, y: float) -> bool:
    """Return whether a place in px lies on a white pixel of [H,W]; beyond the edges nothing is white."""
    return 0 <= y < region.shape[0] and 0 <= x < region.shape[1] and bool(region[int(y), int(x)])


def _face_in(finder: Detector, frame: FloatImage, box: Box, widgets: inputs.Chosen) -> Face:
    """Return the face in a box: the surest of which the detector has an idea, else one that stands upright and fills it."""
    left, top, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
    around = (left - width / 2, top - height / 2, left + width * 1.5, top + height * 1.5)
    x0, y0, x1, y1 = (int(np.clip(value, 0, side)) for value, side in zip(around, frame.shape[1::-1] * 2, strict=True))
    beyond = left >= frame.shape[1] or top >= frame.shape[0] or min(left + width, top + height) <= 0
    if beyond or min(width, height) < 1 or x0 == x1 or y0 == y1:
        raise InputError(f"The given box {dict(box)} lies outside the picture of {frame.shape[1]}x{frame.shape[0]} px.")
    options = replace(widgets.options, threshold=min(widgets.options.threshold, GIVEN_THRESHOLD))
    found = find_candidates(finder, np.ascontiguousarray(frame[y0:y1, x0:x1]), options, runtime.interrupted)
    faces = [face.moved(1, (x0, y0)) for face in found]
    inside = [face for face in faces if left <= face.center[0] < left + width and top <= face.center[1] < top + height]
    if inside:
        return inside[0]
    points = (TEMPLATE - IN_THE_TEMPLATE[:2]) / (IN_THE_TEMPLATE[2:] - IN_THE_TEMPLATE[:2]) * (width, height) + (left, top)
    return Face.of((left, top, left + width, top + height), 0.0, points)


def _masks(region: Tensor | None, image: Tensor) -> list[Array] | None:
    """Return where faces are looked for, for each frame.

    Raises:
        InputError: a mask of another size, or another number of them.
    """
    if region is None:
        return None
    if region.ndim == 2:
        region = region[None]
    if region.shape[1:] != image.shape[1:3] or len(region) not in (1, len(image)):
        raise InputError(
            f"The region is a MASK of {len(region)} x {region.shape[2]}x{region.shape[1]} px, the IMAGE {len(image)} x "
            f"{image.shape[2]}x{image.shape[1]}: connect one of the same size, for each frame or for all."
        )
    white = (region > 0.5).cpu().numpy()
    return [white[number % len(white)] for number in range(len(image))]


def _boxes(given: Boxes | None, frames: int) -> list[Sequence[Box] | None]:
    """Return the given boxes of each frame: one box, those of a picture, or a list for each frame.

    Raises:
        InputError: lists for another number of frames, or what are no boxes.
    """
    if given is None:
        return [None] * frames
    if isinstance(given, dict):
        given = [given]
    several = isinstance(given, (list, tuple))
    boxes = [box for each in given for box in (each if isinstance(each, list) else [each])] if several else [given]
    if not all(map(_is_box, boxes)):
        raise InputError(NO_BOXES)
    if all(isinstance(each, dict) for each in given):
        return [given] * frames  # type: ignore[list-item]
    if len(given) != frames:
        raise InputError(f"Boxes for {len(given)} frames, and {frames} images. Give a list for each.")
    return list(given)  # type: ignore[arg-type]


def _is_box(box: object) -> bool:
    sides = [box.get(name) for name in ("x", "y", "width", "height")] if isinstance(box, dict) else [None]
    return all(isinstance(side, (int, float)) and math.isfinite(side) for side in sides)


def _picker(frame: Array, found: Found, number: int, total: int) -> dict[str, Any]:
    """Return what the face picker in ``web/js`` shows."""
    height, width = frame.shape[:2]
    boxes = [[round(value, 1) for value in face.box] for face in found.candidates]
    return {
        "picture": preview(frame),
        "size": [width, height],
        "boxes": boxes,
        "chosen": found.numbers,
        "sharp": list(found.sharp),
        "frame": number,
        "frames": total,
    }


def _box(face: Face) -> dict[str, Any]:
    """Return one box as ComfyUI's BOUNDING_BOX has it, in px."""
    left, top, right, bottom = (round(value) for value in face.box)
    return {"x": left, "y": top, "width": right - left, "height": bottom - top, "label": "face", "score": face.score}
