"""``pfr restore``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from ..models.checkpoint import refuse_preset
from ..models.registry import REGISTRY
from ..options import ClipOptions, RestoreOptions, Setup, lacking, without_effect
from ..photo.photo import FORMAT_OF_SUFFIX, LOSSY
from ..photo.write import check_quality, writable_format
from ..support.arguments import chosen, flag
from ..video import CLIP_SUFFIXES, SEQUENCE, check_av, is_clip, is_sequence, numbers_of
from .common import fetch_models, for_each
from .inputs import Pairs, list_inputs, plan_outputs
from .photos import RestorePhotos
from .pipe import is_standard, standard_input, standard_output
from .processes import Work, choose_jobs

log = logging.getLogger(__name__)

FOR_PHOTOS = ("aligned", "background", "compare", "jobs")
"""Options that clips have no use for."""


def run(arguments: argparse.Namespace) -> int:
    """Restore every input; returns the exit status."""
    with standard_input(arguments.input) as names, standard_output(arguments.output) as output:
        return _restore(arguments, names, output)


def _restore(arguments: argparse.Namespace, names: list[str], output: Path) -> int:
    """Restore the inputs of these names."""
    inputs = list_inputs(names, [output, arguments.compare], clips=True)
    if is_standard(arguments.output) and len(inputs) != 1:
        raise InputError("-o -: standard output takes the result of one input; name a folder for several.")
    if is_standard(arguments.output) and arguments.resume:
        raise InputError("--resume has no effect with -o -: nothing is kept of an interrupted run; name a file.")
    inputs = _without_idle_clips(arguments, inputs, names)
    plan = plan_outputs(inputs, output, format=arguments.format)
    pictures = {} if arguments.compare is None else dict(plan_outputs(inputs, arguments.compare, "_before_after.png"))
    clash = {target.resolve() for _, target in plan} & {picture.resolve() for picture in pictures.values()}
    if clash:
        raise InputError(f"{clash.pop()}: --output and --compare would write the same file; give them different names.")
    options = RestoreOptions(**chosen(arguments, RestoreOptions))
    clips = [source for source, _ in plan if is_clip(source)]
    _refuse_useless(arguments, plan)
    _refuse_useless_for_clips(arguments, plan, clips)
    clip_options = ClipOptions(**chosen(arguments, ClipOptions))
    for picture in pictures.values():
        writable_format(picture)
    if clips:
        from .clips import check_plan

        check_plan([(source, target) for source, target in plan if is_clip(source)], clip_options, arguments)
    # What stands there may be another's from before this one came: a.jpg was a.png until there was an a.png.
    moved = {target.with_name(f"{source.stem}{target.suffix}"): target for source, target in plan if target.stem == source.name}
    todo = [
        (source, target)
        for source, target in plan
        if arguments.overwrite
        or not _is_there(source, target)
        or (target in moved and not os.path.isfile(moved[target]))
        or not (os.path.exists(source) or is_sequence(source))  # a mistyped name is told, whosever result stands there
    ]
    if len(todo) < len(plan):
        one = f"{plan[0][1]}: skipped, for it exists (--overwrite does it again)"
        several = f"{len(plan) - len(todo)} of {len(plan)} skipped, their outputs exist (--overwrite does them again)"
        print(one if len(plan) == 1 else several)
        skipped = {source for source, _ in plan} - {source for source, _ in todo}
        if without := sum(source in skipped and not os.path.isfile(picture) for source, picture in pictures.items()):
            print(f"{without} of them without their picture before | after; --overwrite makes both")
    if not todo:
        return 0
    setup = Setup(**chosen(arguments, Setup))
    refuse_preset(setup.model)
    if setup.model in REGISTRY:
        refuse_lacking(arguments, options, setup.model, REGISTRY[setup.model].options)  # before it is downloaded
    fetch_models([setup.model], setup, options if not arguments.aligned else None)
    photos = RestorePhotos(arguments, pictures)
    restorer = photos.restorer
    refuse_lacking(arguments, options, setup.model, restorer.model_options)
    clips = [source for source, _ in todo if is_clip(source)]
    jobs = 1 if clips else choose_jobs(arguments.jobs, len(todo), restorer.device)
    if jobs > 1:
        photos = replace(photos)  # without the networks, which each process loads for itself
        restorer.release()
    work: Work = photos
    if clips:
        from .clips import restore_one_clip

        def work(source: Path, target: Path) -> str:
            if is_clip(source):
                return restore_one_clip(restorer, source, target, clip_options, arguments)
            return photos(source, target)

    return for_each(todo, work, "done", jobs=jobs, stream=sys.stderr if is_standard(arguments.output) else None)


def _without_idle_clips(arguments: argparse.Namespace, inputs: Pairs, names: Sequence[str]) -> Pairs:
    """Leave clips out that a folder holds beside photographs, Live Photos' say, where they cannot be restored as well."""
    named = set(map(Path, names))
    found = {source: None for source, _ in inputs if is_clip(source) and source not in named}
    if not found or len(found) == len(inputs):
        return inputs
    why = next((f"{flag(name)} is for photographs" for name in FOR_PHOTOS if getattr(arguments, name)), "")
    if not why:
        try:
            check_av()
        except InputError as error:
            why = str(error)
    if not why:
        return inputs
    log.warning("left out, being clips: %d files, %s the first (%s)", len(found), next(iter(found)), why)
    return [(source, name) for source, name in inputs if source not in found]


def _is_there(source: Path, target: Path) -> bool:
    """Return whether an output exists; of numbered pictures, whether any does, and not of a run that died in moving them."""
    if not (is_clip(source) and is_sequence(target)):
        return os.path.isfile(target)
    from ..video.unfinished import Unfinished

    return bool(numbers_of(target)) and not Unfinished(target).pictures().is_dir()


def _refuse_useless_for_clips(arguments: argparse.Namespace, plan: Pairs, clips: Sequence[Path]) -> None:
    """Raise InputError for an option that would have no effect with clips, or without any."""
    of_clips = chosen(arguments, ClipOptions)
    if not clips:
        given = [*of_clips, *(name for name in ("strengths", "resume") if getattr(arguments, name))]
        if given:
            raise InputError(f"{flag(given[0])} has no effect: no input is a clip.")
    else:
        check_av()
    for name in without_effect(of_clips, steady=of_clips.get("steady")):
        raise InputError(f"{flag(name)} has no effect with --steady 0: each frame is restored by itself.")
    for name in FOR_PHOTOS:
        if clips and getattr(arguments, name):
            raise InputError(f"{flag(name)} is for photographs, and {clips[0]} is a clip; restore clips by themselves.")
    if clips and len(clips) == len(plan):
        if arguments.quality is not None:
            raise InputError("--quality has no effect with clips; leave it out.")
        for name in without_effect(chosen(arguments, RestoreOptions), clip=True):
            beside = "" if without_effect([name], clip=True) else " and --indices"
            raise InputError(f"{flag(name)} has no effect with clips{beside}; leave it out.")
    for source, target in plan:
        like_numbers = not is_clip(source) and SEQUENCE.search(source.name)  # a photograph may be called IMG%04d.jpg
        if is_clip(source) != is_clip(target) and not (like_numbers and target.suffix.lower() not in CLIP_SUFFIXES):
            raise InputError(f"{source} cannot become {target}: a clip stays a clip and a photograph a photograph.")


def _refuse_useless(arguments: argparse.Namespace, plan: Pairs) -> None:
    """Raise InputError for an option that would have no effect."""
    if arguments.background is not None and len(plan) != 1:
        raise InputError(f"--background goes with one input, there are {len(plan)}.")
    refuse_useless(arguments, {target.suffix for _, target in plan})


def refuse_useless(arguments: argparse.Namespace, suffixes: Collection[str]) -> None:
    """Raise InputError for an option that would have no effect with photographs; ``suffixes`` are those of the results.

    Raises:
        InputError: there is one, or the quality is out of range.
    """
    if arguments.quality is not None:
        check_quality(arguments.quality, "--quality")
        if not {FORMAT_OF_SUFFIX.get(suffix.lower()) for suffix in suffixes} & LOSSY:
            raise InputError("--quality has no effect: no output is a JPEG, WebP, AVIF or HEIC file.")
    useless = without_effect(vars(arguments), aligned=arguments.aligned)
    if useless:
        raise InputError(f"{flag(useless[0])} has no effect with --aligned: nothing is looked for or masked.")


def refuse_lacking(arguments: argparse.Namespace, options: RestoreOptions, model: str, has: Collection[str]) -> None:
    """Raise InputError for an option that the model lacks.

    Raises:
        InputError: there is one.
    """
    if missing := lacking(vars(arguments), options, has):
        raise InputError(f"{flag(missing[0])}: the model {model} has no such option; leave it out, or choose another model.")
