"""Networks whose features losses and metrics compare: VGG19 or SqueezeNet, ArcFace or MobileFaceNet, RetinaFace's body.

All are frozen and in eval mode; the perceptual network follows autocast, the others are in float32. VGG19 and ArcFace are the
paper's; the small ones let the full objective run where those are not to be had. VGG19's, ArcFace's and the detector's weights
are downloaded and checked (``pfr_core.models.download``); the others are files of the stated names in the folders that are
searched for weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import squeezenet1_0, vgg19

from pfr_core.errors import WeightsError
from pfr_core.faces.retinaface import centred, read_network
from pfr_core.models.disk import supplied
from pfr_core.models.download import obtain
from pfr_core.models.registry import INSTALL_FACEXLIB
from pfr_core.models.tensors import read_state_dict, weights_of

from ..run.config import IdentityName, PerceptualName
from .mobilefacenet import MobileFaceNet

ARCFACE_SIZE = 112
ARCFACE_TEMPLATE = torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""The five points in the 112 px frame on which face recognition networks are trained."""

LAYERS: dict[str, tuple[int, ...]] = {
    # The last convolution of each block, before its activation: conv1_2, conv2_2, conv3_4, conv4_4, conv5_4.
    "vgg19": (2, 7, 16, 25, 34),
    # The first convolution and the last fire module before each change of resolution, and the last.
    "squeezenet": (0, 5, 10, 12),
}

SUPPLIED = {"squeezenet": "squeezenet1_0_features_fp16.safetensors", "mobilefacenet": "mobilefacenet.safetensors"}
"""Files without a published address: the user puts them into a folder of ``PFR_WEIGHTS_DIR``."""


def _imagenet(x: Tensor) -> Tensor:
    """Convert [-1,1] to ImageNet's normalisation."""
    mean = x.new_tensor([0.485, 0.456, 0.406])[:, None, None]
    std = x.new_tensor([0.229, 0.224, 0.225])[:, None, None]
    return ((x + 1) / 2 - mean) / std


def _frozen(name: str, network: nn.Module, path: Path, state: dict[str, Tensor]) -> None:
    with weights_of(name, path):
        network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    network.requires_grad_(False).eval()


class Frozen(nn.Module):
    """Stays in eval mode whatever is around it."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


class PerceptualNetwork(Frozen):
    """[B,3,S,S] in [-1,1] -> the features of :data:`LAYERS`, shallow first, in the precision of autocast.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """

    def __init__(self, name: PerceptualName) -> None:
        super().__init__()
        self.layers = LAYERS[name]
        build: Callable[[], nn.Module] = {"vgg19": vgg19, "squeezenet": squeezenet1_0}[name]
        features = build().features
        assert isinstance(features, nn.Sequential)
        for layer in features.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # in place it would overwrite the features of the layer before
        path = supplied(SUPPLIED[name]) if name in SUPPLIED else obtain(name)
        state = read_state_dict(path)
        prefix = "features."
        _frozen(name, features, path, {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})
        self.features = features[: self.layers[-1] + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = _imagenet(x.float())
        found = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.layers:
                found.append(x)
        return found


class IdentityNetwork(Frozen):
    """[B,3,S,S] in [-1,1] and five points [B,5,2] in pixels -> embeddings [B,D] of unit length.

    The face is brought into the ArcFace frame by a differentiable warp from its own landmarks.

    Raises:
        WeightsError: the weights cannot be had or do not fit, or facexlib (ArcFace) is not installed.
    """

    def __init__(self, name: IdentityName) -> None:
        super().__init__()
        self.name = name
        if name == "mobilefacenet":
            self.network: nn.Module = MobileFaceNet()
            path = supplied(SUPPLIED[name])
        else:
            try:
                from facexlib.recognition.arcface_arch import Backbone
            except ImportError as error:
                raise WeightsError(f"{INSTALL_FACEXLIB} ({error})") from error
            self.network = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
            path = obtain("arcface")
        _frozen(name, self.network, path, read_state_dict(path))

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            face = arcface_crop(x.float(), points.float())
            face = _imagenet(face) if self.name == "mobilefacenet" else face
            return F.normalize(self.network(face), dim=1)


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


class DetectorFeatures(Frozen):
    """Pooled features of RetinaFace's MobileNet body, for KID: [B,3,S,S] in [-1,1] -> [B,448].

    No loss uses them, they know faces, and whoever has the detector has them. They are not Inception's: such a KID compares
    models with each other, not with published figures (ours).

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """

    def __init__(self) -> None:
        super().__init__()
        network, _ = read_network("mobile0.25", obtain("retinaface_mobile0.25"), torch.device("cpu"))
        self.body = network.body.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        stages = self.body(centred(x.float() * 127.5 + 127.5))
        return torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1)
