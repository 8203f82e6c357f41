"""Devices, precision and processes, by Lightning Fabric on torch.distributed. One process, or many through ``torchrun``.

Networks are not wrapped for DDP. Gradients are averaged once per optimiser step, after all forward passes that it accumulates:
phases with double backward, and phases that touch only a part of the parameters (R1, a frozen part), are then as simple as
the rest, and what many processes compute is what one would.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterable, Mapping

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pfr_core.errors import InputError
from pfr_core.support.device import bf16_pays, keep_memory, resolve_device

from .config import Precision, RunConfig

ACCELERATORS = ("cpu", "cuda", "mps")
"""Devices that training runs on; Fabric knows no other."""

log = logging.getLogger(__name__)


def start(config: RunConfig) -> Fabric:
    """Return the engine for ``config``, launched.

    Raises:
        InputError: no such device, or more processes on this machine than it has GPUs.
    """
    device = resolve_device(config.device)
    if device.type not in ACCELERATORS:
        if config.device != "auto":
            raise InputError(f"--device {config.device}: training knows {', '.join(ACCELERATORS)}. Choose one of them.")
        log.warning("training does not know %s; it runs on the processor.", device.type)
        device = torch.device("cpu")
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda" and local > torch.cuda.device_count():
        raise InputError(f"{local} processes, but this machine has {torch.cuda.device_count()} GPUs. Lower --nproc-per-node.")
    if world > 1 and device.index is not None:
        raise InputError(f"--device {config.device} names one device, but there are {world} processes. Say --device cuda.")
    if device.type == "cpu":
        keep_memory()
        torch.set_num_threads(1)
        log.info("one thread, for threads wait for each other: torchrun --nproc-per-node N uses N cores.")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    fabric = Fabric(
        accelerator=device.type,
        devices=local if world > 1 or device.index is None else [device.index],
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if uses_bf16(config.precision, device) else "32-true",
    )
    fabric.launch()
    if world > 1:
        # Fabric does so for NCCL only; gloo's threads, still running when the interpreter ends, can abort the process.
        atexit.register(torch.distributed.destroy_process_group)
    return fabric


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether to compute in bfloat16; ``auto``: where it pays."""
    return bf16_pays(device) if precision == "auto" else precision == "bf16"


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes: one collective on one flat tensor."""
    if fabric.world_size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    mean = fabric.all_reduce(flat, reduce_op="mean")
    assert isinstance(mean, Tensor)
    for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def means(fabric: Fabric, values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the mean of each scalar over the processes, on the host: one collective, one wait for the device."""
    flat = torch.stack([value.detach().float().reshape(()).to(fabric.device) for value in values.values()])
    if fabric.world_size > 1:
        flat = fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
    return dict(zip(values, flat.tolist(), strict=True))


def any_process(fabric: Fabric, flag: bool) -> bool:
    """Return whether any process says so."""
    if fabric.world_size == 1:
        return flag
    total = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    return bool(total > 0)  # type: ignore[operator]
