"""What is evaluated: sets of pictures to restore, made one after the other, so that a set of thousands needs no memory.

Degraded here (:class:`DegradedFaces`), prepared (:class:`PreparedPairs`), or as found, without truths (:class:`Photographs`).
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from pfr_core import Degradation
from pfr_core.degradation import bicubic_downsample
from pfr_core.errors import InputError
from pfr_core.faces.align import align, alignment_matrix, template
from pfr_core.faces.detect import Detector
from pfr_core.faces.geometry import rescale
from pfr_core.photo.arrays import to_uint8
from pfr_core.support.text import plural

from ..data.dataset import RGB8, read_face, resize_square
from ..data.index import FaceFile
from ..data.options import FULL_SIZE
from .folders import ALIGNED_FACE, by_stem, match_names, match_sizes, read_rgb, read_square
from .landmarks import Points, largest_face
from .options import DRAWS, SEED

log = logging.getLogger(__name__)

UNDEGRADED = "undegraded"
UNBLURRED = {
    "noise": Degradation(blur=None, scale=None, noise=(15.0, 15.0), quality=None),
    "JPEG": Degradation(blur=None, scale=None, noise=None, quality=(15, 15)),
    "shrunk": Degradation(blur=None, scale=(3.0, 3.0), noise=None, quality=None),
}
"""Faults one by one, each of a strength that anybody sees (ours): Eq. 17 blurs every face, most photographs are not blurred."""

Degrade = Callable[[RGB8, tuple[int, ...]], RGB8]
"""A face [512,512,3] and a seed -> the face degraded, of the same size."""


@dataclass(frozen=True, eq=False)
class Case:
    """One picture to restore.

    Attributes:
        name: no other of the set has it; files of results have it as their stem.
        face: what the draws of one face share.
        given: the picture [S,S,3].
        truth: what it should become [S,S,3]; None if nobody knows.
        points: landmarks of the truth [5,2] in px.
        probe: what a probe shows, ``"undegraded"`` or a key of :data:`UNBLURRED`; empty for what a model is judged by.
        group: what the data states of the face, for the worst subgroup.
    """

    name: str
    face: str
    given: RGB8
    truth: RGB8 | None = None
    points: Points | None = None
    probe: str = ""
    group: str = ""


class Source(Protocol):
    """A set of cases.

    Attributes:
        caption: what the set is, with counts.
        names: of all cases but the probes, in order.
        count: how many different faces that are.
    """

    @property
    def caption(self) -> str: ...

    @property
    def names(self) -> list[str]: ...

    @property
    def count(self) -> int: ...

    def cases(self, probes: bool) -> Iterator[Case]:
        """Yield the cases; the draws of a face come one after the other, then its probes, if asked for."""
        ...


def eq17(face: RGB8, seed: tuple[int, ...]) -> RGB8:
    """Degrade by Eq. 17, drawn uniformly from its full ranges."""
    return Degradation()(face, seed)[0]


def bicubic4(face: RGB8, seed: tuple[int, ...]) -> RGB8:
    """Shrink to a quarter and enlarge again, both bicubic and antialiased (the paper's Table 2); nothing is drawn."""
    return bicubic_downsample(face)


@dataclass(frozen=True)
class DegradedFaces:
    """Each of ``faces`` degraded ``draws`` times at 512 px, then shrunk to ``size``."""

    faces: Sequence[FaceFile]
    draws: int = DRAWS
    size: int = FULL_SIZE
    seed: int = SEED
    degrade: Degrade = eq17

    @property
    def caption(self) -> str:
        return f"{len(self.faces)} faces, {self.draws} degradations each, {self.size} px"

    @property
    def names(self) -> list[str]:
        return [f"{face}-{k}" for face in self._stems() for k in range(self.draws)]

    @property
    def count(self) -> int:
        return len(self.faces)

    def cases(self, probes: bool) -> Iterator[Case]:
        for i, (name, face) in enumerate(zip(self._stems(), self.faces, strict=True)):
            yield from self.cases_of(i, name, face, read_face(face.stored), probes)

    def cases_of(self, number: int, name: str, face: FaceFile, full: RGB8, probes: bool) -> Iterator[Case]:
        """Yield the cases of one face.

        Args:
            number: seeds its degradations.
            name: its own.
            face: what the index says of it.
            full: its pixels [512,512,3].
            probes: whether they are asked for.
        """
        truth, points = resize_square(full, self.size), rescale(face.points, self.size / face.size)
        for k in range(self.draws):
            given = resize_square(self.degrade(full, (self.seed, number, k)), self.size)
            yield Case(f"{name}-{k}", name, given, truth, points, group=face.group)
        if probes:
            yield from probes_of(name, truth, points, (self.seed, number))

    def _stems(self) -> list[str]:
        """Return a name for each face: its file's, with a number where several have it (faces of one shard)."""
        stems = [Path(face.stored.place).stem for face in self.faces]
        often = Counter(stems)
        return [f"{stem}-{i:05d}" if often[stem] > 1 else stem for i, stem in enumerate(stems)]


@dataclass(frozen=True)
class PreparedPairs:
    """Pictures of ``degraded`` and those of the same names in ``truths``, shrunk or enlarged to ``size``.

    The landmarks of a truth are the built-in detector's; where it sees no face, those of the FFHQ frame. Pairs of one truth are
    degradations of one face. ``seed`` is the probes'.

    Raises:
        InputError: a folder is empty, or a name is in one of them only.
    """

    degraded: Path
    truths: Path
    limit: int = 0
    size: int = FULL_SIZE
    seed: int = SEED

    def __post_init__(self) -> None:
        match_names(str(self.degraded), list(by_stem(self.degraded)), str(self.truths), list(by_stem(self.truths)))

    @property
    def caption(self) -> str:
        return f"{plural(len(self.names), 'pair')} of {plural(self.count, 'face')}, {self.size} px"

    @property
    def names(self) -> list[str]:
        return list(by_stem(self.degraded))[: self.limit or None]

    @property
    def count(self) -> int:
        return len({*self._faces.values()})

    @cached_property
    def _faces(self) -> dict[str, str]:
        """The face of each pair: the name of the first with its truth."""
        truths, first = by_stem(self.truths), dict[bytes, str]()
        return {name: first.setdefault(hashlib.sha256(truths[name].read_bytes()).digest(), name) for name in self.names}

    def cases(self, probes: bool) -> Iterator[Case]:
        given, truths, detector = by_stem(self.degraded), by_stem(self.truths), Detector("builtin")
        for i, name in enumerate(self.names):
            face_name = self._faces[name]
            pictures = read_square(given[name]), read_square(truths[name])
            match_sizes(given[name], pictures[0], truths[name], pictures[1])
            degraded, truth = (resize_square(picture, self.size) for picture in pictures)
            face = largest_face(detector, truth)
            if face is None:
                log.warning("%s: no face is seen in it; it is taken to stand in the FFHQ frame.", truths[name])
            points = template(self.size) if face is None else np.array(face.points)
            yield Case(name, face_name, degraded, truth, points)
            if probes and face_name == name:
                yield from probes_of(name, truth, points, (self.seed, i))


@dataclass(frozen=True)
class Photographs:
    """Pictures of faces as found, without truths, shrunk or enlarged to ``size``.

    Args:
        folder: where they are.
        limit: only so many of them (0: all).
        size: side in px.
        sample: a seed to draw ``limit`` of them by; None takes the first.
        aligned: they are faces already, and square; else the largest face of each is cut out in the FFHQ frame.
        remedy: what to do about one of these that is not square.

    Raises:
        InputError: there is none.
    """

    folder: Path
    limit: int = 0
    size: int = FULL_SIZE
    sample: int | None = None
    aligned: bool = True
    remedy: str = ALIGNED_FACE

    def __post_init__(self) -> None:
        by_stem(self.folder)

    @property
    def caption(self) -> str:
        return f"{len(self.names)} photographs, {self.size} px"

    @property
    def names(self) -> list[str]:
        names = list(by_stem(self.folder))
        if self.sample is not None and 0 < self.limit < len(names):
            # By each name alone: without one of the files, all others stay drawn.
            drawn = sorted(names, key=lambda name: hashlib.sha256(f"{self.sample} {name}".encode()).digest())
            return sorted(drawn[: self.limit])
        return names[: self.limit or None]

    @property
    def count(self) -> int:
        return len(self.names)

    def cases(self, probes: bool) -> Iterator[Case]:
        files, detector = by_stem(self.folder), Detector("builtin")
        for name in self.names:
            if self.aligned:
                yield Case(name, name, resize_square(read_square(files[name], self.remedy), self.size))
                continue
            photo = read_rgb(files[name])
            face = largest_face(detector, photo)
            if face is None:
                raise InputError(f"{files[name]}: no face was found in it. Remove it from the set, or pass faces cut out.")
            yield Case(name, name, to_uint8(align(photo, alignment_matrix(face, self.size), self.size)))


def truths_of(cases: Sequence[Case]) -> tuple[list[RGB8], list[Points]]:
    """Return the truths of cases that have one, and their landmarks."""
    known = [(case.truth, case.points) for case in cases if case.truth is not None and case.points is not None]
    return [truth for truth, _ in known], [points for _, points in known]


def probes_of(face: str, truth: RGB8, points: Points, seed: tuple[int, ...]) -> Iterator[Case]:
    """Yield a good face as it is and with each fault of :data:`UNBLURRED` alone."""
    yield Case(f"{face} {UNDEGRADED}", face, truth, truth, points, UNDEGRADED)
    for fault, degrade in UNBLURRED.items():
        yield Case(f"{face} {fault}", face, degrade(truth, seed)[0], truth, points, fault)
