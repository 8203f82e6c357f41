"""One evaluation: every method on every picture of a set, each measured as soon as it is made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from pfr_core.errors import InputError, NotFiniteError

from ..data.dataset import RGB8
from .methods import INPUT, TRUTH, Method
from .metrics import Features, Judge, Scores, fidelity_scores, joined, means
from .options import Measure
from .records import Cache, Key, Record, key_of
from .sources import Case, Source


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured on one set.

    Attributes:
        caption: what the set is.
        methods: in the order of the tables.
        records: of each method by its name, in the order of the set.
        scores: of each method: means over the pictures, and measures of the whole set.
        by: what each measure was computed with.
        labelled: measures that a loss of a model's training optimised.
        protocol: what all records depend on.
        notes: what a reader should know: columns or faces that are left out, and why.
    """

    caption: str
    methods: Sequence[Method]
    records: dict[str, list[Record]]
    scores: dict[str, Scores]
    by: dict[Measure, str]
    labelled: set[Measure]
    protocol: Key
    notes: list[str] = field(default_factory=list)

    @property
    def rated(self) -> list[str]:
        """Names of the methods that restore: all but the input and the truth."""
        return [method.name for method in self.methods if method.name not in (INPUT, TRUTH)]

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return [method.name for method in self.methods if method.model]

    def judged(self, name: str) -> list[Record]:
        """Return a method's records of the set itself, without the probes."""
        return [record for record in self.records[name] if not record.probe]


def measure_all(
    source: Source,
    methods: Sequence[Method],
    judge: Judge,
    *,
    probes: bool,
    again: bool,
    shown: int,
    cache: Cache | None,
    protocol: Key,
) -> dict[str, list[Record]]:
    """Return the records of each method on each case; those that the cache has are not made again.

    Args:
        source: the set.
        methods: all of them.
        judge: measures.
        probes: also ask models what they do to good faces and single faults.
        again: also restore each face's first result again.
        shown: so many faces' pictures are kept, of their first draw.
        cache: where records are kept; None keeps none.
        protocol: see :func:`~trainer.judge.records.key_of`.

    Raises:
        NotFiniteError: a model gives numbers that are not finite; the message names it and the picture.
        InputError: as :class:`~trainer.judge.records.Cache`, or a picture of the set or of results that does not fit or cannot be
            measured (NIQE of a flat one).
    """
    records: dict[str, list[Record]] = {method.name: [] for method in methods}
    faces: set[str] = set()
    with tqdm(total=len(source.names), unit="picture", disable=not sys.stderr.isatty()) as bar:
        for case in source.cases(probes):
            first = not case.probe and case.face not in faces
            faces.add(case.face)
            keep = first and len(faces) <= shown
            for method in methods:
                if not _applies(method, case):
                    continue
                bar.set_postfix_str(method.name)
                key = key_of(method, case, protocol)
                record = cache.get(key, keep) if cache else None
                if record is not None:
                    record = replace(record, group=case.group)  # the index may have got a column of groups since
                else:
                    record = _measured(method, case, judge, again=again and first and method.model)
                    record = record if keep else replace(record, picture=None)
                    if cache:
                        cache.put(key, record)
                records[method.name].append(record)
            bar.update(not case.probe)
    return records


def _applies(method: Method, case: Case) -> bool:
    """Return whether a method is asked about a case: about probes only models are, against the input."""
    if method.name == TRUTH and case.truth is None:
        return False
    return not case.probe or method.model or method.name == INPUT


def _measured(method: Method, case: Case, judge: Judge, *, again: bool) -> Record:
    try:
        picture = method.run(case)
        twice = method.run(replace(case, given=picture)) if again else None
    except NotFiniteError as error:
        raise NotFiniteError(f"{method.name}, picture {case.name}: {error}") from error
    try:
        scores, features = _judged(method, case, picture, judge)
    except InputError as error:
        raise InputError(f"{method.name}, picture {case.name}: {error}") from error
    moved = None if twice is None else float(np.abs(twice.astype(np.int16) - picture).mean())
    return Record(method.name, case.name, case.face, case.probe, case.group, scores, features, moved, picture)


def _judged(method: Method, case: Case, picture: RGB8, judge: Judge) -> tuple[Scores, Features]:
    if case.probe:
        assert case.truth is not None
        return fidelity_scores(picture, case.truth), {}
    scores = judge.alone(picture)
    if case.truth is not None and case.points is not None and method.name != TRUTH:
        scores = judge.pair(picture, case.truth, case.points) | scores
    return scores, judge.embed(picture)


def set_scores(records: dict[str, list[Record]], judge: Judge, real: Features) -> dict[str, Scores]:
    """Return of each method the means over its pictures and, against the features of ``real``, the measures of sets."""
    found: dict[str, Scores] = {}
    for name, all_of_it in records.items():
        judged = [record for record in all_of_it if not record.probe]
        apart = judge.apart(joined([record.features for record in judged]), real, [record.face for record in judged])
        found[name] = means(record.scores for record in judged) | apart
    return {name: scores for name, scores in found.items() if scores or name != TRUTH}
