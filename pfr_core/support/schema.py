"""Options are fields of frozen dataclasses: described where they are defined, and here turned into a :class:`Spec` each.

Command line, ComfyUI widgets, the page's controls and the trainer's configuration are drawn from the specs; none of them looks
at a type hint itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..errors import InputError

T = TypeVar("T")
Kind = Literal["flag", "integer", "number", "text", "choice"]

_KINDS: dict[object, Kind] = {bool: "flag", int: "integer", float: "number", str: "text"}
_TYPES: dict[Kind, Any] = {"flag": bool, "integer": Integral, "number": Real, "text": str, "choice": str}
_WORDS = {"flag": "true or false", "integer": "a whole number", "number": "a number", "text": "a text", "choice": "a text"}


@dataclass(frozen=True)
class Spec:
    """All that a renderer needs to know of one option.

    Attributes:
        name: of the field.
        kind: what a value is; for several values, what each of them is.
        default: the field's.
        help: half a sentence, without a full stop.
        group: which other options it goes with; see :func:`names`.
        label: what a form calls it.
        choices: the values of a choice.
        many: the value is a tuple.
        optional: the value may be None, for "no limit" and the like.
        low: smallest number, with ``high``; None where any will do.
        high: largest number.
        step: how far a slider moves at least; None where a slider makes no sense.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    group: str = ""
    label: str = ""
    choices: tuple[str, ...] = ()
    many: bool = False
    optional: bool = False
    low: float | None = None
    high: float | None = None
    step: float | None = None

    def check(self, value: object) -> None:
        """Check the type of a value, its limits or that it is one of the choices.

        Raises:
            InputError: it is not; the message says what it must be.
        """
        if value is None and self.optional:
            return
        if self.many and not isinstance(value, (tuple, list)):
            raise InputError(f"{self.name} is {value!r}; it must be a list, each item {_WORDS[self.kind]}.")
        items: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list)) and self.many else (value,)
        for item in items:
            if self.kind == "choice" and item not in self.choices:
                raise InputError(f"{self.name} is {item!r}; choose from {', '.join(self.choices)}.")
            limited = self.low is not None and self.high is not None
            fits = isinstance(item, _TYPES[self.kind]) and (self.kind == "flag" or not isinstance(item, bool))
            if not fits or (limited and not self.low <= item <= self.high):
                limits = f" from {self.low:g} to {self.high:g}" if limited else ""
                raise InputError(f"{self.name} is {item!r}; it must be {_WORDS[self.kind]}{limits}.")


def option(
    default: T,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    group: str = "",
    label: str = "",
    step: float | None = None,
) -> T:
    """Return a dataclass field with the parts of a :class:`Spec` that its type does not tell."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "group": group, "label": label, "step": step})


@cache
def specs(options: type) -> dict[str, Spec]:
    """Return the spec of every field of a dataclass of :func:`option`, by name and in order."""
    hints = get_type_hints(options)
    return {item.name: _spec(item.name, hints[item.name], item.default, dict(item.metadata)) for item in fields(options)}


def names(options: type, *groups: str) -> tuple[str, ...]:
    """Return the names of the options of these groups, in the order of the fields."""
    return tuple(name for name, spec in specs(options).items() if spec.group in groups)


def check_fields(options: object) -> None:
    """Check every :func:`option` of a dataclass, see :meth:`Spec.check`.

    Raises:
        InputError: a value has the wrong type, is out of range or none of the choices.
    """
    kind: type = type(options)
    for name, spec in specs(kind).items():
        spec.check(getattr(options, name))


def _spec(name: str, hint: object, default: object, metadata: dict[str, Any]) -> Spec:
    inner = [each for each in get_args(hint) if each is not type(None) and each is not Ellipsis]
    many, optional = get_origin(hint) is tuple, type(None) in get_args(hint)
    metadata["label"] = metadata["label"] or name.replace("_", " ").capitalize()
    if get_origin(hint) is Literal:
        return Spec(name, "choice", default, choices=get_args(hint), **metadata)
    kind = _KINDS[inner[0] if many or optional else hint]
    return Spec(name, kind, default, many=many, optional=optional, **metadata)
