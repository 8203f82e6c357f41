"""PFR, the restoration network of Figure 2: asymmetric codec and StyleGAN2 prior."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from .codec import Decoder, Encoder, Features
from .config import PFRConfig
from .face_model import FaceModel
from .fine import FineLevels
from .layers import ConvLayer, averaged, enlarged
from .need import Need
from .prior import StyleGAN2Prior


class TrainingOutput(NamedTuple):
    """What :meth:`PFR.forward_for_training` returns.

    Attributes:
        image: the restored faces, [B,3,S,S] in about [-1,1].
        pyramid: the decoder's RGB image at every scale; empty if the network has no decoder.
    """

    image: Tensor
    pyramid: Features


class PFR(FaceModel):
    """Restores aligned faces: [B,3,S,S] in [-1,1] -> [B,3,S,S], about [-1,1] (not clamped), in the input's dtype.

    A sample's result does not depend on the others in the batch.

    Example:
        >>> net = PFR(PFRConfig(size=64, narrow=0.125))
        >>> net(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 3, 64, 64])
    """

    kind = "PFR"
    sees_float32 = True  # what passes around the network, and whether a face is noisy, is not for bfloat16 to say

    def __init__(self, config: PFRConfig) -> None:
        super().__init__()
        self.config = config
        self.size = config.size
        self.encoder = Encoder(config)
        self.decoder = Decoder(config) if config.decoder else None
        self.prior = StyleGAN2Prior(config)
        if config.patch > 1:
            # How much of the input passes around the network at each place: of what is finer than the features, and of the rest.
            self.gate = ConvLayer(config.channels(config.features), 2, 3, activate=False)
            nn.init.zeros_(self.gate.weight)
            self.fine = FineLevels(config)
            # Fitted apart (trainer/run/need.py): a loss of the image teaches nothing where a ruined face is taken for a good one.
            self.need = Need().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch.

        Raises:
            InputError: ``x`` is not a floating-point [B,3,S,S] with the S of the configuration.
        """
        return self._run(x)[0].to(x.dtype)

    def forward_for_training(self, x: Tensor) -> TrainingOutput:
        """Restore a batch, and return also what losses of training see."""
        image, clean = self._run(x)
        return TrainingOutput(image, {} if self.decoder is None else self.decoder.pyramid(clean))

    def _run(self, x: Tensor) -> tuple[Tensor, Features]:
        size, x = self.config.size, x.contiguous()  # three channels: image arithmetic is fastest in planes
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size) or not x.is_floating_point():
            raise InputError(
                f"PFR got {x.dtype} {list(x.shape)}; this network takes float [B,3,{size},{size}] in [-1,1]. "
                "Use FaceRestorer for photographs of any size."
            )
        seen = x.to(self.encoder.stem.weight.dtype) if not torch.is_autocast_enabled(x.device.type) else x
        z, features = self.encoder(seen)  # Eq. 1
        clean = features if self.decoder is None else self.decoder(features)
        image, finest = self.prior.with_features(self.prior.map(z), clean)  # Eq. 2, 3
        if (patch := self.config.patch) > 1:
            finer_passes, coarse_passes = self.gate(clean[self.config.features]).float().chunk(2, dim=1)  # [B,1,S/P,S/P] each
            given = x.float()
            coarse = averaged(given, patch)
            finer = given - enlarged(coarse, patch)
            image = torch.lerp(image, coarse, coarse_passes)
            image = self.fine(image, finest, finer) + enlarged(1 + finer_passes, patch) * finer
            image = torch.lerp(given, image, self.need(x).sigmoid()[:, :, None, None])
        return image, clean
