"""The ``pfr`` command: restore, bulk, compare, bench, detect, degrade, faces, flicker, weights, info, export, import-gpen.

Exit status: 0 all done, 1 something failed (each failure is named), 2 wrong usage, 130 interrupted, 141 nobody
reads its output any more.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import InputError, PFRError
from ..support.files import is_of_disk
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
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:  # whoever reads our output, such as head, has seen enough
        _discard_the_rest()
        return 141  # what a program gives that SIGPIPE ends
    except OSError as error:  # files' own errors are PFR's and name them
        if error.filename is not None or not is_of_disk(error):
            raise
        _discard_the_rest()
        print(f"error: standard output cannot be written ({error.strerror}); make room, or send it elsewhere.", file=sys.stderr)
        return 1
    except Exception as error:
        from ..support.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        print(f"error: not enough memory ({error}); take a smaller picture or --batch-size, or --device cpu.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; finished files are complete, the others were not written", file=sys.stderr)
        return 130


def _discard_the_rest() -> None:
    """Let what standard output still holds go nowhere, or Python complains when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
