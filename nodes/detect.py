"""Finding and choosing faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..pfr_core.alignment import to_float, to_uint8
from ..pfr_core.annotate import annotate
from ..pfr_core.face import Face
from ..pfr_core.restorer import find_faces
from . import inputs, runtime
from .model import CATEGORY


@dataclass(frozen=True)
class Faces:
    """What a PFR_FACES wire carries: the chosen faces of every frame of one IMAGE."""

    frames: list[list[Face]]

    @property
    def count(self) -> int:
        """Faces over all frames."""
        return sum(len(faces) for faces in self.frames)


class PFRDetectFaces:
    """IMAGE -> faces, and what they look like on the picture."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Finds the faces of a picture, or of every frame of a batch, and chooses among them. No face is no error."
    SEARCH_ALIASES = ("face detection", "RetinaFace", "face boxes", "face mask")
    RETURN_TYPES = ("PFR_FACES", "IMAGE", "MASK", "INT")
    RETURN_NAMES = ("faces", "preview", "mask", "count")
    OUTPUT_TOOLTIPS = (
        "The chosen faces, for Crop Faces and Paste Faces Back.",
        "The picture with the chosen faces' boxes and numbers.",
        "1 inside the boxes of the chosen faces.",
        "How many faces were chosen, over all frames.",
    )
    FUNCTION = "detect"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "Photograph, or the frames of a video."}),
                "detector": (list(runtime.DETECTORS), {"tooltip": "Face detector; auto and builtin fetch nothing."}),
                **inputs.widgets(inputs.FIND),
            }
        }

    def detect(self, image: Tensor, detector: str, **values: Any) -> tuple[Faces, Tensor, Tensor, int]:
        options = inputs.options(values)
        finder, steps = runtime.detector(detector), runtime.Steps(len(image))
        frames, previews, masks = [], [], []
        for number, frame in enumerate(runtime.to_arrays(image)):
            steps.check()
            with runtime.frame_named(number, len(image)):
                faces = find_faces(finder, frame, options)
            mask = np.zeros((*frame.shape[:2], 1), np.float32)
            for face in faces:
                left, top, right, bottom = (max(0, round(value)) for value in face.box)
                mask[top:bottom, left:right] = 1
            frames.append(faces)
            previews.append(to_float(annotate(to_uint8(frame[..., :3]), faces)))
            masks.append(mask)
            steps.done()
        found = Faces(frames)
        return (
            found,
            runtime.to_image(previews, image[..., :3]),
            runtime.to_image(masks, image[..., :1]).squeeze(3),
            found.count,
        )
