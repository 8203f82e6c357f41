"""Widgets derived from ``RestoreOptions``, and the way back: names, defaults, limits and tooltips are defined there only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..pfr_core.errors import InputError
from ..pfr_core.options import CHOOSE, FIND, PASTE, RestoreOptions
from ..pfr_core.support.schema import Spec, names, specs

LATER = ("only_bad_faces",)
"""Options that came after graphs were saved: their widgets are the last, for the page gives saved values by order, and optional,
for a program's graphs lack them."""
FINDING = tuple(name for name in names(RestoreOptions, FIND, CHOOSE) if name not in LATER)
PASTING = names(RestoreOptions, PASTE)

Widget = tuple[Any, dict[str, Any]]


def widgets(wanted: Collection[str]) -> dict[str, Widget]:
    """Return ComfyUI's input declarations for these fields of ``RestoreOptions``, in the order given."""
    return {name: widget(specs(RestoreOptions)[name]) for name in wanted}


def widget(spec: Spec) -> Widget:
    """Return ComfyUI's input declaration for one option."""
    tooltip = spec.help[:1].upper() + spec.help[1:] + "."
    if spec.many:
        return "STRING", {"default": "", "tooltip": f"{tooltip} For example: 0, 2"}
    if spec.optional:  # a widget has no None, 0 stands for it
        return "INT", {"default": 0, "tooltip": f"{tooltip} 0: no limit.", "min": 0, "max": spec.high}
    common = {"default": spec.default, "tooltip": tooltip}
    if spec.kind == "choice":
        return list(spec.choices), common
    if spec.kind == "flag":
        return "BOOLEAN", common
    limits = {"min": spec.low, "max": spec.high}
    if spec.kind == "number":
        return "FLOAT", {**common, **limits, "step": spec.step, "round": 0.001}
    return "INT", {**common, **limits}  # without the step, to which ComfyUI would round


def options(values: Mapping[str, Any]) -> RestoreOptions:
    """Return ``RestoreOptions`` from the widgets' values; other names are ignored.

    Raises:
        InputError: a value is out of range, without effect, or not a list of numbers.
    """
    chosen = {name: values[name] for name in specs(RestoreOptions) if name in values}
    for name, value in chosen.items():
        spec = specs(RestoreOptions)[name]
        if spec.many and isinstance(value, str):
            chosen[name] = _numbers(name, value)
        elif spec.optional and value == 0:
            chosen[name] = None
    return RestoreOptions(**chosen)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; write whole numbers separated by commas, like 0, 2.") from error
