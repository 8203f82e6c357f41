"""Memory that does not suffice, as the libraries say it."""

from __future__ import annotations

import cv2
import torch

FULL = ("out of memory", "can't allocate memory", "alloc_failed", "failed to allocate")
"""Words of the errors that CUDA, the processor, cuBLAS and cuDNN, onnxruntime and OpenCV have for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that a picture or a batch was too large for this machine or its device."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, (RuntimeError, cv2.error)) and any(words in str(error).lower() for words in FULL)
    )
