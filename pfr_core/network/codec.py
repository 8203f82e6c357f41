"""The asymmetric codec: section 3.1, left half of Figure 2, Eq. 1. The encoder has MMRBs, the decoder has none."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .config import SMALLEST, PFRConfig
from .layers import ConvLayer, EqualLinear, as_channels
from .mmrb import MMRB

Features = dict[int, Tensor]
"""Feature maps [B, channels(r), r, r] by resolution r."""


class Encoder(nn.Module):
    """[B,3,S,S] -> z [B,style_dim] and one feature map for every resolution from S (with a patch P: S/P) to 4."""

    def __init__(self, config: PFRConfig) -> None:
        super().__init__()
        down = config.resolutions[-2::-1]  # S/2 ... 4
        self.stem = ConvLayer(3 * config.patch**2, config.channels(config.features), 1)
        self.convs = nn.ModuleDict({str(r): ConvLayer(config.channels(2 * r), config.channels(r), 3, down=True) for r in down})
        self.mmrb = nn.ModuleDict({str(r): MMRB(config.channels(r)) for r in config.mmrb_resolutions})
        self.to_z = EqualLinear(config.channels(SMALLEST) * SMALLEST**2, config.style_dim, activate=True)
        self.finest, self.patch = config.features, config.patch

    def forward(self, x: Tensor) -> tuple[Tensor, Features]:
        x = self.stem(as_channels(x, self.patch))  # [B,C_S,S,S]
        features = {self.finest: x}
        for resolution, conv in self.convs.items():
            x = conv(x)  # [B,C_r,r,r]
            if resolution in self.mmrb:
                x = self.mmrb[resolution](x)
            features[int(resolution)] = x
        return self.to_z(x.flatten(1)), features


class Decoder(nn.Module):
    """Encoder features -> the 'clean' features that feed the noise branches, one for each resolution from 4 to S.

    ``y_4 = e_4`` and ``y_r = act(conv3x3(up2(y_{r/2}))) + e_r`` with the encoder's feature ``e_r`` (after its MMRB)
    added at every scale: ours, after GFPGAN, whose strategy the paper says it integrates.
    """

    def __init__(self, config: PFRConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleDict(
            {str(r): ConvLayer(config.channels(r // 2), config.channels(r), 3) for r in config.resolutions[1:]}
        )
        # Only for training: "L1 restoration loss for each resolution scale of the reconstructed feature maps" (3.1).
        self.to_rgb = nn.ModuleDict({str(r): ConvLayer(config.channels(r), 3, 1, activate=False) for r in config.resolutions})

    def forward(self, features: Features) -> Features:
        y = features[SMALLEST]
        clean = {SMALLEST: y}
        for resolution, conv in self.convs.items():
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = conv(y) + features[int(resolution)]
            clean[int(resolution)] = y
        return clean

    def pyramid(self, clean: Features) -> Features:
        """Return the RGB image that each clean feature holds, for the L1 pyramid loss of training: [B,3,r,r] by its side r."""
        return {r: self.to_rgb[str(r)](y) for r, y in clean.items()}
