"""Pictures and plots of a report, as HTML that needs no other file: JPEG as data addresses, plots as SVG."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pfr_core.photo.write import encode_photo

from ..data.dataset import RGB8, resize_square
from .evaluation import Evaluation
from .methods import INPUT, TRUTH
from .statistics import Difference

CELL, QUALITY = 256, 85
WIDTH, LINE = 460, 20
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf")


def shown_pictures(found: Evaluation) -> dict[str, list[RGB8]]:
    """Return the pictures of the shown faces: of the input, of each method that is shown, and of the truth, if there is one."""
    names = [INPUT, *(method.name for method in found.methods if method.shown), TRUTH]
    kept = {name: [each.picture for each in found.records.get(name, ()) if each.picture is not None] for name in names}
    return {name: pictures for name, pictures in kept.items() if pictures}


def grid(found: Evaluation) -> RGB8:
    """Return a picture of the shown faces: degraded | restored | truth, a row each."""
    rows = zip(*shown_pictures(found).values(), strict=True)
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def picture_grid(found: Evaluation) -> str:
    """Return the shown faces as a table."""
    columns = shown_pictures(found)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = "".join(f"<tr>{''.join(map(_embedded, row))}</tr>" for row in zip(*columns.values(), strict=True))
    return f'<table class="faces"><tr>{head}</tr>{rows}</table>' if rows else ""


def _embedded(picture: RGB8) -> str:
    small = resize_square(picture, min(CELL, len(picture)))
    data, _ = encode_photo("face.jpg", small, quality=QUALITY)
    return f'<td><img alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}"></td>'


def forest(title: str, differences: Sequence[Difference]) -> str:
    """Return a plot of differences with their intervals, a line each."""
    ends = [0.0, *(end for each in differences for end in (each.low, each.high))]
    low, high = min(ends), max(ends)
    span = high - low or 1.0

    def x(value: float) -> float:
        return 200 + (WIDTH - 220) * (value - low) / span

    height = LINE * (len(differences) + 2)
    lines = [f'<text x="0" y="14" font-weight="bold">{html.escape(title)}</text>']
    lines.append(f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{LINE}" y2="{height - LINE}" stroke="#999" stroke-dasharray="3"/>')
    for i, each in enumerate(differences):
        y = LINE * (i + 1.5)
        lines.append(f'<text x="0" y="{y + 4}">{html.escape(each.method)}</text>')
        lines.append(
            f'<line x1="{x(each.low):.1f}" x2="{x(each.high):.1f}" y1="{y}" y2="{y}" stroke="#1f77b4" stroke-width="3"/>'
        )
        lines.append(f'<circle cx="{x(each.mean):.1f}" cy="{y}" r="4" fill="#1f77b4"/>')
    for value in sorted({low, 0.0, high}):
        lines.append(f'<text x="{x(value):.1f}" y="{height - 4}" text-anchor="middle">{value:+.3g}</text>')
    return _svg(WIDTH, height, lines)


def sorted_gains(gains: Mapping[str, npt.NDArray[np.float64]]) -> str:
    """Return a plot of sorted gains in dB, a line for each method; what lies below 0 got worse."""
    height, top = 260, LINE * len(gains)
    low, high = (f(0.0, *(f(values) for values in gains.values())) for f in (min, max))
    span = high - low or 1.0

    def y(value: float) -> float:
        return top + (height - top - LINE) * (1 - (value - low) / span)

    lines = [f'<line x1="40" x2="{WIDTH}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#999" stroke-dasharray="3"/>']
    for i, (name, values) in enumerate(gains.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = np.linspace(40, WIDTH, len(values))
        points = " ".join(f"{place:.1f},{y(value):.1f}" for place, value in zip(places, values, strict=True))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="40" y="{LINE * i + 14}" style="fill:{colour}">{html.escape(name)}</text>')
    for value in sorted({low, 0.0, high}):
        lines.append(f'<text x="36" y="{y(value) + 4:.1f}" text-anchor="end">{value:+.2g}</text>')
    lines.append(f'<text x="{WIDTH}" y="{height - 2}" text-anchor="end">faces, by their gain in PSNR (dB)</text>')
    return _svg(WIDTH, height, lines)


def _svg(width: int, height: float, lines: Sequence[str]) -> str:
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">{"".join(lines)}</svg>'
