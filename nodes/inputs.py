"""Widgets derived from ``RestoreOptions``, and the way back: names, defaults, limits and tooltips are defined there only.

What the core refuses because it would have no effect, a graph ignores and says so: its widgets keep values that they once had.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..pfr_core.errors import InputError
from ..pfr_core.options import CHOOSE, FIND, NETWORK, PASTE, RestoreOptions, Setup, without_effect
from ..pfr_core.support.schema import Spec, names, specs

LATER = ("only_bad_faces", "fidelity")
"""Options that came after graphs were saved: their widgets are the last, for the page gives saved values by order, and optional,
for a program's graphs lack them."""
FINDING = tuple(name for name in names(RestoreOptions, FIND, CHOOSE) if name not in LATER)
PASTING = names(RestoreOptions, PASTE)
OF_MODELS = names(RestoreOptions, NETWORK)
"""What only some models have."""

ADVANCED = frozenset(
    {
        *(name for name in FINDING if name not in ("select", "indices")),
        *(name for name in PASTING if name not in ("strength", "mask", "scale")),
    }
)
"""Options that few need: the page folds their widgets away (on the canvas ``web/js/advanced.js`` does)."""

IN_A_GRAPH = {
    "with select=index": "if which faces is index",
    "with select=all": "if which faces is all",
    "by their indices": "by their numbers",
}
"""Words of the help that are other ones in a graph, where widgets have titles."""

Widget = tuple[Any, dict[str, Any]]


@dataclass(frozen=True)
class Chosen:
    """What the widgets of a node say.

    Attributes:
        options: for the core.
        none: ``select`` is ``index`` and no number is given: no face is chosen.
        ignored: a sentence for each widget that has no effect.
    """

    options: RestoreOptions
    none: bool
    ignored: tuple[str, ...]


def widgets(wanted: Collection[str]) -> dict[str, Widget]:
    """Return ComfyUI's input declarations for these fields of ``RestoreOptions``, in the order given."""
    declared = {name: widget(specs(RestoreOptions)[name]) for name in wanted}
    return {
        name: (kind, {**options, "advanced": True} if name in ADVANCED else options) for name, (kind, options) in declared.items()
    }


def widget(spec: Spec) -> Widget:
    """Return ComfyUI's input declaration for one option."""
    text = spec.help
    for word, in_a_graph in IN_A_GRAPH.items():
        text = text.replace(word, in_a_graph)
    tooltip = text[:1].upper() + text[1:] + "."
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


DETECTOR = widget(specs(Setup)["detector"])
FOR_FINDING = {"detector": DETECTOR, **widgets(names(RestoreOptions, FIND, CHOOSE))}
"""Without effect where faces are connected."""


def options(
    values: Mapping[str, Any], *, found: bool = False, upscaled: bool = False, clip: bool = False, has: Collection[str] = ()
) -> Chosen:
    """Return what the widgets' values say; other names are passed over.

    Args:
        values: by name.
        found: faces are connected, so nothing is looked for and chosen.
        upscaled: an enlarged picture is connected, so ``scale`` has no effect.
        clip: faces are followed through a clip; sharp ones are restored too, for they may be sharp in one frame only.
        has: the options of :data:`OF_MODELS` that the model has.

    Raises:
        InputError: a value is out of range, or not a list of numbers.
    """
    chosen = {name: values[name] for name in specs(RestoreOptions) if name in values and not (found and name in FOR_FINDING)}
    ignored = []
    if found:
        moved = [name for name, (_, own) in FOR_FINDING.items() if values.get(name, own["default"]) != own["default"]]
        if moved:
            ignored.append(f"Ignored, for faces are connected: {', '.join(map(_title, moved))}.")
    select = chosen.get("select", "all")
    if select != "index" and str(chosen.pop("indices", None) or "").strip():
        ignored.append(f"The face numbers were ignored: which faces is {select}, not index.")
    for name, value in chosen.items():
        spec = specs(RestoreOptions)[name]
        if spec.many and isinstance(value, str):
            chosen[name] = _numbers(value)
        elif spec.optional and value == 0:
            chosen[name] = None
    if chosen.get("count") and select != "all":
        ignored.append(f"At most was ignored: which faces is {select}, not all.")
        del chosen["count"]
    if chosen.get("scale", 1) != 1 and upscaled:
        ignored.append("Enlarge was ignored: an upscaled image is connected.")
        del chosen["scale"]
    if clip:
        moved = [name for name, value in chosen.items() if value != specs(RestoreOptions)[name].default]
        idle = without_effect(moved, clip=True)
        if idle:
            numbered = "the face numbers are those of all faces that were followed"
            ignored.append(f"Ignored, for {numbered}: {', '.join(map(_title, idle))}.")
        chosen = {**{name: value for name, value in chosen.items() if name not in idle}, "only_bad_faces": False}
    for name in OF_MODELS:
        spec = specs(RestoreOptions)[name]
        if name not in has and chosen.pop(name, spec.default) != spec.default:
            ignored.append(f"{spec.label} was ignored: this model has no such option.")
    none = select == "index" and not chosen.get("indices")
    if none:
        chosen = {**chosen, "select": "all"}
    return Chosen(RestoreOptions(**chosen), none, tuple(ignored))


@cache
def _title(name: str) -> str:
    """Return what a widget is called in a graph."""
    nodes = json.loads((Path(__file__).resolve().parents[1] / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    return str(nodes["PFRRestoreFaces"]["inputs"][name]["name"])


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in re.split(r"[\s,\uff0c\u3001]+", text) if part)
        if any(number < 0 for number in numbers):
            raise ValueError("they count from 0")
        return numbers
    except ValueError as error:
        raise InputError(f"The face numbers are {text!r}; write numbers from 0 on, separated by commas, like 0, 2.") from error
