"""RestoreFormer (Wang et al. 2022) and RestoreFormer++ (2023), by spandrel, which has the first only.

As the second's authors publish it, it differs in three things: four heads instead of eight, attention in the decoder at 32 px
too, and what that attends to, the encoder's features of that size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...network.face_model import FaceModel
from ..registry import CODEBOOK_DTYPES, RESTOREFORMER_LICENCE
from ..tensors import whole

PREFIX = "vqvae."
"""Of the network's tensors in the authors' own files, which hold those of the losses too."""
COUNTER = "quantize.utility_counter"
"""How often the entries of the codebook were used in training: in some of those files, and no part of the network."""
LEVELS = (1, 2, 2, 4, 4, 8)
"""Width of the features from 512 px down to 16 px, in multiples of the first."""
HEADS, HEADS_PLUS = 8, 4


class RestoreFormer(FaceModel):
    """RestoreFormer or RestoreFormer++ at 512 px."""

    kind = "RestoreFormer"
    dtypes = CODEBOOK_DTYPES
    size = 512
    licence = RESTOREFORMER_LICENCE

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        from spandrel.architectures.RestoreFormer import RestoreFormer as Network

        state = _own(state)
        plus = "decoder.up.4.attn.0.q.weight" in state
        entries, width = state["quantize.embedding.weight"].shape
        shape: dict[str, Any] = {
            "ch": state["encoder.conv_in.weight"].shape[0],
            "ch_mult": LEVELS,
            "z_channels": state["quant_conv.weight"].shape[1],
            "head_size": HEADS_PLUS if plus else HEADS,
        }

        def make() -> nn.Module:
            net = Network(n_embed=entries, embed_dim=width, **shape)
            if plus:
                net.decoder = type(net.decoder)(out_ch=3, attn_resolutions=(16, 32), **shape)
            return net

        self.net = whole(make, state, "RestoreFormer++" if plus else self.kind)

    @staticmethod
    def recognises(state: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors are those of one of the two."""
        wanted = {"encoder.conv_in.weight", "quantize.embedding.weight", "decoder.up.5.attn.0.norm2.weight"}
        return wanted <= set(_own(state))

    def forward(self, x: Tensor) -> Tensor:
        """Restore [B,3,512,512] in [-1,1]."""
        net: Any = self.net
        codes, _, _, features = net.encode(x)
        features.setdefault("block_4_atten", features["block_4"])  # of 32 px; only RestoreFormer++ looks at them
        image: Tensor = net.decode(codes, features)
        return image


def _own(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the network's own tensors by their plain names."""
    prefix = PREFIX if any(name.startswith(PREFIX) for name in state) else ""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    own.pop(COUNTER, None)
    return own
