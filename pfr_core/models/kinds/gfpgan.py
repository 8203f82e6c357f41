"""GFPGAN (Wang et al. 2021) 1.2 to 1.4: the layout without CUDA code ("clean"), by spandrel."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

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

    @staticmethod
    def recognises(state: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors are GFPGAN's, of any version."""
        return "stylegan_decoder.constant_input.weight" in state and "final_linear.weight" in state

    def forward(self, x: Tensor) -> Tensor:
        """Restore [B,3,512,512] in [-1,1]."""
        image: Tensor = self.net(x, return_rgb=False, randomize_noise=False)[0]
        return image
