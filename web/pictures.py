"""Pictures for the page: previews and before | after pairs. Results themselves are written by ``pfr_core``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pfr_core.faces.color import is_gray
from pfr_core.photo.arrays import Array, FloatImage, to_uint8
from pfr_core.photo.photo import Photo
from pfr_core.photo.write import write_photo

SHOWN = 1920
"""Longer side of the pictures on the page in px, about what a large screen shows: more would take seconds to write, to send and
to draw whenever a setting moves (ours)."""
QUALITY = 90
"""Of the pictures on the page, as JPEG or WebP (ours)."""
_SETTINGS: dict[str, dict[str, int]] = {"JPEG": {"subsampling": 0}, "WEBP": {"method": 2}}


def save_shown(path: Path, image: Array, photo: Photo | None = None) -> str:
    """Write a picture of the page in its photo's colours to ``path`` with an ending of its own; returned as Gradio wants it."""
    pixels = to_uint8(image)
    kind = "WEBP" if pixels.shape[2] == 4 else "JPEG"  # for transparency
    one = photo is not None and photo.gray and kind == "JPEG" and is_gray(pixels)  # not if faces got colour
    profile = None if photo is None else photo.profile_for(1 if one else 3)
    picture = Image.fromarray(pixels[..., 0] if one else pixels)
    file = path.with_suffix({"WEBP": ".webp", "JPEG": ".jpg"}[kind])
    picture.save(file, kind, quality=QUALITY, icc_profile=profile, **_SETTINGS[kind])
    return str(file)


def save_exact(path: Path, image: Array, photo: Photo | None = None) -> str:
    """Write a picture of the page as it is, in its photo's colours; the path as Gradio wants it."""
    write_photo(path, image, None if photo is None else photo.colours(), fast=True)
    return str(path)


def side_by_side(before: FloatImage, after: FloatImage) -> npt.NDArray[np.uint8]:
    """Put two [S,S,3] side by side, [S,2S+gap,3], with a white gap."""
    gap = np.ones((before.shape[0], max(2, before.shape[0] // 64), 3), np.float32)
    return to_uint8(np.concatenate([before, gap, after], axis=1))
