"""``PhotoSession``: one photograph being worked on. Each stage is done once and again only when an option that changes it does.

Read, find, cut out, restore, compose: sliders move the last stage only, another choice of faces runs the network for the new
ones only. Made by :meth:`pfr_core.FaceRestorer.open`; the stages are in ``work.py``.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from PIL import Image

from .errors import ImageError, InputError, ShouldStop
from .faces.face import Face
from .find import Found
from .options import NETWORK, Changes, RestoreOptions, changed
from .photo.arrays import Array, FloatImage, ImageLike, unpack
from .photo.photo import Photo
from .photo.pillow import notices_of
from .photo.read import MAX_PIXELS, read_photo
from .photo.restored import own_suffix, write_restored
from .photo.write import writable_format
from .support.files import checked, overwritten, same_file
from .support.notice import Notice
from .support.progress import NamedProgress
from .support.schema import names
from .work import Done, Models, Work, network_options, restore_all, timed, unpack_backgrounds

if TYPE_CHECKING:
    from typing_extensions import Unpack

ImageT_co = TypeVar("ImageT_co", covariant=True)
MaskT_co = TypeVar("MaskT_co", covariant=True)
FacesT_co = TypeVar("FacesT_co", covariant=True)


@dataclass(frozen=True)
class Restored(Generic[ImageT_co, MaskT_co, FacesT_co]):
    """The result for one image, or for each image of a batch.

    Attributes:
        image: what went in, restored: same type, layout, range and depth.
        faces: the faces that were chosen, in order; with a strength of 0 none of them is restored. For a batch: a list for each
            image.
        mask: weight of the restored faces, [H,W] float32 in [0,1]; for a tensor a tensor, [B,H,W] for a batch.
        changed: whether any pixel became another; otherwise the image is the one that went in, enlarged if it was asked for.
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
        changed: whether any pixel became another.
        copied: whether it is its source's file, byte for byte: nothing changed, and size and format stayed.
        notices: those of the result that hold for the file, and what was noticed in writing.
    """

    path: Path
    restored: RestoredArray
    changed: bool
    copied: bool
    notices: tuple[Notice, ...]


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
        (frame,), self._repack = unpack(image)
        self._shape = frame.shape
        self._frame = frame if self._path is None else None  # a file's pixels are the photo's, which can be given back
        self._device = image.device if isinstance(image, torch.Tensor) else None
        self._given = faces is not None
        own = weakref.proxy(self)  # or the two would hold each other, and the photograph, until Python looks for such pairs
        self._work = Work(models, lambda: own.pixels, faces=faces, aligned=aligned)

    @property
    def pixels(self) -> Array:
        """The photograph [H,W,3 or 4]."""
        return self.photo.pixels if self._frame is None else self._frame

    @property
    def photo(self) -> Photo:
        """The file with its metadata; read again if its memory was given back.

        Raises:
            InputError: the session was opened with a picture in memory.
            ImageError: the file cannot be read again, or has another size by now.
        """
        if self._path is None:
            raise InputError("This session was opened with a picture in memory, not with a file.")
        photo = self._photo
        if photo is None:
            photo = read_photo(self._path, max_pixels=max(MAX_PIXELS, self._shape[0] * self._shape[1]))
            if photo.pixels.shape != self._shape:
                raise ImageError(f"{self._path}: another picture than when it was opened; open it anew.")
            self._photo = photo
        return photo

    @property
    def faces(self) -> list[Face]:
        """The faces that the restorer's own options choose; found once."""
        return self.find().faces

    def find(
        self, options: RestoreOptions | None = None, *, should_stop: ShouldStop | None = None, **changes: Unpack[Changes]
    ) -> Found:
        """Find the faces and choose among them. The detector runs again only for other options of its own.

        Args:
            options: in place of the restorer's own.
            should_stop: as for :meth:`restore`.
            **changes: as for :meth:`restore`.

        Raises:
            InputError, WeightsError, Cancelled: as for :meth:`restore`.
        """
        return self._work.find(self._options(options, changes), should_stop=should_stop)

    def restore(
        self,
        options: RestoreOptions | None = None,
        *,
        faces: Sequence[Face] | None = None,
        background: ImageLike | None = None,
        progress: NamedProgress | None = None,
        should_stop: ShouldStop | None = None,
        **changes: Unpack[Changes],
    ) -> Restored[ImageT_co, MaskT_co, list[Face]]:
        """Restore the chosen faces; the network runs for those that it has not restored yet.

        Args:
            options: in place of the restorer's own.
            faces: these faces, in place of those that the options choose.
            background: the photograph enlarged by the caller, of the same type; the faces are pasted into it. Like the picture
                itself it must not be changed while the session lasts.
            progress: called with (stage, done, total).
            should_stop: asked before each run of a network and between faces; true ends the work with :class:`Cancelled`.
            **changes: fields of :class:`RestoreOptions` that differ from ``options``.

        Raises:
            InputError: an option that is unknown, out of range or without effect.
            ImageError: the file cannot be read again after :meth:`release`, or is another picture by now.
            CheckpointError, NotFiniteError, WeightsError, Cancelled: as for :meth:`pfr_core.FaceRestorer.restore`.
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
        should_stop: ShouldStop | None = None,
        **changes: Unpack[Changes],
    ) -> Restored[ImageT_co, MaskT_co, list[Face]]:
        """Put the chosen faces back, as far as they are restored: as :meth:`restore`, but the network never runs.

        Raises:
            InputError: as :meth:`restore`, or an option of the network, given by name, with another value than the faces were
                restored with; that of ``options`` is not looked at.
        """
        chosen = self._options(options, changes, faces)
        (large,) = unpack_backgrounds(background, [self.pixels], chosen)
        seconds: dict[str, float] = {}
        with timed(seconds, "paste"):
            found = self._work.find(chosen, large, faces, should_stop)
            layers = self._work.restored(found.faces)
            other = sorted(set(changes) & set(names(RestoreOptions, NETWORK)))
            if other and any(layer.restored_how != network_options(chosen) for layer in layers):
                raise InputError(f"{', '.join(other)}: the faces were restored with another; call restore() for this one.")
            pasted = self._work.paste(layers, chosen, large, should_stop)
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
            ImageError: the file cannot be written, is the photograph itself, or its format cannot hold the picture.
        """
        photo, path = self.photo, self.destination(target, quality=quality)
        copied, notices = write_restored(
            path,
            photo,
            restored.image,
            changed=restored.changed,
            notices=restored.notices,
            provenance=self.models.provenance if provenance else None,
            quality=quality,
        )
        return RestoredFile(path, restored, restored.changed, copied, notices)

    def destination(self, target: str | os.PathLike[str], *, quality: int | None = None) -> Path:
        """Return the file that :meth:`save` writes; what is wrong with it shows before any work is done.

        Args:
            target: as for :meth:`save`.
            quality: as for :meth:`save`.

        Raises:
            InputError: the session was not opened with a file, a name that no file can have, or a quality that is not as said.
            ImageError: the ending is no format that can be written here, or the file is the photograph itself.
        """
        photo, path = self.photo, checked(target)
        if os.path.isdir(path):  # Path.is_dir raises OSError behind a folder without access
            path = path / f"{photo.path.stem}_restored{own_suffix(photo)}"
        writable_format(path, quality)
        if same_file(photo.path, path):
            raise ImageError(overwritten(photo.path))
        return path

    def release(self) -> None:
        """Give back what is as large as the photograph. Faces and crops stay; a file is read again when it is needed."""
        self._work.release()
        if self._photo is not None and self._photo.untouched:
            self._photo = None

    @property
    def nbytes(self) -> int:
        """Memory that the photograph, if it was read from a file, and what is kept of its faces take; not the results."""
        return self._work.nbytes + (self._photo.pixels.nbytes if self._path is not None and self._photo is not None else 0)

    def put_aside(self, file: str | os.PathLike[str]) -> None:
        """Give back nearly all memory: as :meth:`release`, and the restored crops go into a file until they are needed again.

        Args:
            file: NumPy's ``.npz`` is written there; it must stay as long as the session is used.

        Raises:
            PFRError: it cannot be written.
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


def restore_together(sessions: Sequence[PhotoSession[Any, Any]]) -> Iterator[Restored[Any, Any, list[Face]]]:
    """Restore photographs with the options of their common restorer, so that the network's batches are full.

    Each result is that of :meth:`PhotoSession.restore` up to the rounding of a batched network, and a share of the time.

    Raises:
        InputError, ImageError, CheckpointError, NotFiniteError, WeightsError: as :meth:`PhotoSession.restore`.
    """
    options = sessions[0].models.options
    works, seconds = [session._work for session in sessions], dict[str, float]()
    for session, done in zip(
        sessions, restore_all(works, options, backgrounds=[None] * len(works), seconds=seconds), strict=True
    ):
        yield session._restored(done, {stage: each / len(sessions) for stage, each in seconds.items()})
        session.release()
