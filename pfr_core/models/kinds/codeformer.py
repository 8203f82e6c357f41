"""CodeFormer (Zhou et al. 2022), by ``spandrel_extra_arches``, whose code of it is for non-commercial use."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...errors import CheckpointError
from ...network.face_model import FaceModel
from ...support.choices import HALFWAY
from ..registry import CODEBOOK_DTYPES, CODEFORMER_LICENCE, REGISTRY
from ..tensors import whole


class CodeFormer(FaceModel):
    """CodeFormer at 512 px; :attr:`pfr_core.RestoreOptions.fidelity` is its weight w."""

    kind = "CodeFormer"
    dtypes = CODEBOOK_DTYPES
    options = ("fidelity",)
    size = 512
    licence = CODEFORMER_LICENCE

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        try:
            from spandrel_extra_arches.architectures.CodeFormer import CodeFormer as Network
        except ImportError as error:
            raise CheckpointError(f"{REGISTRY['codeformer'].package_remedy} ({error})") from error
        levels = [size for size in ("16", "32", "64", "128", "256", "512") if f"fuse_convs_dict.{size}.scale.0.weight" in state]

        def make() -> nn.Module:
            return Network(
                dim_embd=state["position_emb"].shape[1],
                latent_size=state["position_emb"].shape[0],
                codebook_size=state["quantize.embedding.weight"].shape[0],
                n_layers=len({name.split(".")[1] for name in state if name.startswith("ft_layers.")}),
                connect_list=levels,
            )

        self.net = whole(make, state, self.kind)

    @staticmethod
    def recognises(state: Mapping[str, Tensor]) -> bool:
        """Return whether the tensors are CodeFormer's."""
        return {"position_emb", "idx_pred_layer.1.weight", "quantize.embedding.weight"} <= set(state)

    def forward(self, x: Tensor, fidelity: float = HALFWAY) -> Tensor:
        """Restore [B,3,512,512] in [-1,1]; ``fidelity`` from 0, the most detail, to 1, the most likeness to the input."""
        image: Tensor = self.net(x, weight=fidelity)[0]
        return image
