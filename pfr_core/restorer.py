"""``FaceRestorer``: the whole photo pipeline behind one class.

Reads top to bottom: detect, select, align, restore; matching colours, masking and pasting are in ``compose.py``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .compose import check_background, crop_faces, crop_whole, paste_faces, paste_whole
from .errors import Cancelled, InputError
from .faces.detect import Detector
from .faces.face import Face
from .faces.mask import FaceParser
from .faces.select import filter_by_size, select_faces, sort_faces
from .models.checkpoint import load_model, model_file
from .network import inference
from .network.config import PRESETS
from .network.pfr import PFR
from .options import RestoreOptions, without_effect
from .photo.arrays import Array, FloatImage, ImageLike, to_uint8, unpack
from .photo.photo import Provenance
from .photo.read import read_photo
from .support.choices import DetectorName, DTypeName
from .support.device import keep_memory, memory_format, resolve_device, resolve_dtype

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); stages are those of :attr:`Restored.seconds`."""


@dataclass(frozen=True)
class Restored:
    """The result for one image, or for each image of a batch.

    Attributes:
        image: what went in, restored: same type, layout, range and depth.
        faces: the faces that were chosen, in order. For a batch: a list for each image.
        mask: weight of the restored faces, [H,W] float32 in [0,1]; for a tensor a tensor, [B,H,W] for a batch.
        before: the aligned crops [N,S,S,3] float32 in [0,1], over the whole batch.
        after: the same crops as the network restored them, before strength and colour match.
        seconds: time by stage.
    """

    image: Any
    faces: list[Any]
    mask: Any
    before: FloatImage = field(repr=False)
    after: FloatImage = field(repr=False)
    seconds: dict[str, float] = field(repr=False)


MUCH_LARGER = 4
"""A photograph so many times larger than the detection size may hide faces that could be restored (ours)."""


class FaceRestorer:
    """Finds the faces of a photograph, restores them and pastes them back; every other pixel stays as it was.

    The detector is loaded when it is first needed. One object may be used for any number of photographs; it is not safe
    to use it from several threads at once.

    Args:
        model: what :func:`pfr_core.load_model` takes: a file, ``"default"`` or a preset's name. Or a network; it is
            moved, converted and put into eval mode itself, not a copy of it.
        detector: which face detector: its name, or one that is already loaded.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``xpu``.
        dtype: precision of the network.
        batch_size: faces restored at once; halved by itself when memory runs out.
        options: defaults for every call of :meth:`restore`.

    Raises:
        InputError: an unknown name or a device that is not there.
        CheckpointError: the model file cannot be used.

    Example:
        >>> restored = FaceRestorer().restore("old.jpg", strength=0.8)  # doctest: +SKIP
        >>> Image.fromarray(restored.image).save("new.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | PFR = "default",
        detector: DetectorName | Detector = "auto",
        *,
        device: str | torch.device = "auto",
        dtype: DTypeName = "auto",
        batch_size: int = 8,
        options: RestoreOptions | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
        if not isinstance(model, (str, os.PathLike, PFR)):
            raise InputError(f"model is a {type(model).__name__}; pass a file, a known name or a PFR network.")
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.batch_size = batch_size
        self.options = options or RestoreOptions()
        self.detector = detector if isinstance(detector, Detector) else Detector(detector, self.device)
        self.parser = FaceParser(self.device)
        self._model = model
        net = model if isinstance(model, PFR) else load_model(model, self.device, self.dtype)
        if self.device.type == "cpu":
            keep_memory()
        self.net = net.to(self.device, self.dtype).to(memory_format=memory_format(self.device)).eval()

    @property
    def provenance(self) -> Provenance:
        """Name and SHA-256 of the model, to be recorded in the files it made."""
        name = "custom" if isinstance(self._model, PFR) else str(self._model)
        if isinstance(self._model, PFR) or name in PRESETS:  # no file to take the hash of
            digest = hashlib.sha256()
            for value in self.net.state_dict().values():
                digest.update(value.detach().float().cpu().numpy().tobytes())
            return Provenance(name, digest.hexdigest())
        path = model_file(name)
        return Provenance(Path(name).name, hashlib.sha256(path.read_bytes()).hexdigest())

    @property
    def crop_size(self) -> int:
        """Side of the aligned crops in px, the network's size."""
        return self.net.config.size

    def restore(
        self,
        image: ImageLike | str | os.PathLike[str],
        *,
        faces: Sequence[Face] | None = None,
        background: ImageLike | None = None,
        aligned: bool = False,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
        **changes: Any,
    ) -> Restored:
        """Restore the faces of one image or of a batch of images.

        A photograph without a face, or ``strength=0``, comes back bit-identical (at scale 1).

        Args:
            image: a path, NumPy array, PIL image or tensor, see ``layouts.py``. A path gives an array.
            faces: restore these instead of detecting; one image only.
            background: the photograph enlarged by the caller, of the same type; the faces are pasted into it.
            aligned: the image is itself an aligned face (FFHQ frame, square) and is restored as a whole.
            progress: called with (stage, done, total).
            should_stop: asked between faces; returning true ends the work with :class:`Cancelled`.
            **changes: fields of :class:`RestoreOptions` that differ from the object's own.

        Raises:
            InputError: an image of the wrong type, shape or range, or an option that is unknown, out of range or without effect.
            ImageError: the file cannot be read.
            WeightsError: the detector's or parser's weights are not to be had.
            Cancelled: ``should_stop`` asked for it.
        """
        if aligned and faces is not None:
            raise InputError("faces have no effect when the image is aligned; give one or the other.")
        options = self._options(changes, aligned=aligned, faces=faces is not None)
        if isinstance(image, (str, os.PathLike)):
            image = read_photo(Path(image)).pixels
        frames, repack = unpack(image)
        backgrounds = self._backgrounds(background, frames, options)
        if faces is not None and len(frames) != 1:
            raise InputError(f"faces were given for a batch of {len(frames)} images; pass the images one by one.")
        seconds: dict[str, float] = {}
        report = progress or (lambda stage, done, total: None)

        chosen: list[list[Face]] = []
        for number, frame in enumerate(frames):
            _check_stop(should_stop)
            with _timed(seconds, "detect"):
                if aligned:
                    chosen.append([])
                else:
                    chosen.append(list(faces) if faces is not None else self.find(frame, options))
            report("detect", number + 1, len(frames))

        with _timed(seconds, "align"):
            pairs = zip(frames, chosen, strict=True)
            crops = [crop_whole(frame, self.crop_size)[None] if aligned else self.crop(frame, found) for frame, found in pairs]
            before = np.concatenate(crops) if crops else np.empty((0, self.crop_size, self.crop_size, 3), np.float32)
        with _timed(seconds, "restore"):
            after = before
            if options.strength > 0:
                after = self.restore_crops(
                    before, progress=lambda done, total: report("restore", done, total), should_stop=should_stop
                )

        results, masks, taken = [], [], 0
        for number, (frame, found, large) in enumerate(zip(frames, chosen, backgrounds, strict=True)):
            _check_stop(should_stop)
            with _timed(seconds, "paste"):
                if aligned:
                    result, mask = paste_whole(frame, before[number], after[number], options=options, background=large)
                else:
                    own = slice(taken, taken + len(found))
                    result, mask = self.paste(frame, found, before[own], after[own], background=large, options=options)
                    taken += len(found)
            results.append(result)
            masks.append(mask)
            report("paste", number + 1, len(frames))
        single = not (isinstance(image, torch.Tensor) and image.ndim == 4)
        return Restored(
            image=repack(results),
            faces=chosen[0] if single else chosen,
            mask=_pack_masks(masks, image, single),
            before=before,
            after=after,
            seconds=seconds,
        )

    def find(self, image: Array, options: RestoreOptions | None = None) -> list[Face]:
        """Detect and select, see :func:`find_faces`."""
        return find_faces(self.detector, image, options or self.options)

    def crop(self, image: Array, faces: Sequence[Face]) -> FloatImage:
        """The aligned crops [N,S,S,3] float32 in [0,1] of [H,W,3+]."""
        return crop_faces(image, faces, self.crop_size)

    def restore_crops(
        self,
        crops: FloatImage,
        *,
        progress: inference.Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> FloatImage:
        """Run the network: [N,S,S,3] float32 in [0,1] -> the same."""
        return inference.restore_crops(self.net, crops, batch_size=self.batch_size, progress=progress, should_stop=should_stop)

    def paste(
        self,
        image: Array,
        faces: Sequence[Face],
        before: FloatImage,
        after: FloatImage,
        *,
        background: Array | None = None,
        options: RestoreOptions | None = None,
    ) -> tuple[Array, FloatImage]:
        """Put restored crops back with these options, see :func:`compose.paste_faces`."""
        return paste_faces(
            image, faces, before, after, options=options or self.options, parser=self.parser, background=background
        )

    def release(self) -> None:
        """Give back the memory of detector and parser; they are loaded again when needed."""
        self.detector.release()
        self.parser.release()

    def _options(self, changes: dict[str, Any], *, aligned: bool, faces: bool) -> RestoreOptions:
        unknown = set(changes) - set(RestoreOptions.__dataclass_fields__)
        if unknown:
            raise InputError(f"Unknown options {sorted(unknown)}; there are {sorted(RestoreOptions.__dataclass_fields__)}.")
        useless = without_effect(changes, aligned=aligned, faces=faces)
        if useless:
            raise InputError(f"{useless} have no effect when {'the image is aligned' if aligned else 'faces are given'}.")
        return replace(self.options, **changes)

    def _backgrounds(
        self, background: ImageLike | None, frames: list[Array], options: RestoreOptions
    ) -> list[Array] | list[None]:
        if background is None:
            return [None] * len(frames)
        large, _ = unpack(background)
        if len(large) != len(frames):
            raise InputError(f"{len(large)} backgrounds for {len(frames)} images; give one for each.")
        for frame, other in zip(frames, large, strict=True):
            check_background(frame, other, options)
        return large


def find_faces(detector: Detector, image: Array, options: RestoreOptions) -> list[Face]:
    """The faces of [H,W,3+] (any depth) that ``options`` choose, in their order."""
    return choose_faces(find_candidates(detector, image, options), image, options)


def find_candidates(detector: Detector, image: Array, options: RestoreOptions) -> list[Face]:
    """All faces of [H,W,3+] (any depth) that ``options`` allow to choose from, in the order that ``indices`` counts in."""
    found = detector.detect(
        to_uint8(image[..., :3]),
        threshold=options.threshold,
        size=options.detection_size,
        sideways=options.sideways,
    )
    if not found and max(image.shape[:2]) > MUCH_LARGER * options.detection_size:
        log.warning(
            "no face found at detection_size %d in a picture of %d px; a larger detection_size finds smaller faces",
            options.detection_size,
            max(image.shape[:2]),
        )
    return sort_faces(filter_by_size(found, options.min_face_size, options.max_face_size), options.order)


def choose_faces(candidates: Sequence[Face], image: Array, options: RestoreOptions) -> list[Face]:
    """Those of :func:`find_candidates` that ``options`` choose, in the same order."""
    chosen = select_faces(
        candidates,
        (image.shape[1], image.shape[0]),
        select=options.select,
        order=options.order,
        indices=options.indices,
        count=options.count,
    )
    log.info("%d faces found, %d chosen", len(candidates), len(chosen))
    missing = [index for index in options.indices if index >= len(candidates)]
    if missing:
        log.warning("there is no face %s: %d faces were found, counted from 0", missing, len(candidates))
    return chosen


def _pack_masks(masks: list[FloatImage], image: object, single: bool) -> Any:
    if not isinstance(image, torch.Tensor):
        return masks[0]
    tensors = [torch.from_numpy(mask).to(image.device) for mask in masks]
    if single:
        return tensors[0]
    return torch.stack(tensors) if tensors else image.new_zeros((0, *image.shape[2:]))


def _check_stop(should_stop: Callable[[], bool] | None) -> None:
    if should_stop is not None and should_stop():
        raise Cancelled("Stopped as asked; nothing was written.")


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started
