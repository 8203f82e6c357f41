"""``python -m trainer detector`` and ``evaluate-detector``; options of the first are the fields of :class:`DetectorConfig`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from pfr_core.errors import InputError
from pfr_core.support.arguments import add_options, chosen

from ..run.resume import resumed
from .config import DetectorConfig

MOVABLE = ("device", "largest_face", "score_shift")
"""What a resumed run may take from the command line: it changes none of its numbers, or only what is exported at its end."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands; each sets ``handler``, which takes the parsed options and returns what is to be printed."""
    # Without defaults: `resumed` asks what was typed.
    find = commands.add_parser("detector", help="train the face detector", argument_default=argparse.SUPPRESS, allow_abbrev=False)
    add_options(find, DetectorConfig)
    find.add_argument("--resume", action="store_true", help="continue the run in --out, with its own configuration")
    find.set_defaults(handler=train)

    judge = commands.add_parser("evaluate-detector", help="recall, false positives and point errors on test photographs")
    judge.add_argument("photos", type=Path, help="folder of photographs; those for testing are taken (see detector/split.py)")
    judge.add_argument("--everything", action="store_true", help="take all photographs in the folder, not only those for testing")
    judge.add_argument(
        "--detectors", nargs="+", default=["builtin"], metavar="NAME", help="their names, or files that training wrote"
    )
    judge.add_argument("--threshold", type=float, default=0.8, help="lowest score that counts as a face")
    judge.add_argument("--size", type=int, default=1280, help="longer side in px at which faces are looked for")
    judge.add_argument("--sizes", type=int, nargs="+", metavar="PX", help="instead: what the first detector finds at each size")
    judge.add_argument("--curve", type=Path, metavar="PNG", help="also draw precision over recall")
    judge.add_argument("--extras", type=Path, metavar="FOLDER", help="also write what the first finds beyond the reference")
    judge.add_argument("--crops", type=Path, metavar="PNG", help="also write aligned crops: reference above, the first below")
    judge.set_defaults(handler=evaluate)


def train(options: argparse.Namespace) -> str:
    """Train or resume; returns the exported file's path."""
    from .train import train as run

    if "resume" in options:
        changes = resumed(options, MOVABLE)
        return str(run(replace(DetectorConfig.load(Path(options.out) / "config.json"), **changes), resume=True))
    config = DetectorConfig(**chosen(options, DetectorConfig))
    if not config.out:
        raise InputError("Say with --out where the run's files go.")
    return str(run(config))


def evaluate(options: argparse.Namespace) -> str:
    """Compare detectors with the reference; returns a Markdown table."""
    from . import evaluate as judge

    detectors = {name: judge.open_detector(name) for name in options.detectors}
    first = next(iter(detectors.values()))
    photos = judge.load_photos(options.photos, everything=options.everything)
    if options.sizes:
        return judge.size_table(first, photos, options.sizes)
    results = {
        name: judge.run(detector, photos, threshold=options.threshold, size=options.size) for name, detector in detectors.items()
    }
    if options.extras:
        judge.write_extras(next(iter(results.values())), photos, options.extras)
    if options.crops:
        judge.write_crops(first, photos, options.crops, size=options.size)
    if options.curve:
        low = {name: judge.run(each, photos, threshold=judge.LOW, size=options.size) for name, each in detectors.items()}
        judge.draw_curves(low, photos, options.curve)
    return judge.table(results.items(), photos)
