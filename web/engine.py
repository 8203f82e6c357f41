"""The networks, shared by everybody; only one thread at a time uses them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import get_args

from pfr_core.compare import Comparison, compare
from pfr_core.errors import InputError, ShouldStop, check_stop
from pfr_core.faces.detect import Detector
from pfr_core.faces.mask import FaceParser
from pfr_core.faces.sharpness import JUDGED_SIDE
from pfr_core.find import Found, find_faces
from pfr_core.models.disk import on_disk
from pfr_core.models.download import check_published, obtain
from pfr_core.models.load import load_face_model
from pfr_core.models.registry import REGISTRY, around, check_package, dtypes_of
from pfr_core.network.config import PRESETS
from pfr_core.options import RestoreOptions
from pfr_core.photo.arrays import Array
from pfr_core.restorer import FaceRestorer
from pfr_core.support.choices import CLOSEST_DETECTION, DetectorName, DTypeName, MaskKind
from pfr_core.support.device import resolve_device, resolve_dtype

ASKED_EVERY = 0.5
"""Seconds after which whoever waits for the networks is asked whether he still wants them (ours)."""


@dataclass(frozen=True)
class Facts:
    """What the page says of a model: side of its faces in px, bytes still to be downloaded, licence, options it has."""

    size: int
    bytes: int
    licence: str
    options: tuple[str, ...]


class Engine:
    """One detector, one mask parser and the model used last, each loaded when it is first needed.

    Args:
        models: names that the page offers, and what :func:`pfr_core.load_face_model` takes for each.
        detector: which face detector.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: precision of the restoration network.
        downloads: whether weights that are missing may be fetched when a visitor asks for what needs them.
        closest: as for :class:`pfr_core.faces.detect.Detector`.

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
        closest: int = CLOSEST_DETECTION,
    ) -> None:
        self.models, self.downloads = dict(models), downloads
        self.masks = [kind for kind in get_args(MaskKind) if kind != "parse" or FaceParser.available(downloads=downloads)]
        self.device = resolve_device(device)
        self.dtype = dtype
        resolve_dtype(dtype, self.device)
        self._detector = Detector(detector, self.device, closest=closest)
        self._parser = FaceParser(self.device)
        self._lock = threading.Lock()
        self._restorers: dict[str, FaceRestorer] = {}
        self._used = ""
        self._facts: dict[str, Facts] = {}

    @contextmanager
    def use(self, model: str) -> Iterator[FaceRestorer]:
        """Lend the restorer of ``model``; others wait until it is given back.

        Raises:
            InputError: a model that is not on offer.
            CheckpointError, WeightsError: it cannot be loaded.
        """
        with self._lock:
            yield self._load(model)

    @contextmanager
    def finding(self) -> Iterator[Detector]:
        """Lend the detector; others wait until it is given back."""
        with self._lock:
            yield self._detector

    def find(self, image: Array, options: RestoreOptions, should_stop: ShouldStop, side: int = JUDGED_SIDE) -> Found:
        """See :func:`pfr_core.find.find_faces`."""
        with self._lock:
            return find_faces(self._detector, image, options, should_stop, side=side)

    def check_options(self, options: RestoreOptions) -> None:
        """Refuse what needs weights that are not here.

        Raises:
            InputError: it does.
        """
        if options.mask not in self.masks:
            raise InputError(f"mask is {options.mask!r}; this server has no weights for it, choose from {', '.join(self.masks)}.")

    @contextmanager
    def composing(self, options: RestoreOptions, should_stop: ShouldStop) -> Iterator[None]:
        """Hold what :meth:`pfr_core.PhotoSession.compose` needs: it waits for nobody unless the mask needs a network.

        What that needs is fetched before (:meth:`fetch_around`).

        Raises:
            Cancelled: ``should_stop``, which is asked while it waits, returned true.
        """
        if options.mask != "parse":
            yield
            return
        while not self._lock.acquire(timeout=ASKED_EVERY):
            check_stop(should_stop)
        try:
            yield
        finally:
            self._lock.release()

    def facts(self, model: str) -> Facts:
        """Return what is known of ``model`` without fetching it; a file's are read from it, once.

        Raises:
            CheckpointError, WeightsError: the file cannot be read, or is missing and nowhere to be had, or the package with the
                network's code is missing.
            InputError: the network does not bear the server's precision.
        """
        if model not in self._facts:
            source = self.models[model]
            weights, borne = REGISTRY.get(source), dtypes_of(source)
            check_package(source)
            if source in PRESETS:
                facts = Facts(PRESETS[source].size, 0, "random weights, untrained", ())
            elif weights is not None and not weights.embedded:
                missing = on_disk(source) is None
                if missing:
                    check_published(weights)
                facts = Facts(weights.size, weights.bytes if missing else 0, weights.licence, weights.options)
            else:
                net = load_face_model(source)
                facts, borne = Facts(net.size, 0, net.licence, net.options), net.dtypes
            resolve_dtype(self.dtype, self.device, borne)
            self._facts[model] = facts
        return self._facts[model]

    def fetch(self, model: str, progress: Callable[[str, int, int], None], should_stop: ShouldStop) -> None:
        """Download ``model`` if it is a published one that is not on this machine.

        Args:
            model: its name on the page.
            progress: called with (name, done, total), in bytes.
            should_stop: returning true ends the download with :class:`Cancelled`.

        Raises:
            InputError: it would have to be downloaded, and the server was not started so, or it does not bear the precision.
            WeightsError: it is not to be had, or its network's code is not.
        """
        source = self.models.get(model, "")
        if source in REGISTRY and on_disk(source) is None:
            if not self.downloads:
                raise InputError(f"model is {model!r}; it is not on this server, and visitors may not make it download anything.")
            self.facts(model)  # refuses what could not be used
            obtain(source, progress=partial(progress, model), should_stop=should_stop)
            self._facts.pop(model, None)  # they say how much is to be downloaded

    def fetch_around(self, mask: MaskKind, progress: Callable[[str, int, int], None], should_stop: ShouldStop) -> None:
        """Download what finds and cuts out faces, if it needs a file, before the networks are lent; else as :meth:`fetch`.

        Raises:
            WeightsError: it is not to be had.
        """
        for name in around(self._detector.name, mask):
            obtain(name, progress=partial(progress, name), should_stop=should_stop)

    def compare(
        self,
        image: Array,
        models: Sequence[str],
        options: RestoreOptions,
        progress: Callable[[str, int, int], None],
        should_stop: ShouldStop,
        check_faces: Callable[[int], None],
    ) -> Comparison:
        """See :func:`pfr_core.compare.compare`."""
        with self._lock:
            loaders = [(model, partial(self._load, model)) for model in models]
            return compare(image, loaders, options, progress=progress, should_stop=should_stop, check_faces=check_faces)

    def _load(self, model: str) -> FaceRestorer:
        if model not in self.models:
            raise InputError(f"model is {model!r}; choose from {', '.join(self.models)}.")
        if self._used != model:
            if self._used in self._restorers:
                self._restorers[self._used].release()  # its memory first; open photos still hold the restorer
            self._used = model
        if model not in self._restorers:
            self._restorers[model] = FaceRestorer(
                self.models[model], self._detector, device=self.device, dtype=self.dtype, parser=self._parser
            )
        return self._restorers[model]
