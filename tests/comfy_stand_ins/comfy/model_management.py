"""Stands in for ``comfy.model_management`` on a machine without a graphics card."""

from __future__ import annotations

from typing import Any

import torch

loaded: list[Any] = []


class InterruptProcessingException(Exception):
    pass


def get_torch_device() -> torch.device:
    return torch.device("cpu")


unet_offload_device = intermediate_device = get_torch_device


def load_models_gpu(models: list[Any], *, force_full_load: bool) -> None:
    assert force_full_load, "our networks' layers do not move their weights themselves"
    loaded.extend(models)


def minimum_inference_memory() -> float:
    return 1e9


def free_memory(memory_required: float, device: torch.device) -> None:
    assert device.type != "cpu"


def throw_exception_if_processing_interrupted() -> None:
    pass
