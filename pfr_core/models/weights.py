"""Where weights come from: the registry, the search order, and downloads that check themselves.

Search order: ``PFR_WEIGHTS_DIR`` (one or more folders, separated as in ``PATH``), the folders an application added with
:func:`add_search_folder` (ComfyUI's model folders), the cache folder, then the published address and its mirrors. The
default model ships inside the package and is looked for only there. ``PFR_OFFLINE=1`` forbids the network.

Every path to a published file is checked (size, SHA-256) before it leaves this module. What is in the files is the
business of whoever loads them.

Example::

    from pfr_core import weights

    path = weights.locate("retinaface_mobile0.25")  # a Path: found on disk, else downloaded once
    path = weights.find("parsenet")  # a Path or None; never a download
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..errors import Cancelled, WeightsError

log = logging.getLogger(__name__)

ASSETS = Path(__file__).resolve().parents[1] / "assets"
USER_AGENT = "pfr-weights (Python urllib)"  # some hosts refuse urllib's own name
TIMEOUT = 30.0  # seconds of silence on the connection, not for the whole download
PIECE = 1 << 18  # at most this many bytes between two looks at should_stop


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    An embedded file has no addresses, hash or size here: it travels with the code, so a hash beside it would vouch for
    nothing that the code itself does not, and would be a second place to edit at each training run. Damage still shows:
    safetensors checks its length when it is read.

    Example: ``REGISTRY["parsenet"].licence``
    """

    name: str  # what users and code call it
    file: str  # file name searched for
    urls: tuple[str, ...]  # the published address, then mirrors; empty if embedded
    sha256: str  # 64 lower-case hex digits; empty if embedded
    bytes: int  # size of the file; 0 if embedded
    licence: str  # of the weights, not of our code
    source: str  # who made them
    purpose: str  # what PFR uses them for
    embedded: bool = False  # ships as pfr_core/assets/<file>


_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download"
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"
_CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0"  # carries the same files

REGISTRY: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name="default",
            file="pfr-default.safetensors",
            urls=(),
            sha256="",
            bytes=0,
            licence="non-commercial research only (LICENSE-WEIGHTS.md)",
            source="trained by this project",
            purpose="face restoration, the model used unless another is named",
            embedded=True,
        ),
        Weights(
            name="builtin",
            file="pfr-detector.safetensors",
            urls=(),
            sha256="",
            bytes=0,
            licence="non-commercial research only (LICENSE-WEIGHTS.md)",
            source="trained by this project",
            purpose="face detection, ships with PFR",
            embedded=True,
        ),
        Weights(
            name="retinaface_mobile0.25",
            file="detection_mobilenet0.25_Final.pth",
            urls=(
                f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth",
                f"{_CODEFORMER}/detection_mobilenet0.25_Final.pth",
            ),
            sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
            bytes=1789735,
            licence="MIT",
            source="Pytorch_Retinaface (biubug6), published by facexlib",
            purpose="face detection, small and fast",
        ),
        Weights(
            name="retinaface_resnet50",
            file="detection_Resnet50_Final.pth",
            urls=(f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth", f"{_CODEFORMER}/detection_Resnet50_Final.pth"),
            sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
            bytes=109497761,
            licence="MIT",
            source="Pytorch_Retinaface (biubug6), published by facexlib",
            purpose="face detection, accurate",
        ),
        Weights(
            name="yunet",
            file="face_detection_yunet_2023mar.onnx",
            urls=(
                f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
                "https://huggingface.co/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx",
            ),
            sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            bytes=232589,
            licence="MIT",
            source="YuNet (Shiqi Yu and others), published by OpenCV Zoo",
            purpose="face detection by OpenCV, smallest and fastest",
        ),
        Weights(
            name="parsenet",
            file="parsing_parsenet.pth",
            urls=(f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth", f"{_CODEFORMER}/parsing_parsenet.pth"),
            sha256="3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
            bytes=85331193,
            # facexlib is MIT, but its ParseNet is taken from PSFR-GAN, whose licence is the stricter one.
            licence="CC BY-NC-SA 4.0",
            source="PSFR-GAN (Chaofeng Chen), published by facexlib",
            purpose="face parsing, for masks that follow skin and hair",
        ),
        Weights(
            name="vgg19",
            file="vgg19-dcbb9e9d.pth",
            urls=("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",),
            sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            bytes=574673361,
            licence="BSD-3-Clause",
            source="torchvision",
            purpose="training: feature-matching loss",
        ),
        Weights(
            name="arcface",
            file="recognition_arcface_ir_se50.pth",
            urls=(f"{_FACEXLIB}/v0.1.0/recognition_arcface_ir_se50.pth",),
            sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
            bytes=175367323,
            licence="MIT",
            source="InsightFace_Pytorch (TreB1eN), published by facexlib",
            purpose="training: face-preserving loss",
        ),
    )
}

_extra_folders: list[Path] = []
# Files whose hash was right, as (path, size, mtime in ns, hash). Hashing 100 MB takes about 0.1 s with current OpenSSL,
# so once per process is cheap enough, and no marker on disk can go stale or vouch for a file it has not seen.
_hashed: set[tuple[str, int, int, str]] = set()


def add_search_folder(path: str | os.PathLike[str]) -> None:
    """Search ``path`` too, after ``PFR_WEIGHTS_DIR`` and folders added earlier. It may not exist yet; twice is once.

    Example: ``add_search_folder("ComfyUI/models/facedetection")``
    """
    folder = Path(path).expanduser().absolute()
    if folder not in _extra_folders:
        _extra_folders.append(folder)


def cache_folder() -> Path:
    """Return the folder downloads go to, absolute, not created here.

    ``PFR_CACHE_DIR``, else ``XDG_CACHE_HOME/pfr``, else ``~/.cache/pfr`` (Windows: ``LOCALAPPDATA/pfr``).
    Raises :class:`WeightsError` when none of these is set and the user has no home folder.

    Example: ``PFR_CACHE_DIR=/data/pfr pfr weights download parsenet``
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


def find(name: str) -> Path | None:
    """Return the checked file of weights ``name``, or None if it is not on this machine. Never touches the network.

    A damaged file in the cache counts as absent, since it is ours to replace. Raises :class:`WeightsError` for an
    unknown name, and for a file of that name elsewhere that is not the published one: it is neither used nor touched.

    Example: ``mask = "parse" if find("parsenet") else "oval"``
    """
    weights = _entry(name)
    for folder in _search_folders(weights):
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


def locate(
    name: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Return the checked file of weights ``name``: found as by :func:`find`, else downloaded into :func:`cache_folder`.

    ``progress(done, total)`` gets bytes; ``done`` never goes back, not even when a mirror starts again from nothing.
    ``should_stop()`` is asked before each address and between pieces; on a connection that has gone silent it is not
    asked until that times out (30 s).
    Raises :class:`WeightsError` when the file cannot be had, :class:`Cancelled` when asked to stop; then nothing
    half-written stays behind.

    Example: ``locate("retinaface_resnet50", progress=lambda done, total: bar.update(done - bar.n))``
    """
    path = find(name)
    if path is not None:
        return path
    weights = _entry(name)
    if weights.embedded:
        raise WeightsError(
            f"{weights.name}: {ASSETS / weights.file} is missing from the installation. Install PFR again, or name another model."
        )
    if _offline():
        raise _not_to_be_had(weights, [f"{url}: not tried, PFR_OFFLINE forbids the network" for url in weights.urls])
    return _download(weights, progress or (lambda done, total: None), should_stop or (lambda: False))


def verify(path: str | os.PathLike[str], weights: Weights) -> None:
    """Check size and SHA-256 of the file at ``path``; an embedded file is not compared (see :class:`Weights`).

    Raises :class:`WeightsError` naming the file, what is wrong with it and the remedy.

    Example: ``verify("detection_Resnet50_Final.pth", REGISTRY["retinaface_resnet50"])``
    """
    if weights.embedded:
        return
    remedy = f"Replace it with the file from {weights.urls[0]}, or move it away so that PFR downloads its own copy."
    try:
        status = os.stat(path)
        key = (os.path.abspath(path), status.st_size, status.st_mtime_ns, weights.sha256)
        if key in _hashed:
            return
        problem = None
        if status.st_size != weights.bytes:
            problem = f"it has {status.st_size} bytes, the published file {weights.bytes}"
        elif (digest := _sha256(path)) != weights.sha256:
            problem = f"its SHA-256 is {digest}, the published file's {weights.sha256}"
    except OSError as error:
        raise WeightsError(f"{path}: weights {weights.name} cannot be read: {error.strerror}. {remedy}") from error
    if problem:
        raise WeightsError(f"{path}: not the weights {weights.name}: {problem}. {remedy}")
    _hashed.add(key)


def _entry(name: str) -> Weights:
    if name not in REGISTRY:
        raise WeightsError(f"unknown weights {name!r}. Known: {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def _search_folders(weights: Weights) -> list[Path]:
    if weights.embedded:  # only there: a file of that name elsewhere has no hash to be checked against
        return [ASSETS]
    given = os.environ.get("PFR_WEIGHTS_DIR", "").split(os.pathsep)
    return [Path(folder).expanduser().absolute() for folder in given if folder] + _extra_folders + [cache_folder()]


def _offline() -> bool:
    return os.environ.get("PFR_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def _sha256(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


class _AddressFailed(Exception):
    """An address does not give the file; another one may."""


def _download(weights: Weights, progress: Callable[[int, int], None], should_stop: Callable[[], bool]) -> Path:
    target = cache_folder() / weights.file
    # A name of its own, so that processes and threads can download the same file at once: the last rename wins.
    part = target.with_name(f"{weights.file}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    failures: list[str] = []
    best = 0
    try:
        for url in weights.urls:
            if should_stop():
                raise Cancelled(f"download of {weights.file} cancelled")
            log.info("downloading %s from %s", weights.file, url)
            try:
                with closing(_save(url, weights, part)) as steps:
                    for done in steps:
                        if done > best:
                            best = done
                            progress(done, weights.bytes)
                        if done < weights.bytes and should_stop():
                            raise Cancelled(f"download of {weights.file} cancelled")
                try:
                    os.replace(part, target)
                except OSError as error:
                    raise _cannot_write(weights, target, error) from error
                return target
            except _AddressFailed as error:
                log.warning("%s: %s", url, error)
                failures.append(f"{url}: {error}")
    finally:
        if part.exists():
            part.unlink()
    raise _not_to_be_had(weights, failures)


def _save(url: str, weights: Weights, part: Path) -> Generator[int, None, None]:
    """Write what ``url`` sends to ``part``, yielding the bytes so far; ends without error only if the file is right.

    A generator, so that what the caller's callbacks raise is never taken for an error of the disk or the network.
    """
    digest, done = hashlib.sha256(), 0
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a full disk shows at write(), not a second time at close().
        with open(part, "wb", buffering=0) as file, closing(_pieces(url)) as pieces:
            for piece in pieces:
                done += len(piece)
                if done > weights.bytes:
                    raise _AddressFailed(f"sent more than the {weights.bytes} bytes expected")
                digest.update(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
                yield done
    except OSError as error:  # of this disk: another address would not help, and the remedy is another one
        raise _cannot_write(weights, part.parent, error) from error
    if done != weights.bytes:
        raise _AddressFailed(f"sent {done} bytes, {weights.bytes} expected")
    if digest.hexdigest() != weights.sha256:
        raise _AddressFailed(f"sent a file with SHA-256 {digest.hexdigest()}, {weights.sha256} expected")


def _pieces(url: str) -> Generator[bytes, None, None]:
    """Yield what ``url`` sends, as it arrives; every failure of the network is an :class:`_AddressFailed`."""
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            # read1, not read: on a slow line read() would sit there until a whole piece has come.
            while piece := response.read1(PIECE):
                yield piece
    except urllib.error.HTTPError as error:
        error.close()
        raise _AddressFailed(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _AddressFailed(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _AddressFailed(f"connection broke: {error or type(error).__name__}") from error


def _cannot_write(weights: Weights, path: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"{weights.file} cannot be written to {path}: {error.strerror}. It needs {weights.bytes / 1e6:.1f} MB: "
        "make room or permission there, or set PFR_CACHE_DIR to another folder."
    )


def _not_to_be_had(weights: Weights, failures: list[str]) -> WeightsError:
    lines = [f"weights {weights.name}: {weights.file} ({weights.bytes / 1e6:.1f} MB) is not to be had:"]
    for folder in _search_folders(weights):
        lines.append(f"  {folder}: {'no good copy' if folder.is_dir() else 'no such folder'}")
    lines += [f"  {failure}" for failure in failures]
    lines.append(
        f"Download {weights.urls[0]} by hand and put it into {cache_folder()} as {weights.file} "
        "(or into a folder that PFR_WEIGHTS_DIR names)."
    )
    return WeightsError("\n".join(lines))
