"""What was measured, a record for each picture and method; and the folder that keeps them, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from pfr_core.errors import InputError
from pfr_core.photo.write import write_photo
from pfr_core.support.files import write_text

from ..data.dataset import RGB8
from .folders import read_rgb
from .methods import Method
from .metrics import Features, Scores
from .sources import Case

LONGEST = 150
"""Bytes of a quoted name that are kept."""

Key = Mapping[str, Any]
"""All that a record depends on."""


@dataclass(frozen=True, eq=False)
class Record:
    """How good what one method made of one case is.

    Attributes:
        method: its name.
        case: its name.
        face: what the draws of one face share.
        probe: as :attr:`Case.probe`.
        group: as :attr:`Case.group`.
        scores: of this picture.
        features: what measures of sets need of it.
        moved: by how many 8-bit levels the mean pixel moves when the picture is restored again; None where that was not tried.
        picture: what the method made, of cases that are shown.
    """

    method: str
    case: str
    face: str
    probe: str
    group: str
    scores: Scores
    features: Features
    moved: float | None = None
    picture: RGB8 | None = None


def key_of(method: Method, case: Case, protocol: Key) -> Key:
    """Return what a record of this method and case depends on.

    Args:
        method: the method.
        case: the case; its pictures count by their content.
        protocol: the same for all: measures, size, seed, ...
    """
    pictures = {name: picture for name, picture in (("input", case.given), ("truth", case.truth)) if picture is not None}
    hashes = {f"SHA-256 of the {name}": hashlib.sha256(picture.tobytes()).hexdigest() for name, picture in pictures.items()}
    return {"method": method.name, "version": method.version(case), "case": case.name, **protocol, **hashes}


class Cache:
    """Records in ``folder``, a JSON file each under ``cache/METHOD``, pictures that are shown beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cache"

    def get(self, key: Key, shown: bool) -> Record | None:
        """Return the record of ``key``; None if there is none, or if its picture is to be ``shown`` and is not there.

        Raises:
            InputError: there is one, but of another model, seed, face or measure; or it is damaged.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        remedy = f"Choose another --out, or remove {self.folder}."
        try:
            stored = json.loads(path.read_text())
            there, record = stored["key"], stored["record"]
            record["features"] = {name: torch.tensor([values]) for name, values in record["features"].items()}
            found = Record(**record)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: is damaged ({error!r}). Remove it.") from error
        for name in [*key, *(there.keys() - key.keys())]:
            if there.get(name) != key.get(name):
                raise InputError(
                    f"{path}: is of another evaluation: {name} is {there.get(name)!r} there and {key.get(name)!r} here. {remedy}"
                )
        picture = path.with_suffix(".png")
        if not shown:
            return found
        return replace(found, picture=read_rgb(picture)) if picture.is_file() else None

    def put(self, key: Key, record: Record) -> None:
        """Keep a record.

        Raises:
            InputError, ImageError: the folder cannot be written to.
        """
        path = self._path(key)
        if record.picture is not None:
            write_photo(path.with_suffix(".png"), record.picture, fast=True)
        fields = {name: value for name, value in vars(record).items() if name != "picture"}
        fields["features"] = {name: values[0].tolist() for name, values in record.features.items()}
        write_text(path, json.dumps({"key": key, "record": fields}), InputError)

    def _path(self, key: Key) -> Path:
        return self.folder / file_name(key["method"], " ,") / f"{file_name(key['case'], ' ')}.json"


def file_name(name: str, safe: str) -> str:
    """Return a name for a file or folder by which ``name`` can be known: quoted but for ``safe``, a long one cut.

    Every byte that is no ASCII takes three, and file systems hold no name of more than 255; a cut one ends in its digest.
    """
    quoted = quote(name, safe=safe)
    if len(quoted) <= LONGEST:
        return quoted
    return f"{quoted[:LONGEST]}-{hashlib.sha256(quoted.encode()).hexdigest()[:16]}"
