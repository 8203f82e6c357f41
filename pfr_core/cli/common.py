"""Options that several commands share, and a loop over files in which one bad file does not stop the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..detection import DetectorName
from ..errors import PFRError


def add_detector_options(parser: argparse.ArgumentParser) -> None:
    """``--detector``, ``--device``, ``--verbose``."""
    parser.add_argument(
        "--detector",
        choices=get_args(DetectorName),
        default=get_args(DetectorName)[0],
        help="face detector (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps or xpu (default: auto)")
    parser.add_argument("--verbose", action="store_true", help="tell what happens, and the time of each stage")


def for_each(plan: Sequence[tuple[Path, Path]], work: Callable[[Path, Path], None], verb: str) -> int:
    """Call ``work(source, target)`` for every pair with a progress bar; report failures; return the exit status."""
    failures: list[str] = []
    with logging_redirect_tqdm():
        bar = tqdm(plan, unit="photo", disable=len(plan) == 1 or not sys.stderr.isatty())
        for source, target in bar:
            bar.set_postfix_str(source.name)
            try:
                work(source, target)
            except PFRError as error:
                failures.append(str(error))
                tqdm.write(f"error: {error}", file=sys.stderr)
    if len(plan) > 1:
        print(f"{len(plan) - len(failures)} of {len(plan)} {verb}" + (f", {len(failures)} failed" if failures else ""))
    return 1 if failures else 0
