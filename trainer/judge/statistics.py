"""What the records of several methods say about the methods: means, paired differences with intervals, who got worse, subgroups.

A face counts once, by the mean over its draws, and faces are what is resampled: draws of one face are no independent samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .metrics import HIGHER_IS_BETTER, OF_SETS, TITLES
from .options import Measure
from .records import Record

RESAMPLES, SHARE = 2000, 0.95
SMALLEST_GROUP = 5
"""Faces of a subgroup that is worth a mean (ours)."""

Values = npt.NDArray[np.float64]
PAIRED: tuple[Measure, ...] = tuple(name for name in TITLES if name not in (*OF_SETS, "sharpness"))
"""Measures whose differences between methods are told; more sharpness is not better."""


@dataclass(frozen=True)
class Difference:
    """By how much one method is ahead of another on the same faces.

    Attributes:
        method: the one.
        base: the other.
        measure: what was measured.
        faces: how many have it with both.
        mean: of the differences ``method - base``.
        low: lower end of the 95 % interval.
        high: upper end.
        worse: faces that are worse with ``method``.
    """

    method: str
    base: str
    measure: Measure
    faces: int
    mean: float
    low: float
    high: float
    worse: int


@dataclass(frozen=True)
class Subgroup:
    """The group of faces in which a model gains least on its input.

    Attributes:
        method: the model.
        measure: what was measured.
        group: its name.
        faces: how many are in it.
        gain: by how much they became better, their mean (more is better whatever the measure).
        overall: the same over all faces.
    """

    method: str
    measure: Measure
    group: str
    faces: int
    gain: float
    overall: float


def by_face(records: Iterable[Record], measure: Measure) -> dict[str, float]:
    """Return the mean over the draws of each face that has the measure."""
    found: dict[str, list[float]] = {}
    for record in records:
        if measure in record.scores:
            found.setdefault(record.face, []).append(record.scores[measure])
    return {face: float(np.mean(values)) for face, values in found.items()}


def interval(values: Values, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean (Efron, 1979); of one value it is that value."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


def difference(records: Sequence[Record], base: Sequence[Record], measure: Measure) -> Difference | None:
    """Return the paired difference of two methods; None if no face has the measure with both."""
    one, two = by_face(records, measure), by_face(base, measure)
    faces = [face for face in one if face in two]
    if not faces:
        return None
    values = np.array([one[face] - two[face] for face in faces])
    low, high = interval(values)
    worse = int((values * _sign(measure) < 0).sum())
    return Difference(records[0].method, base[0].method, measure, len(faces), float(values.mean()), low, high, worse)


def worst_subgroup(records: Sequence[Record], inputs: Sequence[Record], measure: Measure) -> Subgroup | None:
    """Return the subgroup with the least gain; None if the data state fewer than two groups of enough faces."""
    one, two = by_face(records, measure), by_face(inputs, measure)
    gains = {face: (one[face] - two[face]) * _sign(measure) for face in one if face in two}
    groups: dict[str, list[float]] = {}
    for face, group in {record.face: record.group for record in records if record.group}.items():
        if face in gains:
            groups.setdefault(group, []).append(gains[face])
    large = {group: values for group, values in groups.items() if len(values) >= SMALLEST_GROUP}
    if len(large) < 2:
        return None
    worst = min(large, key=lambda group: float(np.mean(large[group])))
    overall = float(np.mean(list(gains.values())))
    return Subgroup(records[0].method, measure, worst, len(large[worst]), float(np.mean(large[worst])), overall)


def _sign(measure: Measure) -> int:
    return 1 if measure in HIGHER_IS_BETTER else -1
