"""Loading a restoration model."""

from __future__ import annotations

import os
from typing import Any, get_args

from ..pfr_core.models.registry import REGISTRY, obtainable
from ..pfr_core.options import Setup
from ..pfr_core.support.choices import DTypeName
from ..pfr_core.support.schema import specs
from . import inputs, runtime

CATEGORY = "image/face"


class PFRLoadModel:
    """A file of ``models/facerestore_models``, the shipped model, or a published one."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads a face restoration model: the one that ships with PFR, a file in models/facerestore_models (PFR, GPEN, GFPGAN, "
        "CodeFormer, RestoreFormer, or such a network as ONNX), or a published one, downloaded when it is first used. "
        "The shipped weights are for non-commercial research only; the others have licences of their own."
    )
    SEARCH_ALIASES = ("face restoration", "GPEN", "GFPGAN", "CodeFormer", "RestoreFormer", "facerestore")
    RETURN_TYPES = ("PFR_MODEL", "INT")
    RETURN_NAMES = ("model", "crop_size")
    OUTPUT_TOOLTIPS = (
        "The model. ComfyUI moves it to the graphics card when it is used, and away when memory is short.",
        "Side in px of the faces it works on, for Crop Faces.",
    )
    FUNCTION = "load"
    HAS_INTERMEDIATE_OUTPUT = True  # newer cores show it again after a reload, though nothing runs

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = runtime.model_names()
        devices = list(get_args(runtime.DeviceName))
        return {
            "required": {
                "model": (names, {"default": names[0], "tooltip": f"default: the weights that ship with PFR. {_offers()}"}),
                "device": (devices, {"default": devices[0], "tooltip": "auto: the device that ComfyUI uses."}),
                "dtype": inputs.widget(specs(Setup)["dtype"]),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str | None) -> bool | str:
        if model is None or model in runtime.model_names():
            return True
        return f"{model} is not in models/{runtime.MODEL_FOLDER} on this machine. {runtime.instead_of(model)}"

    @classmethod
    def IS_CHANGED(cls, model: str | None, **_: Any) -> str:
        """Return what changes when the file is replaced, which is read again then; a name from another node is not known yet."""
        if model is None:
            return ""
        path = runtime.model_path(model)
        return path if path == model else f"{model} {os.path.getmtime(path)}"

    def load(self, model: str, device: runtime.DeviceName, dtype: DTypeName) -> dict[str, Any]:
        loaded = runtime.load(model, device, dtype)
        net = loaded.patcher.model
        return {"ui": {"text": [f"Licence of {model}: {net.licence}"]}, "result": (loaded, net.size)}


def _offers() -> str:
    """Say what is downloaded when it is chosen, and under which licences."""
    offers = [REGISTRY[name] for name in obtainable() if not REGISTRY[name].embedded]
    each = [f"{weights.name} ({weights.bytes / 1e6:.0f} MB; {weights.licence})" for weights in offers]
    return f"Downloaded when first used: {'; '.join(each)}."
