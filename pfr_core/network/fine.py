"""The levels between the features of a network with a patch and its image: few channels, and noise for texture (ours)."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from .config import PFRConfig
from .layers import ConvLayer, averaged, enlarged

LENGTH, WIDTH = 6.0, 0.6
"""Standard deviations in pixels, along and across, of the strokes that directed noise is made of."""


@lru_cache(maxsize=8)
def texture_noise(size: int, channels: int, directed: int, device: torch.device) -> Tensor:
    """Return float32 noise [1,C,size,size] of unit variance, always the same: a face comes out the same twice, and in a clip.

    The last ``directed`` channels are of strokes, in as many directions around the half circle; the others are one white picture.
    """
    # The cache must hold ordinary tensors even if it is first filled inside torch.inference_mode().
    with torch.inference_mode(False), torch.no_grad():
        random = torch.Generator().manual_seed(size)
        white = torch.randn(1, size, size, generator=random)
        spectra = torch.fft.rfft2(torch.randn(directed, size, size, generator=random))
        strokes = torch.fft.irfft2(spectra.mul_(_strokes(size, directed)))
        strokes /= strokes.square().mean(dim=(1, 2), keepdim=True).sqrt()
        return torch.cat([white.expand(channels - directed, -1, -1), strokes])[None].to(device)


def _strokes(size: int, directions: int) -> Tensor:
    """Return the transfer functions [D,size,size/2+1] of Gaussian strokes; the first lies along a row."""
    angles = torch.arange(directions) * (math.pi / directions)
    y, x = torch.meshgrid(torch.fft.fftfreq(size), torch.fft.rfftfreq(size), indexing="ij")
    along = angles.cos()[:, None, None] * x + angles.sin()[:, None, None] * y
    squares = along.square_().mul_(LENGTH**2 - WIDTH**2).add_(WIDTH**2 * (x * x + y * y))
    return squares.mul_(-2 * math.pi**2).exp_()


class FineLevel(nn.Module):
    """Twice the size: features [B,in,H,W] and what of the input is finer than the patch [B,3,2H,2W] -> [B,out,2H,2W].

    A pixel-shuffle draws each patch by itself: seams, and for texture a pattern that repeats from patch to patch. Here features
    are enlarged smoothly, and what is new comes from the noise, of each channel as strong as they say at each place, from the
    input and from convolutions over all three. Half of the channels have noise of strokes, each in a direction of its own: white
    noise and two small convolutions make leather of hair.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = out_channels - 3  # with the input's three as many as come out: a multiple of 16 fills a CPU's vectors
        self.directed = out_channels // 2
        self.features = ConvLayer(in_channels, inner, 1, activate=False)
        self.strength = ConvLayer(in_channels, inner, 1, activate=False)
        self.conv = ConvLayer(out_channels, out_channels, 3)
        self.residual = ConvLayer(out_channels, out_channels, 3)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.strength.weight)
        assert self.strength.bias is not None
        nn.init.ones_(self.strength.bias)  # alive from the start, as in prior.py

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        x, strength = enlarged(torch.cat([self.features(x), self.strength(x)], dim=1), 2).chunk(2, dim=1)
        x = torch.addcmul(x, strength, texture_noise(x.shape[-1], x.shape[1], self.directed, x.device).to(x.dtype))
        x = self.conv(torch.cat([x, finer.to(x.dtype)], dim=1))
        restored: Tensor = x + self.residual(x)
        return restored


class FineLevels(nn.Module):
    """RGB [B,3,S/P,S/P] and the prior's finest features [B,2C,S/P,S/P] -> the image [B,3,S,S], at first that RGB enlarged."""

    def __init__(self, config: PFRConfig) -> None:
        super().__init__()
        sizes = [config.features << i for i in range(1, config.patch.bit_length())]
        channels = [2 * config.channels(config.features), *map(config.fine_channels, sizes)]
        self.levels = nn.ModuleDict(
            {str(size): FineLevel(*around) for size, around in zip(sizes, pairwise(channels), strict=True)}
        )
        self.to_rgb = ConvLayer(channels[-1], 3, 3, activate=False)
        nn.init.zeros_(self.to_rgb.weight)

    def forward(self, rgb: Tensor, features: Tensor, finer: Tensor) -> Tensor:
        """Enlarge; ``finer`` [B,3,S,S] is what of the input is finer than the patch."""
        x = features
        for size, level in self.levels.items():
            x = level(x, averaged(finer, finer.shape[-1] // int(size)))
        return enlarged(rgb, finer.shape[-1] // rgb.shape[-1]) + self.to_rgb(x).float()
