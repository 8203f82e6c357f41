"""Where and how precisely the networks run: ``--device`` and ``--dtype``."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from typing import get_args

import torch

from ..errors import InputError
from .choices import DTypeName

DTYPES: dict[DTypeName, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``xpu`` names, if it is there.

    Auto takes the first there is of cuda, mps, xpu, cpu.

    Raises:
        InputError: unknown name, or no such device on this machine.
    """
    available = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count() if hasattr(torch, "xpu") and torch.xpu.is_available() else 0,
        "cpu": 1,
    }
    name = str(name)
    if name == "auto":
        return torch.device(next(kind for kind, count in available.items() if count))
    kind, colon, index = name.partition(":")
    if kind not in available or (colon and not index.isdecimal()):
        raise InputError(f"Unknown device {name!r}; choose auto, cpu, cuda, cuda:N, mps or xpu.")
    if int(index or 0) >= available[kind]:
        here = ", ".join(f"{kind} ({count})" for kind, count in available.items() if count)
        raise InputError(f"Device {name!r} is not on this machine. Available to torch: {here}.")
    return torch.device(name)


def resolve_dtype(name: DTypeName, device: torch.device, borne: Collection[DTypeName] = tuple(DTYPES)) -> torch.dtype:
    """Return the type by its name; ``auto`` is bfloat16 where it pays (:func:`bf16_pays`), float32 elsewhere.

    Args:
        name: the type.
        device: where the network runs.
        borne: the types in which the network works; ``auto`` is float32 if bfloat16 is none of them.

    Raises:
        InputError: unknown name, fp16 on the CPU, or a type that the network does not bear.
    """
    if name == "auto":
        return torch.bfloat16 if "bf16" in borne and bf16_pays(device) else torch.float32
    if name not in get_args(DTypeName):
        raise InputError(f"Unknown dtype {name!r}; choose from {', '.join(get_args(DTypeName))}.")
    if name == "fp16" and device.type == "cpu":
        raise InputError("precision (dtype) fp16 on a CPU takes minutes a face; use bf16 or fp32 there.")
    check_borne(name, borne)
    return DTYPES[name]


def bf16_pays(device: torch.device) -> bool:
    """Return whether networks are better computed in bfloat16 there: what ``auto`` decides by, in use and in training.

    A CUDA GPU must compute with it natively. A CPU must have matrix units for it (Intel's AMX), by which it is about 3 times as
    fast, or be AMD's with instructions for it (Zen 4 and later: 1.5 to 1.7 times as fast); on Intel's these alone do not tell
    (half as fast on a Xeon without AMX). To measure it would not do: beside other work the ratio of two convolutions came out
    between 0.01 and 60, and each process must decide alike, or the same photo comes out differently. On other devices, or where
    torch is too old to tell, the answer is no.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    found = cpu_capabilities()
    by_amd = str(found.get("cpu_name", "")).startswith("AMD")
    return bool(found.get("amx_bf16") or (by_amd and found.get("avx512_bf16")))


def cpu_capabilities() -> Mapping[str, object]:
    """Return what torch tells of this CPU, by name; nothing where it does not tell."""
    return getattr(torch.cpu, "get_capabilities", dict)()  # newer torch


def has_avx512() -> bool:
    """Return whether torch uses AVX-512 on this CPU; without, bfloat16 is only emulated, 20 times slower."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def check_borne(name: DTypeName, borne: Collection[DTypeName]) -> None:
    """Refuse a precision in which a network does not work, on whatever device; ``auto`` chooses one in which it does.

    Raises:
        InputError: ``name`` is neither ``auto`` nor one of ``borne``.
    """
    if name != "auto" and name not in borne:
        raise InputError(f"precision (dtype) {name}: this network does not bear it; use {' or '.join(borne)}.")


def faces_at_once(device: torch.device) -> int:
    """Return how many faces a network is best given together: a CPU is the slower for it, and hears a stop later."""
    return 1 if device.type == "cpu" else 8


def keep_memory() -> None:
    """Let the C library keep what it has freed, up to 2 GiB, where it can be told so (glibc).

    By default it gives large blocks back to the system, and each feature map then costs page faults again: a sixth of the
    time of a network on a CPU. For programs whose process is their own and ends with the work: the memory of a server, or of
    whatever imports this package, would stay at its highest. Does nothing elsewhere.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no handle of the program itself (Windows)
        return
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
    mallopt(M_MMAP_THRESHOLD, 32 << 20)
    mallopt(M_TRIM_THRESHOLD, (2 << 30) - 1)
    mallopt(M_TOP_PAD, 256 << 20)


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the fastest layout of feature maps on ``device``: channels last, but not on a CPU without AVX-512.

    Nor on Apple's GPUs, where many a torch convolves a part of the channels of such maps wrongly, without an error (its issue
    180984).
    """
    planes = device.type == "mps" or (device.type == "cpu" and not has_avx512())
    return torch.contiguous_format if planes else torch.channels_last


def give_back_cached(device: torch.device) -> None:
    """Give the memory that torch keeps for later on a GPU back to the system, for other programs and libraries."""
    if device.type in ("cuda", "mps", "xpu"):
        getattr(torch, device.type).empty_cache()
