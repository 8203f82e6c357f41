"""Everything in one node, for the common case."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from ..pfr_core.support.choices import DetectorName
from ..pfr_core.work import Work, restore_all
from . import inputs, runtime
from .crops import UPSCALED, takes_faces, with_background
from .detect import Faces, find_in_frame
from .images import NOTHING_RESTORED, Batch, Frames, before_after, no_crops
from .model import CATEGORY


class PFRRestoreFaces:
    """IMAGE -> IMAGE with its faces restored."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds the faces, restores them and puts them back; pictures without a face pass through unchanged. "
        "Restored detail is synthesised; it is no evidence of identity."
    )
    SEARCH_ALIASES = ("face restoration", "restore face", "old photo", "GFPGAN", "CodeFormer", "GPEN", "facerestore", "ReActor")
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE", "IMAGE", "PFR_FACES", "INT")
    RETURN_NAMES = ("image", "mask", "crops_before", "crops_after", "faces", "count")
    OUTPUT_TOOLTIPS = (
        "The restored picture.",
        "How much of each pixel is restored face.",
        "The faces as they were cut out; one black image if there is none.",
        "The same faces as the model restored them.",
        "The faces that were restored, for Crop Faces and Paste Faces Back.",
        "How many faces were restored, over all frames.",
    )
    FUNCTION = "restore"
    HAS_INTERMEDIATE_OUTPUT = True  # newer cores show it again after a reload, though nothing runs

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("PFR_MODEL", {"tooltip": "From Load Face Restoration Model."}),
                "image": ("IMAGE", {"tooltip": "Photograph, or the frames of a video."}),
                **inputs.widgets(("strength",)),
                "detector": inputs.DETECTOR,
                **inputs.widgets((*inputs.FINDING, *(name for name in inputs.PASTING if name != "strength"))),
            },
            "optional": {
                "upscaled": UPSCALED,
                **inputs.widgets(inputs.LATER),
                "faces": ("PFR_FACES", {"tooltip": "From Detect Faces: these are restored, and nothing is looked for here."}),
            },
        }

    def restore(
        self,
        model: runtime.LoadedModel,
        image: Tensor,
        detector: DetectorName,
        upscaled: Tensor | None = None,
        faces: Faces | None = None,
        **values: Any,
    ) -> dict[str, Any]:
        frames, pairs = Frames(image), with_background(image, upscaled)
        restorer = model.restorer(detector)
        widgets = inputs.options(
            {**values, "detector": detector}, found=faces is not None, upscaled=upscaled is not None, has=restorer.model_options
        )
        options = widgets.options
        if faces is not None:
            faces.check(image)
        else:
            runtime.fetch_around(detector)
        scale = options.scale if upscaled is None else upscaled.shape[2] / image.shape[2]
        steps, notices = runtime.Steps(len(frames), rounds=2), runtime.Notices(len(frames), widgets.ignored)
        chosen = []
        for number, (frame, background) in enumerate(pairs):
            with steps.frame(number):
                if faces is not None:
                    own = faces.frames[number]
                    own = own if not own or notices.finite(number, frame) else []
                else:
                    found = find_in_frame(restorer.detector, frame, widgets, side=restorer.crop_size, scale=scale)
                    notices.add(number, found.notices)
                    own = found.faces
                chosen.append(own if not own or takes_faces(notices, number, background) else [])
        if any(chosen):
            runtime.fetch_around("auto", options.mask)
        # All faces are known before the first is restored, so that the memory for the crops is taken once.
        images, masks = Batch(len(frames)), Batch(len(frames))
        before, after = (Batch(sum(map(len, chosen))) for _ in range(2))
        ui = NOTHING_RESTORED
        for number, ((frame, background), own) in enumerate(zip(with_background(image, upscaled), chosen, strict=True)):
            with steps.frame(number):
                (done,) = restore_all(
                    [Work(restorer, partial(np.asarray, frame))], options, faces=own, backgrounds=[background], seconds={},
                    should_stop=runtime.interrupted, progress=steps.report,
                )  # fmt: skip
                notices.add(number, done.notices)
            images.append(done.pasted.image)
            masks.append(done.pasted.mask)
            before.extend(done.crops(restorer.crop_size))
            after.extend(done.crops(restorer.crop_size, after=True))
            if own and ui is NOTHING_RESTORED:
                ui = before_after(frame, done.pasted.image, own)
        crops = (each.result(no_crops(restorer.crop_size)) for each in (before, after))
        every = Faces(chosen, *image.shape[1:3])
        result = (images.result(image), masks.result(image[..., 0]), *crops, every, every.count)
        return {"ui": {**ui, **notices.ui()}, "result": result}
