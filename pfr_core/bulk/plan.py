"""Which photographs are to be done, and where each result goes: folders, addresses, lists; before any is read."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath, PurePosixPath

from ..errors import ImageError, InputError
from ..photo.photo import FORMAT_OF_SUFFIX, IMAGE_SUFFIXES, writable_name
from ..support.files import namesakes, overwritten
from . import places
from .manifest import Earlier, storable

log = logging.getLogger(__name__)

LISTS = (".txt", ".csv", ".parquet")
"""Endings of files that list photographs."""
COLUMN = "path"


@dataclass(frozen=True)
class Task:
    """One photograph to be done.

    Attributes:
        input: where it is.
        output: where its result goes.
        error: why it cannot be done, known before it is read.
    """

    input: str
    output: str
    error: str = ""


def list_inputs(given: str) -> list[tuple[str, str]]:
    """Return the photographs that were named: where each is, and its name in the output. Each is there once.

    Args:
        given: a folder or an address (with everything below), a list, or one photograph.

    Raises:
        InputError: there is nothing, or a list without a column of paths.
        ImageError: it cannot be read.
    """
    place = places.absolute(given)
    suffix = PurePosixPath(place).suffix.lower()
    if suffix in LISTS and places.exists(place):
        return _listed(place)
    if suffix in IMAGE_SUFFIXES and places.exists(place):
        return [(place, PurePosixPath(place).name)]
    files = sorted((found, name) for name, found in places.files_in(place))
    photos = [(found, name) for found, name in files if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if not photos:
        raise InputError(f"{given}: no photograph here, or no such folder; looked for {', '.join(sorted(IMAGE_SUFFIXES))}.")
    if len(photos) < len(files):
        log.warning("%s: %d files are left out, being no photos.", given, len(files) - len(photos))
    return photos


def plan(inputs: Sequence[tuple[str, str]], output: str, format: str | None = None) -> list[Task]:
    """Return what is to be done; what cannot be is a task with its error.

    Args:
        inputs: from :func:`list_inputs`.
        output: folder or address.
        format: the ending, without its dot, that results get.

    Raises:
        InputError: input and output are in each other's way as a whole.
    """
    place = places.absolute(output)
    named = {PurePosixPath(name) for _, name in inputs}
    resolved = cache(os.path.realpath)  # of folders, of which there are few beside photographs

    def real(place: str) -> str:
        folder, last = os.path.split(place)
        return place if places.is_remote(place) else os.path.join(resolved(folder), last)

    originals, taken, tasks = {real(source) for source, _ in inputs}, dict[str, str](), list[Task]()
    suffix = f".{format}" if format else None
    targets = [places.join(place, str(writable_name(PurePosixPath(name), named, suffix))) for _, name in inputs]
    key = namesakes([] if places.is_remote(place) else targets, Path(place))
    for (source, name), target in zip(inputs, targets, strict=True):
        other = taken.setdefault(key(target), source)
        error = ""
        if PurePosixPath(target).suffix.lower() not in FORMAT_OF_SUFFIX:
            error = f"{source}: the ending is no format that can be written; use {', '.join(sorted(FORMAT_OF_SUFFIX))}."
        elif ".." in PurePath(name).parts or PurePath(name).anchor:  # a name like others to an object store, not to a disk
            error = f"{source}: '..' in its address would lead its result out of {output}; list it by its plain address."
        elif real(target) in originals:
            error = overwritten(source)
        elif other != source:
            error = f"{other} and {source} would both be written to {target}; give them different names or outputs."
        tasks.append(Task(source, target, error))
    return tasks


def refuse_nested(given: str, output: str) -> None:
    """Refuse an output in or at the folder that is looked through.

    Raises:
        InputError: so it is.
    """
    if places.lies_in(_real(output), _real(given)):
        raise InputError(f"{output} is inside {given}: results would be taken for photographs; choose another output.")


def refuse_replaced(todo: Sequence[Task], earlier: Earlier, there: Collection[str]) -> None:
    """Refuse to write where something else stands than what an earlier run made of the same photograph.

    What has no row may be the result of a run that was killed before it wrote one; not if there was no run. A result that this
    run makes anew elsewhere may go: with ``a.png`` beside it, what is made of ``a.jpg`` gets a longer name.

    Args:
        todo: what is to be done.
        earlier: what was.
        there: files of the output, :func:`storable`.

    Raises:
        InputError: something does.
    """
    elsewhere = {storable(task.input): storable(task.output) for task in todo if not task.error}
    for task in todo:
        target = storable(task.output)
        if task.error or target not in there:
            continue
        of = earlier.results.get(target, storable(task.input) if earlier.begun else "")
        if not of:
            raise InputError(f"{task.output}: there already, and not by pfr bulk; --overwrite replaces such files.")
        if of != storable(task.input) and elsewhere.get(of, target) == target:
            remedy = "choose another output, or --overwrite replaces such files"
            raise InputError(f"{task.output}: there already, and the result of {of}, not of {task.input}; {remedy}.")


def refuse_moved(todo: Iterable[Task], earlier: Earlier, output: str) -> None:
    """Refuse to make results anew in other folders of the same output: of a list that has grown, the paths part elsewhere.

    Args:
        todo: what is to be done.
        earlier: what was.
        output: folder or address.

    Raises:
        InputError: an earlier run put a result, or would have put it, elsewhere.
    """
    place = storable(places.absolute(output))
    for task in todo:
        before, now = earlier.meant.get(storable(task.input)), storable(task.output)
        if task.error or before is None or not places.lies_in(before, place):
            continue
        if os.path.dirname(before) != os.path.dirname(now):
            why = "for names begin at the folder, or where the paths of a list part"
            remedy = (
                "give the same folder or list (only what is missing or failed is done), a list of what is new, another output"
            )
            told = f"an earlier run named its result {before}, now it would be {now}"
            raise InputError(f"{task.input}: {told}, {why}; {remedy}, or --again, which makes all anew.")


def _real(given: str) -> str:
    place = places.absolute(given)
    return place if places.is_remote(place) else os.path.realpath(place)


def _listed(place: str) -> list[tuple[str, str]]:
    """Return what a list names; names in the output begin where the paths part."""
    lines = [line for line in (line.strip() for line in _lines(place)) if line]
    found = dict.fromkeys(map(places.absolute, lines))
    if len(found) < len(lines):
        log.warning("%s: %d paths are there more than once and are done once.", place, len(lines) - len(found))
    if not found:
        raise InputError(f"{place}: no path in this list.")
    parts = {each: names_of(PurePath(each.replace("://", "/"))) for each in found}
    common = 0
    for together in zip(*(names[:-1] for names in parts.values()), strict=False):
        if len(set(together)) > 1:
            break
        common += 1
    return [(each, "/".join(names[common:]).lstrip("/")) for each, names in parts.items()]


def names_of(path: PurePath) -> tuple[str, ...]:
    """Return the names that a path consists of; a drive's, too, below which nothing of another folder can be.

    Example:
        >>> from pathlib import PureWindowsPath
        >>> names_of(PureWindowsPath("D:/scans/a.jpg")), names_of(PurePosixPath("/scans/a.jpg"))
        (('D', 'scans', 'a.jpg'), ('scans', 'a.jpg'))
    """
    drive = path.drive.replace(":", "").replace("\\", "/").strip("/")
    return (*filter(None, drive.split("/")), *path.parts[bool(path.anchor) :])


def _lines(place: str) -> Iterable[str]:
    data, suffix = places.read(place), PurePosixPath(place).suffix.lower()
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(io.BytesIO(data))
        except pa.ArrowException as error:
            raise ImageError(f"{place}: no Parquet file ({error}).") from error
        if COLUMN not in table.column_names:
            raise InputError(f"{place}: no column '{COLUMN}'; there are {', '.join(table.column_names)}.")
        return [str(each) for each in table[COLUMN].to_pylist() if each is not None]
    if b"\0" in data:  # UTF-16, say; no name has one
        raise InputError(f"{place}: not in UTF-8 (there are zeros in it); save the list anew.")
    if suffix == ".txt":  # find prints names as they are, whatever their bytes
        return data.decode("utf-8-sig", "surrogateescape").splitlines()
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        if COLUMN not in (rows.fieldnames or ()):
            raise InputError(f"{place}: no column '{COLUMN}' in its first line; there are {', '.join(rows.fieldnames or ())}.")
        return [row[COLUMN] or "" for row in rows]
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not in UTF-8 ({error.reason}); save the list anew.") from error
    except csv.Error as error:
        raise InputError(f"{place}: no CSV file ({error}); save the list anew, with a path a line.") from error
