"""Convolutions with fewer multiplications on a CPU: Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2016).

A 3x3 convolution of a tile of 4x4 pixels is 36 products where it was 144, between sums of pixels and sums of weights. Those sums
are products with small constant matrices, and what is between them is one matrix product for each of the 36, which BLAS does at
the processor's rate. In float32 its rounding is a few times that of the usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LEAST_CHANNELS, LEAST_PIXELS = 128, 32 * 32
"""Smaller convolutions are no faster for it: the sums take longer than what they save (ours)."""
AT_ONCE = 256
"""Tiles that are worked on together, few enough for what lies between the steps to stay in a cache (ours)."""
PIXELS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
BACK = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Winograd(TorchFunctionMode):
    """While it is active, convolutions that it makes faster are computed so, whoever asks for them; without gradients.

    Example:
        >>> x, weight = torch.rand(1, 128, 32, 32), torch.rand(128, 128, 3, 3)
        >>> with torch.inference_mode(), Winograd():
        ...     y = F.conv2d(x, weight, padding=1)
        >>> bool((y / F.conv2d(x, weight, padding=1) - 1).abs().max() < 1e-4)
        True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the function returns
        given = kwargs or {}
        if func is F.conv2d and len(args) > 1 and _suits(*args, **given):
            return convolved(args[0], args[1], given.get("bias", args[2] if len(args) > 2 else None))
        return func(*args, **given)


def fast_convolutions(device: torch.device) -> AbstractContextManager[object]:
    """Return :class:`Winograd` for a CPU, and what does nothing for other devices, whose libraries choose for themselves."""
    return Winograd() if device.type == "cpu" else nullcontext()


def _suits(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> bool:
    """Return whether a convolution can be computed so, and is the faster for it."""
    if x.ndim != 4 or weight.shape[2:] != (3, 3) or groups != 1:
        return False
    height, width = x.shape[2:]
    return (
        min(weight.shape[:2]) >= LEAST_CHANNELS
        and height * width >= LEAST_PIXELS
        and height % 4 == width % 4 == 0
        and all(each in (1, (1, 1)) for each in (stride, padding, dilation))
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and (bias is None or (bias.shape == weight.shape[:1] and bias.dtype == x.dtype))
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
    )


@lru_cache(maxsize=1)
def _matrices() -> tuple[Tensor, ...]:
    """Return what the pixels of a tile [36], a filter's weights [9] and the products [36] are multiplied with from the left."""
    with torch.inference_mode(False):
        each = (torch.tensor(rows, dtype=torch.float64, device="cpu") for rows in (PIXELS, WEIGHTS, BACK))
        return tuple(torch.kron(matrix, matrix).float() for matrix in each)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve [B,in,H,W] with [out,in,3,3] and zero padding of 1, without gradients: [B,out,H,W] in the layout of ``x``.

    A sample's result does not depend on the others in the batch.

    Args:
        x: float32 on the CPU; H and W are multiples of 4.
        weight: the filters.
        bias: [out].
    """
    (batch, count, height, width), made = x.shape, len(weight)
    to_pixels, to_weights, back = _matrices()
    filters = torch.mm(to_weights, weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, made, count).transpose(1, 2)
    padded = x.new_zeros(batch, height + 2, width + 2, count)
    padded[:, 1:-1, 1:-1] = x.permute(0, 2, 3, 1)
    out = x.new_empty(batch, height, width, made)
    down, across = height // 4, width // 4
    step = min(down, max(1, AT_ONCE // across))
    # Filled anew for each part: fresh memory costs page faults.
    tiles, pixels = x.new_empty(6, 6, step, across, count), x.new_empty(36, step * across * count)
    products, sums = x.new_empty(36, step * across, made), x.new_empty(16, step * across * made)
    for sample, result in zip(padded, out, strict=True):
        for top in (min(top, down - step) for top in range(0, down, step)):
            tiles.copy_(sample[4 * top :].unfold(0, 6, 4).unfold(1, 6, 4)[:step].permute(3, 4, 0, 1, 2))
            torch.mm(to_pixels, tiles.view(36, -1), out=pixels)
            torch.bmm(pixels.view(36, -1, count), filters, out=products)
            torch.mm(back, products.view(36, -1), out=sums)
            place = result[4 * top : 4 * (top + step)].view(step, 4, across, 4, made)
            torch.add(sums.view(4, 4, step, across, made).permute(2, 0, 3, 1, 4), 0.0 if bias is None else bias, out=place)
    found = out.permute(0, 3, 1, 2)
    return found if x.is_contiguous(memory_format=torch.channels_last) else found.contiguous()
