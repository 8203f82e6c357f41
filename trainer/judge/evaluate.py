"""How good models are on held-out faces, at 512 px unless told otherwise, whatever size they were trained at.

Degradation is drawn uniformly from the full ranges of Eq. 17 with fixed seeds. The crop goes through the product's own
path: shrunk to the network's size, restored, and the resized difference added to it. A network trained at a smaller size leaves
most of such a crop as it is; to see what it makes itself, faces can be judged at its own size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pfr_core
from pfr_core.errors import InputError
from pfr_core.photo.write import writable_format, write_photo
from pfr_core.support.device import resolve_device

from ..data.index import list_faces
from . import methods as ways
from .evaluation import Evaluation, measure_all, set_scores
from .methods import TRUTH, Method
from .metrics import Judge, joined, optimised_for
from .options import DRAWS, EvaluateOptions, Measure
from .pictures import grid
from .records import Cache, Record
from .report import write
from .sources import DegradedFaces, Photographs, PreparedPairs, Source
from .tables import differences_table, harm, networks, subgroups_table, table, twice_table

log = logging.getLogger(__name__)

FID_FACES = 2048
"""Faces below which FID's covariance has not full rank, so that it is far too high."""


def evaluate_command(names: Sequence[str], options: EvaluateOptions) -> str:
    """Return Markdown tables for ``python -m trainer evaluate``, and write what the options ask for.

    Args:
        names: models, and last the data, unless that is in the options.
        options: everything else.

    Raises:
        InputError: there is nothing to evaluate, or the set, the results or the cache do not fit; see each.
    """
    models, source = what_to_evaluate(names, options)
    if options.grid:
        writable_format(Path(options.grid))
    if options.write_pairs:
        write_pairs(source, Path(options.write_pairs))
    found = evaluate(source, models, options)
    if options.grid:
        write_photo(options.grid, grid(found))
    parts = [
        table(found.scores, found.caption, found.labelled),
        networks(found),
        harm(found),
    ]
    if options.out:
        parts += [differences_table(found), subgroups_table(found), twice_table(found)]
        parts.append(f"written to {write(found, Path(options.out))}")
    return "\n\n".join(part for part in parts if part)


def what_to_evaluate(names: Sequence[str], options: EvaluateOptions) -> tuple[Sequence[str], Source]:
    """Return the models and the set of a command line.

    Raises:
        InputError: there are none.
    """
    if options.pairs:
        models: Sequence[str] = names
        source: Source = prepared(options)
    else:
        if not names:
            raise InputError("There is nothing to evaluate on: name models and, last, the folder of faces; or --pairs.")
        *models, data = names
        if options.unpaired:
            remedy = "Pass --align, which cuts the largest face out of each."
            source = Photographs(Path(data), options.limit, options.size, aligned=not options.align, remedy=remedy)
        else:
            source = DegradedFaces(
                list_faces(data, "val", min_native=options.min_native)[: options.limit or None], DRAWS, options.size, options.seed
            )
    if not models and not options.results:
        raise InputError("There is nothing to evaluate: name a model before the data, or --results NAME=FOLDER.")
    return models, source


def prepared(options: EvaluateOptions) -> PreparedPairs:
    """Return the set of ``--pairs``."""
    degraded, truths = map(Path, options.pairs)
    return PreparedPairs(degraded, truths, options.limit, options.size, options.seed)


def evaluate(source: Source, models: Sequence[str], options: EvaluateOptions) -> Evaluation:
    """Restore and measure the set with every method.

    Raises:
        InputError: two methods of one name, FID of a single face or against nothing, or as the set, the results or the
            cache say.
        CheckpointError: a model cannot be used.
        NotFiniteError: one gives numbers that are not finite.
    """
    paired = not isinstance(source, Photographs)
    sets = compared(source, options)
    refuse_lonely(sets, options, paired)
    device = resolve_device(options.device)
    methods = [ways.given(), *([ways.denoiser()] if options.denoiser else [])]
    methods += ways.models(models, options.fidelities, options.ablate, device)
    methods += [ways.results(each, source.names, whole=not options.limit) for each in options.results]
    if paired:
        methods.append(ways.truth())
    if len({method.name for method in methods}) < len(methods):
        raise InputError(f"Two methods have one name: {', '.join(method.name for method in methods)}. Rename one.")
    wanted = options.wanted
    judge = Judge(options.perceptual, options.identity, device, measures=wanted, trunk=options.lpips, download=options.download)
    protocol = {"PFR": pfr_core.__version__, "seed": options.seed, "size": options.size, "measures": judge.by}
    others = None
    if options.reference:  # before the work: a wrong folder is to be known at once
        reference = Photographs(Path(options.reference), size=options.size)
        others = joined([judge.embed(case.given) for case in reference.cases(probes=False)])
    records = measure_all(
        source,
        methods,
        judge,
        probes=paired and bool(models) and "psnr" in wanted,
        again=bool(options.out),
        shown=options.grid_rows if options.grid or options.out else 0,
        cache=Cache(Path(options.out)) if options.out else None,
        protocol=protocol,
    )
    truths = {record.face: record.features for record in records.get(TRUTH, ())}  # one of each face, however many draws
    scores = set_scores(records, judge, joined([*truths.values()]) if others is None else others)
    labelled: set[Measure] = set()
    for training in (training for method in methods for training in method.trainings):
        labelled |= optimised_for(training, options.perceptual, options.identity)
    notes = notes_on(methods, records, sets, judge)
    return Evaluation(source.caption, methods, records, scores, judge.by, labelled, protocol, notes)


def write_pairs(source: Source, folder: Path) -> None:
    """Write ``folder/degraded`` and ``folder/truths``, which ``--pairs`` reads, for programs that PFR does not run."""
    for case in source.cases(probes=False):
        write_photo(folder / "degraded" / f"{case.name}.png", case.given)
        if case.truth is not None:
            write_photo(folder / "truths" / f"{case.name}.png", case.truth)


def compared(source: Source, options: EvaluateOptions) -> dict[str, int]:
    """Return how many different faces there are in what FID compares, by name; draws of one face are one, as its truth is.

    Raises:
        InputError: the folder of ``--reference`` is missing or empty.
    """
    sets = {"the set": source.count}
    if options.reference:
        sets[options.reference] = Photographs(Path(options.reference)).count
    return sets


def refuse_lonely(sets: Mapping[str, int], options: EvaluateOptions, paired: bool) -> None:
    """See to it that FID has two sets of at least two faces, see :func:`compared`.

    Raises:
        InputError: it has not.
    """
    if not {"fid", "kid_inception"} & {*options.measures}:
        return
    if not paired and not options.reference:
        raise InputError("FID of photographs without truths needs real faces to compare with: --reference FOLDER.")
    for name, count in sets.items():
        if count < 2:
            raise InputError(
                f"FID compares distributions: {name} has only {count} face. Add more, or leave fid out of --measures."
            )


def notes_on(methods: Sequence[Method], records: Mapping[str, list[Record]], sets: Mapping[str, int], judge: Judge) -> list[str]:
    """Return what a reader of the figures should know, and tell it in the log."""
    notes = []
    few = min(sets, key=lambda name: sets[name])
    if "fid" in judge.by and sets[few] < FID_FACES:
        told = f"FID is biased upwards: {few} has {sets[few]} different faces, and it needs {FID_FACES} and more"
        notes.append(f"{told}; compare by KID.")
    for method in methods if "lmd" in judge.by else ():
        lost = sum("lmd" not in record.scores and "psnr" in record.scores and not record.probe for record in records[method.name])
        if lost:
            notes.append(f"LMD of {method.name} is without {lost} pictures in which, or in whose truth, no face was found.")
    for note in notes:
        log.warning("%s", note)
    return [*(f"{what} is left out: {why}" for what, why in judge.missing.items()), *notes]
