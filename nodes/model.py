"""Loading a restoration model."""

from __future__ import annotations

import os
from typing import Any, get_args

from ..pfr_core.models.checkpoint import DEFAULT
from ..pfr_core.options import Setup
from ..pfr_core.support.choices import DTypeName
from ..pfr_core.support.schema import specs
from . import inputs, runtime

CATEGORY = "image/face"


class PFRLoadModel:
    """A file of ``models/facerestore_models``, or the shipped model."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads a face restoration model: the one that ships with PFR, or a PFR or GPEN file in models/facerestore_models. "
        "The shipped weights are for non-commercial research only."
    )
    SEARCH_ALIASES = ("face restoration", "GPEN", "GFPGAN", "CodeFormer", "facerestore")
    RETURN_TYPES = ("PFR_MODEL", "INT")
    RETURN_NAMES = ("model", "crop_size")
    OUTPUT_TOOLTIPS = (
        "The model. ComfyUI moves it to the graphics card when it is used, and away when memory is short.",
        "Side in px of the faces it works on, for Crop Faces.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = runtime.model_names()
        devices = list(get_args(runtime.DeviceName))
        return {
            "required": {
                "model": (names, {"default": names[0], "tooltip": "default: the weights that ship with PFR."}),
                "device": (devices, {"default": devices[0], "tooltip": "auto: the device that ComfyUI uses."}),
                "dtype": inputs.widget(specs(Setup)["dtype"]),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        if model in runtime.model_names():
            return True
        return f"{model} is not in models/{runtime.MODEL_FOLDER} any more. Choose another model, or put the file back."

    @classmethod
    def IS_CHANGED(cls, model: str, **_: Any) -> str:
        """Return a file that was replaced is read again."""
        return model if model == DEFAULT else f"{model} {os.path.getmtime(runtime.model_path(model))}"

    def load(self, model: str, device: runtime.DeviceName, dtype: DTypeName) -> tuple[runtime.LoadedModel, int]:
        loaded = runtime.load(model, device, dtype)
        return loaded, loaded.patcher.model.config.size
