"""Pictures for the page: previews, face thumbnails, before | after pairs. Results themselves are written by ``pfr_core``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pfr_core.compose import cut_face
from pfr_core.faces.annotate import annotate
from pfr_core.faces.face import Face
from pfr_core.photo.arrays import Array, FloatImage, resize, to_uint8
from pfr_core.photo.photo import Photo
from pfr_core.photo.write import write_photo

PREVIEW, THUMBNAIL = 1600, 256
"""Longer side of a picture with the faces drawn, side of a thumbnail, in px."""
COMPARED = 2560
"""Longer side of the pictures behind the slider: a larger photo is shown smaller, because writing, sending and drawing its PNG
would take seconds for every move of a setting (ours)."""


def shrunk(image: Array, size: int) -> npt.NDArray[np.uint8]:
    """Return [H,W,3] uint8, its longer side at most ``size``."""
    rgb = to_uint8(image[..., :3])
    scale = size / max(rgb.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(rgb)
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def draw_faces(image: Array, faces: Sequence[Face], included: Collection[int]) -> npt.NDArray[np.uint8]:
    """Return a preview in which the included faces are drawn with their numbers, from 1."""
    small = shrunk(image, PREVIEW)
    factor = small.shape[1] / image.shape[1]
    shown = [face.moved(factor) for number, face in enumerate(faces) if number in included]
    return annotate(small, shown, [number + 1 for number in range(len(faces)) if number in included])


def thumbnails(image: Array, faces: Sequence[Face], included: Collection[int]) -> list[npt.NDArray[np.uint8]]:
    """Return the faces, [THUMBNAIL,THUMBNAIL,3] each; those left out are pale and gray."""
    crops = [to_uint8(cut_face(image, face, THUMBNAIL).crop) for face in faces]
    return [crop if number in included else _pale(crop) for number, crop in enumerate(crops)]


def side_by_side(before: FloatImage, after: FloatImage) -> npt.NDArray[np.uint8]:
    """Put two [S,S,3] side by side, [S,2S+gap,3], with a white gap."""
    gap = np.ones((before.shape[0], max(2, before.shape[0] // 64), 3), np.float32)
    return to_uint8(np.concatenate([before, gap, after], axis=1))


def save_comparable(path: Path, image: Array, width: int, height: int, photo: Photo) -> None:
    """Write a picture for the slider as PNG, as a result of ``width`` x ``height`` px is shown; in the photo's own profile."""
    factor = min(1.0, COMPARED / max(width, height))
    target = max(1, round(width * factor)), max(1, round(height * factor))
    pixels = to_uint8(image)
    shrinks = target[0] < image.shape[1]
    shown = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA) if shrinks else resize(pixels, *target)
    write_photo(path, shown, replace(photo, exif=None, xmp=None, extras=()), fast=True)


def save(path: Path, image: Any) -> str:
    """Write a picture of the page; its path as Gradio wants it."""
    write_photo(path, image, fast=True)
    return str(path)


def _pale(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    gray = crop.mean(axis=2, keepdims=True)
    return np.repeat((160 + gray * 0.3).astype(np.uint8), 3, axis=2)
