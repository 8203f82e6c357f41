"""The faces of a clip as one picture with their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from .track import PICTURE, Track

COLUMNS, CAPTION = 8, 24
"""Faces in a row, and height of the line below each, in px."""


def sheet(tracks: Sequence[Track]) -> npt.NDArray[np.uint8]:
    """Return [H,W,3]: each face where it was seen best, below it its number and the frames that it is in."""
    cells = [np.concatenate([track.picture, _caption(track)]) for track in tracks]
    columns = min(COLUMNS, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[start : start + columns], axis=1) for start in range(0, len(cells), columns)]
    return np.concatenate(rows)


def _caption(track: Track) -> npt.NDArray[np.uint8]:
    line = np.full((CAPTION, PICTURE, 3), 255, np.uint8)
    text = f"{track.number}: {track.first}-{track.last}"
    cv2.putText(line, text, (4, CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return line
