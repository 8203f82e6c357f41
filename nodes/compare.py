"""Several models on the faces of one picture, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..pfr_core.compare import compare
from ..pfr_core.errors import InputError
from ..pfr_core.photo.arrays import to_float
from ..pfr_core.support.choices import DetectorName
from . import inputs, runtime
from .images import Batch, Frames
from .model import CATEGORY

MORE = ("model_2", "model_3", "model_4")


class PFRCompareModels:
    """IMAGE and models -> a sheet: a row for each face, a column for each model."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Restores the faces of a picture with several models, one after the other, and shows them side by side: rows are faces, "
        "columns models, the picture first. Restored detail is synthesised; it is no evidence of identity."
    )
    SEARCH_ALIASES = ("compare", "face restoration", "GFPGAN", "CodeFormer", "RestoreFormer")
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("sheet",)
    OUTPUT_TOOLTIPS = ("The sheet, with the models' names above.",)
    FUNCTION = "compare"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        model = ("PFR_MODEL", {"tooltip": "From Load Face Restoration Model."})
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "Photograph; of a batch the first."}),
                "model": model,
                **inputs.widgets(("strength",)),
                "detector": inputs.DETECTOR,
                **inputs.widgets(("threshold",)),
            },
            "optional": {**dict.fromkeys(MORE, model), **inputs.widgets(inputs.OF_MODELS)},
        }

    def compare(self, image: Tensor, model: runtime.LoadedModel, detector: DetectorName, **values: Any) -> dict[str, Any]:
        if not len(image):
            raise InputError("The IMAGE holds no picture; connect one with a face.")
        models = [model, *(values[name] for name in MORE if values.get(name) is not None)]
        has = {name for each in models for name in each.patcher.model.options}
        widgets = inputs.options(values, has=has)
        runtime.fetch_around(detector)
        steps, notices, sheet = runtime.Steps(1), runtime.Notices(1, widgets.ignored), Batch(1)
        with steps.frame(0):
            found = compare(
                np.clip(Frames(image)[0], 0, 1),  # what enlarged a picture may have overshot
                [(each.name, lambda each=each: each.restorer(detector)) for each in models],  # type: ignore[misc]
                widgets.options,
                progress=lambda name, done, total: steps.bar.update_absolute(done, total),
                should_stop=runtime.interrupted,
            )
            notices.add(0, found.notices)
            sheet.append(to_float(found.sheet))
        return {"ui": notices.ui(), "result": (sheet.result(torch.empty(0)),)}
