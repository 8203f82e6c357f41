"""StyleGAN2's building blocks: equalised learning rate, resampling with the [1, 3, 3, 1] filter, convolution layers.

Weights are stored at unit variance and scaled at run time (equalised learning rate), so that one learning rate suits
all layers. Activations are leaky ReLU 0.2 with gain sqrt(2); the gain is folded into the weights, which saves a pass
over the feature map: ``lrelu(x) * g == lrelu(x * g)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

SLOPE = 0.2
GAIN = math.sqrt(2.0)


@lru_cache(maxsize=64)
def _filter(channels: int, gain: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the [1, 3, 3, 1] low-pass filter as a depthwise kernel [C,1,4,4] that sums to ``gain``."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) * (gain / 64.0)
    return kernel.to(device, dtype).expand(channels, 1, 4, 4).contiguous()


def _depthwise(x: Tensor, gain: float) -> Tensor:
    # The cache must hold ordinary tensors even if it is first filled inside torch.inference_mode().
    with torch.inference_mode(False), torch.no_grad():
        return _filter(x.shape[1], gain, x.device, x.dtype)


def blur(x: Tensor, padding: int, *, gain: float = 1.0, stride: int = 1, bias: Tensor | None = None) -> Tensor:
    """Filter [B,C,H,W] low-pass with zero padding, then add ``bias`` [C]; output side ``(H + 2 * padding - 4) // stride + 1``."""
    return F.conv2d(x, _depthwise(x, gain), bias, padding=padding, stride=stride, groups=x.shape[1])


def upsample2(x: Tensor) -> Tensor:
    """Enlarge [B,C,H,W] to [B,C,2H,2W]: zero insertion and the [1, 3, 3, 1] filter (StyleGAN2's skip connection)."""
    return F.conv_transpose2d(x, _depthwise(x, 4.0), stride=2, padding=1, groups=x.shape[1])


def enlarged(x: Tensor, times: int) -> Tensor:
    """Enlarge [B,C,H,W] to [B,C,times*H,times*W] bilinearly: for 2 it is the [1, 3, 3, 1] filter, and edges go on as they are."""
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


def averaged(x: Tensor, times: int) -> Tensor:
    """Shrink [B,C,times*H,times*W] to the means [B,C,H,W] over squares; ``times`` is a power of two.

    Three times as fast on a CPU as torch's pooling, but not backwards.
    """
    for _ in range(times.bit_length() - 1):
        x = (x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 4
    return x


def as_channels(x: Tensor, patch: int) -> Tensor:
    """Make channels of each ``patch`` x ``patch`` pixels of [B,C,P*H,P*W]: [B,C*P*P,H,W] (pixel unshuffle)."""
    # As einops does it, two to four times as fast on a CPU as torch's own function.
    return rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=patch, q=patch)


def haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how the columns, the rows and the diagonals of each 2x2 pixels of [B,C,H,W] differ, [B,C,H/2,W/2] each.

    Haar's wavelet without its scale; H and W are even.
    """
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return a - b + c - d, a + b - c - d, a - b - c + d


def normal_parameter(*shape: int, std: float = 1.0) -> nn.Parameter:
    """Return a parameter drawn from a normal distribution around 0.

    On the meta device, where there is nothing to draw, it stays empty: torch's meta version of a draw would import two
    seconds' worth of compiler before the first model is loaded.
    """
    values = torch.empty(shape)
    return nn.Parameter(values if values.is_meta else values.normal_(std=std))


class EqualLinear(nn.Module):
    """Fully connected layer with equalised learning rate: [..., in] -> [..., out].

    Always computed in float32, from parameters that ``.half()`` and the like do not round: the mapping network and the
    styles are cheap, every later feature depends on them, and rounding them adds up to half again as much error to a
    bfloat16 network.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = normal_parameter(out_features, in_features, std=1.0 / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        self.scale = lr_mul / math.sqrt(in_features)
        self.lr_mul = lr_mul
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = F.linear(x.float(), self.weight.float() * self.scale, self.bias.float() * self.lr_mul)
            return F.leaky_relu(x, SLOPE) * GAIN if self.activate else x

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EqualLinear:
        def without_rounding(value: Tensor) -> Tensor:
            moved = fn(value)
            return value.to(moved.device) if moved.dtype in (torch.float16, torch.bfloat16) else moved

        return super()._apply(without_rounding, recurse)  # type: ignore[no-untyped-call]  # torch does not annotate it


class ConvLayer(nn.Module):
    """Equalised convolution, optionally down-sampling by two, bias, optionally activation.

    [B,in,H,W] -> [B,out,H,W], or [B,out,H/2,W/2] with ``down`` (blur, then stride 2).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        down: bool = False,
        activate: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = normal_parameter(out_channels, in_channels, kernel, kernel)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = GAIN if activate else 1.0
        self.scale = 1.0 / math.sqrt(in_channels * kernel**2)
        self.kernel = kernel
        self.down = down
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (self.scale * self.gain)
        bias = None if self.bias is None else self.bias * self.gain
        if not self.down:
            x = F.conv2d(x, weight, bias, padding=self.kernel // 2)
        elif self.kernel == 1:
            x = F.conv2d(blur(x, 1, stride=2), weight, bias)  # the same as filtering first and dropping pixels after
        else:
            x = F.conv2d(blur(x, (self.kernel + 1) // 2), weight, bias, stride=2)
        return F.leaky_relu(x, SLOPE, inplace=True) if self.activate else x
