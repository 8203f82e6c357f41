"""Loading a restoration model."""

from __future__ import annotations

from typing import Any, get_args

from ..pfr_core.device import DTypeName
from . import runtime

CATEGORY = "PFR"


class PFRLoadModel:
    """A file of ``models/facerestore_models``, or the shipped model."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads a face restoration model: the one that ships with PFR, or a PFR or GPEN file in models/facerestore_models. "
        "The shipped weights are for non-commercial research only."
    )
    SEARCH_ALIASES = ("face restoration", "GPEN", "GFPGAN", "CodeFormer", "facerestore")
    RETURN_TYPES = ("PFR_MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model. ComfyUI moves it to the graphics card when it is used, and away when memory is short.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = runtime.model_names()
        return {
            "required": {
                "model": (names, {"default": names[0], "tooltip": "default: the weights that ship with PFR."}),
                "dtype": (
                    list(get_args(DTypeName)),
                    {"default": "auto", "tooltip": "Precision. auto: what suits the device."},
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        if model in runtime.model_names():
            return True
        return f"{model} is not in models/{runtime.MODEL_FOLDER} any more. Choose another model, or put the file back."

    def load(self, model: str, dtype: DTypeName) -> tuple[runtime.LoadedModel]:
        return (runtime.load(model, dtype),)
