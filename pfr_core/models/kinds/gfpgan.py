"""GFPGAN (Wang et al. 2021) 1.2 to 1.4: the layout without CUDA code ("clean"), by spandrel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import CheckpointError
from ...network.face_model import FaceModel
from ..registry import GFPGAN_DTYPES, GFPGAN_LICENCE
from ..tensors import whole


class GFPGAN(FaceModel):
    """GFPGAN at 512 px.

    Its noise is the one stored in the file: drawn anew, as the published program does, it would give a face another
    texture each time.
    """

    kind = "GFPGAN"
    dtypes = GFPGAN_DTYPES
    size = 512
    licence = GFPGAN_LICENCE

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        if "conv_body_first.0.weight" in state:
            raise CheckpointError(
                "This is GFPGAN 1.0, whose layers need CUDA code of its own. Use gfpgan-1.3 or gfpgan-1.4, which are "
                "downloaded by these names."
            )
        from spandrel.architectures.GFPGAN import GFPGAN as Network

        self.net = whole(Network, state, self.kind)
        bear_any_layout(self.net)

    @staticmethod
    def recognises(state: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors are GFPGAN's, of any version."""
        return "stylegan_decoder.constant_input.weight" in state and "final_linear.weight" in state

    def forward(self, x: Tensor) -> Tensor:
        """Restore [B,3,512,512] in [-1,1]."""
        image: Tensor = self.net(x, return_rgb=False, randomize_noise=False)[0]
        return image


def bear_any_layout(net: nn.Module) -> None:
    """Let spandrel's network run channels last, in which its weights of five dimensions cannot be, nor be viewed as it does."""
    from spandrel.architectures.GFPGAN.__arch.stylegan2_clean_arch import ModulatedConv2d

    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ModulatedConv2d):
                setattr(parent, name, _ModulatedConv(child))
    net.get_submodule("final_conv").register_forward_hook(lambda module, args, output: output.contiguous())


class _ModulatedConv(nn.Module):
    """What spandrel's ``ModulatedConv2d`` computes, around one weight of four dimensions (see network/prior.py)."""

    def __init__(self, theirs: Any) -> None:  # noqa: ANN401  # spandrel's networks are not typed
        super().__init__()
        self.modulation: nn.Linear = theirs.modulation
        self.weight = nn.Parameter(theirs.weight[0], requires_grad=False)  # [out,in,k,k]
        self.up, self.demodulate = theirs.sample_mode == "upsample", bool(theirs.demodulate)
        self.padding: int = theirs.padding
        self.eps: float = theirs.eps

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        style = self.modulation(style)  # [B,in]
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        factor = style.new_ones(style.shape[0], self.weight.shape[0])  # [B,out]
        if self.demodulate:
            factor = torch.rsqrt(style.square() @ self.weight.square().sum(dim=(2, 3)).t() + self.eps)
        if x.shape[0] == 1:
            return F.conv2d(x, self.weight * (factor.t() * style)[:, :, None, None], padding=self.padding)
        return F.conv2d(x * style[:, :, None, None], self.weight, padding=self.padding) * factor[:, :, None, None]
