"""ONNX files of restoration networks, as FaceFusion, ReActor and others pass them on, through onnxruntime.

Such a file has one picture as its input, [B,3,S,S] RGB in [-1,1], and one as its first output; CodeFormer's has its weight w
beside the first. What more comes out is of use in training only: files of CodeFormer and RestoreFormer++ have codes and features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError
from ...network.face_model import FaceModel
from ...support.choices import HALFWAY
from ...support.memory import FULL

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
UNKNOWN_SIZE = 512
"""Side in px of the faces where the file leaves it open: that of nearly all published networks."""


class OnnxModel(FaceModel):
    """The network of an ONNX file; it runs on a CUDA GPU if onnxruntime was built for it, and in the file's own precision.

    Raises:
        CheckpointError: no onnxruntime, a damaged file, or a network that does something else.
        MemoryError: the network or a batch does not fit, see :func:`pfr_core.support.memory.is_out_of_memory`.
    """

    kind = "ONNX"
    dtypes = ("fp32",)
    licence = "not stated in the file"
    anchor: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise CheckpointError(f"{path}: ONNX files need onnxruntime: python -m pip install onnxruntime ({error})") from error
        self.path, self._runtime = path, onnxruntime
        self._opened_for: torch.device | None = torch.device("cpu")
        self.session = self._open("CPUExecutionProvider", {})
        self.register_buffer("anchor", torch.empty(0), persistent=False)  # is where the network was moved to
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        pictures = [each for each in inputs if len(each.shape) == 4]
        others = [each for each in inputs if len(each.shape) < 2]
        if not outputs or len(pictures) != 1 or len(pictures) + len(others) != len(inputs) or len(others) > 1:
            raise self._other_task(f"it has {len(inputs)} inputs and {len(outputs)} outputs")
        self._picture, self._weight, self._answer = pictures[0], others[0] if others else None, outputs[0].name
        for each in (self._picture, outputs[0]):
            if len(each.shape) != 4 or not (each.shape[1] == 3 or each.shape[1] is None or isinstance(each.shape[1], str)):
                raise self._other_task(f"{each.name} is {each.shape}, no picture [B,3,S,S]")
        sides = {side for side in self._picture.shape[2:] if isinstance(side, int)}
        if len(sides) > 1 or any(each.type not in TYPES for each in inputs):
            raise self._other_task(f"its picture is {self._picture.type} {self._picture.shape}")
        if sides and {side for side in outputs[0].shape[2:] if isinstance(side, int)} - sides:
            raise self._other_task(f"it makes {outputs[0].shape} of {self._picture.shape}")
        self.size = sides.pop() if sides else UNKNOWN_SIZE
        self.licence = self.session.get_modelmeta().custom_metadata_map.get("licence", self.licence)
        self.options = ("fidelity",) if self._weight is not None else ()
        self._one_by_one = self._picture.shape[0] == 1

    @property
    def place(self) -> tuple[torch.device, torch.dtype]:
        """Pixels go in and come out as NumPy arrays."""
        return torch.device("cpu"), torch.float32

    def _open(self, provider: str, its_options: dict[str, Any]) -> Any:  # noqa: ANN401
        settings = self._runtime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 3  # errors; they are raised
        try:
            return self._runtime.InferenceSession(str(self.path), settings, [(provider, its_options)])
        except Exception as error:  # onnxruntime's own types share no base but this one
            _check_memory(error)
            raise CheckpointError(f"{self.path}: damaged or no ONNX file ({error}). Download it again.") from error

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnnxModel:
        """Move as any network does, and give the memory of a session elsewhere back at once: who moves one away wants it."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch does not annotate it
        if self.anchor.device != self._opened_for:
            self._opened_for = self.session = None
        return self

    def _run_on(self, device: torch.device) -> None:
        """Open the file again if the network was moved, as far as onnxruntime was built for that device."""
        if device == self._opened_for:  # asking the session would not do: it may have fallen back to the CPU
            return
        gpu = device.type == "cuda" and "CUDAExecutionProvider" in self._runtime.get_available_providers()
        name, options = ("CUDAExecutionProvider", {"device_id": device.index or 0}) if gpu else ("CPUExecutionProvider", {})
        self._opened_for, self.session = device, self._open(name, options)

    def forward(self, x: Tensor, fidelity: float = HALFWAY) -> Tensor:
        """Restore [B,3,S,S] in [-1,1]."""
        self._run_on(self.anchor.device)
        return torch.cat([self._run(part, fidelity) for part in x.split(1 if self._one_by_one else len(x))])

    def _run(self, x: Tensor, fidelity: float) -> Tensor:
        pixels = x.contiguous().numpy().astype(TYPES[self._picture.type])
        given: dict[str, Any] = {self._picture.name: pixels}
        if self._weight is not None:
            given[self._weight.name] = np.full([1] * len(self._weight.shape), fidelity, TYPES[self._weight.type])
        try:
            (image,) = self.session.run([self._answer], given)
        except Exception as error:  # onnxruntime's own types share no base but this one
            _check_memory(error)
            raise CheckpointError(f"{self.path}: onnxruntime cannot run it on {list(pixels.shape)} ({error}).") from error
        if image.shape != pixels.shape:
            raise self._other_task(f"it makes {list(image.shape)} of {list(pixels.shape)}")
        return torch.from_numpy(image.astype(np.float32))

    def _other_task(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: this ONNX network restores no faces: {reason}. PFR takes those with one picture in, at most a weight "
            "beside it, and first of all one picture of the same size out."
        )


def _check_memory(error: Exception) -> None:
    """Raise an error of onnxruntime again as what it is if the device is full.

    Raises:
        MemoryError: it is.
    """
    if any(words in str(error).lower() for words in FULL):
        raise MemoryError(str(error)) from error
