"""Command line of the trainer; the options of each command are the fields of its configuration."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from pfr_core.errors import Cancelled, InputError, PFRError
from pfr_core.support.arguments import Parser, add_options, chosen, file_path
from pfr_core.support.choices import DETECTION_SIZE, DETECTION_THRESHOLD, ExportType
from pfr_core.support.files import remedy

from . import is_first, program
from .data.options import FULL_SIZE, PrepareOptions
from .judge.options import EvaluateOptions
from .run.config import STAGES, RunConfig, load_config, read_config
from .run.presets import TRAINING_PRESETS
from .run.resume import resumed

PRESET = "paper"
"""The preset of a run that names none."""

FEWER_AT_ONCE = (
    "Lower --batch (--pictures, --crops) and raise --accumulate by as much, and a step sees as many samples; --stddev-group must "
    "still divide --batch."
)
"""What to do where a stage runs out of memory."""

LESS_AT_ONCE = {
    "prepare": "Say --workers 1, or close other programs.",
    **dict.fromkeys(("evaluate", "evaluate-detector"), "Close other programs, or take another --device."),
}
"""And where another command does."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the trainer."""
    parser = Parser(prog=program(), description="Train and evaluate PFR.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_prepare(commands)
    for stage, config in STAGES.items():
        # Without defaults: `stage_config` and `resumed` ask what was typed.
        run = commands.add_parser(stage, help=config.HELP, argument_default=argparse.SUPPRESS, allow_abbrev=False)
        _add_sources(run, stage)
        add_options(run, config)
        run.add_argument("--resume", action="store_true", help="continue the run in --out, with its own configuration")
        run.add_argument("--dry-run", action="store_true", help="take two steps, tell memory and time; writes no run")
    pack = commands.add_parser(
        "pack", help="a training set as tar shards", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    pack.add_argument("data", help="training set")
    pack.add_argument("out", type=file_path, help="folder for the shards")
    pack.add_argument("--shard-size", type=float, default=1000, metavar="MB", help="size of a shard")
    pack.add_argument("--size", type=int, default=FULL_SIZE, help="side of the packed faces in px")
    pack.add_argument("--quality", type=int, default=95, help="WebP quality")
    pack.add_argument("--min-native", type=int, default=1, help="leave out faces with fewer source pixels across")
    _add_evaluate(commands)
    export = commands.add_parser("export", help="the averaged weights of a run as safetensors")
    export.add_argument("run", type=file_path, help="folder of the run")
    export.add_argument("out", type=file_path, metavar="OUT.safetensors")
    export.add_argument("--dtype", default="fp16", choices=get_args(ExportType), help="precision (default: %(default)s)")
    export.add_argument("--licence", default="", help="licence of the weights, if not the one the run was started with")
    training_help = "one file to go on from elsewhere (--init-from): the average and all discriminators, float16"
    export.add_argument("--training", action="store_true", help=training_help)
    blend = commands.add_parser("blend", help="two models of one training as one, with the option fidelity")
    blend.add_argument("faithful", type=file_path, help="model at fidelity 1")
    blend.add_argument("textured", type=file_path, help="model towards which fidelity 0 lies")
    blend.add_argument("out", type=file_path, metavar="OUT.safetensors")
    blend.add_argument("--share", type=float, default=1.0, help="how far on the way there it lies (default: %(default)s)")
    where = "how far on the way from fidelity 1 to fidelity 0 the default 0.5 lies (default: %(default)s)"
    blend.add_argument("--middle", type=float, default=0.5, help=where)
    blend.add_argument("--dtype", default="fp16", choices=get_args(ExportType), help="precision (default: %(default)s)")
    blend.add_argument("--licence", required=True, help="licence of the weights")
    need = commands.add_parser("need", help="fit what tells whether a face needs a change, of networks with a patch")
    need.add_argument("model", type=file_path, help="model file")
    need.add_argument("data", help="training set with a val split")
    need.add_argument("out", type=file_path, metavar="OUT.safetensors")
    need.add_argument("--faces", type=int, default=4000, help="faces to fit it on (default: %(default)s)")
    need.add_argument("--seed", type=int, default=0, help="of the faces' draw (default: %(default)s)")
    speed = commands.add_parser("benchmark", help="faces a second of a stage, and where the time goes")
    speed.add_argument("--steps", type=int, default=32, help="steps measured (default: %(default)s)")
    speed.add_argument("stage", choices=STAGES)
    speed.add_argument("options", nargs=argparse.REMAINDER, help="options of the stage")
    _add_evaluate_detector(commands)
    return parser


def _add_sources(parser: argparse.ArgumentParser, stage: str) -> None:
    source = parser.add_mutually_exclusive_group()
    if stage in TRAINING_PRESETS:
        names = list(TRAINING_PRESETS[stage])
        source.add_argument("--preset", choices=names, help=f"where the options' defaults come from (default: {PRESET})")
    source.add_argument("--config", type=file_path, metavar="FILE", help="take the defaults from a saved config.json instead")


def _add_prepare(commands: argparse._SubParsersAction[Parser]) -> None:
    prepare = commands.add_parser("prepare", help="photographs in, training set out")
    prepare.add_argument("photos", type=file_path, help="folder with photographs, or with aligned faces (--aligned)")
    prepare.add_argument("out", type=file_path, help="folder of the training set; an interrupted run goes on")
    add_options(prepare, PrepareOptions)


def _add_evaluate(commands: argparse._SubParsersAction[Parser]) -> None:
    judge = commands.add_parser("evaluate", help="compare models on held-out faces, degraded with fixed seeds")
    names_help = (
        "model files or names of `pfr weights list`; last, the data: a training set with a val split, or as an option says"
    )
    judge.add_argument("names", nargs="*", metavar="MODEL ... DATA", help=names_help)
    add_options(judge, EvaluateOptions)


def _add_evaluate_detector(commands: argparse._SubParsersAction[Parser]) -> None:
    judge = commands.add_parser("evaluate-detector", help="recall, false positives and point errors on test photographs")
    judge.add_argument(
        "photos", type=file_path, help="folder of photographs; those for testing are taken (see data/detector/split.py)"
    )
    judge.add_argument("--everything", action="store_true", help="take all photographs in the folder, not only those for testing")
    judge.add_argument(
        "--detectors", nargs="+", default=["builtin"], metavar="NAME", help="their names, or files that training wrote"
    )
    judge.add_argument("--threshold", type=float, default=DETECTION_THRESHOLD, help="lowest score that counts as a face")
    judge.add_argument("--size", type=int, default=DETECTION_SIZE, help="longer side in px at which faces are looked for")
    judge.add_argument(
        "--sizes", type=int, nargs="+", default=(), metavar="PX", help="instead: what the first detector finds at each size"
    )
    judge.add_argument(
        "--turned", action="store_true", help="instead: which faces are found the right way up in photographs turned by quarters"
    )
    judge.add_argument(
        "--points", action="store_true", help="instead: how far points are off and crops move, without and with the second look"
    )
    judge.add_argument(
        "--masked", action="store_true", help="instead: which of the aligned faces (--faces) are found with a painted mask"
    )
    judge.add_argument(
        "--faces", type=file_path, metavar="FOLDER", help="aligned faces, whose val split --masked takes; --points does, too"
    )
    judge.add_argument("--second-look", type=file_path, metavar="FILE", help="weights that `points` wrote, not those that ship")
    judge.add_argument("--curve", type=file_path, metavar="PNG", help="also draw precision over recall")
    judge.add_argument("--extras", type=file_path, metavar="FOLDER", help="also write what the first finds beyond the reference")
    judge.add_argument(
        "--crops", type=file_path, metavar="PNG", help="also write aligned crops: reference above, the first below"
    )


def stage_defaults(stage: str, preset: str, config: Path | None) -> dict[str, object]:
    """Return the values that a preset or a saved configuration sets.

    Raises:
        InputError: the configuration cannot be read or is of another stage.
    """
    if config is None:
        return TRAINING_PRESETS.get(stage, {PRESET: {}})[preset]
    found, values = read_config(config)
    if found != stage:
        raise InputError(f"{config}: is the configuration of a {found} run, not of {stage}.")
    values.pop("out", None)  # every run has a folder of its own
    return values


def stage_config(options: argparse.Namespace) -> RunConfig:
    """Return the configuration of a stage: what was typed, and for the rest the preset or the configuration file.

    Raises:
        InputError: a configuration file of another stage or with a misspelt name, or a value is out of range.
    """
    kind, source = STAGES[options.command], vars(options)
    defaults = stage_defaults(options.command, source.get("preset", PRESET), source.get("config"))
    # What a saved run began from may have no place in this one.
    moot = {"init_fidelity": "init_from" in source, "discriminator": {**defaults, **source}.get("global_weight") == 0}
    kept = {name: value for name, value in defaults.items() if not moot.get(name)}
    return kind(**{**kept, **chosen(options, kind)})


def run_stage(options: argparse.Namespace) -> str:
    """Begin or resume a run of a stage; return the exported file's path, or what a dry run has to tell.

    Raises:
        InputError: there is no such run to resume, or as :func:`stage_config`.
    """
    from .judge.benchmark import dry_run
    from .run.loop import CONFIG, train

    if "resume" in options:
        kind = STAGES[options.command]
        changes = resumed(options, (*kind.MOVABLE, "iterations", *kind.RATES))
        if not (Path(options.out) / CONFIG).is_file():
            raise InputError(f"{options.out}: holds no run to resume. Check --out, or start the run without --resume.")
        config = load_config(Path(options.out) / CONFIG)
        if not isinstance(config, kind):
            raise InputError(f"{options.out}: is no {options.command} run.")
        return str(train(replace(config, **changes), resume=True))
    config = stage_config(options)
    return dry_run(config) if "dry_run" in options else str(train(config))


def run_benchmark(options: argparse.Namespace) -> str:
    """Run ``benchmark``."""
    from .judge.benchmark import benchmark

    return benchmark(stage_config(build_parser().parse_args([options.stage, *options.options])), options.steps)


def run_evaluate(options: argparse.Namespace) -> str:
    """Run ``evaluate``: one of the paper's tables, or whatever is named."""
    from .judge.evaluate import evaluate_command
    from .judge.recipes import table_command

    chosen_ones = EvaluateOptions(**chosen(options, EvaluateOptions))
    return (table_command if chosen_ones.table else evaluate_command)(options.names, chosen_ones)


def run(options: argparse.Namespace) -> str:
    """Run a command and return the text that it prints."""
    command = options.command
    if command in STAGES:
        return run_stage(options)
    if command == "benchmark":
        return run_benchmark(options)
    values = vars(options)
    values.pop("command")
    if command == "evaluate":
        return run_evaluate(options)
    if command == "evaluate-detector":
        from .judge.detector import evaluate_detector_command

        return evaluate_detector_command(**values)
    if command == "pack":
        from .data.pack import pack

        return pack(**values)
    if command == "export":
        from .run.export import export_command

        return "\n".join(map(str, export_command(**values)))
    if command == "need":
        from .run.need import need_command

        return need_command(**values)
    if command == "blend":
        from .run.export import blend_command

        return str(blend_command(**values))
    from .data.prepare import prepare

    return prepare(options.photos, options.out, PrepareOptions(**chosen(options, PrepareOptions)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # tables hold arrows that not every encoding has
    command = options.command  # `run` takes it out
    try:
        text = run(options)
        if is_first():  # torchrun starts this once for each process
            print(text)
        return 0
    except Cancelled as error:
        if is_first():
            print(error, file=sys.stderr)
        return 130  # as shells say of Ctrl-C, so that what comes next in a script does not take it for done
    except PFRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a disk that is full, a path through a file, ...; checkpoints are whole or not there
        print(f"error: {error}; {remedy(error)}.", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:
        from pfr_core.support.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "MemoryError"
        advice = FEWER_AT_ONCE if command in (*STAGES, "benchmark") else LESS_AT_ONCE.get(command, "Close other programs.")
        print(f"error: not enough memory ({reason}). {advice}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith((__package__, "pfr_core")):
            raise  # a defect of ours
        print(f'error: {error.name} is missing: training needs more packages, python -m pip install ".[train]".', file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # a run's steps have a handler of their own
        if is_first():
            print("interrupted; what was written is whole. Give the same command again.", file=sys.stderr)
        return 130
