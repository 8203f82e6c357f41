"""The networks, shared by everybody; only one thread at a time uses them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from pfr_core.compose import paste_faces
from pfr_core.errors import InputError
from pfr_core.faces.detect import Detector
from pfr_core.faces.face import Face
from pfr_core.faces.mask import FaceParser
from pfr_core.models.checkpoint import model_file, read_checkpoint
from pfr_core.network.config import PRESETS
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import Array, FloatImage
from pfr_core.photo.photo import Provenance
from pfr_core.restorer import FaceRestorer, find_faces
from pfr_core.support.choices import DetectorName, DTypeName
from pfr_core.support.device import resolve_device, resolve_dtype


class Engine:
    """One detector, one mask parser and the model used last, each loaded when it is first needed.

    Args:
        models: names that the page offers, and what :func:`pfr_core.load_model` takes for each.
        detector: which face detector.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: precision of the restoration network.

    Raises:
        InputError: an unknown detector, device or precision. A missing model shows only when it is used.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        *,
        detector: DetectorName = "auto",
        device: str = "auto",
        dtype: DTypeName = "auto",
    ) -> None:
        self.models = dict(models)
        self.device = resolve_device(device)
        self.dtype = dtype
        resolve_dtype(dtype, self.device)
        self._detector = Detector(detector, self.device)
        self._parser = FaceParser(self.device)
        self._lock = threading.Lock()
        self._loaded: tuple[str, FaceRestorer, Provenance] | None = None

    @contextmanager
    def use(self, model: str) -> Iterator[FaceRestorer]:
        """Lend the restorer of ``model``; others wait until it is given back.

        Raises:
            InputError: a model that is not on offer.
            CheckpointError, WeightsError: it cannot be loaded.
        """
        with self._lock:
            yield self._load(model)[0]

    def provenance(self, model: str) -> Provenance:
        """Name and hash of ``model``, for the files it changed; raises as :meth:`use`."""
        with self._lock:
            return self._load(model)[1]

    def find(self, image: Array, options: RestoreOptions) -> list[Face]:
        """See :func:`pfr_core.restorer.find_faces`."""
        with self._lock:
            return find_faces(self._detector, image, options)

    def paste(
        self, image: Array, faces: Sequence[Face], before: FloatImage, after: FloatImage, options: RestoreOptions
    ) -> tuple[Array, FloatImage]:
        """See :func:`pfr_core.compose.paste_faces`; waits for nobody unless the mask needs a network."""
        with self._lock if options.mask == "parse" else nullcontext():
            return paste_faces(image, faces, before, after, options=options, parser=self._parser)

    def licence(self, model: str) -> str:
        """Licence of the weights of ``model``, as its file states it.

        Raises:
            CheckpointError, WeightsError: the file cannot be read.
        """
        source = self.models[model]
        if source in PRESETS:
            return "random weights, untrained"
        return read_checkpoint(model_file(source)).licence or "not stated in the file"

    def _load(self, model: str) -> tuple[FaceRestorer, Provenance]:
        if model not in self.models:
            raise InputError(f"There is no model {model!r} here; choose from {', '.join(self.models)}.")
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None  # its memory first
            restorer = FaceRestorer(self.models[model], self._detector, device=self.device, dtype=self.dtype)
            restorer.parser = self._parser
            self._loaded = (model, restorer, restorer.provenance)
        return self._loaded[1:]
