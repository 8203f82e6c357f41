"""What several commands do: a loop over files in which one bad file does not stop the rest, a download that is seen."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TextIO

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import ImageError, PFRError
from ..models.download import obtain
from ..models.registry import REGISTRY, around, check_package, dtypes_of
from ..options import RestoreOptions, Setup
from ..support.blame import blame
from ..support.choices import DetectorName, MaskKind
from ..support.device import resolve_device, resolve_dtype
from ..support.files import takes_nothing
from ..support.notice import Notice
from .processes import Work, outcomes

log = logging.getLogger(__name__)


class _Once(logging.Filter):
    """Lets through once what is about this machine and not about the file, whichever process tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.told = set[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to tell it: a record's ``once`` is the kind of what is told once, or None."""
        kind: str | None = getattr(record, "once", None)
        if kind is None:
            return True
        new = kind not in self.told
        self.told.add(kind)
        return new


_once = _Once()
log.addFilter(_once)


def for_each(plan: Sequence[tuple[Path, Path]], work: Work, verb: str, *, jobs: int = 1, stream: TextIO | None = None) -> int:
    """Call ``work(source, target)`` for every pair with a progress bar; report failures; return the exit status.

    What is wrong with one photo is reported and passed over, also what nobody has foreseen, which is told with its traceback.
    Weights that cannot be had, say, or a full disk, would fail for every photo alike: such an error ends the loop.

    Args:
        plan: pairs of source and target.
        work: returns a line to show, if there is anything to tell.
        verb: what has been done then.
        jobs: how many at once, each in a process; ``work`` can be pickled then.
        stream: where the lines go; standard output if left out.
    """
    failed = 0
    if len(plan) > 1:
        work = partial(_ending_at_full_disk, work)
    with logging_redirect_tqdm(), closing(outcomes(plan, work, jobs)) as results:
        bar = tqdm(plan, unit="photo", disable=len(plan) == 1 or not sys.stderr.isatty())
        for (source, _), result in zip(bar, results, strict=True):
            bar.set_postfix_str(source.name)
            try:
                line = result()
            except Exception as error:
                failed += 1
                tqdm.write(f"error: {_describe(source, error)}", file=sys.stderr)
                continue
            if line and (stream or sys.stdout):  # there is none where it was closed
                tqdm.write(line, file=stream)
    if len(plan) > 1:
        summary = f"{len(plan) - failed} of {len(plan)} {verb}" + (f", {failed} failed" if failed else "")
        print(summary, file=sys.stderr)  # what a command prints on stdout may be JSON
    return 1 if failed else 0


def _ending_at_full_disk(work: Work, source: Path, target: Path) -> str | None:
    """Do the work on one of several; here, for between processes an error loses its cause, which says that the disk is full.

    Raises:
        PFRError: it is, or may not be written to.
    """
    try:
        return work(source, target)
    except ImageError as error:
        if not takes_nothing(error.__cause__):
            raise
        raise PFRError(f"{error} What is written is complete; the rest was not begun.") from error


def tell(notices: Iterable[Notice], source: Path, *others: Path) -> None:
    """Show what was noticed, beside the progress bar, each with the file that it is about in front.

    Args:
        notices: what was noticed.
        source: the file, unless a text names one itself.
        others: files that a text may name in its place, as the result.
    """
    names = tuple(f"{path}: " for path in (source, *others))
    for notice in notices:
        once = notice.kind if notice.kind == "better_detector" else None
        text = notice.text.replace("(only_bad_faces)", "(--no-only-bad-faces restores them, too)")
        log.warning("%s", text if text.startswith(names) else names[0] + text, extra={"once": once})


def _describe(source: Path, error: Exception) -> str:
    """Say what is wrong with this photo; an error that is not about it is raised again."""
    whose = blame(error)
    if whose == "photo":  # an ImageError names its file, which may be the output
        return str(error) if isinstance(error, ImageError) else f"{source}: {error}"
    if whose == "memory":
        return f"{source}: not enough memory ({error}); scale the picture down, or try a smaller --batch-size or --device cpu."
    if whose == "all":
        raise error
    log.error("%s", source, exc_info=error)
    return f"{source}: {type(error).__name__}: {error}. This is a defect of PFR; please report it with what stands above."


def fetch(name: str) -> Path:
    """Return the file of weights ``name``; a download has a progress bar."""
    # With the delay nothing is shown where nothing is downloaded.
    with tqdm(unit="B", unit_scale=True, delay=0.1, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return obtain(name, progress=progress)


def fetch_models(models: Sequence[str], setup: Setup, options: RestoreOptions | None = None) -> torch.device:
    """Download networks that are not on this machine yet, once it is known that each model bears the precision and has its code.

    Args:
        models: files, or names of the registry or of presets.
        setup: its device, precision and detector.
        options: whose mask may need a network; None if no face is looked for.

    Returns:
        The device.

    Raises:
        InputError: no such device, or a precision that one of the models does not bear there.
        WeightsError: a model is not to be had.
    """
    device = resolve_device(setup.device)
    for model in models:
        resolve_dtype(setup.dtype, device, dtypes_of(model))
    fetch_all(models)
    if options is not None:
        fetch_around(setup.detector, options.mask)
    return device


def fetch_around(detector: DetectorName, mask: MaskKind = "box") -> None:
    """Download what finds and cuts out faces, if it is a choice that needs a file and that is not on this machine yet."""
    for name in around(detector, mask):
        fetch(name)


def fetch_all(models: Sequence[str]) -> None:
    """Download those of the models that are names of the registry and not on this machine yet, once each has its code here.

    Raises:
        WeightsError: one is not to be had, or the package with its code is not here.
    """
    for model in models:
        check_package(model)
    for model in models:
        if model in REGISTRY and REGISTRY[model].size:
            fetch(model)
