"""Widgets derived from ``RestoreOptions``, and the way back: names, defaults, limits and tooltips are defined there only."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..pfr_core.errors import InputError
from ..pfr_core.options import FINDING, RestoreOptions

FIND = FINDING
PASTE = ("strength", "mask", "feather", "color_match", "keep_gray", "scale")

Widget = tuple[Any, dict[str, Any]]


def widgets(names: Sequence[str]) -> dict[str, Widget]:
    """ComfyUI input declarations for these fields of ``RestoreOptions``, in the order given."""
    hints = get_type_hints(RestoreOptions)
    items = {item.name: item for item in fields(RestoreOptions)}
    return {name: _widget(hints[name], items[name].default, items[name].metadata) for name in names}


def _widget(hint: Any, default: Any, metadata: Mapping[str, Any]) -> Widget:
    tooltip = metadata["help"][:1].upper() + metadata["help"][1:] + "."
    if get_origin(hint) is Literal:
        return list(get_args(hint)), {"default": default, "tooltip": tooltip}
    if hint is bool:
        return "BOOLEAN", {"default": default, "tooltip": tooltip}
    if hint is float:
        limits = {"min": metadata["low"], "max": metadata["high"], "step": 0.05, "round": 0.001}
        return "FLOAT", {"default": default, "tooltip": tooltip, **limits}
    if hint is int:
        return "INT", {"default": default, "tooltip": tooltip, "min": metadata["low"], "max": metadata["high"]}
    if get_origin(hint) in (Union, types.UnionType):  # X | None: a widget has no None, 0 stands for it
        return "INT", {"default": 0, "tooltip": f"{tooltip} 0: no limit.", "min": 0, "max": metadata["high"]}
    return "STRING", {"default": "", "tooltip": f"{tooltip} For example: 0, 2"}  # a tuple of numbers


def options(values: Mapping[str, Any]) -> RestoreOptions:
    """``RestoreOptions`` from the widgets' values; other names are ignored.

    Raises:
        InputError: a value is out of range, without effect, or not a list of numbers.
    """
    hints = get_type_hints(RestoreOptions)
    chosen = {name: values[name] for name in hints if name in values}
    for name, value in chosen.items():
        if isinstance(value, str) and get_origin(hints[name]) is tuple:
            chosen[name] = _numbers(name, value)
        elif value == 0 and get_origin(hints[name]) in (Union, types.UnionType):
            chosen[name] = None
    return RestoreOptions(**chosen)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; write whole numbers separated by commas, like 0, 2.") from error
