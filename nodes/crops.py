"""The steps of a restoration one by one: faces cut out, restored, put back; other nodes can work on the crops in between."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ..pfr_core.compose import crop_faces, paste_faces
from ..pfr_core.errors import InputError
from ..pfr_core.layouts import Array
from . import inputs, runtime
from .detect import Faces
from .model import CATEGORY


class PFRCropFaces:
    """IMAGE and faces -> aligned crops."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Cuts the faces out, upright and at one size, as a batch of images in the order of their numbers."
    SEARCH_ALIASES = ("face crop", "align faces")
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("crops",)
    OUTPUT_TOOLTIPS = ("One image for every face; one black image if there is no face.",)
    FUNCTION = "crop"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture the faces were found in."}),
                "faces": ("PFR_FACES", {"tooltip": "From Detect Faces."}),
                "size": ("INT", {"default": 512, "min": 64, "max": 2048, "step": 64, "tooltip": "Side of the crops in px."}),
            }
        }

    def crop(self, image: Tensor, faces: Faces, size: int) -> tuple[Tensor]:
        _check(image, faces)
        pairs = zip(runtime.to_arrays(image), faces.frames, strict=True)
        crops = [crop for frame, found in pairs for crop in crop_faces(frame, found, size)]
        return (runtime.to_crops(crops, size),)


class PFRRestoreCrops:
    """Crops -> restored crops."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Restores aligned face crops. Restored detail is synthesised; it is no evidence of identity."
    SEARCH_ALIASES = ("face restoration",)
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("crops",)
    OUTPUT_TOOLTIPS = ("The restored crops, in the size and order they came.",)
    FUNCTION = "restore"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("PFR_MODEL", {"tooltip": "From Load Face Restoration Model."}),
                "crops": ("IMAGE", {"tooltip": "Square, upright faces, from Crop Faces."}),
                **inputs.widgets(("color_match",)),
            }
        }

    def restore(self, model: runtime.LoadedModel, crops: Tensor, **values: Any) -> tuple[Tensor]:
        inputs.options(values)
        restorer, steps, results = model.restorer(), runtime.Steps(len(crops)), []
        for number, crop in enumerate(runtime.to_arrays(crops)):
            steps.check()
            with runtime.frame_named(number, len(crops)):
                results.append(restorer.restore(crop, aligned=True, should_stop=steps.check, **values).image)
            steps.done()
        return (runtime.to_image(results, crops),)


class PFRPasteFaces:
    """IMAGE, faces and their restored crops -> IMAGE."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Puts restored crops back where they were cut out. Every pixel outside the mask stays exactly as it was."
    SEARCH_ALIASES = ("paste face", "uncrop")
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")
    OUTPUT_TOOLTIPS = ("The picture with the faces in it.", "How much of each pixel is restored face.")
    FUNCTION = "paste"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture the faces were found in."}),
                "faces": ("PFR_FACES", {"tooltip": "From Detect Faces."}),
                "crops": ("IMAGE", {"tooltip": "One crop for every face, in the same order; any size, square."}),
                **inputs.widgets(inputs.PASTE),
            },
            "optional": {
                "upscaled": ("IMAGE", {"tooltip": "The same picture enlarged by another node: the faces are pasted into it."})
            },
        }

    def paste(
        self, image: Tensor, faces: Faces, crops: Tensor, upscaled: Tensor | None = None, **values: Any
    ) -> tuple[Tensor, Tensor]:
        _check(image, faces)
        if (faces.count and len(crops) != faces.count) or crops.shape[1] != crops.shape[2]:
            raise InputError(
                f"{faces.count} faces, but crops of shape {list(crops.shape)}. Paste Faces Back takes one square crop for every "
                "face of Detect Faces, in the same order."
            )
        options, parser, steps = inputs.options(values), runtime.parser(), runtime.Steps(len(image))
        restored = [crop[..., :3] for crop in runtime.to_arrays(crops)]
        pairs = with_background(runtime.to_arrays(image), upscaled)
        results, masks, taken = [], [], 0
        for number, ((frame, background), found) in enumerate(zip(pairs, faces.frames, strict=True)):
            steps.check()
            size = crops.shape[1]
            after = np.stack(restored[taken : taken + len(found)]) if found else np.empty((0, size, size, 3), np.float32)
            taken += len(found)
            with runtime.frame_named(number, len(image)):
                before = crop_faces(frame, found, size)
                result, mask = paste_faces(
                    frame, found, before, after, options=options, parser=parser, background=background
                )
            results.append(result)
            masks.append(mask[..., None])
            steps.done()
        return runtime.to_image(results, image), runtime.to_image(masks, image[..., :1]).squeeze(3)


def with_background(frames: list[Array], upscaled: Tensor | None) -> list[tuple[Array, Array | None]]:
    """Every frame with its enlarged picture, if there is one; alpha is dropped where only one of the two has it.

    Raises:
        InputError: not one for each frame.
    """
    if upscaled is None:
        return [(frame, None) for frame in frames]
    if len(upscaled) != len(frames):
        raise InputError(f"{len(upscaled)} upscaled pictures for {len(frames)} images; give one for each.")
    pairs = zip(frames, runtime.to_arrays(upscaled), strict=True)
    return [(frame[..., : large.shape[2]], large[..., : frame.shape[2]]) for frame, large in pairs]


def _check(image: Tensor, faces: Faces) -> None:
    if len(image) != len(faces.frames):
        raise InputError(
            f"The faces were found in {len(faces.frames)} pictures, this IMAGE has {len(image)}. Connect that one."
        )
