"""The stages of one photograph: read, restore, write, each from a :class:`Job` to a :class:`Job`. They know nothing of Ray.

What is wrong with a photograph stops here and becomes its row; what would be wrong with every photograph, a missing model say,
is raised.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from .. import __version__
from ..errors import InputError, PFRError, WeightsError
from ..faces.detect import on_this_machine
from ..find import refuse_missing
from ..models.checkpoint import model_file
from ..models.disk import ASSETS, add_search_folder, sha256_of
from ..models.download import obtain
from ..models.registry import PARSER, REGISTRY
from ..options import RestoreOptions, Setup
from ..photo.photo import Photo, Provenance
from ..photo.read import decode_photo
from ..photo.restored import check_transparency, is_copy, of_copy
from ..photo.write import encode_photo, writable_format, write_file
from ..restorer import FaceRestorer
from ..resume import deciding
from ..session import RestoredArray, restore_together
from ..support.blame import LOST_DEVICE, blame
from ..support.device import keep_memory
from ..support.files import overwritten, same_file, unwritable
from ..support.notice import beside_no_face
from . import places
from .manifest import Choices, Row
from .plan import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that is the same for all photographs.

    Attributes:
        setup: which networks, where.
        options: how faces are restored.
        aligned: the photographs are aligned faces.
        quality: of lossy results.
        provenance: whether it is recorded that detail is synthesised.
    """

    setup: Setup
    options: RestoreOptions
    aligned: bool = False
    quality: int | None = None
    provenance: bool = True

    def choices(self) -> Choices:
        """Return what decides about the results, see :func:`~pfr_core.resume.deciding`.

        Raises:
            InputError, CheckpointError, WeightsError: the model is not to be had.
        """
        model = Path(self.setup.model).name
        rest = {"model": model, "aligned": self.aligned, "quality": self.quality, "provenance": self.provenance}
        options = {**deciding(self.options, None if self.aligned else self.setup.detector, self.setup.dtype), **rest}
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
        return Choices(model, sha256_of(model_file(self.setup.model)), digest, options, __version__)


@dataclass(frozen=True)
class Weights:
    """The networks' files as bytes, to be brought to every machine once.

    Attributes:
        setup: with the names that the files have there.
        files: content by file name; what ships inside the package is not among them.
    """

    setup: Setup
    files: dict[str, bytes]

    @classmethod
    def gather(cls, recipe: Recipe) -> Weights:
        """Read the files that a recipe needs, so that all machines take the same; downloaded here if they are nowhere.

        Raises:
            CheckpointError, WeightsError: one is not to be had.
        """
        detector = on_this_machine(recipe.setup.detector)
        paths = [model_file(recipe.setup.model)]
        if not recipe.aligned:
            paths += [] if REGISTRY[detector].embedded else [obtain(detector)]
            paths += [obtain(PARSER)] if recipe.options.mask == "parse" else []
        files = {path.name: path.read_bytes() for path in paths if path.parent != ASSETS}
        return cls(replace(recipe.setup, detector=detector), files)

    def unpack(self) -> Setup:
        """Write the files to a folder of this machine and user, unless they are there; returns the setup that uses them.

        Raises:
            WeightsError: the folder is another's, or cannot be made.
            ImageError: a file cannot be written.
        """
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        folder = _own_folder(hashlib.sha256("".join(sorted(digests.values())).encode()).hexdigest()[:32])
        for name, data in self.files.items():
            path = folder / name
            if not path.is_file() or sha256_of(path) != digests[name]:
                write_file(path, data)
        add_search_folder(folder)
        model = folder / Path(self.setup.model).name
        return replace(self.setup, model=str(model)) if model.is_file() else self.setup


def _own_folder(name: str) -> Path:
    """Return a folder for temporary files that only this user may look into; made if it is not there.

    Raises:
        WeightsError: it is another's, who might put another model there, or cannot be made.
    """
    temporary = Path(tempfile.gettempdir())
    if sys.platform == "win32":  # where the folder for temporary files is each user's own
        return temporary / f"pfr-{name}"
    folder = temporary / f"pfr-{os.geteuid()}-{name}"
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        state = folder.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
            raise WeightsError(
                f"{folder}: no folder of this user's own, so not used; remove it, or set TMPDIR to another folder."
            )
        folder.chmod(0o700)
    except OSError as error:
        raise WeightsError(unwritable(folder, error)) from error
    return folder


@dataclass(frozen=True)
class Job:
    """One photograph on its way.

    Attributes:
        task: what is to be done.
        row: what is known of it so far.
        data: the photo's file, as long as the result may be a copy of it.
        photo: what was read; with the result's pixels once it is restored.
        mark: the model, if any pixel became another.
        copy: whether the result is a copy of the photo's file.
    """

    task: Task
    row: Row
    data: bytes = b""
    photo: Photo | None = None
    mark: Provenance | None = None
    copy: bool = False

    @classmethod
    def of(cls, task: Task) -> Job:
        """Return a photograph of which nothing is known yet."""
        status = "failed" if task.error else "done"
        return cls(task, Row(task.input, task.output, status, error=task.error))  # type: ignore[arg-type]

    @property
    def failed(self) -> bool:
        """Whether nothing more is to be done."""
        return self.row.status == "failed"

    def failure(self, error: Exception) -> Job:
        """Return the photograph as one that cannot be done."""
        name = str(_name(self.task))
        said = repr(error) if blame(error) == "defect" else str(error)
        if said.startswith(f"{name}: "):
            said = self.task.input + said[len(name) :]
        if not said.startswith((self.task.input, self.task.output)):
            said = f"{self.task.input}: {said}"
        return Job(self.task, replace(self.row, status="failed", faces=0, changed=False, notices=[], error=said))

    def took(self, seconds: float) -> Job:
        """Return the photograph with time added."""
        return replace(self, row=replace(self.row, seconds=self.row.seconds + seconds))


def read(job: Job, recipe: Recipe) -> Job:
    """Fetch and decode the photograph."""

    def work() -> Job:
        writable_format(Path(job.task.output), recipe.quality)
        if not places.is_remote(job.task.output) and same_file(Path(job.task.input), Path(job.task.output)):
            raise InputError(overwritten(job.task.input))  # by another name, as on disks for which a.jpg is A.JPG
        data = places.read(job.task.input)
        photo = decode_photo(_name(job.task), data)
        check_transparency(photo, Path(job.task.output))
        return replace(job, data=data, photo=photo)

    return _guarded(job, work)


class Restorer:
    """The networks, loaded once, for any number of photographs.

    Args:
        recipe: what is the same for all of them.
        weights: the networks' files.
    """

    def __init__(self, recipe: Recipe, weights: Weights) -> None:
        self.recipe = recipe
        self.restorer = FaceRestorer(**asdict(weights.unpack()), options=recipe.options)
        if self.restorer.device.type == "cpu":
            keep_memory()

    def __call__(self, jobs: Sequence[Job]) -> list[Job]:
        """Restore the photographs, in batches of faces from all of them."""
        good = [job for job in jobs if not job.failed]
        if len(good) < 2:
            return [_guarded(job, lambda job=job: self._together([job])[0]) for job in jobs]  # type: ignore[misc]
        started = time.perf_counter()
        try:
            done = self._together(good)
        except Exception:  # of one of them, most likely, or they need too much memory together
            log.info("%d photographs are restored one by one", len(good), exc_info=True)
            return [self([job])[0] for job in jobs]
        share = (time.perf_counter() - started) / len(good)
        results = iter(done)
        return [job if job.failed else next(results).took(share) for job in jobs]

    def _together(self, jobs: Sequence[Job]) -> list[Job]:
        sessions = [self.restorer.open(job.photo, aligned=self.recipe.aligned) for job in jobs if job.photo is not None]
        if self.recipe.options.indices:
            for session in sessions:
                refuse_missing(session.find())
        return [self._done(job, restored) for job, restored in zip(jobs, restore_together(sessions), strict=True)]

    def _done(self, job: Job, restored: RestoredArray) -> Job:
        assert job.photo is not None
        copied = is_copy(Path(job.task.output), job.photo, restored.image, changed=restored.changed)
        noticed = beside_no_face(restored.notices)  # that there is none is the row's ``faces``
        notices = [notice.text for notice in (of_copy(noticed) if copied else noticed)]
        row = replace(job.row, faces=len(restored.faces), changed=restored.changed, notices=notices)
        if copied:
            return Job(job.task, row, data=job.data, copy=True)
        check_transparency(job.photo, Path(job.task.output), changed=True)
        mark = self.restorer.provenance if self.recipe.provenance and restored.changed else None
        return Job(job.task, row, photo=replace(job.photo, pixels=restored.image, decoded=None), mark=mark)


def write(job: Job, recipe: Recipe, choices: Choices) -> Row:
    """Encode and write the result; returns what became of the photograph."""

    def work() -> Job:
        data, notices = job.data, list[str]()
        if not job.copy:
            assert job.photo is not None
            target = Path(job.task.output)
            data, noticed = encode_photo(target, job.photo.pixels, job.photo, quality=recipe.quality, provenance=job.mark)
            notices = [notice.text for notice in noticed]
        places.write(job.task.output, data)
        row = replace(job.row, notices=[*job.row.notices, *notices], sha256=hashlib.sha256(data).hexdigest())
        return replace(job, row=row)

    row = (job if job.failed else _guarded(job, work)).row
    return replace(
        row,
        model=choices.model,
        model_sha256=choices.model_sha256,
        options_sha256=choices.options_sha256,
        finished=time.time(),
    )


def _guarded(job: Job, work: Callable[[], Job]) -> Job:
    """Do ``work``; what is wrong with this photograph becomes its row. The time is added."""
    if job.failed:
        return job
    started = time.perf_counter()
    try:
        done = work()
    except Exception as error:
        whose = blame(error)
        if isinstance(error, LOST_DEVICE):  # whose text goes on with hints for programmers
            why = str(error).partition("\n")[0]
            raise PFRError(f"{job.task.input}: the GPU is lost ({why}); run the same command again to go on.") from error
        if whose == "all":
            raise
        if whose == "defect":
            log.exception("%s", job.task.input)
        done = job.failure(error)
    return done.took(time.perf_counter() - started)


def _name(task: Task) -> Path:
    """Return what the photograph is called in reading: its path, or the name at the end of its address."""
    return Path(PurePosixPath(task.input).name) if places.is_remote(task.input) else Path(task.input)
