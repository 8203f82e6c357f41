"""Adversaries for texture, all ours: for few faces, where a discriminator of whole faces from scratch learns the faces by heart.

One judges the features that a frozen network has of a crop (projected GANs), the other the finest details alone. Neither can
touch the pose or the colours of a face.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pfr_core.network.layers import averaged, haar

SLOPE = 0.2
WIDTH = 64
"""Channels of a projected head."""


class ProjectedHeads(nn.Module):
    """Features [B,C,H,W] of each layer -> logits [B,1,H,W]; spectral norm keeps the heads tame without a gradient penalty.

    Args:
        channels: C of each layer.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(count, WIDTH, 1)),
                nn.LeakyReLU(SLOPE),
                spectral_norm(nn.Conv2d(WIDTH, WIDTH, 3, padding=1)),
                nn.LeakyReLU(SLOPE),
                spectral_norm(nn.Conv2d(WIDTH, 1, 1)),
            )
            for count in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Judge features that are first brought to unit mean square, face by face: the size of a layer's is arbitrary."""
        sizes = [f.float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt().detach() for f in features]
        return [head(f.float() / size) for head, f, size in zip(self.heads, features, sizes, strict=True)]


class DetailDiscriminator(nn.Module):
    """Bands [B,18,H,W] of :func:`details` -> logits [B,1,H/4,W/4]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(18, 32, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(64, 96, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(96, 1, 3, padding=1),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):  # torch's own start halves the signal from layer to layer
                nn.init.kaiming_normal_(layer.weight, SLOPE)

    def forward(self, bands: Tensor) -> Tensor:
        return self.layers(bands)


def details(images: Tensor) -> Tensor:
    """Return what of [B,3,H,W] in [-1,1] is finer than four pixels, [B,18,H/2,W/2], of a face about 1: Haar's two octaves."""
    images = images.float()
    finest, next_to_it = (torch.cat(haar(averaged(images, times)), dim=1) for times in (1, 2))
    return 8 * torch.cat([finest, F.interpolate(next_to_it, scale_factor=2.0)], dim=1)


def generator_paired(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return the generator's side of the relativistic loss: the output is to look no less real than the truth at its place.

    Mean over places, then over the maps (Jolicoeur-Martineau 2019, in pairs as in R3GAN). Pairs of one place differ in what the
    network made of it alone: a discriminator of few faces need not learn first what faces look like.
    """
    return torch.stack([F.softplus(r.float() - f.float()).mean() for r, f in zip(real, fake, strict=True)]).mean()


def discriminator_paired(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return the discriminators' side: the truth is to look more real than the output at its place."""
    return generator_paired(fake, real)
