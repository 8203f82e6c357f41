"""Finding and choosing faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..pfr_core.errors import InputError
from ..pfr_core.faces.annotate import annotate
from ..pfr_core.faces.detect import Detector
from ..pfr_core.faces.face import Face
from ..pfr_core.find import Found, find_faces
from ..pfr_core.options import RestoreOptions, Setup
from ..pfr_core.photo.arrays import Array, FloatImage, to_float, to_uint8
from ..pfr_core.support.choices import DetectorName
from ..pfr_core.support.notice import Notice
from ..pfr_core.support.schema import specs
from . import inputs, runtime
from .images import Batch, Frames, preview
from .model import CATEGORY

DETECTOR = inputs.widget(specs(Setup)["detector"])


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


BOXES_KNOWN = runtime.core_has_type("BoundingBox")
"""Newer cores have a type for boxes, with nodes that take it."""


class PFRDetectFaces:
    """IMAGE -> faces, and what they look like on the picture."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds the faces of a picture, or of every frame of a batch, and chooses among them. After a run, click a face on the "
        "node to drop it or to take it again. No face is no error."
    )
    SEARCH_ALIASES = ("face detection", "RetinaFace", "face boxes", "face mask", "face picker")
    RETURN_TYPES = ("PFR_FACES", "IMAGE", "MASK", "INT", *(("BOUNDING_BOX",) if BOXES_KNOWN else ()))
    RETURN_NAMES = ("faces", "preview", "mask", "count", *(("boxes",) if BOXES_KNOWN else ()))
    OUTPUT_TOOLTIPS = (
        "The chosen faces, for Crop Faces and Paste Faces Back.",
        "The picture with the chosen faces' boxes, and the numbers that indices takes.",
        "1 inside the boxes of the chosen faces.",
        "How many faces were chosen, over all frames.",
        *(("For every frame the boxes of the chosen faces, for ComfyUI's own nodes.",) if BOXES_KNOWN else ()),
    )
    FUNCTION = "detect"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "Photograph, or the frames of a video."}),
                "detector": DETECTOR,
                **inputs.widgets(inputs.FINDING),
            },
            "optional": inputs.widgets(inputs.LATER),
        }

    def detect(self, image: Tensor, detector: DetectorName, **values: Any) -> dict[str, Any]:
        options, frames = inputs.options(values), Frames(image)
        finder, steps = runtime.detector(detector), runtime.Steps(len(frames))
        chosen, previews, masks = [], Batch(len(frames)), torch.zeros(image.shape[:3])
        picker: list[dict[str, Any]] = []
        notices = runtime.Notices(len(frames))
        for number, frame in enumerate(frames):
            with steps.frame(number):
                found = find_in_frame(finder, frame, options)
                notices.add(number, found.notices)
                for face in found.faces:
                    left, top, right, bottom = (max(0, round(value)) for value in face.box)
                    masks[number, top:bottom, left:right] = 1
                chosen.append(found.faces)
                previews.append(to_float(annotate(to_uint8(np.nan_to_num(frame[..., :3])), found.faces, found.numbers)))
                if found.candidates and not picker:  # the numbers mean the same in every frame; the first with faces shows them
                    picker = [_picker(frame, found, number, len(frames))]
        every = Faces(chosen, *image.shape[1:3])
        result = (every, previews.result(image[..., :3]), masks, every.count)
        boxes = ([[_box(face) for face in faces] for faces in chosen],) if BOXES_KNOWN else ()
        return {"ui": {"pfr_picker": picker, **notices.ui()}, "result": (*result, *boxes)}


def find_in_frame(finder: Detector, frame: FloatImage, options: RestoreOptions) -> Found:
    """Do as :func:`find_faces`; in a frame that holds NaN or infinity nothing is looked for, so that it stops no batch."""
    if np.isfinite(frame).all():
        return find_faces(finder, frame, options)
    text = "the picture holds values that are not numbers (NaN or infinite): passed on as it came. Look at the node that made it."
    return Found([], [], (Notice("not_finite", text),))


def _picker(frame: Array, found: Found, number: int, total: int) -> dict[str, Any]:
    """Return what the face picker in ``web/js`` shows."""
    height, width = frame.shape[:2]
    boxes = [[round(value, 1) for value in face.box] for face in found.candidates]
    return {
        "picture": preview(frame),
        "size": [width, height],
        "boxes": boxes,
        "chosen": found.numbers,
        "frame": number,
        "frames": total,
    }


def _box(face: Face) -> dict[str, Any]:
    """Return one box as ComfyUI's BOUNDING_BOX has it, in px."""
    left, top, right, bottom = (round(value) for value in face.box)
    return {"x": left, "y": top, "width": right - left, "height": bottom - top, "label": "face", "score": face.score}
