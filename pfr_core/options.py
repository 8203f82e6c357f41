"""Every choice a user has for one restoration, defined once: command line, nodes and demo are derived from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, TypedDict, get_args, get_type_hints

from .errors import InputError
from .faces.color import ColorMatch
from .faces.mask import MaskKind
from .faces.select import Order, Select


def option(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """A field with a help text and, for numbers, limits."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


def check_fields(options: Any) -> None:
    """Check every :func:`option` of a dataclass against its type, limits and choices.

    Raises:
        InputError: a value has the wrong type, is out of range or none of the choices.
    """
    hints = get_type_hints(type(options))
    for item in fields(options):
        value, low, high = getattr(options, item.name), item.metadata["low"], item.metadata["high"]
        choices = get_args(hints[item.name]) or (hints[item.name],)
        if low is not None and not (value is None and type(None) in choices):
            kind, words = (Integral, "a whole number") if int in choices else (Real, "a number")
            if not isinstance(value, kind) or not low <= value <= high:
                raise InputError(f"{item.name} is {value!r}; it must be {words} from {low:g} to {high:g}.")
        if isinstance(choices[0], str) and value not in choices:
            raise InputError(f"{item.name} is {value!r}; choose from {', '.join(choices)}.")


@dataclass(frozen=True)
class RestoreOptions:
    """How to find, choose, restore and paste the faces of a photograph.

    Raises:
        InputError: a value has the wrong type or is out of range, or an option would have no effect.

    Example:
        >>> RestoreOptions(select="largest", strength=0.7).mask
        'box'
    """

    threshold: float = option(0.8, "lowest detection score that counts as a face", 0.0, 1.0)
    detection_size: int = option(1280, "longer side in px at which faces are looked for; photos are never enlarged", 64, 8192)
    sideways: bool = option(False, "look for faces turned by 90, 180 and 270 degrees too")
    min_face_size: int = option(0, "leave faces smaller than this alone (longer side of the box in px)", 0, 100000)
    max_face_size: int | None = option(None, "leave faces larger than this alone (longer side of the box in px)", 1, 100000)
    select: Select = option("all", "which faces")
    order: Order = option("left-to-right", "order in which faces are listed, counted and numbered")
    indices: tuple[int, ...] = option((), "with select=index: positions in that order, from 0")
    count: int | None = option(None, "with select=all: at most so many faces", 1, 100000)
    strength: float = option(1.0, "0 leaves the photo as it is, 1 is the full restoration", 0.0, 1.0)
    mask: MaskKind = option("box", "shape of what is pasted; parse (head and hair) needs weights of its own")
    feather: float = option(0.1, "width of the mask's soft edge as a share of the crop", 0.0, 0.5)
    color_match: ColorMatch = option("wavelet", "match the face's colours to the photo's; wavelet keeps the broad ones")
    keep_gray: bool = option(True, "a gray photo stays gray")
    scale: float = option(1.0, "enlarge the photo by this factor (Lanczos for everything but the faces)", 1.0, 4.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_face_size is not None and self.max_face_size < self.min_face_size:
            raise InputError(f"max_face_size {self.max_face_size} is below min_face_size {self.min_face_size}.")
        if bool(self.indices) != (self.select == "index"):
            raise InputError("indices and select='index' go together: give both or neither.")
        if self.count is not None and self.select != "all":
            raise InputError(f"count needs select='all'; select={self.select!r} says itself how many.")


FINDING = (
    "threshold",
    "detection_size",
    "sideways",
    "min_face_size",
    "max_face_size",
    "select",
    "order",
    "indices",
    "count",
)
"""The options that decide which faces are restored; they have no effect where the faces are given."""


class Changes(TypedDict, total=False):
    """The fields of :class:`RestoreOptions` as keywords, for type checkers; a test holds the two together."""

    threshold: float
    detection_size: int
    sideways: bool
    min_face_size: int
    max_face_size: int | None
    select: Select
    order: Order
    indices: tuple[int, ...]
    count: int | None
    strength: float
    mask: MaskKind
    feather: float
    color_match: ColorMatch
    keep_gray: bool
    scale: float


def changed(options: RestoreOptions, changes: Mapping[str, Any], useless: Collection[str] = (), why: str = "") -> RestoreOptions:
    """Return ``options`` with some fields changed.

    Args:
        options: what is changed.
        changes: new values by name.
        useless: names that would have no effect where they are used.
        why: what makes them useless.

    Raises:
        InputError: a name that is unknown or useless, or a value that is refused.
    """
    known = RestoreOptions.__dataclass_fields__
    unknown = set(changes) - set(known)
    if unknown:
        raise InputError(f"Unknown options {sorted(unknown)}; there are {sorted(known)}.")
    if given := set(changes) & set(useless):
        raise InputError(f"{sorted(given)} have no effect when {why}.")
    return replace(options, **changes)
