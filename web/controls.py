"""Sliders, menus and switches made from :class:`RestoreOptions`, so that choices, limits, defaults and help are its."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_type_hints

import gradio as gr

from pfr_core.options import RestoreOptions

LABELS = {
    "threshold": "Detection threshold",
    "detection_size": "Detection size",
    "sideways": "Sideways faces",
    "mask": "Mask",
    "feather": "Soft edge",
    "color_match": "Colour match",
    "scale": "Enlarge",
}
STEPS = {"strength": 0.05, "feather": 0.01, "threshold": 0.01, "scale": 0.25, "detection_size": 64}

SEARCH = ("threshold", "detection_size", "sideways", "min_face_size")
"""How faces are looked for."""
BLEND = ("mask", "feather", "color_match", "keep_gray", "scale")
"""How restored faces are put back; with the strength, what can be changed without running the network again."""


def control(name: str) -> Any:
    """The component for one field of :class:`RestoreOptions`."""
    (item,) = (each for each in fields(RestoreOptions) if each.name == name)
    hint, low, high = get_type_hints(RestoreOptions)[name], item.metadata["low"], item.metadata["high"]
    choices = [choice for choice in get_args(hint) if isinstance(choice, str)]
    label = LABELS.get(name, name.replace("_", " ").capitalize())
    common: dict[str, Any] = {"label": label, "info": item.metadata["help"], "value": item.default}
    if choices:
        return gr.Dropdown(choices, filterable=False, **common)
    if hint is bool:
        return gr.Checkbox(**common)
    if name in STEPS:
        return gr.Slider(low, high, step=STEPS[name], **common)
    return gr.Number(precision=0, minimum=low, maximum=high, **common)


def controls(*names: str) -> dict[str, Any]:
    """Several of them, by name."""
    return {name: control(name) for name in names}
