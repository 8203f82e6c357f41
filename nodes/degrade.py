"""Degrading pictures by the paper's model, for tests and comparisons."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..pfr_core import Degradation
from ..pfr_core.photo.arrays import to_float, to_uint8
from . import runtime
from .images import Batch, Frames
from .model import CATEGORY

LEVEL = "1: the whole ranges of the paper; less: their milder part."
QUALITY = "JPEG quality, the same for every frame; 0: drawn with the rest."


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
            },
            "optional": {
                "level": ("FLOAT", {"default": 1.0, "min": 0.05, "max": 1.0, "step": 0.05, "round": 0.001, "tooltip": LEVEL}),
                "jpeg_quality": ("INT", {"default": 0, "min": 0, "max": 100, "tooltip": QUALITY}),
            },
        }

    def degrade(self, image: Tensor, seed: int, level: float = 1.0, jpeg_quality: int = 0) -> dict[str, Any]:
        degradation = _degradation(level, jpeg_quality)
        frames, steps, results = Frames(image), runtime.Steps(len(image)), Batch(len(image))
        notices = runtime.Notices(len(frames), ())
        for number, frame in enumerate(frames):
            with steps.frame(number):
                if notices.finite(number, frame):
                    degraded, _ = degradation(to_uint8(frame[..., :3]), (seed, number))
                    frame = frame.copy()
                    frame[..., :3] = to_float(degraded)
                results.append(frame)
        return {"ui": notices.ui(), "result": (results.result(image),)}


def _degradation(level: float, quality: int) -> Degradation:
    """Return Eq. 17 with every range cut to its milder part, a share of ``level``."""
    paper = Degradation()
    assert paper.scale is not None and paper.noise is not None and paper.quality is not None

    def part(low: float, high: float) -> tuple[float, float]:
        return low, low + level * (high - low)

    worst, best = paper.quality
    return Degradation(
        sigma=part(*paper.sigma),
        motion_length=part(1.0, paper.motion_length[1]) if level < 1 else paper.motion_length,
        scale=(1 - level * (1 - paper.scale[0]), 1 + level * (paper.scale[1] - 1)),
        noise=part(*paper.noise),
        quality=(quality, quality) if quality else (round(best - level * (best - worst)), best),
    )
