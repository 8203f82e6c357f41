"""The steps of a restoration one by one: faces cut out, restored, put back; other nodes can work on the crops in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from ..pfr_core.compose import Canvas, cut_face, cut_whole, paste_faces, stacked
from ..pfr_core.errors import InputError
from ..pfr_core.photo.arrays import Array, FloatImage, resize
from . import inputs, runtime
from .detect import Faces
from .images import NOTHING_RESTORED, Batch, Frames, before_after, no_crops
from .model import CATEGORY

CROP_LEFT_OUT = "a crop holds NaN or infinite values, and its face stays as it is. Look at the node that made it."
NO_BACKGROUND = "the upscaled picture holds NaN or infinite values, and no face is pasted into it. Look at the node that made it."
UPSCALED = ("IMAGE", {"tooltip": "The same picture enlarged by another node: the faces are pasted into it."})


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
        tooltip = "Side of the crops in px. Connect crop_size of the model to spare a resize."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture the faces were found in."}),
                "faces": ("PFR_FACES", {"tooltip": "From Detect Faces."}),
                "size": ("INT", {"default": 512, "min": 64, "max": 2048, "step": 64, "tooltip": tooltip}),
            }
        }

    def crop(self, image: Tensor, faces: Faces, size: int) -> tuple[Tensor]:
        faces.check(image)
        frames, steps, crops = Frames(image), runtime.Steps(len(image)), Batch(faces.count)
        for number, (frame, found) in enumerate(zip(frames, faces.frames, strict=True)):
            with steps.frame(number):
                crops.extend(cut_face(frame, face, size).crop for face in found)
        return (crops.result(no_crops(size)),)


class PFRRestoreCrops:
    """Crops -> restored crops."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Restores aligned face crops; Paste Faces Back matches their colours to the picture. "
        "Restored detail is synthesised; it is no evidence of identity."
    )
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
            },
            "optional": inputs.widgets(inputs.OF_MODELS),
        }

    def restore(self, model: runtime.LoadedModel, crops: Tensor, **values: Any) -> dict[str, Any]:
        _check_square(crops)
        restorer = model.restorer()
        widgets = inputs.options(values, has=restorer.model_options)
        notices = runtime.Notices(len(crops), widgets.ignored)
        frames, steps, results = Frames(crops), runtime.Steps(len(crops)), Batch(len(crops))
        for first in range(0, len(frames), restorer.batch_size):
            numbers = range(first, min(first + restorer.batch_size, len(frames)))
            with steps.frame(first, len(numbers)):
                whole = {number: notices.finite(number, frames[number]) for number in numbers}
                before = [frames[number] for number in numbers if whole[number]]
                small = [cut_whole(crop, restorer.crop_size).crop for crop in before]
                after = iter(
                    restorer.restore_crops(
                        stacked(small, restorer.crop_size), options=widgets.options, should_stop=runtime.interrupted
                    )
                )
                for number in numbers:
                    crop = frames[number][..., :3]
                    results.append(_sized(next(after), len(crop)) if whole[number] else crop)
        return {"ui": notices.ui(), "result": (results.result(crops[..., :3]),)}


def _sized(crop: FloatImage, side: int) -> Array:
    return cut_whole(crop, side).crop if side < len(crop) else resize(crop, side, side)


class PFRPasteFaces:
    """IMAGE, faces and their restored crops -> IMAGE."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Puts restored crops back where they were cut out. Every pixel outside the mask stays exactly as it was."
    SEARCH_ALIASES = ("paste face", "uncrop")
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")
    OUTPUT_TOOLTIPS = ("The picture with the faces in it.", "How much of each pixel is restored face.")
    FUNCTION = "paste"
    HAS_INTERMEDIATE_OUTPUT = True  # newer cores show it again after a reload, though nothing runs

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture the faces were found in."}),
                "faces": ("PFR_FACES", {"tooltip": "From Detect Faces."}),
                "crops": ("IMAGE", {"tooltip": "One crop for every face, in the same order; any size, square."}),
                **inputs.widgets(inputs.PASTING),
            },
            "optional": {"upscaled": UPSCALED},
        }

    def paste(self, image: Tensor, faces: Faces, crops: Tensor, upscaled: Tensor | None = None, **values: Any) -> dict[str, Any]:
        faces.check(image)
        _check_crops(crops, faces)
        widgets, parser, steps = (
            inputs.options(values, upscaled=upscaled is not None),
            runtime.parser(),
            runtime.Steps(len(image)),
        )
        options = widgets.options
        if faces.count:
            runtime.fetch_around("auto", options.mask)
            if options.mask == "parse":
                runtime.make_room(parser.device)
        images, masks, restored = Batch(len(image)), Batch(len(image)), iter(Frames(crops))
        ui = NOTHING_RESTORED
        notices = runtime.Notices(len(image), widgets.ignored)
        for number, (frame, background) in enumerate(with_background(image, upscaled)):
            found = faces.frames[number]
            with steps.frame(number):
                own = [next(restored)[..., :3] for _ in found]
                if found and not (notices.finite(number, frame) and takes_faces(notices, number, background)):
                    found = []
                layers = []
                for face, crop in zip(found, own, strict=False):
                    if notices.finite(number, crop, CROP_LEFT_OUT):
                        layers.append(cut_face(frame, face, crops.shape[1]))
                        layers[-1].restored = np.clip(crop, 0, 1)
                canvas = Canvas(frame, options.scale, background)
                pasted = paste_faces(canvas, layers, options=options, parser=parser, should_stop=runtime.interrupted)
                notices.add(number, pasted.notices)
                images.append(pasted.image)
                masks.append(pasted.mask)
                if found and ui is NOTHING_RESTORED:
                    ui = before_after(frame, pasted.image, found)
        return {"ui": {**ui, **notices.ui()}, "result": (images.result(image), masks.result(image[..., 0]))}


def with_background(image: Tensor, upscaled: Tensor | None) -> Iterator[tuple[FloatImage, FloatImage | None]]:
    """Yield every frame with its enlarged picture, if there is one.

    Raises:
        InputError: not one for each frame.
    """
    frames = Frames(image)
    if upscaled is None:
        return ((frame, None) for frame in frames)
    if len(upscaled) != len(image):
        raise InputError(f"{len(upscaled)} upscaled pictures for {len(image)} images; give one for each.")
    return zip(frames, Frames(upscaled), strict=True)


def takes_faces(notices: runtime.Notices, number: int, background: FloatImage | None) -> bool:
    """Return whether the enlarged picture of frame ``number``, if there is one, can take faces; if not, it is noticed."""
    return background is None or notices.finite(number, background, NO_BACKGROUND)


def _check_square(crops: Tensor) -> None:
    if crops.shape[1] != crops.shape[2]:
        raise InputError(f"The crops are {crops.shape[2]}x{crops.shape[1]} px; they must be square, as Crop Faces makes them.")


def _check_crops(crops: Tensor, faces: Faces) -> None:
    if faces.count and len(crops) != faces.count:
        raise InputError(
            f"{faces.count} faces, but {len(crops)} crops. Paste Faces Back takes one crop for every face of Detect Faces, in "
            "the same order."
        )
    _check_square(crops)
