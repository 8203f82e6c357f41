"""The ``pfr`` command: restore, detect, degrade, weights, import-gpen, info.

Exit status: 0 all done, 1 something failed (each failure is named), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import InputError, PFRError
from . import degrade, detect, models, restore


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``pfr`` command."""
    parser = argparse.ArgumentParser(
        prog="pfr",
        description="Restore faces in photographs. A restored face is synthesised detail: it is no evidence of identity.",
    )
    parser.add_argument("--version", action="version", version=f"pfr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (restore, detect, degrade, models):
        module.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # old archives hold file names that no encoding can print
    logging.basicConfig(level=logging.INFO if getattr(arguments, "verbose", False) else logging.WARNING, format="%(message)s")
    try:
        return arguments.run(arguments)
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("interrupted; finished files are complete, the others were not written", file=sys.stderr)
        return 130
