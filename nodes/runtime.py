"""All contact with ComfyUI: model folders, its model manager, progress, interruption. Imported only where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..pfr_core import FaceRestorer, load_model
from ..pfr_core.detection import Detector, DetectorName
from ..pfr_core.device import DTypeName, resolve_dtype
from ..pfr_core.errors import InputError, PFRError
from ..pfr_core.layouts import Array
from ..pfr_core.masks import Parser
from ..pfr_core.weights import add_search_folder

MODEL_FOLDER = "facerestore_models"
DETECTOR_FOLDER = "facedetection_models"
SUFFIXES = {".safetensors", ".pth", ".pt"}
DEFAULT = "default"
"""The model that ships with PFR."""

DETECTORS = get_args(DetectorName)


@dataclass(frozen=True)
class LoadedModel:
    """What a PFR_MODEL wire carries: a network that ComfyUI moves to the device when needed and away when not."""

    name: str
    patcher: Any
    dtype: DTypeName

    def restorer(self, detector: Detector | None = None) -> FaceRestorer:
        """The pipeline around the network, which ComfyUI has moved to its device."""
        import comfy.model_management as management

        management.load_models_gpu([self.patcher])
        device = self.patcher.load_device
        return FaceRestorer(self.patcher.model, detector or "auto", device=device, dtype=self.dtype)


def register_folders() -> None:
    """Add our model folders to ComfyUI's, without touching what extra_model_paths.yaml put there."""
    import folder_paths

    for key, folder in ((MODEL_FOLDER, "facerestore_models"), (DETECTOR_FOLDER, "facedetection")):
        folder_paths.add_model_folder_path(key, str(Path(folder_paths.models_dir) / folder))
        folder_paths.folder_names_and_paths[key][1].update(SUFFIXES)  # a new key starts empty: every file would be listed
        if key == DETECTOR_FOLDER:
            for path in folder_paths.get_folder_paths(key):
                add_search_folder(path)


def model_names() -> list[str]:
    """The shipped model and every file in the model folder."""
    import folder_paths

    return [DEFAULT, *folder_paths.get_filename_list(MODEL_FOLDER)]


def load(name: str, dtype: DTypeName) -> LoadedModel:
    """Read a model and hand it to ComfyUI's model manager.

    Raises:
        InputError: a precision the device cannot do.
        CheckpointError: not a PFR or GPEN file.
    """
    import comfy.model_management as management
    import comfy.model_patcher as model_patcher
    import folder_paths

    path = DEFAULT if name == DEFAULT else folder_paths.get_full_path_or_raise(MODEL_FOLDER, name)
    device = management.get_torch_device()
    net = load_model(path, "cpu", resolve_dtype(dtype, device))
    patcher = getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)  # the first in newer cores only
    return LoadedModel(name, patcher(net, device, management.unet_offload_device()), dtype)


_detectors: dict[tuple[str, torch.device], Detector] = {}


def detector(name: str) -> Detector:
    """The detector of that name on ComfyUI's device, loaded once."""
    import comfy.model_management as management

    key = name, management.get_torch_device()
    if key not in _detectors:
        _detectors[key] = Detector(*key)  # type: ignore[arg-type]  # the name is checked there
    return _detectors[key]


def parser() -> Parser:
    """The face parser on ComfyUI's device, loaded when a mask needs it."""
    import comfy.model_management as management

    return Parser(management.get_torch_device())


class Steps:
    """ComfyUI's progress bar over a number of frames, which notices an interruption at every step."""

    def __init__(self, total: int) -> None:
        from comfy.utils import ProgressBar

        self.bar = ProgressBar(total)

    def check(self) -> bool:
        """Raises ComfyUI's own exception if the user pressed stop; otherwise false, the answer to ``should_stop``."""
        import comfy.model_management as management

        management.throw_exception_if_processing_interrupted()
        return False

    def done(self) -> None:
        """One frame is done."""
        self.bar.update(1)


@contextmanager
def frame_named(number: int, total: int) -> Iterator[None]:
    """Errors within name the frame they happened in."""
    try:
        yield
    except PFRError as error:
        if total == 1:
            raise
        raise type(error)(f"Frame {number} of {total} (counted from 0): {error}") from error


def to_arrays(image: Tensor) -> list[Array]:
    """IMAGE [B,H,W,3 or 4] of any float type on any device -> arrays [H,W,C] float32 in [0,1].

    Raises:
        InputError: not an IMAGE.
    """
    if image.ndim != 4 or image.shape[3] not in (3, 4):
        raise InputError(f"An IMAGE of shape {list(image.shape)}; PFR takes [batch, height, width, 3 or 4].")
    return [frame.float().clamp(0, 1).cpu().contiguous().numpy() for frame in image]


def to_image(arrays: Sequence[Array], like: Tensor) -> Tensor:
    """Arrays [H,W,C] -> IMAGE float32 on the device ComfyUI wants; ``like`` gives the shape of a batch of none."""
    import comfy.model_management as management

    stacked = torch.from_numpy(np.stack(arrays)) if arrays else like.float()
    return stacked.to(management.intermediate_device(), torch.float32)


def to_crops(crops: Sequence[Array], size: int) -> Tensor:
    """Crops [size,size,3] -> IMAGE; one black image if there is none, because ComfyUI's own nodes fail on an empty batch."""
    return to_image(crops or [np.zeros((size, size, 3), np.float32)], torch.empty(0))
