"""Everything in one node, for the common case."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import inputs, runtime
from .crops import with_background
from .model import CATEGORY


class PFRRestoreFaces:
    """IMAGE -> IMAGE with its faces restored."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds the faces, restores them and puts them back; pictures without a face pass through unchanged. "
        "Restored detail is synthesised; it is no evidence of identity."
    )
    SEARCH_ALIASES = ("face restoration", "restore face", "old photo", "GFPGAN", "CodeFormer", "GPEN", "facerestore", "ReActor")
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE", "IMAGE")
    RETURN_NAMES = ("image", "mask", "crops_before", "crops_after")
    OUTPUT_TOOLTIPS = (
        "The restored picture.",
        "How much of each pixel is restored face.",
        "The faces as they were cut out; one black image if there is none.",
        "The same faces as the model restored them.",
    )
    FUNCTION = "restore"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("PFR_MODEL", {"tooltip": "From Load Face Restoration Model."}),
                "image": ("IMAGE", {"tooltip": "Photograph, or the frames of a video."}),
                **inputs.widgets(("strength",)),
                "detector": (list(runtime.DETECTORS), {"tooltip": "Face detector; auto and builtin fetch nothing."}),
                **inputs.widgets((*inputs.FIND, *(name for name in inputs.PASTE if name != "strength"))),
            },
            "optional": {
                "upscaled": ("IMAGE", {"tooltip": "The same picture enlarged by another node: the faces are pasted into it."})
            },
        }

    def restore(
        self, model: runtime.LoadedModel, image: Tensor, detector: str, upscaled: Tensor | None = None, **values: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        restorer, steps = model.restorer(runtime.detector(detector)), runtime.Steps(len(image))
        restorer.options = inputs.options(values)
        images, masks, before, after = [], [], [], []
        for number, (frame, background) in enumerate(with_background(runtime.to_arrays(image), upscaled)):
            steps.check()
            with runtime.frame_named(number, len(image)):
                restored = restorer.restore(frame, background=background, should_stop=steps.check)
            images.append(restored.image)
            masks.append(restored.mask[..., None])
            before += list(restored.before)
            after += list(restored.after)
            steps.done()
        return (
            runtime.to_image(images, image),
            runtime.to_image(masks, image[..., :1]).squeeze(3),
            runtime.to_crops(before, restorer.crop_size),
            runtime.to_crops(after, restorer.crop_size),
        )
