"""``pfr restore``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import InputError
from ..find import refuse_missing
from ..models.registry import REGISTRY, dtypes_of
from ..options import ClipOptions, RestoreOptions, Setup, lacking, without_effect
from ..photo.arrays import resize, to_uint8
from ..photo.photo import FORMAT_OF_SUFFIX, LOSSY, Photo, Provenance
from ..photo.read import read_photo
from ..photo.restored import check_transparency
from ..photo.write import write_photo
from ..restorer import FaceRestorer
from ..session import RestoredArray
from ..support.arguments import chosen, flag
from ..support.device import keep_memory, resolve_device, resolve_dtype
from ..video import check_av, is_clip
from .common import fetch_model, for_each, tell
from .inputs import Pairs, list_inputs, plan_outputs
from .pipe import standard_input, standard_output


def run(arguments: argparse.Namespace) -> int:
    """Restore every input; returns the exit status."""
    with standard_input(arguments.input) as names, standard_output(arguments.output, names) as output:
        return _restore(arguments, names, output)


def _restore(arguments: argparse.Namespace, names: list[str], output: Path) -> int:
    """Restore the inputs of these names."""
    inputs = list_inputs(names, [output, arguments.compare], clips=True)
    plan = plan_outputs(inputs, output, format=arguments.format)
    pictures = {} if arguments.compare is None else dict(plan_outputs(inputs, arguments.compare, "_before_after.png"))
    clash = {target.resolve() for _, target in plan} & {picture.resolve() for picture in pictures.values()}
    if clash:
        raise InputError(f"{clash.pop()}: --output and --compare would write the same file; give them different names.")
    options, clip_options = RestoreOptions(**chosen(arguments, RestoreOptions)), ClipOptions(**chosen(arguments, ClipOptions))
    clips = [source for source, _ in plan if is_clip(source)]
    _refuse_useless(arguments, plan)
    _refuse_useless_for_clips(arguments, plan, clips)
    todo = [(source, target) for source, target in plan if arguments.overwrite or not target.is_file()]
    if len(todo) < len(plan):
        print(f"{len(plan) - len(todo)} of {len(plan)} skipped, their outputs exist (--overwrite does them again)")
    if not todo:
        return 0
    setup = Setup(**chosen(arguments, Setup))
    if setup.model in REGISTRY:
        refuse_lacking(arguments, options, setup.model, REGISTRY[setup.model].options)  # before it is downloaded
    resolve_dtype(setup.dtype, resolve_device(setup.device), dtypes_of(setup.model))
    fetch_model(setup.model)
    if clips:
        from .clips import restore_one_clip
    restorer = FaceRestorer(**chosen(arguments, Setup), options=options)
    refuse_lacking(arguments, options, setup.model, restorer.model_options)
    if restorer.device.type == "cpu":
        keep_memory()

    def work(source: Path, target: Path) -> None:
        if source in clips:
            restore_one_clip(restorer, source, target, clip_options, arguments)
            return
        photo = read_photo(source)
        if target != output:
            check_transparency(photo, target)
        background = None if arguments.background is None else read_photo(arguments.background).pixels
        session = restorer.open(photo, aligned=arguments.aligned)
        if options.indices:
            refuse_missing(session.find())
        session.destination(target, quality=arguments.quality)
        restored = session.restore(background=background)
        file = session.save(restored, target, quality=arguments.quality, provenance=arguments.provenance)
        tell(file.notices)
        if source in pictures:
            mark = restorer.provenance if arguments.provenance and file.changed else None
            _write_pair(pictures[source], photo, file.restored, mark)
        count = len(file.restored.faces)
        what = "restored as a whole" if arguments.aligned else f"{count} face{'s' * (count != 1)}"
        times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in file.restored.seconds.items())
        piped = output != arguments.output
        tqdm.write(f"{target}: {what}" + (f" ({times})" if arguments.verbose else ""), file=sys.stderr if piped else None)

    return for_each(todo, work, "restored")


def _refuse_useless_for_clips(arguments: argparse.Namespace, plan: Pairs, clips: Sequence[Path]) -> None:
    """Raise InputError for an option that would have no effect with clips, or without any."""
    if not clips:
        given = [*chosen(arguments, ClipOptions), *(name for name in ("strengths", "resume") if getattr(arguments, name))]
        if given:
            raise InputError(f"{flag(given[0])} has no effect: no input is a clip.")
    else:
        check_av()
    for name in ("aligned", "background", "compare"):
        if clips and getattr(arguments, name):
            raise InputError(f"{flag(name)} is for photographs, and {clips[0]} is a clip; restore clips by themselves.")
    for source, target in plan:
        if (source in clips) != is_clip(target):
            raise InputError(f"{source} cannot become {target}: a clip stays a clip and a photograph a photograph.")


def _refuse_useless(arguments: argparse.Namespace, plan: Pairs) -> None:
    """Raise InputError for an option that would have no effect."""
    if arguments.background is not None and len(plan) != 1:
        raise InputError(f"--background goes with one input, there are {len(plan)}.")
    refuse_useless(arguments, {target.suffix for _, target in plan})


def refuse_useless(arguments: argparse.Namespace, suffixes: Collection[str]) -> None:
    """Raise InputError for an option that would have no effect with photographs; ``suffixes`` are those of the results."""
    if arguments.quality is not None:
        if not 1 <= arguments.quality <= 100:
            raise InputError(f"--quality is {arguments.quality}; it must be from 1 to 100.")
        if not {FORMAT_OF_SUFFIX.get(suffix.lower()) for suffix in suffixes} & LOSSY:
            raise InputError("--quality has no effect: no output is a JPEG, WebP, AVIF or HEIC file.")
    useless = without_effect(vars(arguments), aligned=arguments.aligned)
    if useless:
        raise InputError(f"{flag(useless[0])} has no effect with --aligned: nothing is looked for or masked.")


def refuse_lacking(arguments: argparse.Namespace, options: RestoreOptions, model: str, has: Collection[str]) -> None:
    """Raise InputError for an option that the model lacks."""
    if missing := lacking(vars(arguments), options, has):
        raise InputError(f"{flag(missing[0])}: the model {model} has no such option; leave it out, or choose another model.")


def _write_pair(path: Path, photo: Photo, restored: RestoredArray, provenance: Provenance | None) -> None:
    """Write before | after."""
    before = resize(photo.pixels, restored.image.shape[1], restored.image.shape[0])
    pair = to_uint8(np.concatenate([before, restored.image], axis=1))
    tell(write_photo(path, pair, replace(photo, extras=()), provenance=provenance))
