"""``PhotoSession``: one photograph being worked on. Each stage is done once and again only when an option that changes it does.

Read, find, cut out, restore, compose: sliders move the last stage only, another choice of faces runs the network for the new
ones only. Made by :meth:`pfr_core.FaceRestorer.open`; the stages themselves are in ``find.py`` and ``compose.py``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image

from .compose import Canvas, Last, Layer, Pasted, check_background, cut_face, cut_whole, paste_faces, paste_whole, stacked
from .errors import InputError, check_stop
from .faces.detect import Detector
from .faces.face import Face
from .faces.mask import FaceParser
from .find import Found, choose_in, find_candidates
from .network import inference
from .options import CHOOSE, FIND, NETWORK, Changes, RestoreOptions, changed
from .photo.arrays import Array, FloatImage, ImageLike, unpack
from .photo.photo import Photo, Provenance
from .photo.pillow import notices_of
from .photo.read import read_photo
from .photo.restored import own_suffix, write_restored
from .support.notice import Notice
from .support.schema import names

if TYPE_CHECKING:
    from typing_extensions import Unpack

ImageT_co = TypeVar("ImageT_co", covariant=True)
MaskT_co = TypeVar("MaskT_co", covariant=True)
FacesT_co = TypeVar("FacesT_co", covariant=True)

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); stages are those of :attr:`Restored.seconds`."""

ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Restored(Generic[ImageT_co, MaskT_co, FacesT_co]):
    """The result for one image, or for each image of a batch.

    Attributes:
        image: what went in, restored: same type, layout, range and depth.
        faces: the faces that were restored, in order. For a batch: a list for each image.
        mask: weight of the restored faces, [H,W] float32 in [0,1]; for a tensor a tensor, [B,H,W] for a batch.
        changed: whether any face was put back; otherwise the image is the one that went in, enlarged if it was asked for.
        notices: what a person should know of it, in the order in which it was noticed.
        crops_before: the aligned crops [N,S,S,3] float32 in [0,1], over the whole batch.
        crops_after: the same crops as the network restored them, before strength and colour match.
        seconds: time by stage.
    """

    image: ImageT_co
    faces: FacesT_co
    mask: MaskT_co
    changed: bool
    notices: tuple[Notice, ...]
    crops_before: FloatImage = field(repr=False)
    crops_after: FloatImage = field(repr=False)
    seconds: dict[str, float] = field(repr=False)


RestoredArray = Restored[Array, FloatImage, list[Face]]
"""The result for an array, or for the pixels of a file."""


@dataclass(frozen=True)
class RestoredFile:
    """A restored file.

    Attributes:
        path: where it is.
        restored: the result whose image was written.
        changed: whether any face was put back; if not, the file is a copy of its source, byte for byte, where the format stays.
        notices: those of the result, and what was noticed in writing.
    """

    path: Path
    restored: RestoredArray
    changed: bool
    notices: tuple[Notice, ...]


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
        progress: inference.Progress | None = None,
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
        InputError: faces are given and ``aligned``.
    """

    def __init__(
        self, models: Models, pixels: Callable[[], Array], *, faces: Sequence[Face] | None = None, aligned: bool = False
    ) -> None:
        if aligned and faces is not None:
            raise InputError("faces have no effect when the image is aligned; give one or the other.")
        self.models, self.aligned = models, aligned
        self._pixels = pixels
        self._given = None if faces is None else _these(faces)
        self._candidates: Last[list[Face]] = Last()
        self._found: Last[Found] = Last()
        self._layers: dict[Face | None, Layer] = {}
        self._canvas: Last[Canvas] = Last()
        self._aside: tuple[Path, list[tuple[Face | None, object]]] | None = None

    def find(self, options: RestoreOptions, background: Array | None = None) -> Found:
        """Find the faces and choose among them; ``background`` is what they will be pasted into."""
        if self.aligned:
            return Found([], [])
        if self._given is not None:
            return self._given

        def choose() -> Found:
            pixels = self._pixels()
            how = (options.threshold, options.detection_size, options.sideways)
            found = self._candidates.get(how, lambda: find_candidates(self.models.detector, pixels, options))
            scale = options.scale if background is None else background.shape[1] / pixels.shape[1]
            return choose_in(pixels, found, options, side=self.models.crop_size, scale=scale)

        width = None if background is None else background.shape[1]
        key = (*(getattr(options, name) for name in names(RestoreOptions, FIND, CHOOSE)), options.scale, width)
        return self._found.get(key, choose)

    def cut(self, faces: Sequence[Face]) -> list[Layer]:
        """Cut the faces out that have not been yet; the whole frame if it is aligned."""
        self._restore_aside()
        new = [face for face in dict.fromkeys([None] if self.aligned else faces) if face not in self._layers]
        self._layers.update(zip(new, self._cut(new), strict=True))
        return [self._layers[face] for face in ([None] if self.aligned else faces)]

    def _cut(self, faces: Sequence[Face | None]) -> list[Layer]:
        if not faces:
            return []
        pixels, size = self._pixels(), self.models.crop_size
        return [cut_whole(pixels, size) if face is None else cut_face(pixels, face, size) for face in faces]

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
        """Memory of the faces' crops."""
        return sum(layer.nbytes for layer in [*self._layers.values()])

    def put_aside(self, file: Path) -> None:
        """Write the restored crops to a file and forget all crops; they come back when they are asked for."""
        self._restore_aside()
        kept = [(face, layer.restored, layer.restored_how) for face, layer in self._layers.items() if layer.restored is not None]
        np.savez(file, *(restored for _, restored, _ in kept))
        self._aside, self._layers = (file, [(face, how) for face, _, how in kept]), {}

    def _restore_aside(self) -> None:
        if self._aside is None:
            return
        (file, faces), self._aside = self._aside, None
        with np.load(file) as kept:
            for number, ((face, how), layer) in enumerate(zip(faces, self._cut([face for face, _ in faces]), strict=True)):
                layer.take(kept[f"arr_{number}"], how)
                self._layers[face] = layer


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
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Done]:
    """Restore frames together, so that the network's batches are full, and give them one after the other.

    Args:
        works: the frames.
        options: for all of them.
        faces: these instead of those that the options choose.
        backgrounds: one for each frame.
        seconds: what each stage took is added to it.
        progress: called with (stage, done, total).
        should_stop: asked between frames and between batches of faces.

    Raises:
        Cancelled: ``should_stop`` asked for it.
    """
    report = progress or (lambda stage, done, total: None)
    found: list[Found] = []
    for number, (work, background) in enumerate(zip(works, backgrounds, strict=True)):
        check_stop(should_stop)
        with _timed(seconds, "detect"):
            found.append(_these(faces) if faces is not None else work.find(options, background))
        report("detect", number + 1, len(works))
    with _timed(seconds, "align"):
        layers = [work.cut(each.faces) for work, each in zip(works, found, strict=True)]
    with _timed(seconds, "restore"):
        how = tuple(getattr(options, name) for name in names(RestoreOptions, NETWORK))
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
        with _timed(seconds, "paste"):
            pasted = work.paste(own, options, background, should_stop)
        report("paste", number + 1, len(works))
        yield Done(own, pasted, (*each.notices, *pasted.notices))


class PhotoSession(Generic[ImageT_co, MaskT_co]):
    """One photograph, opened once: find its faces, restore them, and compose the result as often as sliders move.

    Made by :meth:`pfr_core.FaceRestorer.open`. Not safe to use from several threads at once.

    Args:
        models: the networks and the default options.
        source: a path, a photo that was read, or a picture in memory; it must not be changed while the session lasts.
        faces: they are taken instead of detecting.
        aligned: the picture is itself an aligned face (FFHQ frame, square) and is restored as a whole.

    Raises:
        InputError: a picture of the wrong type, shape or range, or a batch.
        ImageError: the file cannot be read.

    Example:
        >>> from pfr_core import FaceRestorer
        >>> session = FaceRestorer().open("examples/degraded.jpg")
        >>> session.restore(select="largest").image.shape
        (512, 512, 3)
        >>> session.compose(select="largest", strength=0.5).changed  # neither detector nor network run
        True
    """

    def __init__(
        self,
        models: Models,
        source: ImageLike | Photo | str | os.PathLike[str],
        *,
        faces: Sequence[Face] | None = None,
        aligned: bool = False,
    ) -> None:
        self.models = models
        photo = read_photo(source) if isinstance(source, (str, os.PathLike)) else source
        self._photo = photo if isinstance(photo, Photo) else None
        self._noticed = photo.notices if isinstance(photo, Photo) else ()
        if isinstance(photo, Image.Image):
            self._noticed = notices_of(photo)
        self._path = photo.path if isinstance(photo, Photo) else None
        image = photo.pixels if isinstance(photo, Photo) else photo
        if isinstance(image, torch.Tensor) and image.ndim == 4:
            raise InputError(f"This is a batch of {len(image)} images; open one of them, or restore them all with restore().")
        (self._frame,), self._repack = unpack(image)
        self._device = image.device if isinstance(image, torch.Tensor) else None
        self._given = faces is not None
        self._work = Work(models, lambda: self.pixels, faces=faces, aligned=aligned)

    @property
    def pixels(self) -> Array:
        """The photograph [H,W,3 or 4]."""
        return self._frame if self._path is None else self.photo.pixels

    @property
    def photo(self) -> Photo:
        """The file with its metadata; read again if its memory was given back.

        Raises:
            InputError: the session was opened with a picture in memory.
        """
        if self._path is None:
            raise InputError("This session was opened with a picture in memory, not with a file.")
        photo = self._photo
        if photo is None:
            photo = self._photo = read_photo(self._path)
        return photo

    @property
    def faces(self) -> list[Face]:
        """The faces that the restorer's own options choose; found once."""
        return self.find().faces

    def find(self, options: RestoreOptions | None = None, **changes: Unpack[Changes]) -> Found:
        """Find the faces and choose among them. The detector runs again only for other options of its own."""
        return self._work.find(self._options(options, changes))

    def restore(
        self,
        options: RestoreOptions | None = None,
        *,
        faces: Sequence[Face] | None = None,
        background: ImageLike | None = None,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
        **changes: Unpack[Changes],
    ) -> Restored[ImageT_co, MaskT_co, list[Face]]:
        """Restore the chosen faces; the network runs for those that it has not restored yet.

        Args:
            options: in place of the restorer's own.
            faces: these faces, in place of those that the options choose.
            background: the photograph enlarged by the caller, of the same type; the faces are pasted into it.
            progress: called with (stage, done, total).
            should_stop: asked between batches of faces; returning true ends the work with :class:`Cancelled`.
            **changes: fields of :class:`RestoreOptions` that differ from ``options``.

        Raises:
            InputError: an option that is unknown, out of range or without effect.
            WeightsError: the detector's or parser's weights are not to be had.
            Cancelled: ``should_stop`` asked for it.
        """
        chosen = self._options(options, changes, faces)
        large = unpack_backgrounds(background, [self.pixels], chosen)
        seconds: dict[str, float] = {}
        (done,) = restore_all(
            [self._work], chosen, faces=faces, backgrounds=large, seconds=seconds, progress=progress, should_stop=should_stop
        )
        return self._restored(done, seconds)

    def compose(
        self,
        options: RestoreOptions | None = None,
        *,
        faces: Sequence[Face] | None = None,
        background: ImageLike | None = None,
        **changes: Unpack[Changes],
    ) -> Restored[ImageT_co, MaskT_co, list[Face]]:
        """Put the chosen faces back, as far as they are restored: as :meth:`restore`, but the network never runs."""
        chosen = self._options(options, changes, faces)
        large = unpack_backgrounds(background, [self.pixels], chosen)
        seconds: dict[str, float] = {}
        with _timed(seconds, "paste"):
            found = self._work.find(chosen, *large) if faces is None else _these(faces)
            layers = self._work.restored(found.faces)
            pasted = self._work.paste(layers, chosen, large[0])
        return self._restored(Done(layers, pasted, (*found.notices, *pasted.notices)), seconds)

    def save(
        self,
        restored: RestoredArray,
        target: str | os.PathLike[str],
        *,
        quality: int | None = None,
        provenance: bool = True,
    ) -> RestoredFile:
        """Write a result of this session with the metadata of its file; copied byte for byte if nothing changed.

        Args:
            restored: what :meth:`restore` or :meth:`compose` gave.
            target: a file, whose ending decides the format; or a folder, for a file NAME_restored in the photo's own format.
            quality: as for :func:`~pfr_core.photo.write.write_photo`.
            provenance: whether to record in a changed file that detail is synthesised, and by which model.

        Raises:
            InputError: the session was not opened with a file, or a quality that is not as said.
            ImageError: the file cannot be written, or its format cannot hold the picture.
        """
        photo, path = self.photo, Path(target)
        if path.is_dir():
            path = path / f"{photo.path.stem}_restored{own_suffix(photo)}"
        mark = self.models.provenance if provenance and restored.changed else None
        noticed = write_restored(path, photo, restored.image, changed=restored.changed, provenance=mark, quality=quality)
        return RestoredFile(path, restored, restored.changed, (*restored.notices, *noticed))

    def release(self) -> None:
        """Give back what is as large as the photograph. Faces and crops stay; a file is read again when it is needed."""
        self._work.release()
        self._photo = None

    @property
    def nbytes(self) -> int:
        """Memory that the photograph, if it was read from a file, and the crops of its faces take; not what is made of them."""
        return self._work.nbytes + (self._photo.pixels.nbytes if self._path is not None and self._photo is not None else 0)

    def put_aside(self, file: str | os.PathLike[str]) -> None:
        """Give back nearly all memory: as :meth:`release`, and the restored crops go into a file until they are needed again.

        Args:
            file: an ``.npz`` file to be written; it must stay as long as the session is used.
        """
        self._work.put_aside(Path(file))
        self.release()

    def _options(
        self, options: RestoreOptions | None, changes: Mapping[str, Any], faces: Sequence[Face] | None = None
    ) -> RestoreOptions:
        given = self._given or faces is not None
        has = self.models.model_options
        return changed(options or self.models.options, changes, has, aligned=self._work.aligned, faces=given)

    def _restored(self, done: Done, seconds: dict[str, float]) -> Restored[ImageT_co, MaskT_co, list[Face]]:
        mask: Any = done.pasted.mask if self._device is None else torch.from_numpy(done.pasted.mask).to(self._device)
        return Restored(
            image=self._repack([done.pasted.image]),
            faces=done.faces,
            mask=mask,
            changed=done.pasted.changed,
            notices=(*self._noticed, *done.notices),
            crops_before=done.crops(self.models.crop_size),
            crops_after=done.crops(self.models.crop_size, after=True),
            seconds=seconds,
        )


def unpack_backgrounds(background: ImageLike | None, frames: Sequence[Array], options: RestoreOptions) -> list[Array | None]:
    """Return the background of each frame, None where there is none.

    Raises:
        InputError: not one for each frame, or one that is not its frame enlarged.
    """
    if background is None:
        return [None] * len(frames)
    large, _ = unpack(background)
    if len(large) != len(frames):
        raise InputError(f"{len(large)} backgrounds for {len(frames)} images; give one for each.")
    for frame, other in zip(frames, large, strict=True):
        check_background(frame, other, options.scale)
    return [*large]


def _these(faces: Sequence[Face]) -> Found:
    return Found(list(faces), list(range(len(faces))))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started
