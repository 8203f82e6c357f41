"""Weights that are on this machine: in which folders they are looked for, and that they are the published ones.

Search order: ``PFR_WEIGHTS_DIR`` (one or more folders, separated as in ``PATH``), the folders an application added with
:func:`add_search_folder` (ComfyUI's model folders), the cache folder. What ships inside the package is looked for only there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import IO

from ..errors import WeightsError
from .registry import Weights, entry

log = logging.getLogger(__name__)

ASSETS = Path(__file__).resolve().parents[1] / "assets"
PIECE = 1 << 18
"""Bytes read at once."""

_extra_folders: list[Path] = []
# SHA-256 by (path, size, mtime in ns). Hashing 100 MB takes about 0.1 s with current OpenSSL, so once per process is cheap
# enough, and no marker on disk can go stale or vouch for a file it has not seen.
_digests: dict[tuple[str, int, int], str] = {}


def add_search_folder(path: str | os.PathLike[str]) -> None:
    """Search ``path`` too, after ``PFR_WEIGHTS_DIR`` and folders added earlier. It may not exist yet; twice is once.

    Example:
        >>> add_search_folder("ComfyUI/models/facedetection")  # doctest: +SKIP
    """
    folder = Path(path).expanduser().absolute()
    if folder not in _extra_folders:
        _extra_folders.append(folder)


def search_folders() -> list[Path]:
    """Return the folders in which weights are looked for, first to last; some may not exist.

    Raises:
        WeightsError: as :func:`cache_folder`, or a ``~name`` of nobody in ``PFR_WEIGHTS_DIR``.
    """
    given = os.environ.get("PFR_WEIGHTS_DIR", "").split(os.pathsep)
    try:
        named = [Path(folder).expanduser().absolute() for folder in given if folder]
    except RuntimeError as error:
        raise WeightsError(f"PFR_WEIGHTS_DIR={os.pathsep.join(given)}: {error} Write its folders without ~.") from error
    return named + _extra_folders + [cache_folder()]


def cache_folder() -> Path:
    """Return the folder downloads go to, absolute, not created here.

    ``PFR_CACHE_DIR``, else ``XDG_CACHE_HOME/pfr``, else ``~/.cache/pfr`` (Windows: ``LOCALAPPDATA/pfr``).

    Raises:
        WeightsError: none of these is set and the user has no home folder.
    """
    try:
        if chosen := os.environ.get("PFR_CACHE_DIR"):
            return Path(chosen).expanduser().absolute()
        if (base := os.environ.get("XDG_CACHE_HOME")) and os.path.isabs(base):  # XDG says: ignore relative ones
            return Path(base) / "pfr"
        if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
            return Path(base) / "pfr"
        return Path.home() / ".cache" / "pfr"
    except RuntimeError as error:
        raise WeightsError(f"no folder for downloaded weights: {error} Set PFR_CACHE_DIR to one.") from error


def on_disk(name: str) -> Path | None:
    """Return the checked file of weights ``name``, or None if it is not on this machine. Never touches the network.

    A damaged file in the cache counts as absent, since it is ours to replace.

    Raises:
        WeightsError: an unknown name, or elsewhere a file of that name that is not the published one: it is neither used nor
            touched.

    Example:
        >>> mask = "parse" if on_disk("parsenet") else "oval"
    """
    weights = entry(name)
    # What is embedded only there: a file of that name elsewhere has no hash to be checked against.
    for folder in [ASSETS] if weights.embedded else search_folders():
        path = folder / weights.file
        if not os.path.isfile(path):
            continue
        try:
            verify(path, weights)
        except WeightsError as error:
            if folder != cache_folder():
                raise
            log.warning("ignored a damaged download: %s", error)
            continue
        return path
    return None


def supplied(file: str) -> Path:
    """Return a file without a published address, which only the user can put into one of the :func:`search_folders`.

    Raises:
        WeightsError: it is in none of them.
    """
    folders = search_folders()
    for folder in folders:
        if os.path.isfile(folder / file):
            return folder / file
    looked = ", ".join(map(str, folders))
    raise WeightsError(f"{file}: not found (looked in {looked}). Put it into a folder and set PFR_WEIGHTS_DIR to that.")


def verify(path: str | os.PathLike[str], weights: Weights) -> None:
    """Check the SHA-256 of the file at ``path``; one without a known SHA-256 is not compared (see :class:`Weights`).

    Raises:
        WeightsError: it is another file; the message says what is wrong with it and the remedy.

    Example:
        >>> verify("detection_Resnet50_Final.pth", entry("retinaface_resnet50"))  # doctest: +SKIP
    """
    if not weights.sha256:
        return
    remedy = "Replace it with the published file."
    if weights.urls:
        remedy = f"Replace it with the file from {weights.urls[0]}, or move it away so that PFR downloads its own copy."
    try:
        size, digest = os.stat(path).st_size, sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{path}: weights {weights.name} cannot be read: {error.strerror}. {remedy}") from error
    if digest != weights.sha256:
        problem = f"its SHA-256 is {digest}, the published file's {weights.sha256}"
        if size != weights.bytes:
            problem = f"it has {size} bytes, the published file {weights.bytes}, and {problem}"
        raise WeightsError(f"{path}: not the weights {weights.name}, but damaged or changed: {problem}. {remedy}")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the hex digest of a file; one that stays as it is is read once in a process."""
    if (key := _as_it_is(path)) not in _digests:
        with open(path, "rb") as file:
            _digests[key] = hash_pieces(file).hexdigest()
    return _digests[key]


def remember(path: str | os.PathLike[str], digest: str) -> None:
    """Take over the hex digest of a file that was computed while it was written."""
    _digests[_as_it_is(path)] = digest


def _as_it_is(path: str | os.PathLike[str]) -> tuple[str, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def hash_pieces(file: IO[bytes]) -> hashlib._Hash:
    """Return the SHA-256 of what is left of an open file, to be gone on with."""
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest
