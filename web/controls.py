"""Sliders, menus and switches made from :class:`RestoreOptions`, so that choices, limits, defaults and help are its."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pfr_core.options import FIND, PASTE, RestoreOptions
from pfr_core.support.schema import names, specs

SEARCH = tuple(name for name in names(RestoreOptions, FIND) if not specs(RestoreOptions)[name].optional)
"""How faces are looked for. What may be None is left out: Gradio's endpoints would ask for it."""
BLEND = tuple(name for name in names(RestoreOptions, PASTE) if name != "strength")
"""How restored faces are put back; with the strength, what can be changed without running the network again."""


def control(name: str) -> Any:
    """Return the component for one field of :class:`RestoreOptions`."""
    spec = specs(RestoreOptions)[name]
    common: dict[str, Any] = {"label": spec.label, "info": spec.help, "value": spec.default}
    if spec.kind == "choice":
        return gr.Dropdown(list(spec.choices), filterable=False, **common)
    if spec.kind == "flag":
        return gr.Checkbox(**common)
    if spec.step is not None:
        return gr.Slider(spec.low, spec.high, step=spec.step, **common)
    return gr.Number(precision=0, minimum=spec.low, maximum=spec.high, **common)


def quality_control() -> Any:
    """Return the component for the quality that files are written in; empty for the photo's own."""
    info = "1 to 100, of JPEG, WebP, AVIF and HEIC files; 95 or finer if left empty"
    return gr.Number(label="Quality of the file", info=info, value=None, precision=0, minimum=1, maximum=100)


def controls(*names: str) -> dict[str, Any]:
    """Return several of them, by name."""
    return {name: control(name) for name in names}
