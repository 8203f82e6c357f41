"""Command-line options made from options dataclasses, so that choices, limits and help are written once.

No default stands in a parser: what is in the namespace was typed, and the dataclass fills in the rest. So an option that was
typed is known even where it repeats the default.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from ..errors import InputError
from .files import checked
from .schema import Spec, specs

_TYPES = {"integer": int, "number": float, "text": str}


class Parser(argparse.ArgumentParser):
    """A parser that answers a wrong word with one line that names it and what is near, not with everything that can be typed."""

    def parse_known_args(  # type: ignore[override]  # which is overloaded for namespaces of other kinds
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401  # as in argparse
    ) -> tuple[Any, list[str]]:
        words = self.words([*(sys.argv[1:] if args is None else args)])
        if not any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions):  # others' words
            self._refuse_unknown(takewhile(lambda word: word != "--", words))
        return super().parse_known_args(words, namespace)

    def words(self, typed: list[str]) -> list[str]:
        """Return what was typed as this parser reads it."""
        return typed

    def _refuse_unknown(self, words: Iterable[str]) -> None:
        """End the program if one of the words is no option; before what is missing is told, for it may be what was meant."""
        known = [*self._option_string_actions]
        for name in (word.partition("=")[0] for word in words if word.startswith("--")):
            if not any(option == name or (self.allow_abbrev and option.startswith(name)) for option in known):
                near = difflib.get_close_matches(name, known, n=1)
                self.error(f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else ""))

    def error(self, message: str) -> NoReturn:
        """End the program with what is wrong, and where all options stand."""
        self.exit(2, f"{self.prog}: error: {message}\n`{self.prog} --help` tells what can be typed.\n")


def add_options(parser: argparse._ActionsContainer, options: type, *, only: Collection[str] | None = None) -> None:
    """Add an option for every field (or those named in ``only``) of the dataclass ``options``.

    Choices are what they are, flags become ``--flag / --no-flag``, and several values stand one after the other.
    """
    for name, spec in specs(options).items():
        if only is not None and name not in only:
            continue
        keywords: dict[str, Any] = {"default": argparse.SUPPRESS}
        if spec.kind == "flag":
            keywords["action"] = argparse.BooleanOptionalAction
        elif spec.kind == "choice":
            keywords["choices"] = spec.choices
        else:
            keywords |= {"type": _TYPES[spec.kind], "metavar": "N" if spec.many else name.upper()}
        if spec.many:
            keywords["nargs"] = "+"
        # Help is set afterwards: older Pythons add the default, here "==SUPPRESS==", to that of --flag / --no-flag by themselves.
        parser.add_argument(flag(name), **keywords).help = _help(spec)


def chosen(namespace: argparse.Namespace, options: type) -> dict[str, Any]:
    """Return the fields of the dataclass ``options`` that were typed, with their values; lists become tuples."""
    values = {name: getattr(namespace, name) for name in specs(options) if hasattr(namespace, name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def file_path(text: str) -> Path:
    """Return a path that was typed.

    Raises:
        ArgumentTypeError: no file can have this name.
    """
    try:
        return checked(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def flag(name: str) -> str:
    """Return how a field's option is typed."""
    return f"--{name.replace('_', '-')}"


def program(script: str, package: str) -> str:
    """Return how the user started the program: ``python -m package``, or else as the installed ``script``."""
    typed = Path(sys.argv[0])
    return f"python -m {package}" if typed.name == "__main__.py" and typed.parent.name == package else script


def _help(spec: Spec) -> str:
    text = spec.help.replace("%", "%%")
    if spec.low is not None:
        text += f", {spec.low:g} to {spec.high:g}"
    if spec.default in (None, (), ""):
        return text
    default = " ".join(map(str, spec.default)) if spec.many else spec.default
    return f"{text} (default: {default})"
