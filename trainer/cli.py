"""Command line of the trainer; the options of ``reconstruct`` are the fields of :class:`TrainConfig`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pfr_core.arguments import add_options
from pfr_core.errors import PFRError

from .config import TrainConfig
from .detector.cli import add_commands as add_detector_commands


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``python -m trainer``."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Train and evaluate PFR.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("reconstruct", help="train on pixel losses", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_options(run, TrainConfig)
    run.add_argument("--resume", action="store_true", help="continue the run in --out, with its own configuration")
    judge = commands.add_parser("evaluate", help="PSNR and SSIM at 512 px on held-out faces, degraded with fixed seeds")
    judge.add_argument("model", help="model file, or 'default'")
    judge.add_argument("data", help="folder with index.csv and val/")
    judge.add_argument("--grid", type=Path, help="also write a picture: degraded | restored | truth")
    judge.add_argument("--limit", type=int, default=0, help="evaluate only the first N faces (0: all)")
    judge.add_argument("--ablate", action="store_true", help="also with every MMRB, and with the decoder's skips, zeroed")
    add_detector_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parsed = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = vars(parsed)
    command = options.pop("command")
    try:
        if "run" in options:
            print(parsed.run(parsed))
            return 0
        if command == "evaluate":
            from .evaluate import evaluate_command

            print(evaluate_command(**options))
            return 0
        from .reconstruct import train

        resume = options.pop("resume")
        if not options["out"]:
            raise PFRError("Say with --out where the run's files go.")
        config = TrainConfig.load(Path(options["out"]) / "config.json") if resume else TrainConfig(**options)
        print(train(config, resume=resume))
        return 0
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
