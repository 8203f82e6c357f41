"""Sliders, menus and switches made from :class:`RestoreOptions`, so that choices, limits, defaults and help are its."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from pfr_core.options import FIND, PASTE, ClipOptions, RestoreOptions
from pfr_core.support.schema import names, specs

from .components import as_given
from .texts import text

SEARCH = tuple(name for name in names(RestoreOptions, FIND) if not specs(RestoreOptions)[name].optional)
"""How faces are looked for. What may be None is left out: Gradio's endpoints would ask for it."""
BLEND = tuple(name for name in names(RestoreOptions, PASTE) if name != "strength")
"""How restored faces are put back; with the strength, what can be changed without running the network again."""


def controls(*names: str, without: Sequence[str] = (), masks: Sequence[str] = ()) -> dict[str, Any]:
    """Return the components of several fields of :class:`RestoreOptions` and :class:`ClipOptions`, by name.

    Args:
        names: of the fields.
        without: choices to leave out.
        masks: those to offer; all if none is named.
    """
    return {name: as_given(_control(name, without, masks)) for name in names}


def _control(name: str, without: Sequence[str], masks: Sequence[str]) -> Any:
    spec = {**specs(ClipOptions), **specs(RestoreOptions)}[name]
    common: dict[str, Any] = {"label": text(f"option_{name}"), "info": text(f"help_{name}"), "value": spec.default}
    if spec.kind == "choice":
        offered = [choice for choice in spec.choices if choice not in without]
        choices = [choice for choice in offered if name != "mask" or not masks or choice in masks]
        return gr.Dropdown(choices, filterable=False, **common)
    if spec.kind == "flag":
        return gr.Checkbox(**common)
    if spec.step is not None:
        return gr.Slider(spec.low, spec.high, step=spec.step, **common)
    return gr.Number(precision=0, minimum=spec.low, maximum=spec.high, **common)


def quality_control() -> Any:
    """Return the component for the quality that files are written in; empty for the photo's own."""
    return as_given(
        gr.Number(label=text("file_quality"), info=text("help_file_quality"), value=None, precision=0, minimum=1, maximum=100)
    )
