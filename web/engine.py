"""The networks, shared by everybody; only one thread at a time uses them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import get_args

from pfr_core.errors import InputError
from pfr_core.faces.detect import Detector
from pfr_core.faces.mask import FaceParser
from pfr_core.find import Found, find_faces
from pfr_core.models.checkpoint import model_file, read_checkpoint
from pfr_core.network.config import PRESETS
from pfr_core.options import RestoreOptions, Setup
from pfr_core.photo.arrays import Array
from pfr_core.restorer import FaceRestorer
from pfr_core.support.choices import DetectorName, DTypeName, MaskKind
from pfr_core.support.device import resolve_device, resolve_dtype

AT_ONCE_ON_CPU = 1
"""Faces between two looks at whether to stop: more at once are no faster on a CPU (ours)."""


class Engine:
    """One detector, one mask parser and the model used last, each loaded when it is first needed.

    Args:
        models: names that the page offers, and what :func:`pfr_core.load_model` takes for each.
        detector: which face detector.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: precision of the restoration network.
        downloads: whether weights that are missing may be fetched when a visitor asks for what needs them.

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
        downloads: bool = False,
    ) -> None:
        self.models = dict(models)
        self.masks = [kind for kind in get_args(MaskKind) if kind != "parse" or downloads or FaceParser.available()]
        self.device = resolve_device(device)
        self.dtype = dtype
        resolve_dtype(dtype, self.device)
        self._detector = Detector(detector, self.device)
        self._parser = FaceParser(self.device)
        self._lock = threading.Lock()
        self._restorers: dict[str, FaceRestorer] = {}
        self._used = ""

    @contextmanager
    def use(self, model: str) -> Iterator[FaceRestorer]:
        """Lend the restorer of ``model``; others wait until it is given back.

        Raises:
            InputError: a model that is not on offer.
            CheckpointError, WeightsError: it cannot be loaded.
        """
        with self._lock:
            yield self._load(model)

    def find(self, image: Array, options: RestoreOptions) -> Found:
        """See :func:`pfr_core.find.find_faces`."""
        with self._lock:
            return find_faces(self._detector, image, options)

    def check_options(self, options: RestoreOptions) -> None:
        """Refuse what needs weights that are not here.

        Raises:
            InputError: it does.
        """
        if options.mask not in self.masks:
            raise InputError(f"mask is {options.mask!r}; this server has no weights for it, choose from {', '.join(self.masks)}.")

    def composing(self, options: RestoreOptions) -> AbstractContextManager[object]:
        """Hold what :meth:`pfr_core.PhotoSession.compose` needs: it waits for nobody unless the mask needs a network."""
        return self._lock if options.mask == "parse" else nullcontext()

    def licence(self, model: str) -> str:
        """Return licence of the weights of ``model``, as its file states it.

        Raises:
            CheckpointError, WeightsError: the file cannot be read.
        """
        source = self.models[model]
        if source in PRESETS:
            return "random weights, untrained"
        return read_checkpoint(model_file(source)).licence or "not stated in the file"

    def _load(self, model: str) -> FaceRestorer:
        if model not in self.models:
            raise InputError(f"model is {model!r}; choose from {', '.join(self.models)}.")
        if self._used != model:
            if self._used in self._restorers:
                self._restorers[self._used].release()  # its memory first; open photos still hold the restorer
            self._used = model
        if model not in self._restorers:
            restorer = FaceRestorer(
                self.models[model], self._detector, device=self.device, dtype=self.dtype, parser=self._parser,
                batch_size=AT_ONCE_ON_CPU if self.device.type == "cpu" else Setup.batch_size,
            )  # fmt: skip
            self._restorers[model] = restorer
            _ = restorer.provenance  # of the file as it was loaded
        return self._restorers[model]
