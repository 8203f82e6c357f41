"""From a photograph and its restored crops to the restored photograph.

Needs no network, so strength, masks, colours or the choice of faces can be changed at little cost once the crops are restored.
What a change of the options leaves as it was is kept between two calls: see :class:`Canvas` and :class:`Layer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from .errors import InputError, ShouldStop, check_stop
from .faces.align import align, alignment_matrix
from .faces.color import Tone, match_color
from .faces.face import Face
from .faces.geometry import Matrix, rescaling, scale_of, scaled, warp
from .faces.mask import FaceParser, make_mask
from .faces.paste import paste_face
from .options import RestoreOptions
from .photo.arrays import Array, FloatImage, from_float, resize, to_float
from .support.notice import Notice

T = TypeVar("T")

MAGNIFIED = 2.0
"""A face is called magnified when it is this much larger than its crop: its restoration lacks fine detail."""


class Last(Generic[T]):
    """The value made for the last key; another key makes another."""

    def __init__(self) -> None:
        self._kept: tuple[object, T] | None = None

    @property
    def value(self) -> T | None:
        """What was made last, if anything was."""
        return None if self._kept is None else self._kept[1]

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Return what was made for ``key``; made now if the last key was another."""
        kept = self._kept
        if kept is None or kept[0] != key:
            kept = self._kept = (key, make())
        return kept[1]


class Canvas:
    """What faces are pasted into: the photograph at the size of the result, never written to.

    Args:
        image: the photograph [H,W,3+]; it must not be changed as long as the canvas is used.
        scale: it is enlarged by this factor.
        background: the photograph enlarged by other means, in place of that. It may lack the photograph's alpha, which is
            then enlarged, or have one of its own.

    Raises:
        InputError: a background that is not the image enlarged.
    """

    def __init__(self, image: Array, scale: float = 1.0, background: Array | None = None) -> None:
        self._colours = image if background is None else background
        if background is not None:
            self.base = _with_alpha(image, background, scale)
        elif scale == 1:
            self.base = image
        else:
            self.base = resize(image, round(image.shape[1] * scale), round(image.shape[0] * scale))
        self.enlarged = self.base.shape != image.shape or background is not None
        self.factors = self.base.shape[1] / image.shape[1], self.base.shape[0] / image.shape[0]
        self._crops: dict[Layer, FloatImage] = {}

    @property
    def nbytes(self) -> int:
        """Memory of what was made for it; the pictures it was given are not its own."""
        return (0 if self.base is self._colours else self.base.nbytes) + sum(crop.nbytes for crop in [*self._crops.values()])

    @cached_property
    def tone(self) -> Tone | None:
        """The one tone of what the result looks like, if it has but one."""
        return Tone.of(self._colours)

    def tone_of(self, layer: Layer, options: RestoreOptions) -> Tone | None:
        """Return the tone that the face of ``layer`` keeps, if any."""
        tone = self.tone if options.keep_gray else None
        return tone if tone is not None and tone.holds(self.crop(layer)) else None

    def matrix(self, layer: Layer) -> Matrix:
        """Return what takes the pixels of the canvas to those of the layer's crop, [2,3]."""
        return scaled(layer.matrix, *self.factors)

    def crop(self, layer: Layer) -> FloatImage:
        """Return the crop [S,S,3] of what the face of ``layer`` is pasted into."""
        if not self.enlarged:
            return layer.crop
        if layer not in self._crops:
            size = len(layer.crop)
            whole = layer.face is None
            self._crops[layer] = cut_whole(self.base, size).crop if whole else align(self.base, self.matrix(layer), size)
        return self._crops[layer]


@dataclass(eq=False)
class Layer:
    """One face on its way through the network and back.

    Attributes:
        face: the face; None for an image that is itself an aligned face.
        matrix: [2,3], pixels of the photograph to pixels of the crop.
        crop: [S,S,3] float32 in [0,1], as it was cut out.
        restored: the crop as the network restored it, once it has.
        restored_how: the network's options that it did so with.
        settle: makes the mask that is pasted with of the parser's; in a clip it holds it still.
    """

    face: Face | None
    matrix: Matrix
    crop: FloatImage
    restored: FloatImage | None = None
    restored_how: object = None
    settle: Callable[[FloatImage], FloatImage] = lambda mask: mask
    _finished: Last[FloatImage] = field(default_factory=Last, repr=False)
    _parsed: Last[FloatImage] = field(default_factory=Last, repr=False)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(
            array.nbytes for array in (self.crop, self.restored, self._finished.value, self._parsed.value) if array is not None
        )

    def take(self, restored: FloatImage, how: object) -> None:
        """Take what the network made of the crop with these options."""
        self.restored, self.restored_how = restored, how
        self._finished, self._parsed = Last(), Last()

    def change(self, canvas: Canvas, tone: Tone | None, options: RestoreOptions) -> FloatImage:
        """Return the finished crop less what it is pasted into; that counts in the tone, too: a scanner's noise is no change."""
        before = canvas.crop(self)
        return self.finished(tone, options) - (before if tone is None else tone.give(before))

    def finished(self, tone: Tone | None, options: RestoreOptions) -> FloatImage:
        """Return the restored crop in the colours that it is pasted in, those of ``tone`` if there is one."""
        restored = self.crop if self.restored is None else self.restored

        def finish() -> FloatImage:
            matched = match_color(restored, self.crop, options.color_match)
            return matched if tone is None else tone.give(matched)

        return self._finished.get((self.restored is None, tone, options.color_match), finish)

    def parsed(
        self, tone: Tone | None, options: RestoreOptions, parser: FaceParser, should_stop: ShouldStop | None = None
    ) -> FloatImage:
        """Return the parser's mask, [S,S] in [0,1]; its network runs once for each look of the crop."""
        key = (self.restored is None, tone is not None, options.color_match, options.feather)
        return self._parsed.get(key, lambda: self.settle(parser.mask(self.finished(tone, options), options.feather, should_stop)))


@dataclass(frozen=True)
class Pasted:
    """A restored photograph: ``image`` as the canvas, ``mask`` [H,W] float32, whether any pixel was ``changed``."""

    image: Array
    mask: FloatImage
    changed: bool
    notices: tuple[Notice, ...] = ()


def cut_face(image: Array, face: Face, size: int) -> Layer:
    """Cut the aligned crop [size,size,3] float32 in [0,1] out of [H,W,3+]."""
    matrix = alignment_matrix(face, size)
    return Layer(face, matrix, align(image, matrix, size))


def cut_whole(image: Array, size: int) -> Layer:
    """Take an image that is itself an aligned face for the crop, resized to [size,size,3].

    Raises:
        InputError: it is not square.
    """
    height, width = image.shape[:2]
    if height != width:
        raise InputError(f"An aligned face must be square, this is {width}x{height}. Leave aligned off for photographs.")
    matrix = rescaling(size / width, size / width)
    return Layer(None, matrix, np.clip(warp(to_float(image[..., :3]), matrix, size, size), 0, 1))


def stacked(crops: Sequence[FloatImage], size: int) -> FloatImage:
    """Return the crops as one array [N,size,size,3], also if there is none."""
    return np.stack(crops) if crops else np.empty((0, size, size, 3), np.float32)


def paste_faces(
    canvas: Canvas,
    layers: Sequence[Layer],
    *,
    options: RestoreOptions,
    parser: FaceParser,
    should_stop: ShouldStop | None = None,
) -> Pasted:
    """Put restored faces back, the later ones on top where they overlap.

    Args:
        canvas: what they are pasted into.
        layers: the faces, cut out at one size and restored.
        options: strength, mask, feather, color_match, keep_gray.
        parser: makes the mask if ``options.mask`` is ``parse``.
        should_stop: asked between faces, and while the parser's weights are downloaded.

    Raises:
        WeightsError: the parser's weights are not to be had.
        Cancelled: ``should_stop`` asked for it.
    """
    result, mask = canvas.base.copy(), np.zeros(canvas.base.shape[:2], np.float32)
    if options.strength == 0 or not layers:
        return Pasted(result, mask, changed=False)
    changed, notices = False, list[Notice]()
    shape = None if options.mask == "parse" else make_mask(options.mask, len(layers[0].crop), options.feather)
    for number, layer in enumerate(layers):
        check_stop(should_stop)
        matrix = canvas.matrix(layer)
        times = 1 / scale_of(matrix)
        if times > MAGNIFIED:
            notices.append(_magnified(layer, number, times))
        tone = canvas.tone_of(layer, options)
        crop_mask = layer.parsed(tone, options, parser, should_stop) if shape is None else shape
        change = np.float32(options.strength) * layer.change(canvas, tone, options)
        changed |= paste_face(result, mask, change, crop_mask, matrix, canvas.base)
    return Pasted(result, mask, changed, tuple(notices))


def paste_whole(canvas: Canvas, layer: Layer, *, options: RestoreOptions) -> Pasted:
    """Put back what :func:`cut_whole` took, once it is restored: every pixel of the image."""
    result = canvas.base.copy()
    height, width = result.shape[:2]
    if options.strength == 0:
        return Pasted(result, np.zeros((height, width), np.float32), changed=False)
    size = len(layer.crop)
    change = layer.change(canvas, canvas.tone_of(layer, options), options)
    change = warp(change, rescaling(width / size, width / size), width, height)
    result[..., :3] = from_float(to_float(result[..., :3]) + np.float32(options.strength) * change, result.dtype)
    return Pasted(result, np.ones((height, width), np.float32), changed=not np.array_equal(result, canvas.base))


def check_background(image: Array, background: Array, scale: float) -> None:
    """Refuse a background that is not ``image`` enlarged.

    Raises:
        InputError: type or proportions differ, or ``scale`` would have no effect.
    """
    if scale != 1:
        raise InputError("scale has no effect when a background is given; its own size decides.")
    if background.dtype != image.dtype:
        raise InputError(f"The enlarged picture is {background.dtype}, the image {image.dtype}; both must have the same depth.")
    ratio_x, ratio_y = background.shape[1] / image.shape[1], background.shape[0] / image.shape[0]
    if abs(ratio_x / ratio_y - 1) > 0.02:
        raise InputError(
            f"The enlarged picture is {background.shape[1]}x{background.shape[0]}, the image {image.shape[1]}x{image.shape[0]}: "
            "it must be the same picture enlarged, with the same proportions."
        )


def _with_alpha(image: Array, background: Array, scale: float) -> Array:
    """Return the background, with the image's alpha if it has none."""
    check_background(image, background, scale)
    if image.shape[2] == 4 and background.shape[2] == 3:
        alpha = resize(image[..., 3], background.shape[1], background.shape[0])
        return np.concatenate([background, alpha[..., None]], axis=2)
    return background


def _magnified(layer: Layer, number: int, times: float) -> Notice:
    assert layer.face is not None  # an aligned image is never pasted as a face
    text = (
        f"a face of {layer.face.size:.0f} px is pasted {times:.1f} times larger than the model's {len(layer.crop)} px: it keeps "
        "its own fine detail, the model restores only the coarser part (max_face_size skips such faces)"
    )
    return Notice(
        "magnified", text, face=number, numbers={"face_px": layer.face.size, "times": times, "crop_px": len(layer.crop)}
    )
