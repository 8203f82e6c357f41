"""Which files a command works on, and where each result goes."""

from __future__ import annotations

import glob
import logging
import mimetypes
import os
from collections.abc import Sequence, Set
from itertools import takewhile
from pathlib import Path

from ..errors import ImageError, InputError
from ..photo.photo import FORMAT_OF_SUFFIX, IMAGE_SUFFIXES, files_below, writable_name
from ..support.files import checked, identity, namesakes, overwritten
from ..video import CLIP_SUFFIXES, RESULT_SUFFIXES, is_clip, is_sequence, numbers_of

log = logging.getLogger(__name__)

NAMED = 5
"""Files that are named of those left out."""

ENDINGS = ", ".join([*sorted(FORMAT_OF_SUFFIX), *RESULT_SUFFIXES])
"""Endings of the files that are written."""
KNOWN = mimetypes.MimeTypes()
"""What Python itself knows of endings; what a system's own tables add differs, and ``.old`` and ``.bak`` are among it."""

Pairs = list[tuple[Path, Path]]


def checked_json(path: Path | None, what: str) -> None:
    """Check what ``--json`` names before there is ``what`` to write there.

    Raises:
        InputError: a folder or a picture.
    """
    if path is not None and (os.path.isdir(path) or path.suffix.lower() in IMAGE_SUFFIXES):
        raise InputError(f"--json {path}: name a file for {what}.")


def list_inputs(arguments: Sequence[str], results: Sequence[Path | None] = (), *, clips: bool = False) -> Pairs:
    """Turn files, folders (with everything below) and globs into pairs of a file and the path its result has in a folder.

    A name that is not there stays in the list: reading it reports the error, and the other files are still done.

    Args:
        arguments: what the user typed.
        results: where the command writes to. Folders and patterns leave out what is in there: the next run would take the
            results of this one for photos.
        clips: whether clips in folders are inputs too.

    Raises:
        InputError: standard input, an address, or a name that no file can have.
        ImageError: a folder or glob without any image.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        if argument == "-":
            raise InputError("-: only 'pfr restore' reads standard input; name a file.")
        if "://" in argument:
            raise InputError(
                f"{argument}: addresses are not fetched; download it, or pipe it: curl -s ... | pfr restore - -o FILE"
            )
        path = checked(argument)
        if os.path.isdir(path):  # Path.is_dir raises OSError behind a folder without access
            below, others = files_below(path, skip=_inside(path, results), dangling=True)
            if clips:
                below = sorted([*below, *(other for other in others if is_clip(other))])
                others = [other for other in others if not is_clip(other)]
            if others:
                names = ", ".join(str(other.relative_to(path)) for other in others[:NAMED])
                more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
                log.warning("%s: left out, being no photos: %s%s.", path, names, more)
            if not below:
                raise ImageError(f"{path}: no image in this folder; looked for {', '.join(sorted(IMAGE_SUFFIXES))}.")
            found |= {file: file.relative_to(path) for file in below if file not in found}
        elif os.path.exists(path) or not glob.has_magic(argument) or (is_sequence(path) and numbers_of(path)):
            found.setdefault(path, Path(path.name))
        else:
            skipped = _inside(Path(*takewhile(lambda part: not glob.has_magic(part), path.parts)), results)
            matches = [
                match
                for match in map(Path, sorted(glob.glob(argument, recursive=True)))
                if os.path.isfile(match) and not any(match.resolve().is_relative_to(other) for other in skipped)
            ]
            if not matches:
                raise ImageError(f"{argument}: no file matches; check the pattern.")
            found |= {file: Path(file.name) for file in matches if file not in found}
    return list(found.items())


def _inside(folder: Path, results: Sequence[Path | None]) -> list[Path]:
    """Return, resolved, the results that lie in ``folder``, not it itself."""
    resolved = [result.resolve() for result in results if result is not None]
    return [result for result in resolved if folder.resolve() in result.parents]


def plan_outputs(inputs: Pairs, output: Path, ending: str = "", *, format: str | None = None) -> Pairs:
    """Return pairs of input and output file; ``output`` is a folder unless it ends like a picture or clip and none is there.

    Args:
        inputs: from :func:`list_inputs`.
        output: what the user typed.
        ending: added to the names that the results have in a folder.
        format: the ending, without its dot, that results have in a folder in place of their own: photos', or clips'.

    Raises:
        InputError: one output file for several inputs, a format for it, or a name that ends like another kind of file.
        ImageError: two inputs would be written to the same file, or a result would replace an input.
    """
    if os.path.isdir(output) or not _is_file(output):
        named = {name for _, name in inputs}
        clips = f".{format}" in RESULT_SUFFIXES
        if format and not any(is_clip(source) == clips for source, _ in inputs):
            raise InputError(f"--format {format} has no effect: no input is a {'clip' if clips else 'photograph'}.")
        names = [
            _writable(source, name, named, f".{format}" if format and is_clip(source) == clips else None)
            for source, name in inputs
        ]
        plan = [
            (source, output / (f"{name}{ending}" if ending else new)) for (source, name), new in zip(inputs, names, strict=True)
        ]
    elif len(inputs) > 1:
        raise InputError(f"{output} is one file, but there are {len(inputs)} inputs; name a folder.")
    elif format is not None:
        raise InputError(f"--format has no effect on {output}: its own ending decides. Name a folder.")
    else:
        plan = [(source, output) for source, _ in inputs]
    originals = {identity(source): source for source, _ in inputs}
    taken: dict[str, Path] = {}
    key = namesakes([str(target.resolve()) for _, target in plan], output)
    for source, target in plan:
        if (original := originals.get(identity(target))) is not None:
            raise ImageError(overwritten(original))
        other = taken.setdefault(key(str(target.resolve())), source)
        if other is not source:
            raise ImageError(f"{other} and {source} would both be written to {target}; give them different names or outputs.")
    return plan


def _writable(source: Path, name: Path, named: Set[Path], suffix: str | None) -> Path:
    """Return the name that a result has, see :func:`writable_name`; a clip whose container is only read becomes an MP4."""
    # Not by the name alone: a photograph may be called IMG%04d.jpg.
    if suffix is None and is_clip(source) and name.suffix.lower() not in RESULT_SUFFIXES:
        suffix = ".mp4"
    return writable_name(name, named, suffix)


def _is_file(path: Path) -> bool:
    """Judge by the name; also of the formats that cannot be written, so that the error says this.

    Raises:
        InputError: it ends like a file of another kind, which nobody means to be a folder.
    """
    kind, _ = mimetypes.guess_type(path.name)
    if path.suffix.lower() in IMAGE_SUFFIXES | CLIP_SUFFIXES or (kind or "").startswith("image/"):
        return True
    if any(KNOWN.guess_type(path.name)):
        raise InputError(
            f"{path}: '{path.suffix}' is the ending of no picture and no clip; name a file with one of {ENDINGS}, or a folder "
            "(one that is there already may be called anything)."
        )
    return False
