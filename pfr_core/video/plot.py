"""Figures of clips, frame by frame, as a drawing: SVG, which needs no library."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from .measure import Figures, Flicker

PANELS = {
    "warping_error": "warping error, 8-bit levels",
    "jitter": "jitter, of the eyes' distance",
    "identity": "identity, cosine with the frame before",
    "sharpness": "sharpness, variance of the Laplacian",
}
"""What is drawn, by the names of :class:`Figures`."""
COLOURS = ("#555555", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""One after the other (Okabe and Ito's, which the colour-blind can tell apart); the unrestored clip is gray."""
WIDTH, HEIGHT, LEFT, GAP, LINE = 900, 150, 70, 40, 18
"""Of a panel, the room left of it and above it, and the height of a line of text, in px."""


def plot(measured: Mapping[str, Flicker]) -> str:
    """Return the text of an SVG file: a panel for each figure that was measured, in it a line for each clip, by its name.

    Lines break where there is no face, or where a figure could not be measured.
    """
    by_clip = {name: each.frames() for name, each in measured.items()}
    numbers = [frame for frames in by_clip.values() for frame in frames]
    first, last = min(numbers), max(numbers)
    drawn = [_legend(list(by_clip))]
    top = LINE * (len(by_clip) + 1)
    for figure, title in PANELS.items():
        lines = {name: _runs(frames, figure) for name, frames in by_clip.items()}
        values = [value for runs in lines.values() for run in runs for _, value in run]
        if not values:
            continue
        top += GAP
        low = min(values) if figure == "identity" else 0.0  # cosines are all near 1
        drawn.append(_panel(title, list(lines.values()), top, (first, last), (low, max(values))))
        top += HEIGHT
    drawn.append(_text(LEFT, top + LINE, f"frame {first}") + _text(LEFT + WIDTH, top + LINE, f"frame {last}", "end"))
    size = f'width="{LEFT + WIDTH + 20}" height="{top + 2 * LINE}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>\n"])


def _runs(frames: Mapping[int, Figures], figure: str) -> list[list[tuple[int, float]]]:
    """Return the values of a figure as runs of frames that follow each other."""
    runs: list[list[tuple[int, float]]] = []
    for frame, figures in frames.items():
        value = getattr(figures, figure)
        if value is None:
            continue
        if not runs or runs[-1][-1][0] != frame - 1:
            runs.append([])
        runs[-1].append((frame, value))
    return runs


def _panel(
    title: str, lines: list[list[list[tuple[int, float]]]], top: int, across: tuple[int, int], up: tuple[float, float]
) -> str:
    """Return one panel with its frame."""
    (first, last), (low, high) = across, up
    wide, tall = max(1, last - first), (high - low) or 1.0
    drawn = [
        _text(LEFT, top - 6, title),
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbbbbb"/>',
        _text(LEFT - 6, top + 10, f"{high:.4g}", "end"),
        _text(LEFT - 6, top + HEIGHT, f"{low:.4g}", "end"),
    ]
    for runs, colour in zip(lines, _colours(len(lines)), strict=True):
        for run in runs:
            places = [
                f"{LEFT + WIDTH * (frame - first) / wide:.1f},{top + HEIGHT * (high - value) / tall:.1f}" for frame, value in run
            ]
            # A run of one frame is a line of no length, which round ends show as a dot.
            drawn.append(
                f'<polyline points="{" ".join(places * (2 if len(places) == 1 else 1))}" fill="none" stroke="{colour}" '
                'stroke-width="1.5" stroke-linecap="round"/>'
            )
    return "\n".join(drawn)


def _legend(names: list[str]) -> str:
    rows = enumerate(zip(names, _colours(len(names)), strict=True), 1)
    return "\n".join(
        f'<rect x="{LEFT}" y="{LINE * row - 9}" width="12" height="9" fill="{colour}"/>' + _text(LEFT + 18, LINE * row, name)
        for row, (name, colour) in rows
    )


def _text(x: int, y: int, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _colours(count: int) -> list[str]:
    """Return the colours of so many clips; after the last they begin again, without the gray."""
    return [COLOURS[0], *(COLOURS[1 + place % (len(COLOURS) - 1)] for place in range(count - 1))]
