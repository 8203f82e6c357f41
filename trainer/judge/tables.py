"""An evaluation as Markdown tables: what the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from pfr_core.support.text import markdown

from .evaluation import Evaluation
from .methods import INPUT
from .metrics import TITLES, Scores
from .options import Measure
from .records import Record
from .sources import UNBLURRED, UNDEGRADED
from .statistics import PAIRED, Difference, Subgroup, by_face, difference, worst_subgroup

DIGITS: dict[Measure, int] = {
    "psnr": 2,
    "ssim": 4,
    "sharpness": 2,
    "perceptual": 4,
    "identity": 3,
    "kid": 2,
    "niqe": 2,
    "lpips": 4,
    "dists": 4,
    "lmd": 2,
    "fid": 2,
    "kid_inception": 2,
}

OPTIMISED_FOR = "\\* optimised for: a loss of the model's training uses this measure or its network; judge by the others."
"""What the star on a column means."""


def columns_of(scores: Mapping[str, Scores]) -> list[Measure]:
    """Return the measures that some method has, in the order of :data:`TITLES`."""
    return [name for name in TITLES if any(name in each for each in scores.values())]


def number(scores: Scores, measure: Measure) -> str:
    """Return a score as the tables show it; empty where there is none."""
    return f"{scores[measure]:.{DIGITS[measure]}f}" if measure in scores else ""


def table(scores: Mapping[str, Scores], caption: str, labelled: set[Measure]) -> str:
    """Return a table of means; the columns in ``labelled`` carry a star that is explained below it."""
    columns = columns_of(scores)
    head = [TITLES[name] + (" *" if name in labelled else "") for name in columns]
    means = markdown([caption, *head], [[name, *(number(each, column) for column in columns)] for name, each in scores.items()])
    return f"{means}\n\n{OPTIMISED_FOR}" if labelled else means


def harm(found: Evaluation) -> str:
    """Return a table of what models do to good faces and to single faults, and which faces they make worse.

    A face counts by its mean over the draws. Empty if no model was asked.
    """
    inputs = found.records[INPUT]
    if not found.models or not _probe(inputs, UNDEGRADED):
        return ""
    faces = len({record.face for record in inputs})
    head = [
        f"{faces} faces",
        "undegraded: PSNR ↑",
        "undegraded: sharpness → 1",
        "worse than its input ↓",
        "largest loss (dB) ↓",
        *(f"{fault} alone: PSNR gain (dB) ↑" for fault in UNBLURRED),
    ]
    rows = []
    for name in found.models:
        gain = gains(found.judged(name), found.judged(INPUT))
        kept, sharp = (_mean(found.records[name], UNDEGRADED, measure) for measure in ("psnr", "sharpness"))
        faults = [gains(_probe(found.records[name], fault), _probe(inputs, fault)).mean() for fault in UNBLURRED]
        cells = [name, f"{kept:.2f}", f"{sharp:.2f}", str((gain < 0).sum()), f"{max(0.0, -gain.min()):.2f}"]
        rows.append([*cells, *(f"{fault:+.2f}" for fault in faults)])
    return markdown(head, rows)


def gains(records: Sequence[Record], inputs: Sequence[Record]) -> np.ndarray:
    """Return by how many dB of PSNR each face came nearer to its truth."""
    after, before = by_face(records, "psnr"), by_face(inputs, "psnr")
    return np.array([after[face] - before[face] for face in after])


def _probe(records: Sequence[Record], probe: str) -> list[Record]:
    return [record for record in records if record.probe == probe]


def _mean(records: Sequence[Record], probe: str, measure: Measure) -> float:
    return float(np.mean([record.scores[measure] for record in _probe(records, probe)]))


@lru_cache(maxsize=1)
def differences(found: Evaluation) -> list[Difference]:
    """Return the paired differences of each method to the input and to the first that restores."""
    pairs = [(name, INPUT) for name in found.rated] + [(name, found.rated[0]) for name in found.rated[1:]]
    columns = [measure for measure in columns_of(found.scores) if measure in PAIRED]
    all_of_them = [difference(found.judged(a), found.judged(b), measure) for a, b in pairs for measure in columns]
    return [each for each in all_of_them if each is not None]


def subgroups(found: Evaluation) -> list[Subgroup]:
    """Return for each model and measure the subgroup that gains least; none if the data state no groups."""
    columns = [measure for measure in columns_of(found.scores) if measure in PAIRED]
    worst = [worst_subgroup(found.judged(a), found.judged(INPUT), measure) for a in found.rated for measure in columns]
    return [each for each in worst if each is not None]


def differences_table(found: Evaluation) -> str:
    """Return a table of the paired differences with their intervals, and how many faces are worse."""
    rows = [
        [
            f"{each.method} − {each.base}",
            TITLES[each.measure],
            *(f"{value:+.{DIGITS[each.measure]}f}" for value in (each.mean, each.low, each.high)),
            f"{each.worse} of {each.faces} ({each.worse / each.faces:.0%})",
        ]
        for each in differences(found)
    ]
    return markdown(["paired difference", "measure", "mean", "95 % from", "to", "faces that are worse"], rows)


def subgroups_table(found: Evaluation) -> str:
    """Return a table of the worst subgroups, or the sentence that there are none."""
    worst = subgroups(found)
    if not worst:
        return NO_GROUPS
    rows = [
        [
            each.method,
            TITLES[each.measure],
            f"{each.group} ({each.faces} faces)",
            *(f"{value:+.{DIGITS[each.measure]}f}" for value in (each.gain, each.overall)),
        ]
        for each in worst
    ]
    return markdown(["method", "measure", "group that gains least on its input", "its gain (+ is better)", "of all faces"], rows)


NO_GROUPS = (
    "Subgroups: left out, for the data state no two groups of enough faces. A column `group` of the index (age, skin tone, pose, "
    "...) is used, else its `source`."
)


def twice_table(found: Evaluation) -> str:
    """Return a table of how much a result moves when it is restored again."""
    rows = []
    for name in found.models:
        moved = [record.moved for record in found.records[name] if record.moved is not None]
        if moved:
            rows.append([name, f"{np.mean(moved):.2f}", f"{max(moved):.2f}"])
    return markdown(["restored twice", "moves by (8-bit levels, mean) ↓", "most"], rows)


NETWORKS: tuple[Measure, ...] = ("perceptual", "identity", "kid", "lpips", "dists", "lmd", "fid")
"""Measures whose networks are named below the table."""


def networks(found: Evaluation) -> str:
    """Return a line that names the networks behind the measures."""
    shown = columns_of(found.scores)
    return "; ".join(f"{TITLES[name]}: {how}" for name, how in found.by.items() if name in NETWORKS and name in shown)
