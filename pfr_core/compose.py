"""From a photograph and its restored crops to the restored photograph. Needs no network, so strength, masks, colours or the
choice of faces can be changed at no cost once the crops are restored."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from .errors import InputError
from .faces.align import Matrix, align, alignment_matrix, scale_of, scaled, warp
from .faces.color import is_gray, match_color, to_gray
from .faces.face import Face
from .faces.mask import FaceParser, make_mask
from .faces.paste import paste_face
from .options import RestoreOptions
from .photo.arrays import Array, FloatImage, from_float, resize, to_float

log = logging.getLogger(__name__)

MAGNIFIED = 2.0
"""A face is called magnified when it is this much larger than its crop: its restoration lacks fine detail."""


def crop_faces(image: Array, faces: Sequence[Face], size: int) -> FloatImage:
    """The aligned crops [N,size,size,3] float32 in [0,1] of [H,W,3+]."""
    crops = [align(image, alignment_matrix(face, size), size) for face in faces]
    return np.stack(crops) if crops else np.empty((0, size, size, 3), np.float32)


def crop_whole(image: Array, size: int) -> FloatImage:
    """The crop [size,size,3] of an image that is itself an aligned face.

    Raises:
        InputError: it is not square.
    """
    height, width = image.shape[:2]
    if height != width:
        raise InputError(f"An aligned face must be square, this is {width}x{height}. Leave aligned off for photographs.")
    return np.clip(warp(to_float(image[..., :3]), _resize_matrix(size / width), size, size), 0, 1)


def paste_faces(
    image: Array,
    faces: Sequence[Face],
    before: FloatImage,
    after: FloatImage,
    *,
    options: RestoreOptions,
    parser: FaceParser,
    background: Array | None = None,
) -> tuple[Array, FloatImage]:
    """Put restored crops back: a new image like ``image`` (or of the background's size) and the mask [H,W].

    Args:
        image: the photograph [H,W,3+].
        faces: the faces, as given to :func:`crop_faces`.
        before: their crops [N,S,S,3] in [0,1].
        after: the crops as the network restored them.
        options: strength, mask, feather, color_match, keep_gray, scale.
        parser: makes the mask if ``options.mask`` is ``parse``.
        background: the photograph enlarged, otherwise it is enlarged here by ``options.scale``. It may lack the photograph's
            alpha, which is then enlarged, or have one of its own.

    Raises:
        InputError: not one crop before and one after for each face, or a background that is not the image enlarged.
        WeightsError: the parser's weights are not to be had.
    """
    if before.shape != after.shape or len(before) != len(faces):
        raise InputError(
            f"{len(faces)} faces, but crops of shape {list(before.shape)} before and {list(after.shape)} after restoration. "
            "Pass one crop of each kind for every face, in the same order and size."
        )
    target = _target(image, background, options)
    height, width = target.shape[:2]
    mask = np.zeros((height, width), np.float32)
    if options.strength == 0 or not faces:
        return target, mask
    size = before.shape[1]
    enlarged = target.shape != image.shape or background is not None
    original = target.copy() if enlarged else image
    factors = width / image.shape[1], height / image.shape[0]
    gray = options.keep_gray and is_gray(image if background is None else background)
    for face, old, new in zip(faces, before, after, strict=True):
        matrix = scaled(alignment_matrix(face, size), *factors)
        if scale_of(matrix) < 1 / MAGNIFIED:
            log.warning(
                "a face of %.0f px is pasted %.1f times larger than the model's %d px: it keeps its own fine detail, "
                "the model restores only the coarser part (max_face_size skips such faces)",
                face.size, 1 / scale_of(matrix), size,
            )  # fmt: skip
        new = _finish(new, old, gray, options)
        if options.mask == "parse":
            crop_mask = parser.mask(new, options.feather)
        else:
            crop_mask = make_mask(options.mask, size, options.feather)
        change = np.float32(options.strength) * (new - (align(original, matrix, size) if enlarged else old))
        paste_face(target, mask, change, crop_mask, matrix, original)
    return target, mask


def paste_whole(
    image: Array, before: FloatImage, after: FloatImage, *, options: RestoreOptions, background: Array | None = None
) -> tuple[Array, FloatImage]:
    """As :func:`paste_faces` for an image that is itself an aligned face, with its one crop [S,S,3]."""
    target = _target(image, background, options)
    height, width = target.shape[:2]
    if options.strength == 0:
        return target, np.zeros((height, width), np.float32)
    gray = options.keep_gray and is_gray(image if background is None else background)
    size = before.shape[0]
    change = _finish(after, before, gray, options) - crop_whole(target, size)
    change = warp(change, _resize_matrix(width / size), width, height)
    target[..., :3] = from_float(to_float(target[..., :3]) + np.float32(options.strength) * change, target.dtype)
    return target, np.ones((height, width), np.float32)


def check_background(image: Array, background: Array, options: RestoreOptions) -> None:
    """Refuse a background that is not ``image`` enlarged.

    Raises:
        InputError: type or proportions differ, or ``options.scale`` would have no effect.
    """
    if options.scale != 1:
        raise InputError("scale has no effect when a background is given; its own size decides.")
    if background.dtype != image.dtype:
        raise InputError(f"The background is {background.dtype}, the image {image.dtype}; both must have the same depth.")
    ratio_x, ratio_y = background.shape[1] / image.shape[1], background.shape[0] / image.shape[0]
    if abs(ratio_x / ratio_y - 1) > 0.02:
        raise InputError(
            f"The background is {background.shape[1]}x{background.shape[0]}, the image {image.shape[1]}x{image.shape[0]}: "
            "it must be the same picture enlarged, with the same proportions."
        )


def _target(image: Array, background: Array | None, options: RestoreOptions) -> Array:
    """A copy of what the faces are pasted into; a background without alpha gets the image's."""
    if background is None:
        return resize(image, round(image.shape[1] * options.scale), round(image.shape[0] * options.scale))
    check_background(image, background, options)
    if image.shape[2] == 4 and background.shape[2] == 3:
        alpha = resize(image[..., 3], background.shape[1], background.shape[0])
        return np.concatenate([background, alpha[..., None]], axis=2)
    return background.copy()


def _finish(new: FloatImage, old: FloatImage, gray: bool, options: RestoreOptions) -> FloatImage:
    new = match_color(new, old, options.color_match)
    return to_gray(new) if gray else new


def _resize_matrix(factor: float) -> Matrix:
    """Pixels of an image to pixels of the image resized by ``factor``; pixel centres are kept."""
    return np.array([[factor, 0, factor / 2 - 0.5], [0, factor, factor / 2 - 0.5]])
