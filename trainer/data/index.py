"""Which faces a training set holds: the index that ``prepare`` wrote or somebody else, tar shards, or a plain folder."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from pfr_core.errors import InputError
from pfr_core.faces.align import template
from pfr_core.photo.photo import images_below

from .. import program
from ..run.config import NOT_STATED
from .components import Boxes, component_boxes
from .options import FULL_SIZE
from .shards import Stored, fetch, is_url, scan_tar

log = logging.getLogger(__name__)

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that it cannot read; it has no common one."""

INDEX, CSV_INDEX = "index.jsonl", "index.csv"
JOURNAL = "journal.jsonl"
"""What ``prepare`` has done so far; it writes :data:`INDEX` at its end."""
CSV_POINTS = tuple(f"{point}_{axis}" for point in ("le", "re", "nose", "lm", "rm") for axis in "xy")
"""Columns of the five points: eyes, nose and mouth corners, the left one of the picture first."""


@dataclass(frozen=True)
class FaceFile:
    """One aligned face.

    Attributes:
        stored: where its bytes are.
        size: side in px for which ``points``, ``boxes`` and ``photo`` are stated.
        native: source pixels across the crop; where the index does not say, as many as it has.
        out_of_photo: share of the crop beyond the photograph's edge.
        kind: ``real`` of a photograph, ``synthetic``, or whatever else the index says.
        licence: of the image.
        points: the five landmarks [5,2].
        boxes: left eye, right eye, mouth [3,4].
        photo: the photograph's four corners in the crop [4,2]; None if unknown or if the crop lies within the photograph.
        group: what the index says that it belongs to (column ``group``, else ``source``).
        name: its file as the index has it, which no other face of the set has.
    """

    stored: Stored
    size: int
    native: int
    out_of_photo: float
    kind: str
    licence: str
    points: npt.NDArray[np.float64]
    boxes: Boxes
    photo: npt.NDArray[np.float64] | None = None
    group: str = ""
    name: str = ""

    @property
    def real(self) -> bool:
        """Whether it is a photograph."""
        return self.kind == "real"


def list_faces(
    source: str | Path,
    split: str,
    *,
    min_native: int = 400,
    max_out_of_photo: float = 1.0,
    masked: bool = True,
    landmarks: bool = False,
    lower: str = "--min-native",
) -> list[FaceFile]:
    """Return the faces of ``split`` (``"train"`` or ``"val"``) that can be the truth.

    ``source`` is a folder with ``index.jsonl`` (written by ``prepare``) or ``index.csv``, or of tar shards, or of plain images
    in the FFHQ frame (all of them taken, with the template's landmarks), or the URL of a folder that ``prepare`` wrote.

    Args:
        source: see above.
        split: which part.
        min_native: smallest number of source pixels across the crop.
        max_out_of_photo: largest share of the crop beyond the photograph's edge; with ``masked`` only where the index does not
            say which part.
        masked: that part is left out of what the faces are used for.
        landmarks: each face's own landmarks are needed; the template's do not do.
        lower: the option that ``min_native`` came from, for advice; empty if there is none.

    Raises:
        InputError: no such folder, one that ``prepare`` has not finished or that holds other sets or photographs, a damaged
            index, no usable face in it, or one without landmarks that are needed.
    """
    source, indexed = str(source), True
    if not source:
        raise InputError("Say where the aligned faces are (--data).")
    if is_url(source):
        root = source.rstrip("/")
        try:
            data = fetch(f"{root}/{INDEX}")
        except (OSError, ValueError) as error:
            raise InputError(f"{root}/{INDEX}: cannot be fetched ({error}). Check the address, or copy the set here.") from error
        rows = _json_lines(data, root)
    else:
        folder = Path(source)
        if folder.is_file():
            raise InputError(f"{folder}: is a file. Name the folder that it lies in.")
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder. Name the folder with the aligned faces.")
        root = str(folder)
        if (folder / INDEX).is_file():
            rows = _json_lines((folder / INDEX).read_bytes(), folder)
        elif (folder / CSV_INDEX).is_file():
            rows = _csv_rows(folder / CSV_INDEX)
        elif tars := sorted(folder.glob("*.tar")):
            rows, indexed = [row for tar in tars for row in scan_tar(tar)], False
        else:
            _refuse_parts(folder)
            found = images_below(folder)
            paths = [path.relative_to(folder).as_posix() for path in found]
            _check_plain(source, found, min_native, lower)
            rows, indexed = [{"file": path, "split": split} for path in paths], False
    faces, bare = [], 0
    for row in rows:
        try:
            face = _face(row, root)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            name = row.get("file") or row
            raise InputError(f"{source}: its index has a row that cannot be read, {name}: {error}. Mend or remove it.") from error
        whole = (masked and face.photo is not None) or face.out_of_photo <= max_out_of_photo
        if whole and row.get("split", "train") == split and min(face.native, face.size) >= min_native:
            faces.append(face)
            bare += row.get("points") is None
    if landmarks and bare:
        raise InputError(
            f"{source}: gives {bare} of {len(faces)} {split} faces no landmarks ({', '.join(CSV_POINTS[:2])}, ...), which are "
            f"needed here. Make a training set with: {program()} prepare PHOTOS FOLDER"
        )
    if indexed and bare:
        log.warning(
            "%s: its index gives %d of %d %s faces no landmarks (%s, ...); they are taken to stand in the FFHQ frame.",
            source, bare, len(faces), split, ", ".join(CSV_POINTS[:2]),
        )  # fmt: skip
    if not faces:
        there = sum(row.get("split", "train") == split for row in rows)
        remedy = f"Lower {lower}, or make" if there and lower else "Make"
        share = " --val-share 0.1, which holds a tenth of the photographs out" if split == "val" and rows and not there else ""
        raise InputError(
            f"{source}: no {split} faces of at least {min_native} source pixels found among {len(rows)} listed, {there} of which "
            f"are of {split}. {remedy} a training set with: {program()} prepare PHOTOS FOLDER{share}"
        )
    return faces


def _refuse_parts(folder: Path) -> None:
    """See to it that all pictures of a folder are one set: without an index held-out faces and landmarks would not be known."""
    if (folder / JOURNAL).is_file():
        raise InputError(f"{folder}: prepare has not come to its end there. Give its command again; what it has done is kept.")
    for parent, folders, files in os.walk(folder):
        folders.sort()
        path = Path(parent)
        if {INDEX, JOURNAL} & {*files} or (CSV_INDEX in files and b"split" in (path / CSV_INDEX).read_bytes()[:200]):
            raise InputError(f"{folder}: holds a training set in {path.relative_to(folder)}. Name that folder: {path}")


def _check_plain(source: str, paths: Sequence[Path], min_native: int, lower: str) -> None:
    """Refuse photographs, and tell of pictures smaller than a truth should be: without an index nothing else says what they are.

    Where more than half are not square they are taken for photographs; a few that are not are told when they are read.
    """
    small = oblong = 0
    for path in paths:
        with suppress(*UNREADABLE), Image.open(path) as image:  # that is told when it is read
            small += image.width < min_native
            oblong += image.width != image.height
    if 2 * oblong > len(paths):
        raise InputError(
            f"{source}: {oblong} of {len(paths)} pictures are not square, so these are photographs and no aligned faces. Make a "
            f"training set of them with: {program()} prepare {source} FOLDER"
        )
    if small:
        log.warning(
            "%s: %d of %d pictures have fewer than %d px across%s and are enlarged; better leave them out.",
            source, small, len(paths), min_native, f" ({lower})" if lower else "",
        )  # fmt: skip


def _json_lines(data: bytes, where: object) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
        for row in rows:
            if not isinstance(row, dict):
                raise ValueError(f"{row!r} is no object")
    except ValueError as error:
        raise InputError(f"{where}: its index is damaged ({error}). Run prepare again.") from error
    return rows


def _csv_index(path: Path) -> list[dict[str, str]]:
    """Return the rows of an ``index.csv``, text by column.

    Raises:
        InputError: it cannot be read, is no CSV in UTF-8, or has a row that is cut short.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it, too
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}). Make it readable.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _other_columns(path, error) from error
    for row in rows:
        if None in row.values():
            raise InputError(f"{path}: the row of {row.get('file')} has fewer columns than the first line. Mend or remove it.")
    return rows


def _csv_points(row: Mapping[str, str]) -> npt.NDArray[np.float64]:
    """Return the five points [5,2] of a row of an ``index.csv``.

    Raises:
        KeyError: a column is missing.
        ValueError: one of them is no number.
    """
    return np.array([float(row[name]) for name in CSV_POINTS]).reshape(5, 2)


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [*_csv_index(path)]
    try:
        for row in rows:
            row["file"] = f"{row['split']}/{row['file']}"
            if row.get(CSV_POINTS[0]):
                row["points"] = _csv_points(row)
    except (KeyError, ValueError) as error:
        raise _other_columns(path, error) from error
    return rows


def _other_columns(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: its columns are not split, file, size, kind, native_px, ... ({error}).")


def _number(row: dict[str, Any], name: str) -> float:
    """Return a number of a row, 0 if it states none."""
    try:
        return float(row.get(name) or 0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {row[name]!r}, which is no number") from error


def _face(row: dict[str, Any], root: str) -> FaceFile:
    size = int(_number(row, "size")) or FULL_SIZE  # tools write 512.0 for 512
    if not (row.get("shard") or row.get("file")):
        raise ValueError("it names no file")
    points = template(size) if row.get("points") is None else np.asarray(row["points"], dtype=np.float64)
    if points.shape != (5, 2):
        raise ValueError("it has other than five points")
    name = str(row.get("shard") or row["file"])
    boxes = component_boxes(points, size) if row.get("boxes") is None else np.asarray(row["boxes"], dtype=np.float32)
    return FaceFile(
        Stored(f"{root}/{quote(name) if is_url(root) else name}", int(_number(row, "offset")), row.get("length")),
        size,
        size if row.get("native_px") in (None, "") else int(_number(row, "native_px")),
        _number(row, "out_of_photo"),
        row.get("kind", "real"),
        row.get("licence") or NOT_STATED,
        points,
        boxes,
        np.asarray(row["photo"], dtype=np.float64) if row.get("photo") else None,
        str(row.get("group") or row.get("source") or ""),
        str(row.get("file") or ""),
    )
