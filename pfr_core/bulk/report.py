"""What a manifest tells: counts, the slowest photographs, errors and notices by kind; as text, and as a page with pictures."""

from __future__ import annotations

import base64
import html
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import ImageError, InputError
from ..photo.arrays import Array, fitted, to_uint8
from ..photo.read import decode_photo
from ..photo.write import encode_photo
from . import MANIFEST, places
from .manifest import Manifest, each

SLOWEST, PAIRS, SIDE = 10, 12, 320
"""Photographs that are named, pairs that are shown, and the longer side of a picture in px."""


@dataclass(frozen=True)
class Report:
    """The figures of a manifest.

    Attributes:
        place: where the manifest is.
        counts: photographs by status.
        unchanged: of those that were done, in which no pixel became another.
        faces: that were restored.
        seconds: of work, on however many machines.
        slowest: photographs and their seconds.
        errors: how many photographs have an error of each kind, the most frequent first.
        notices: how many were done with a notice of each kind, likewise.
        restored: input and output of photographs that were changed.
    """

    place: str
    counts: Counter[str]
    unchanged: int
    faces: int
    seconds: float
    slowest: list[tuple[str, float]]
    errors: list[tuple[str, int]]
    notices: list[tuple[str, int]]
    restored: list[tuple[str, str]]

    @property
    def lines(self) -> list[str]:
        """The report as lines of text."""
        total = self.counts.total()
        return [
            f"{self.place}: {total} photographs, {self.counts['done']} done ({self.unchanged} of them unchanged), "
            f"{self.counts['failed']} failed",
            f"{self.faces} faces; {self.seconds:.0f} s of work, {self.seconds / max(1, total):.2f} s a photograph",
            *(f"{count} x {kind}" for kind, count in self.errors),
            *(f"{count} x notice: {kind}" for kind, count in self.notices),
            "slowest:",
            *(f"{seconds:8.2f} s  {name}" for name, seconds in self.slowest),
        ]


def report(manifest: Manifest) -> Report:
    """Return the figures of a manifest.

    Raises:
        InputError: there is none.
        ImageError: it cannot be read.
    """
    table = manifest.rows(["input", "output", "status", "faces", "changed", "seconds", "error", "notices"])
    if not table.num_rows:
        raise InputError(f"{manifest.place}: no manifest here; it is in the folder {MANIFEST} of the output.")
    counts, errors, notices = Counter[str](), Counter[str](), Counter[str]()
    changed, restored = 0, list[tuple[str, str]]()
    for row in each(table):
        counts[row["status"]] += 1
        if row["error"]:
            errors[_kind(row["error"], row)] += 1
        notices.update({_kind(notice, row) for notice in row["notices"]})
        if row["changed"] and row["status"] == "done":
            changed += 1
            restored.append((row["input"], row["output"]))
    order = np.argsort(table["seconds"].to_numpy())[::-1][:SLOWEST]
    return Report(
        manifest.place,
        counts,
        counts["done"] - changed,
        int(table["faces"].to_numpy().sum()),
        float(table["seconds"].to_numpy().sum()),
        [(table["input"][int(n)].as_py(), table["seconds"][int(n)].as_py()) for n in order],
        errors.most_common(),
        notices.most_common(),
        restored,
    )


def page(figures: Report, seed: int = 0) -> str:
    """Return the report as an HTML page, all in one file, with pairs before | after of some restored photographs.

    Args:
        figures: the report.
        seed: of the choice of photographs.
    """
    chosen = random.Random(seed).sample(figures.restored, min(PAIRS, len(figures.restored)))
    text = html.escape("\n".join(figures.lines))
    pairs = "\n".join(_figure(before, after) for before, after in chosen)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>pfr bulk</title>\n'
        "<style>body{font:16px/1.5 sans-serif;margin:2em;max-width:70em}pre{overflow-x:auto}figure{margin:1em 0}"
        "img{max-width:49%;vertical-align:top}</style>\n"
        f"<h1>Restored photographs</h1>\n<p>Restored faces are synthesised detail: no evidence of identity.</p>\n"
        f"<pre>{text}</pre>\n<h2>Before | after: {len(chosen)} of {len(figures.restored)}</h2>\n{pairs}\n</html>\n"
    )


def _figure(before: str, after: str) -> str:
    try:
        pictures = "".join(f'<img alt="" src="data:image/jpeg;base64,{_picture(place)}">' for place in (before, after))
    except ImageError as error:  # moved away since
        pictures = html.escape(str(error))
    return f"<figure>{pictures}<figcaption>{html.escape(before)}</figcaption></figure>"


def _picture(place: str) -> str:
    pixels: Array = to_uint8(decode_photo(Path(PurePosixPath(place).name), places.read(place)).pixels[..., :3])
    data, _ = encode_photo("picture.jpg", np.ascontiguousarray(fitted(pixels, SIDE)), quality=85)
    return base64.b64encode(data).decode()


def _kind(text: str, row: dict[str, Any]) -> str:
    """Return an error or a notice without what is the photograph's own: its place, numbers, what stands in brackets."""
    places_of = [row["input"], row["output"]]
    paths = [*map(PurePosixPath, places_of)]  # a stroke of an address is lost in them
    names = [*places_of, *map(str, paths), *(path.name for path in paths)]  # in reading, a store's photograph has its last name
    for name in names:
        text = text.removeprefix(f"{name}: ")
    for name in names:
        text = text.replace(name, "...")
    return re.sub(r"\d+", "N", re.sub(r" \([^()]*\)", "", text))
