"""The stages of one frame, each done once and again only when an option that changes it does; of many frames, together.

Find, cut out, restore, paste: what each gave is kept in a :class:`Work`. :func:`restore_all` takes frames through all of them.
The stages themselves are in ``find.py`` and ``compose.py``.
"""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from .compose import Canvas, Last, Layer, Pasted, check_background, cut_face, cut_whole, paste_faces, paste_whole, stacked
from .errors import InputError, PFRError, ShouldStop, check_stop
from .faces.detect import Detector
from .faces.face import Face
from .faces.mask import FaceParser
from .find import Found, advised, choose_in, find_candidates
from .options import CHOOSE, DETECTION, FIND, NETWORK, RestoreOptions
from .photo.arrays import Array, FloatImage, ImageLike, unpack
from .photo.photo import Provenance
from .support.files import replacing
from .support.notice import Notice
from .support.progress import NamedProgress, Progress
from .support.schema import names


class Models(Protocol):
    """What a session needs of a :class:`pfr_core.FaceRestorer`."""

    @property
    def options(self) -> RestoreOptions: ...
    @property
    def detector(self) -> Detector: ...
    @property
    def parser(self) -> FaceParser: ...
    @property
    def crop_size(self) -> int: ...
    @property
    def model_options(self) -> tuple[str, ...]: ...
    @property
    def provenance(self) -> Provenance: ...
    def restore_crops(
        self,
        crops: FloatImage,
        *,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> FloatImage: ...


class Work:
    """The stages of one frame, as an array, with what is kept of each.

    Args:
        models: the networks.
        pixels: gives the frame [H,W,3+]; asked for whenever a stage needs it.
        faces: they are taken instead of detecting.
        aligned: the frame is itself an aligned face.

    Raises:
        InputError: faces are given and ``aligned``, or they are none.
    """

    def __init__(
        self, models: Models, pixels: Callable[[], Array], *, faces: Sequence[Face] | None = None, aligned: bool = False
    ) -> None:
        self.models, self.aligned = models, aligned
        self._pixels = pixels
        self._given = None if faces is None else self._found_by_caller(faces)
        self._candidates: Last[list[Face]] = Last()
        self._found: Last[Found] = Last()
        self._layers: dict[Face | None, Layer] = {}
        self._canvas: Last[Canvas] = Last()
        self._aside: tuple[Path, list[tuple[Face | None, object]]] | None = None

    def find(
        self,
        options: RestoreOptions,
        background: Array | None = None,
        faces: Sequence[Face] | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Found:
        """Find the faces and choose among them.

        Args:
            options: how.
            background: what they will be pasted into.
            faces: they are taken instead.
            should_stop: asked before each run of the detector's network.

        Raises:
            InputError: faces are given and the frame is aligned, or they are none.
            Cancelled: ``should_stop`` asked for it.
        """
        if faces is not None:
            return self._found_by_caller(faces)
        if self.aligned:
            return Found([], [])
        if self._given is not None:
            return self._given

        def choose() -> Found:
            pixels = self._pixels()
            how = tuple(getattr(options, name) for name in DETECTION)
            found = self._candidates.get(how, lambda: find_candidates(self.models.detector, pixels, options, should_stop))
            scale = options.scale if background is None else background.shape[1] / pixels.shape[1]
            chosen = choose_in(pixels, found, options, side=self.models.crop_size, scale=scale, should_stop=should_stop)
            return advised(chosen, found, (pixels.shape[1], pixels.shape[0]), options, self.models.detector)

        width = None if background is None else background.shape[1]
        key = (*(getattr(options, name) for name in names(RestoreOptions, FIND, CHOOSE)), options.scale, width)
        return self._found.get(key, choose)

    def _found_by_caller(self, faces: Sequence[Face]) -> Found:
        if self.aligned:
            raise InputError("faces have no effect when the image is aligned; give one or the other.")
        return Found.given(faces)

    def cut(self, faces: Sequence[Face], should_stop: ShouldStop | None = None) -> list[Layer]:
        """Cut the faces out that have not been yet; the whole frame if it is aligned.

        Raises:
            Cancelled: ``should_stop``, which is asked before each face, returned true.
        """
        self._restore_aside()
        new = [face for face in dict.fromkeys([None] if self.aligned else faces) if face not in self._layers]
        self._layers.update(zip(new, self._cut(new, should_stop), strict=True))
        return [self._layers[face] for face in ([None] if self.aligned else faces)]

    def _cut(self, faces: Sequence[Face | None], should_stop: ShouldStop | None = None) -> list[Layer]:
        if not faces:
            return []
        pixels, size, layers = self._pixels(), self.models.crop_size, list[Layer]()
        for face in faces:
            check_stop(should_stop)
            layers.append(cut_whole(pixels, size) if face is None else cut_face(pixels, face, size))
        return layers

    def restored(self, faces: Sequence[Face]) -> list[Layer]:
        """Return those of the faces that the network has restored; the whole frame if it is aligned."""
        self._restore_aside()
        layers = [self._layers.get(face) for face in ([None] if self.aligned else faces)]
        return [layer for layer in layers if layer is not None and layer.restored is not None]

    def paste(
        self,
        layers: Sequence[Layer],
        options: RestoreOptions,
        background: Array | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Pasted:
        """Put faces back."""
        # The canvas holds the background, so its id stays its own as long as the canvas is kept.
        key = (options.scale, None if background is None else id(background))
        canvas = self._canvas.get(key, lambda: Canvas(self._pixels(), options.scale, background))
        if self.aligned and layers:
            return paste_whole(canvas, layers[0], options=options)
        return paste_faces(canvas, layers, options=options, parser=self.models.parser, should_stop=should_stop)

    def release(self) -> None:
        """Forget what is as large as the frame."""
        self._canvas = Last()

    @property
    def nbytes(self) -> int:
        """Memory of the faces' crops and of what they are pasted into."""
        canvas = self._canvas.value
        return sum(layer.nbytes for layer in [*self._layers.values()]) + (0 if canvas is None else canvas.nbytes)

    def put_aside(self, file: Path) -> None:
        """Write the restored crops to a file and forget all crops; they come back when they are asked for.

        Raises:
            PFRError: it cannot be written, or what was put aside before cannot be read; all stays as it was.
        """
        self._restore_aside()
        kept = [(face, layer.restored, layer.restored_how) for face, layer in self._layers.items() if layer.restored is not None]
        with replacing(file) as temporary, temporary.open("wb") as stream:  # an open file, or NumPy would change its name
            np.savez(stream, *(restored for _, restored, _ in kept))
        self._aside, self._layers = (file, [(face, how) for face, _, how in kept]), {}

    def _restore_aside(self) -> None:
        if self._aside is None:
            return
        file, faces = self._aside
        try:
            with np.load(file) as stored:
                crops = [stored[f"arr_{number}"] for number in range(len(faces))]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise PFRError(f"{file}: the crops put aside there cannot be read ({error}); open the photograph anew.") from error
        layers = self._cut([face for face, _ in faces])
        for (face, how), layer, crop in zip(faces, layers, crops, strict=True):
            layer.take(crop, how)
            self._layers[face] = layer
        self._aside = None


@dataclass(frozen=True)
class Done:
    """What became of one frame."""

    layers: list[Layer]
    pasted: Pasted
    notices: tuple[Notice, ...]

    @property
    def faces(self) -> list[Face]:
        """The faces that were put back."""
        return [layer.face for layer in self.layers if layer.face is not None]

    def crops(self, size: int, *, after: bool = False) -> FloatImage:
        """Return their crops [N,size,size,3], before or after the network."""
        return stacked([layer.crop if layer.restored is None or not after else layer.restored for layer in self.layers], size)


def restore_all(
    works: Sequence[Work],
    options: RestoreOptions,
    *,
    faces: Sequence[Face] | None = None,
    backgrounds: Sequence[Array | None],
    seconds: dict[str, float],
    progress: NamedProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Done]:
    """Restore frames together, so that the network's batches are full, and give them one after the other.

    Args:
        works: the frames.
        options: for all of them.
        faces: these instead of those that the options choose.
        backgrounds: one for each frame.
        seconds: what each stage took is added to it.
        progress: called with (stage, done, total); stages are ``detect``, ``restore`` and ``paste``.
        should_stop: asked before each run of a network and between faces.

    Raises:
        Cancelled: ``should_stop`` asked for it.
    """
    report = progress or (lambda stage, done, total: None)
    found: list[Found] = []
    for number, (work, background) in enumerate(zip(works, backgrounds, strict=True)):
        check_stop(should_stop)
        with timed(seconds, "detect"):
            found.append(work.find(options, background, faces, should_stop))
        report("detect", number + 1, len(works))
    with timed(seconds, "align"):
        layers = [work.cut(each.faces, should_stop) for work, each in zip(works, found, strict=True)]
    with timed(seconds, "restore"):
        how = network_options(options)
        new = list(dict.fromkeys(layer for each in layers for layer in each if layer.restored_how != how))
        if options.strength > 0 and new:
            models = works[0].models
            after = models.restore_crops(
                stacked([layer.crop for layer in new], models.crop_size),
                options=options,
                progress=lambda done, total: report("restore", done, total),
                should_stop=should_stop,
            )
            for layer, restored in zip(new, after, strict=True):
                layer.take(restored, how)
    for number, (work, each, own, background) in enumerate(zip(works, found, layers, backgrounds, strict=True)):
        check_stop(should_stop)
        with timed(seconds, "paste"):
            pasted = work.paste(own, options, background, should_stop)
        report("paste", number + 1, len(works))
        yield Done(own, pasted, (*each.notices, *pasted.notices))


def network_options(options: RestoreOptions) -> tuple[object, ...]:
    """Return what of the options the network works by: what :attr:`.compose.Layer.restored_how` is."""
    return tuple(getattr(options, name) for name in names(RestoreOptions, NETWORK))


def unpack_backgrounds(background: ImageLike | None, frames: Sequence[Array], options: RestoreOptions) -> list[Array | None]:
    """Return the background of each frame, None where there is none.

    Raises:
        InputError: not one for each frame, or one that is not its frame enlarged.
    """
    if background is None:
        return [None] * len(frames)
    if isinstance(background, (str, os.PathLike)):
        raise InputError(
            f"background is {os.fspath(background)!r}, a path; pass the picture itself, as read_photo has it in pixels."
        )
    large, _ = unpack(background)
    if len(large) != len(frames):
        raise InputError(f"{len(large)} backgrounds for {len(frames)} images; give one for each.")
    for frame, other in zip(frames, large, strict=True):
        check_background(frame, other, options.scale)
    return [*large]


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add what the block takes to the seconds of ``stage``."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started
