"""Networks that recognise faces: MobileFaceNet or ArcFace. The trainer's loss and metrics use them, and the measure of clips."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..support.choices import IdentityName
from .disk import on_disk, supplied
from .download import obtain
from .mobilefacenet import MobileFaceNet
from .registry import INSTALL_FACEXLIB
from .tensors import read_state_dict, weights_of

ARCFACE_SIZE = 112
ARCFACE_TEMPLATE = torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""The five points in the 112 px frame on which face recognition networks are trained."""

MOBILEFACENET = "mobilefacenet.safetensors"
"""A file without a published address: the user puts it into a folder of ``PFR_WEIGHTS_DIR``."""


def imagenet(x: Tensor) -> Tensor:
    """Convert [-1,1] to ImageNet's normalisation."""
    mean = x.new_tensor([0.485, 0.456, 0.406])[:, None, None]
    std = x.new_tensor([0.229, 0.224, 0.225])[:, None, None]
    return ((x + 1) / 2 - mean) / std


def load_frozen(name: str, network: nn.Module, path: Path, state: dict[str, Tensor]) -> None:
    """Load a state of any precision into ``network``, which is never trained.

    Raises:
        WeightsError: it does not fit; ``name`` and ``path`` are named.
    """
    with weights_of(name, path):
        network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    network.requires_grad_(False).eval()


class Frozen(nn.Module):
    """Stays in eval mode whatever is around it."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


class IdentityNetwork(Frozen):
    """[B,3,S,S] in [-1,1] and five points [B,5,2] in pixels -> embeddings [B,D] of unit length.

    The face is brought into the ArcFace frame by a differentiable warp from its own landmarks.

    Attributes:
        path: the file of its weights.

    Raises:
        WeightsError: the weights cannot be had or do not fit, or facexlib (ArcFace) is not installed.
    """

    def __init__(self, name: IdentityName) -> None:
        super().__init__()
        self.name = name
        if name == "mobilefacenet":
            self.network: nn.Module = MobileFaceNet()
            self.path = supplied(MOBILEFACENET)
        else:
            try:
                from facexlib.recognition.arcface_arch import Backbone
            except ImportError as error:
                raise WeightsError(f"{INSTALL_FACEXLIB} ({error})") from error
            self.network = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
            self.path = obtain("arcface")
        load_frozen(name, self.network, self.path, read_state_dict(self.path))

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            face = arcface_crop(x.float(), points.float())
            face = imagenet(face) if self.name == "mobilefacenet" else face
            return F.normalize(self.network(face), dim=1)


def identity_here() -> IdentityName | None:
    """Return the network whose weights are on this machine; None if there is none. Nothing is downloaded."""
    with suppress(WeightsError):
        supplied(MOBILEFACENET)
        return "mobilefacenet"
    return "arcface" if on_disk("arcface") is not None and find_spec("facexlib") is not None else None


def arcface_crop(images: Tensor, points: Tensor) -> Tensor:
    """Return faces [B,3,S,S] with landmarks [B,5,2] (pixel centres at whole numbers) in the ArcFace frame: [B,3,112,112].

    A similarity by least squares. Sampled on a grid twice as fine and averaged, from an image of at most 512 px, in which a face
    of the FFHQ frame has less than twice the grid's resolution: nothing aliases.
    """
    fine = 2 * ARCFACE_SIZE
    points = points + 0.5  # from the image's corner
    while images.shape[-1] > 512:
        images, points = F.avg_pool2d(images, 2), points / 2
    target = (ARCFACE_TEMPLATE.to(points) + 0.5) * (fine / ARCFACE_SIZE)  # [5,2] in the fine grid
    matrix, offset = similarity(target.expand(len(points), -1, -1), points)  # grid -> image
    line = torch.arange(fine, device=points.device, dtype=points.dtype) + 0.5
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)  # [F,F,2] as (x, y)
    where = torch.einsum("bij,hwj->bhwi", matrix, grid) + offset[:, None, None]
    where = where * (2 / images.shape[-1]) - 1
    return F.avg_pool2d(F.grid_sample(images, where, mode="bilinear", padding_mode="border", align_corners=False), 2)


def similarity(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the similarity that takes ``source`` to ``target`` [B,N,2] by least squares: matrices [B,2,2], offsets [B,2].

    The equation of :func:`pfr_core.faces.geometry.similarity`, for a batch on the device; a test holds them together.
    """
    source_mean, target_mean = source.mean(dim=1), target.mean(dim=1)
    s, t = source - source_mean[:, None], target - target_mean[:, None]
    norm = s.square().sum(dim=(1, 2))
    a = (s * t).sum(dim=(1, 2)) / norm
    b = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(dim=1) / norm
    matrix = torch.stack([torch.stack([a, -b], dim=1), torch.stack([b, a], dim=1)], dim=1)
    return matrix, target_mean - torch.einsum("bij,bj->bi", matrix, source_mean)
