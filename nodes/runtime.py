"""All contact with ComfyUI: model folders, its model manager, progress, interruption. Imported only where it runs."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import torch

from ..pfr_core import FaceRestorer
from ..pfr_core.errors import InputError, PFRError, WeightsError
from ..pfr_core.faces.detect import BEST, Detector
from ..pfr_core.faces.mask import FaceParser
from ..pfr_core.models.checkpoint import DEFAULT, model_file
from ..pfr_core.models.disk import add_search_folder, on_disk, sha256_of
from ..pfr_core.models.download import obtain
from ..pfr_core.models.kinds.onnx import OnnxModel
from ..pfr_core.models.load import MODEL_SUFFIXES, read_face_model
from ..pfr_core.models.registry import REGISTRY, around, check_package, dtypes_of, obtainable, published
from ..pfr_core.photo.photo import Provenance
from ..pfr_core.support.choices import DetectorName, DTypeName, MaskKind
from ..pfr_core.support.device import resolve_device, resolve_dtype
from ..pfr_core.support.memory import is_out_of_memory
from ..pfr_core.support.notice import Notice, Tally

log = logging.getLogger(__name__)

MODEL_FOLDER = "facerestore_models"
DETECTOR_FOLDER = "facedetection_models"
FOLDERS = {MODEL_FOLDER: "facerestore_models", DETECTOR_FOLDER: "facedetection"}
"""What ComfyUI and packs of others call a kind of file, and the folder for it below its ``models``."""
OFFERED = "pfr_facerestore"
"""What ComfyUI calls the files that we offer as models."""

DeviceName = Literal["auto", "cpu"]
"""Where a model runs: on the device ComfyUI uses, or on the CPU."""


@dataclass(frozen=True)
class LoadedModel:
    """What a PFR_MODEL wire carries: a network that ComfyUI moves to the device when needed and away when not."""

    name: str
    patcher: Any
    dtype: DTypeName
    provenance: Provenance

    def restorer(self, detector: DetectorName = "auto") -> FaceRestorer:
        """Return the pipeline around the network, which ComfyUI has moved to its device; faces are looked for there, too."""
        import comfy.model_management as management

        # Whole, as ComfyUI itself does with networks whose layers are not its own: it could not run them half moved.
        management.load_models_gpu([self.patcher], force_full_load=True)
        device = self.patcher.load_device
        return FaceRestorer(
            self.patcher.model,
            detector,
            device=device,
            dtype=self.dtype,
            provenance=self.provenance,
        )


def register_folders() -> None:
    """Look for weights in ComfyUI's model folders, those that extra_model_paths.yaml names among them."""
    _models()
    for path in _folders(DETECTOR_FOLDER):
        add_search_folder(path)


def _models() -> str:
    """Return ComfyUI's key of the files that are offered as models.

    It is our own, for other packs take the key of these folders for theirs, with the endings that they can load. The folders are
    read whenever they are asked for, for such a pack may be imported after ours; one that was there once stays.
    """
    import folder_paths

    known, _ = folder_paths.folder_names_and_paths.get(OFFERED, ([], set()))
    paths = [*dict.fromkeys((*known, *_folders(MODEL_FOLDER)))]
    folder_paths.folder_names_and_paths[OFFERED] = (paths, set(MODEL_SUFFIXES))
    for path in paths:
        add_search_folder(path)
    return OFFERED


def _folders(key: str) -> list[str]:
    """Return ComfyUI's folders for a kind of file, its default one too, whether or not another pack has registered them."""
    import folder_paths

    known, _ = folder_paths.folder_names_and_paths.get(key, ([], set()))
    return [*dict.fromkeys((*known, str(Path(folder_paths.models_dir) / FOLDERS[key])))]


def web_directory(pack: str) -> str | None:
    """Return what ``WEB_DIRECTORY`` is for a pack in this folder. ComfyUI serves all of it and imports every script in it.

    Under a folder name with a space, or anything else that a URL has to quote, ComfyUI serves nothing (its web server looks for
    the quoted name); the scripts are then registered under a plain name.
    """
    name, folder = Path(pack).name, "./web/js"
    if quote(name) == name:
        return folder
    comfy_nodes = importlib.import_module("nodes")  # ComfyUI's own module of that name
    comfy_nodes.EXTENSION_WEB_DIRS["pfr"] = str(Path(pack, folder))
    return None


def model_names() -> list[str]:
    """Return the shipped model, every file in the model folder, and what can be downloaded."""
    import folder_paths

    return [DEFAULT, *folder_paths.get_filename_list(_models()), *(name for name in obtainable() if name != DEFAULT)]


def instead_of(model: str) -> str:
    """Return what a person can do who has a graph, but not the model file that it names."""
    weights = published(PurePath(model.replace("\\", "/")).name)  # a graph of another system may have its own slashes
    if weights is not None and weights.name in obtainable():
        return f"Choose {weights.name}, which is downloaded when it is first used, or put the file there."
    return "Choose another model, or put the file there."


def model_path(name: str) -> str:
    """Return the file of a model in the model folder, or the name of a published one.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    import folder_paths

    return name if name in obtainable() else folder_paths.get_full_path_or_raise(_models(), name)


def load(name: str, device: DeviceName, dtype: DTypeName) -> LoadedModel:
    """Read a model, downloaded if need be, and hand it to ComfyUI's model manager.

    Raises:
        InputError: a precision that the device or the network cannot do.
        CheckpointError: not a file of a restoration network.
        WeightsError: the model is not to be had.
    """
    import comfy.model_management as management
    import comfy.model_patcher as model_patcher

    cpu = torch.device("cpu")
    load_device = cpu if device == "cpu" else own_device()
    offload_device = cpu if load_device == cpu else management.unet_offload_device()
    resolve_dtype(dtype, load_device, dtypes_of(name))  # before a model is downloaded
    check_package(name)
    if name in obtainable():
        fetch(name)
    path = model_file(model_path(name))
    net = read_face_model(path)
    net.to(resolve_dtype(dtype, load_device, net.dtypes))
    if isinstance(net, OnnxModel):  # what onnxruntime holds are no tensors that ComfyUI could count, or move one by one
        patcher = model_patcher.ModelPatcher(net, load_device, offload_device, size=net.path.stat().st_size)
    else:  # the first in newer cores only
        patcher = getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)(net, load_device, offload_device)
    return LoadedModel(name, patcher, dtype, Provenance(PurePath(name).name, sha256_of(path)))


def own_device() -> torch.device:
    """Return ComfyUI's device, or the CPU where that is one on which PFR has not been seen to run, such as DirectML's."""
    import comfy.model_management as management

    device = management.get_torch_device()
    try:
        return resolve_device(device)
    except InputError:
        _tell_once(f"PFR does not run on {device}, so it takes the CPU.")
        return torch.device("cpu")


def make_room(device: torch.device) -> None:
    """Let ComfyUI move other models off a card that is full, as it does before a network of its own runs."""
    import comfy.model_management as management

    if device.type != "cpu":
        management.free_memory(management.minimum_inference_memory(), device)


@cache
def _tell_once(text: str) -> None:
    log.warning(text)


def fetch_around(detector: DetectorName, mask: MaskKind = "box") -> None:
    """Download what finds and cuts out faces, if it is a choice that needs a file; raises as :func:`fetch`."""
    for name in around(detector, mask):
        fetch(name)


def fetch(name: str) -> None:
    """Download published weights that are not on this machine; ComfyUI's bar tells how far it is, and its stop is heard.

    Raises:
        WeightsError: it is not to be had.
    """
    from comfy.utils import ProgressBar

    weights = REGISTRY[name]
    if on_disk(name) is None:
        bar = ProgressBar(weights.bytes)
        try:
            obtain(name, progress=lambda done, total: bar.update_absolute(done, total), should_stop=interrupted)
        except WeightsError as error:
            folder, other = (MODEL_FOLDER, "model") if weights.size else (DETECTOR_FOLDER, "detector or mask")
            raise WeightsError(
                f"{name} could not be downloaded. Put {weights.file} into models/{FOLDERS[folder]}, or choose another {other}. "
                f"{error}"
            ) from error


def interrupted() -> bool:
    """Return false, the answer to ``should_stop``, or raise ComfyUI's own exception if the user pressed stop."""
    import comfy.model_management as management

    management.throw_exception_if_processing_interrupted()
    return False


def detector(name: DetectorName) -> Detector:
    """Return a face detector on ComfyUI's device, read again for every run (0.1 s), so that nothing stays on the card."""
    return Detector(name, own_device())


def parser() -> FaceParser:
    """Return the face parser on ComfyUI's device, read when a mask needs it."""
    return FaceParser(own_device())


IN_A_GRAPH = {
    "no_face": "No face found. In a picture of {picture_px} px a detection size above {detection_size} finds smaller ones.",
    "better_detector": f"The detector {BEST} is better than the one that ships with PFR: choose it, and it is downloaded once "
    "({megabytes:.1f} MB).",
    "magnified": "A face of {face_px:.0f} px is pasted {times:.1f} times larger than the model's {crop_px} px: it keeps its own "
    "fine detail, and only the coarser part is restored (largest face leaves such faces alone).",
    "sharp_faces": "{restored} chosen, {left} left: already sharp (switch only bad faces off to restore all).",
}
"""What notices of the core say in a graph, where a node has other words for it."""

NOTHING_FOUND = Notice("no_face", "No face was found (detection threshold, smallest face and largest face decide what counts).")
"""The same of the one that has no figures."""

NOT_FINITE = "the picture holds NaN or infinite values and is passed on as it came. Look at the node that made it."


class Notices:
    """What is noticed frame after frame: for the log at once, and for the node's own text; each kind once.

    Args:
        total: number of frames; where there are several, each text names its frame.
        said: sentences about all frames, to begin with.
    """

    def __init__(self, total: int, said: Iterable[str]) -> None:
        self.total, self.said = total, tuple(said)
        self._tally, self._texts = Tally(), dict[str, str]()
        for text in self.said:
            log.warning("%s", text)

    def add(self, number: int | None, notices: Iterable[Notice]) -> None:
        """Take the notices of frame ``number``, or, without one, of all frames together."""
        for notice in self._tally.add(notices):
            notice = NOTHING_FOUND if notice.kind == "no_face" and not notice.numbers else notice
            known = notice.numbers and notice.kind in IN_A_GRAPH
            text = IN_A_GRAPH[notice.kind].format(**notice.numbers) if known else notice.text
            text = text if self.total == 1 or number is None else f"Frame {number} of {self.total} (counted from 0): {text}"
            log.warning("%s", text)
            self._texts[notice.kind] = text

    def finite(self, number: int, array: npt.NDArray[np.float32], text: str = NOT_FINITE) -> bool:
        """Return whether frame ``number``, or what belongs to it, can be worked on; if it cannot, ``text`` is noticed."""
        if np.isfinite(array).all():
            return True
        self.add(number, [Notice("not_finite", text)])
        return False

    def ui(self) -> dict[str, list[str]]:
        """Return what ComfyUI keeps of it and our scripts draw on the node."""
        noticed = (self._texts[notice.kind] + (f" (and {more} more like it)" if more else "") for notice, more in self._tally)
        return {"text": [*self.said, *noticed]}


class Steps:
    """Frame after frame: ComfyUI's progress bar, the user's stop, and errors that name their frame.

    Args:
        total: number of frames.
        rounds: how often all frames are gone through.
    """

    def __init__(self, total: int, rounds: int = 1) -> None:
        from comfy.utils import ProgressBar

        self.total, self.done, self.whole = total, 0, total * rounds
        self.bar = ProgressBar(self.whole)

    @contextmanager
    def frame(self, number: int, count: int = 1) -> Iterator[None]:
        """Name the frame in errors of the block, the work on it, or ``count`` frames from this one on.

        Raises:
            PFRError, RuntimeError: the block did; with the frame's number, if there are several.
        """
        interrupted()
        named = f"Frame {number}" if count == 1 else f"Frames {number} to {number + count - 1}"
        named = f"{named} of {self.total} (counted from 0)"
        try:
            yield
        except PFRError as error:
            if self.total == 1:
                raise
            raise type(error)(f"{named}: {error}") from error
        except RuntimeError as error:
            if self.total == 1 or is_out_of_memory(error):  # ComfyUI frees memory when it sees that one
                raise
            raise RuntimeError(f"{named}: {error}") from error
        self.done += count
        self.bar.update_absolute(self.done, self.whole)

    def report(self, stage: str, done: int, total: int) -> None:
        """Take ``progress`` of the pipeline: a frame with many faces moves the bar face by face."""
        if stage == "restore" and total > 1:
            self.bar.update_absolute(self.done * total + done, self.whole * total)
