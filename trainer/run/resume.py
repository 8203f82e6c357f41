"""What may stand on the command line beside ``--resume``, the same for every kind of run."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any

from pfr_core.errors import InputError
from pfr_core.support.arguments import flag


def resumed(options: argparse.Namespace, movable: Collection[str]) -> dict[str, Any]:
    """Return the values that a resumed run takes from the command line.

    Args:
        options: all that was typed, and nothing that was not.
        movable: options that a resumed run may take anew.

    Raises:
        InputError: ``out`` is missing, or another option was typed.
    """
    if not getattr(options, "out", ""):
        raise InputError("Say with --out which run to resume.")
    refused = set(vars(options)) - {"command", "resume", "out", *movable}
    if refused:
        raise InputError(
            f"--resume goes on with the run's own options, so {flag(min(refused))} cannot be given; "
            f"only {', '.join(map(flag, movable))} can."
        )
    return {name: value for name, value in vars(options).items() if name in {"out", *movable}}
