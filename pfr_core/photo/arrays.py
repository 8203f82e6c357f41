"""Pictures in memory: the layouts that callers hand in and get back, the depths of their numbers, their size.

Inside everything is an [H,W,C] array; NumPy arrays, PIL images and tensors come in and go out.

NumPy: HWC, RGB or RGBA, uint8, uint16 or float in [0,1]. Tensors: [B]CHW float in [0,1]. A fourth channel is alpha. PIL images:
see ``pillow``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..errors import InputError
from .depth import to_8_bits
from .pillow import from_pil

Array = npt.NDArray[np.generic]
Number = TypeVar("Number", bound=np.generic)
FloatImage = npt.NDArray[np.float32]
ImageLike = Array | Image.Image | torch.Tensor
Repack = Callable[[Sequence[Array]], Any]

TOLERANCE = 1e-3  # resampled floats overshoot a little
SEEN = 0.05
"""Share of what is not wholly transparent from which on a resampled pixel has a colour of its own."""


def unpack(image: ImageLike) -> tuple[list[Array], Repack]:
    """Convert any supported image to a list of [H,W,3 or 4] arrays (one, or one for each of a batch); return it and the way back.

    Raises:
        InputError: unsupported type, shape, range, or numbers that are not finite; the message says which.
    """
    if isinstance(image, Image.Image):
        array, back = from_pil(image)
        _check(array, "HWC")
        return [array], lambda arrays: back(arrays[0])
    if isinstance(image, torch.Tensor):
        return _unpack_tensor(image)
    if isinstance(image, np.ndarray):
        _check(image, "HWC")
        return [image], lambda arrays: arrays[0]
    raise InputError(f"Cannot restore a {type(image).__name__}; pass a path, a NumPy array, a PIL image or a tensor.")


def _unpack_tensor(tensor: torch.Tensor) -> tuple[list[Array], Repack]:
    if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (3, 4) or not tensor.is_floating_point():
        raise InputError(
            f"A tensor of {tensor.dtype} {list(tensor.shape)}; tensors are [B]CHW float in [0,1] with 3 or 4 channels."
        )
    batch = tensor.detach().unsqueeze(0) if tensor.ndim == 3 else tensor.detach()
    if 0 in batch.shape[2:]:
        raise InputError(f"An empty image: {list(tensor.shape)}.")
    depth = torch.promote_types(batch.dtype, torch.float32)  # NumPy has no bfloat16; float64 must not lose its digits
    arrays: list[Array] = [frame.permute(1, 2, 0).to(depth).cpu().contiguous().numpy() for frame in batch]
    for array in arrays:
        _check(array, "CHW")

    def repack(results: Sequence[Array]) -> torch.Tensor:
        frames = [torch.from_numpy(np.ascontiguousarray(result)).permute(2, 0, 1) for result in results]
        stacked = torch.stack(frames) if frames else batch
        return (stacked[0] if tensor.ndim == 3 else stacked).to(tensor.device, tensor.dtype)

    return arrays, repack


def _check(array: Array, layout: str) -> None:
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise InputError(f"An array of shape {list(array.shape)}; images are {layout} with 3 (RGB) or 4 (RGBA) channels.")
    if array.dtype in (np.uint8, np.uint16):
        return
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"An array of {array.dtype}; images are uint8, uint16 or float in [0,1].")
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("The image holds NaN or infinity; replace them before restoring.")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        remedy = "Divide by 255 or 65535?" if high > 1 + TOLERANCE else "If it lies in [-1,1], take (x + 1) / 2."
        raise InputError(f"A float image of range [{low:.4g}, {high:.4g}]; floats must lie in [0,1]. {remedy}")


def to_float(image: Array) -> FloatImage:
    """Convert uint8, uint16 or float to float32 in [0,1]; a copy."""
    if np.issubdtype(image.dtype, np.integer):
        return image.astype(np.float32) / _white(image.dtype)
    return image.astype(np.float32)


def from_float(image: FloatImage, dtype: npt.DTypeLike) -> Array:
    """Invert :func:`to_float`: rounded and clipped."""
    image = np.clip(image, 0, 1)
    if np.issubdtype(dtype, np.integer):
        image *= _white(dtype)  # np.clip made a copy
        return np.rint(image, out=image).astype(dtype)
    return image.astype(dtype)


def to_uint8(image: Array) -> npt.NDArray[np.uint8]:
    """Convert any depth of the pipeline to uint8, rounded."""
    if image.dtype == np.uint16:
        return to_8_bits(np.asarray(image, np.uint16))
    return np.asarray(image if image.dtype == np.uint8 else from_float(to_float(image), np.uint8), np.uint8)


def _white(dtype: npt.DTypeLike) -> np.float32:
    return np.float32(np.iinfo(np.dtype(dtype).str).max)


def is_transparent(image: Array) -> bool:
    """Return whether [H,W,3 or 4] of any depth is not opaque everywhere."""
    white = _white(image.dtype) if np.issubdtype(image.dtype, np.integer) else 1
    return bool(image.shape[2] == 4 and (image[..., 3] != white).any())


def fitted(image: npt.NDArray[Number], side: int) -> npt.NDArray[Number]:
    """Return [H,W] or [H,W,C] shrunk, in its own depth, until its longer side is ``side`` px; itself if that is no longer."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def resize(image: Array, width: int, height: int) -> Array:
    """Resize [H,W] or [H,W,C] by Lanczos, for enlarging, in its own depth; a copy.

    Of four channels the last is straight alpha: the colours of what is wholly transparent are anything and do not count.
    """
    if image.shape[:2] == (height, width):
        return image.copy()
    if np.issubdtype(image.dtype, np.integer):
        large = cv2.resize(image, (width, height), interpolation=cv2.INTER_LANCZOS4)
    else:
        large = from_float(cv2.resize(to_float(image), (width, height), interpolation=cv2.INTER_LANCZOS4), image.dtype)
    if image.ndim == 3 and image.shape[2] == 4 and not image[..., 3].all():
        seen = image[..., 3:].astype(bool).astype(np.float32)
        both = np.concatenate([to_float(image)[..., :3] * seen, seen], axis=2)
        both = cv2.resize(both, (width, height), interpolation=cv2.INTER_LANCZOS4)
        edge = (both[..., 3] > SEEN) & (np.abs(both[..., 3] - 1) > TOLERANCE)
        large[edge, :3] = from_float(both[edge, :3] / both[edge, 3:], image.dtype)
    return large
