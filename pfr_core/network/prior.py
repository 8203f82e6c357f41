"""The StyleGAN2 prior with concatenated noise branches: section 3.1, right half of Figure 2, Eq. 2 and 3.

The modulated convolution of a batch is computed on the activations: the input is scaled by the style, the output by the
demodulation factor, around ONE shared weight. That is the same arithmetic as StyleGAN2's weight per sample with a
grouped convolution, and lets the library use its fast kernels for the whole batch. A sample alone needs neither: its weight
is scaled instead, which is smaller than the feature maps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codec import Features
from .config import SMALLEST, PFRConfig
from .layers import GAIN, SLOPE, EqualLinear, blur, normal_parameter, upsample2


class ModulatedConv(nn.Module):
    """Convolution modulated by w: [B,in,H,W], [B,style_dim] -> [B,out,H,W], or [B,out,2H,2W] with ``up``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        style_dim: int,
        *,
        up: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = normal_parameter(out_channels, in_channels, kernel, kernel)
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.scale = 1.0 / math.sqrt(in_channels * kernel**2)
        self.padding = kernel // 2
        self.up = up
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor, *, gain: float = 1.0, bias: Tensor | None = None) -> Tensor:
        """Convolve; the result is multiplied by ``gain``, then ``bias`` [out] is added."""
        style, factor = self._factors(w, gain)
        if x.shape[0] == 1:
            scale = (factor.t() * style * self.scale).to(self.weight.dtype)  # [out,in]
            return self._convolve(x, self.weight * scale[:, :, None, None], bias)
        x = self._convolve(x * style.to(x.dtype)[:, :, None, None], self.weight * self.scale)
        factor = factor.to(x.dtype)[:, :, None, None]
        return x * factor if bias is None else torch.addcmul(bias.to(x.dtype)[None, :, None, None], x, factor)

    def _factors(self, w: Tensor, gain: float) -> tuple[Tensor, Tensor]:
        """Return by what the input [B,in] and the output [B,out] are to be multiplied, in float32."""
        style = self.modulation(w)
        if not self.demodulate:
            return style, style.new_full((style.shape[0], self.weight.shape[0]), gain)
        # Demodulation cancels the size of the style: dividing by its maximum changes nothing in exact arithmetic
        # and keeps float16 from overflowing (StyleGAN2-ADA).
        size = style.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)  # [B,1]
        style = style / size
        energy = self.weight.float().square().sum(dim=(2, 3)) * self.scale**2  # [out,in]
        with torch.autocast(w.device.type, enabled=False):
            return style, torch.rsqrt(style.square() @ energy.t() + 1e-8 / size.square()) * gain

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not self.up:
            return F.conv2d(x, weight, bias, padding=self.padding)
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [B,out,2H+1,2W+1]
        return blur(x, 1, gain=4.0, bias=bias)  # [B,out,2H,2W]


class NoiseBranch(nn.Module):
    """Concatenates (Eq. 3; not adds) the noise feature, scaled by a learned number: [B,C,H,W] twice -> [B,2C,H,W]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))  # ours: alive from the start; StyleGAN2 starts at 0

    def forward(self, x: Tensor, noise: Tensor, bias: Tensor, gain: float) -> Tensor:
        """Concatenate; the noise is multiplied by ``gain``, too, and ``bias`` [C] is added to it."""
        noise = torch.addcmul(bias[None, :, None, None], noise.to(x.dtype), (self.weight * gain).to(x.dtype))
        return torch.cat([x, noise], dim=1)


class StyleBlock(nn.Module):
    """Eq. 3: modulated convolution, concatenated noise, bias, activation. [B,in,H,W] -> [B,2*out,H,W], or 2H,2W."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, out_channels, 3, style_dim, up=up)
        self.noise = NoiseBranch()
        self.bias = nn.Parameter(torch.zeros(2 * out_channels))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        # The activation's gain is folded into both halves and the bias, see layers.py.
        own, noises = (self.bias * GAIN).to(x.dtype).chunk(2)
        x = self.noise(self.conv(x, w, gain=GAIN, bias=own), noise, noises, gain=GAIN)
        return F.leaky_relu(x, SLOPE, inplace=True)


class ToRGB(nn.Module):
    """Style block feature -> RGB, added to the up-sampled RGB of the scale below. Accumulates in float32."""

    def __init__(self, in_channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        rgb = self.conv(x, w).float() + self.bias.float()[None, :, None, None]
        if skip is None:
            return rgb
        with torch.autocast(x.device.type, enabled=False):
            return rgb + upsample2(skip)


class StyleGAN2Prior(nn.Module):
    """Mapping network, learned constant, style blocks: z [B,style_dim] and noise features -> RGB [B,3,S,S] float32."""

    def __init__(self, config: PFRConfig) -> None:
        super().__init__()
        self.mapping = nn.ModuleList(
            EqualLinear(config.style_dim, config.style_dim, lr_mul=0.01, activate=True) for _ in range(config.n_mlp)
        )
        smallest = config.channels(SMALLEST)
        self.const = normal_parameter(1, smallest, SMALLEST, SMALLEST)
        self.blocks = nn.ModuleDict()  # "r.0" up-samples (not at 4 px), "r.1" follows
        self.to_rgb = nn.ModuleDict()
        for r in config.resolutions:
            channels, blocks = config.channels(r), nn.ModuleList()
            if r > SMALLEST:
                blocks.append(StyleBlock(2 * config.channels(r // 2), channels, config.style_dim, up=True))
            blocks.append(StyleBlock(2 * channels if r > SMALLEST else channels, channels, config.style_dim))
            self.blocks[str(r)] = blocks
            self.to_rgb[str(r)] = ToRGB(2 * channels, config.style_dim)

    def map(self, z: Tensor) -> Tensor:
        """Compute w = MLP(z), Eq. 2; z is normalised to unit mean square first."""
        w = z.float()
        w = w * torch.rsqrt(w.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.mapping:
            w = layer(w)
        return w

    def synthesise(self, w: Tensor, noise: Features) -> Tensor:
        """Make RGB [B,3,S,S] (with a patch P: S/P) of w [B,style_dim] and a noise feature for every resolution.

        For style mixing in training, w may be [B,R,style_dim]: a style of its own for each of the R resolutions.
        """
        return self.with_features(w, noise)[0]

    def forward(self, z: Tensor, noise: Features) -> Tensor:
        return self.synthesise(self.map(z), noise)

    def with_features(self, w: Tensor, noise: Features) -> tuple[Tensor, Tensor]:
        """Return what :meth:`synthesise` does, and the features [B,2C,S,S] (with a patch P: S/P) that it was made of."""
        x = self.const.to(noise[SMALLEST].dtype).expand(w.shape[0], -1, -1, -1)
        rgb: Tensor | None = None
        for i, (resolution, blocks) in enumerate(self.blocks.items()):
            style = w if w.ndim == 2 else w[:, i]
            for block in blocks:  # type: ignore[attr-defined]  # ModuleDict hides that it is a ModuleList
                x = block(x, style, noise[int(resolution)])
            rgb = self.to_rgb[resolution](x, style, rgb)
        assert rgb is not None
        return rgb, x
