"""Command-line options made from the fields of an options dataclass, so that choices and help are written once."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from typing import Any, get_args, get_origin, get_type_hints


def add_options(parser: argparse._ActionsContainer, options: type, *, only: tuple[str, ...] | None = None) -> None:
    """Add an option for every field (or those named in ``only``) of the dataclass ``options``.

    ``Literal`` fields become choices, booleans ``--flag / --no-flag``, tuples take several values, ``X | None`` an X.
    """
    hints = get_type_hints(options)
    for item in fields(options):
        if only is not None and item.name not in only:
            continue
        flag, hint = f"--{item.name.replace('_', '-')}", hints[item.name]
        keywords: dict[str, Any] = {"default": None if item.default is MISSING else item.default}
        inner = [kind for kind in get_args(hint) if kind is not type(None)]
        if hint is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif get_origin(hint) is tuple:
            keywords |= {"type": inner[0], "nargs": "+", "metavar": "N"}
        elif inner and isinstance(inner[0], str):
            keywords["choices"] = inner
        else:
            keywords |= {"type": inner[0] if inner else hint, "metavar": item.name.upper()}
        action = parser.add_argument(flag, **keywords)
        # Set afterwards: Python before 3.13 adds the default to the help of --flag / --no-flag by itself.
        action.help = _help(item.metadata, keywords["default"])


def chosen(namespace: argparse.Namespace, options: type) -> dict[str, Any]:
    """The values of ``namespace`` that belong to the dataclass ``options``; lists become tuples."""
    values = {item.name: getattr(namespace, item.name) for item in fields(options) if hasattr(namespace, item.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _help(metadata: Any, default: Any) -> str:
    text = metadata["help"].replace("%", "%%")
    if metadata["low"] is not None:
        text += f", {metadata['low']:g} to {metadata['high']:g}"
    shown = default not in (None, (), "")
    return f"{text} (default: %(default)s)" if shown else text
