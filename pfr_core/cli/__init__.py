"""The ``pfr`` command: restore, detect, degrade, weights, import-gpen, info.

Exit status: 0 all done, 1 something failed (each failure is named), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import InputError, PFRError
from .parser import build_parser

__all__ = ["build_parser", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # old archives hold file names that no encoding can print
    logging.basicConfig(level=logging.INFO if getattr(arguments, "verbose", False) else logging.WARNING, format="%(message)s")
    try:
        module, work = arguments.work.split(".")
        status: int = getattr(import_module(f".{module}", __package__), work)(arguments)
        return status
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("interrupted; finished files are complete, the others were not written", file=sys.stderr)
        return 130
