"""Degrading pictures by the paper's model, for tests and comparisons."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..pfr_core import Degradation
from ..pfr_core.photo.arrays import to_float, to_uint8
from . import runtime
from .images import Batch, Frames
from .model import CATEGORY


class PFRDegrade:
    """IMAGE -> IMAGE, ruined as Eq. 17 of the paper says."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Blurs, shrinks, adds noise and JPEG damage (Eq. 17 of the paper), to see what a restoration is worth."
    SEARCH_ALIASES = ("degradation", "low quality", "JPEG artefacts")
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The degraded picture, in the size it came.",)
    FUNCTION = "degrade"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "What to degrade. The ranges of Eq. 17 are stated for faces of 512 px."}),
                "seed": (
                    "INT",
                    {"default": 0, "min": 0, "max": 2**32 - 1, "tooltip": "The same seed gives the same result."},
                ),
            }
        }

    def degrade(self, image: Tensor, seed: int) -> tuple[Tensor]:
        frames, steps, results = Frames(image), runtime.Steps(len(image)), Batch(len(image))
        for number, frame in enumerate(frames):
            with steps.frame(number):
                degraded, _ = Degradation()(to_uint8(frame[..., :3]), (seed, number))
                frame = frame.copy()
                frame[..., :3] = to_float(degraded)
                results.append(frame)
        return (results.result(image),)
