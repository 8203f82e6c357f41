"""``FaceRestorer``: the whole photo pipeline behind one class; the stages of one photograph are in ``work.py``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from .compose import stacked
from .errors import InputError, ShouldStop
from .faces.detect import Detector
from .faces.face import Face
from .faces.mask import FaceParser
from .find import refuse_none_chosen
from .models.checkpoint import model_file
from .models.disk import sha256_of
from .models.kinds.onnx import OnnxModel
from .models.load import load_face_model, read_face_model
from .models.registry import dtypes_of
from .network import inference
from .network.config import PRESETS
from .network.face_model import FaceModel
from .options import Changes, RestoreOptions, Setup, changed
from .photo.arrays import Array, FloatImage, ImageLike, unpack
from .photo.photo import Photo, Provenance
from .session import PhotoSession, Restored, RestoredArray, RestoredFile
from .support.choices import DetectorName, DTypeName
from .support.device import faces_at_once, give_back_cached, memory_format, resolve_device, resolve_dtype
from .support.progress import NamedProgress, Progress
from .support.schema import specs
from .work import Done, Work, restore_all, unpack_backgrounds

if TYPE_CHECKING:
    from typing_extensions import Unpack

DepthT = TypeVar("DepthT", bound=np.generic)


class Call(Changes, total=False):
    """What :meth:`FaceRestorer.restore` takes beside the image, for type checkers."""

    options: RestoreOptions | None
    faces: Sequence[Face] | None
    background: ImageLike | None
    aligned: bool
    progress: NamedProgress | None
    should_stop: ShouldStop | None


class FaceRestorer:
    """Finds the faces of a photograph, restores them and pastes them back; every other pixel stays as it was.

    Detector and parser are loaded when they are first needed. One object may be used for any number of photographs; it is
    not safe to use it from several threads at once.

    Args:
        model: what :func:`pfr_core.load_face_model` takes: a file, the name of a model in the registry or of a preset. Or a
            network; it is moved, converted and put into eval mode itself, not a copy of it.
        detector: which face detector: its name, or one that is already loaded.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``xpu``.
        dtype: precision of the network.
        batch_size: faces restored at once, by default what suits the device; halved by itself when memory runs out.
        options: defaults for every call.
        parser: makes the ``parse`` masks; one of its own if left out.
        provenance: of a network, the name and SHA-256 that files record; without it "custom" and the hash of its tensors.

    Raises:
        InputError: an unknown name, a batch size out of range, a device that is not there or a precision that the network does
            not bear.
        CheckpointError: the model file cannot be used.
        WeightsError: the model is not to be had.

    Example:
        >>> restored = FaceRestorer().restore("examples/degraded.jpg", strength=0.8)
        >>> restored.changed, restored.image.shape
        (True, (512, 512, 3))
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | FaceModel = "default",
        detector: DetectorName | Detector = "auto",
        *,
        device: str | torch.device = "auto",
        dtype: DTypeName = "auto",
        batch_size: int | None = None,
        options: RestoreOptions | None = None,
        parser: FaceParser | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        specs(Setup)["batch_size"].check(batch_size)
        if not isinstance(model, (str, os.PathLike, FaceModel)):
            raise InputError(f"model is a {type(model).__name__}; pass a file, a known name or a network (FaceModel).")
        self.device = resolve_device(device)
        resolve_dtype(dtype, self.device, dtypes_of(model))  # before a model is downloaded
        self.batch_size = batch_size or faces_at_once(self.device)
        self.options = options or RestoreOptions()
        self.detector = detector if isinstance(detector, Detector) else Detector(detector, self.device)
        self.parser = parser or FaceParser(self.device)
        self._model, self._dtype = model, dtype
        self._net: FaceModel | None = None
        self._read = provenance
        # What is asked for after the network's memory was given back.
        self._size, self.model_options, self.licence = self.net.size, self.net.options, self.net.licence

    @property
    def net(self) -> FaceModel:
        """The network; read again if its memory was given back."""
        if self._net is None:
            if isinstance(self._model, FaceModel):
                net = self._model
            elif str(self._model) in PRESETS:
                net = load_face_model(self._model)
            else:
                path = model_file(self._model)
                net = read_face_model(path)
                # Of the file as it is now: it may be another one, or gone, when a result is written.
                self._read = Provenance(Path(self._model).name, sha256_of(path))
            dtype = resolve_dtype(self._dtype, self.device, net.dtypes)
            self._net = net.to(self.device, dtype).to(memory_format=memory_format(self.device)).eval()
        return self._net

    @property
    def provenance(self) -> Provenance:
        """Name and SHA-256 of the model, to be recorded in the files it made."""
        if self._read is None and isinstance(self._model, OnnxModel):
            self._read = Provenance(self._model.path.name, sha256_of(self._model.path))
        if self._read is None:  # no file to take the hash of
            digest = hashlib.sha256()
            for value in self.net.state_dict().values():
                digest.update(value.detach().float().cpu().numpy().tobytes())
            name = "custom" if isinstance(self._model, FaceModel) else str(self._model)
            self._read = Provenance(name, digest.hexdigest())
        return self._read

    @property
    def crop_size(self) -> int:
        """Side of the aligned crops in px, the network's size."""
        return self._size

    @overload
    def open(
        self, source: str | os.PathLike[str] | Photo, *, faces: Sequence[Face] | None = None, aligned: bool = False
    ) -> PhotoSession[Array, FloatImage]: ...
    @overload
    def open(
        self, source: npt.NDArray[DepthT], *, faces: Sequence[Face] | None = None, aligned: bool = False
    ) -> PhotoSession[npt.NDArray[DepthT], FloatImage]: ...
    @overload
    def open(
        self, source: Image.Image, *, faces: Sequence[Face] | None = None, aligned: bool = False
    ) -> PhotoSession[Image.Image, FloatImage]: ...
    @overload
    def open(
        self, source: torch.Tensor, *, faces: Sequence[Face] | None = None, aligned: bool = False
    ) -> PhotoSession[torch.Tensor, torch.Tensor]: ...
    def open(
        self,
        source: ImageLike | Photo | str | os.PathLike[str],
        *,
        faces: Sequence[Face] | None = None,
        aligned: bool = False,
    ) -> PhotoSession[Any, Any]:
        """Open one photograph to find, restore and compose as often as needed; see :class:`PhotoSession`, also for errors.

        Example:
            >>> session = FaceRestorer().open("examples/degraded.jpg")
            >>> len(session.faces)
            1
            >>> session.save(session.restore(strength=0.8), "restored.jpg").changed
            True
        """
        return PhotoSession(self, source, faces=faces, aligned=aligned)

    @overload
    def restore(self, image: str | os.PathLike[str] | Photo, **call: Unpack[Call]) -> RestoredArray: ...
    @overload
    def restore(
        self, image: npt.NDArray[DepthT], **call: Unpack[Call]
    ) -> Restored[npt.NDArray[DepthT], FloatImage, list[Face]]: ...
    @overload
    def restore(self, image: Image.Image, **call: Unpack[Call]) -> Restored[Image.Image, FloatImage, list[Face]]: ...
    @overload
    def restore(
        self, image: torch.Tensor, **call: Unpack[Call]
    ) -> Restored[torch.Tensor, torch.Tensor, list[Face] | list[list[Face]]]: ...
    def restore(
        self,
        image: ImageLike | Photo | str | os.PathLike[str],
        *,
        options: RestoreOptions | None = None,
        faces: Sequence[Face] | None = None,
        background: ImageLike | None = None,
        aligned: bool = False,
        progress: NamedProgress | None = None,
        should_stop: ShouldStop | None = None,
        **changes: Unpack[Changes],
    ) -> Restored[Any, Any, Any]:
        """Restore the faces of one image or of a batch of images.

        A photograph without a face, or ``strength=0``, comes back bit-identical (at scale 1).

        Args:
            image: a path, a photo that was read, NumPy array, PIL image or tensor, see ``photo/arrays.py``. A file gives
                an array.
            options: in place of the object's own.
            faces: restore these instead of detecting; one image only.
            background: the photograph enlarged by the caller, of the same type; the faces are pasted into it.
            aligned: the image is itself an aligned face (FFHQ frame, square) and is restored as a whole.
            progress: called with (stage, done, total).
            should_stop: asked before each run of a network and between faces; true ends the work with :class:`Cancelled`.
            **changes: fields of :class:`RestoreOptions` that differ from ``options``.

        Raises:
            InputError: an image of the wrong type, shape or range, or an option that is unknown, out of range or without effect.
            ImageError: the file cannot be read.
            CheckpointError: the model's file is gone after :meth:`release`.
            NotFiniteError: the model gives numbers that are not finite for this image.
            WeightsError: the weights of detector or parser, or of a released model, are not to be had.
            Cancelled: ``should_stop`` asked for it.
        """
        if not (isinstance(image, torch.Tensor) and image.ndim == 4):
            session = PhotoSession[Any, Any](self, image, faces=faces, aligned=aligned)
            return session.restore(options, background=background, progress=progress, should_stop=should_stop, **changes)
        chosen = changed(options or self.options, changes, self.model_options, aligned=aligned, faces=faces is not None)
        frames, repack = unpack(image)
        if faces is not None and len(frames) != 1:
            raise InputError(f"faces were given for a batch of {len(frames)} images; pass the images one by one.")
        works = [Work(self, lambda frame=frame: frame, faces=faces, aligned=aligned) for frame in frames]  # type: ignore[misc]
        large, done, seconds = unpack_backgrounds(background, frames, chosen), list[Done](), dict[str, float]()
        restoring = restore_all(works, chosen, backgrounds=large, seconds=seconds, progress=progress, should_stop=should_stop)
        for work, each in zip(works, restoring, strict=True):
            done.append(each)
            work.release()  # the others' canvases would pile up
        masks = [torch.from_numpy(each.pasted.mask).to(image.device) for each in done]
        return Restored(
            image=repack([each.pasted.image for each in done]),
            faces=[each.faces for each in done],
            mask=torch.stack(masks) if masks else image.new_zeros((0, *image.shape[2:])),
            changed=any(each.pasted.changed for each in done),
            notices=tuple(replace(notice, frame=frame) for frame, each in enumerate(done) for notice in each.notices),
            crops_before=np.concatenate([stacked([], self.crop_size), *(each.crops(self.crop_size) for each in done)]),
            crops_after=np.concatenate([stacked([], self.crop_size), *(each.crops(self.crop_size, after=True) for each in done)]),
            seconds=seconds,
        )

    def restore_file(
        self,
        source: str | os.PathLike[str] | Photo,
        target: str | os.PathLike[str],
        *,
        options: RestoreOptions | None = None,
        quality: int | None = None,
        provenance: bool = True,
        background: ImageLike | None = None,
        aligned: bool = False,
        progress: NamedProgress | None = None,
        should_stop: ShouldStop | None = None,
        **changes: Unpack[Changes],
    ) -> RestoredFile:
        """Restore a photo file: its metadata, depth, transparency and encoding are kept; copied byte for byte if nothing changed.

        Args:
            source: the file, or a photo that was read.
            target: a file, whose ending decides the format; or a folder, for a file NAME_restored in the photo's own format.
            options: in place of the object's own.
            quality: as for :func:`~pfr_core.photo.write.write_photo`.
            provenance: whether to record in a changed file that detail is synthesised, and by which model.
            background: as for :meth:`restore`.
            aligned: as for :meth:`restore`.
            progress: as for :meth:`restore`.
            should_stop: as for :meth:`restore`.
            **changes: fields of :class:`RestoreOptions` that differ from ``options``.

        Raises:
            ImageError: a file cannot be read or written, or they are the same one.
            InputError: as for :meth:`restore`, a quality that is not as said, or ``indices`` of which none is a face's though the
                photo has faces; nothing is written then.
            CheckpointError, NotFiniteError, WeightsError, Cancelled: as for :meth:`restore`.

        Example:
            >>> FaceRestorer().restore_file("examples/degraded.jpg", "restored.jpg", strength=0.8).changed
            True
        """
        session = self.open(source, aligned=aligned)
        path = session.destination(target, quality=quality)
        restored = session.restore(options, background=background, progress=progress, should_stop=should_stop, **changes)
        refuse_none_chosen(restored.faces, restored.notices)
        return session.save(restored, path, quality=quality, provenance=provenance)

    def restore_crops(
        self,
        crops: FloatImage,
        *,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> FloatImage:
        """Run the network: [N,S,S,3] float32 in [0,1] -> the same, with those of ``options`` that it has."""
        chosen = {name: getattr(options or self.options, name) for name in self.model_options}
        return inference.restore_crops(
            self.net, crops, batch_size=self.batch_size, options=chosen, progress=progress, should_stop=should_stop
        )

    def release(self) -> None:
        """Give back the memory of network, detector and parser; they are loaded again when needed.

        A network that was passed as an object stays with whoever holds it.
        """
        self._net = None
        self.detector.release()
        self.parser.release()
        give_back_cached(self.device)
