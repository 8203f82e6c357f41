"""Networks whose features losses and metrics compare: VGG19 or SqueezeNet, ArcFace or MobileFaceNet, RetinaFace's body.

All are frozen and in eval mode; the perceptual network follows autocast, the others are in float32. VGG19 and ArcFace are the
paper's; the small ones let the full objective run where those are not to be had. Weights come from ``pfr_core.models.weights``
(VGG19, ArcFace and the detector are downloaded and checked) or from a file of the stated name in a folder that
``PFR_WEIGHTS_DIR`` names.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import squeezenet1_0, vgg19

from pfr_core.errors import CheckpointError, WeightsError
from pfr_core.faces.retinaface import INSTALL_FACEXLIB
from pfr_core.models.checkpoint import read_state_dict
from pfr_core.models.weights import locate

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


def find_supplied(file: str) -> Path:
    """Return a file that only the user can supply.

    Raises:
        WeightsError: it is in none of the folders.
    """
    folders = [Path(folder).expanduser() for folder in os.environ.get("PFR_WEIGHTS_DIR", "").split(os.pathsep) if folder]
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    looked = ", ".join(map(str, folders)) or "no folder: PFR_WEIGHTS_DIR is not set"
    raise WeightsError(f"{file}: not found (looked in {looked}). Put it into a folder and set PFR_WEIGHTS_DIR to that.")


def _imagenet(x: Tensor) -> Tensor:
    """Convert [-1,1] to ImageNet's normalisation."""
    mean = x.new_tensor([0.485, 0.456, 0.406])[:, None, None]
    std = x.new_tensor([0.229, 0.224, 0.225])[:, None, None]
    return ((x + 1) / 2 - mean) / std


def _frozen(network: nn.Module, path: Path, state: dict[str, Tensor]) -> None:
    try:
        network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    except RuntimeError as error:
        raise WeightsError(f"{path}: not the weights expected ({error}). Delete the file and get it again.") from error
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
        path = find_supplied(SUPPLIED[name]) if name in SUPPLIED else locate(name)
        state = read_state_dict(path)
        prefix = "features."
        _frozen(features, path, {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})
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
            path = find_supplied(SUPPLIED[name])
        else:
            try:
                from facexlib.recognition.arcface_arch import Backbone
            except ImportError as error:
                raise WeightsError(f"{INSTALL_FACEXLIB} ({error})") from error
            self.network = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
            path = locate("arcface")
        _frozen(self.network, path, read_state_dict(path))

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
    """Return the similarity that takes ``source`` to ``target`` [B,N,2] by least squares: matrices [B,2,2], offsets [B,2]."""
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

    STAGES = (
        ((3, 8, 2), (8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
        ((64, 128, 2), *(((128, 128, 1),) * 5)),
        ((128, 256, 2), (256, 256, 1)),
    )  # (inputs, outputs, stride) of each block

    def __init__(self) -> None:
        super().__init__()
        path = locate("retinaface_mobile0.25")
        for number, blocks in enumerate(self.STAGES, start=1):
            layers = [self._block(*block, first=number == 1 and i == 0) for i, block in enumerate(blocks)]
            setattr(self, f"stage{number}", nn.Sequential(*layers))
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path}: damaged ({error}). Delete it.") from error
        body = {name.removeprefix("module."): value for name, value in state.items()}
        stages = ("body.stage1.", "body.stage2.", "body.stage3.")
        _frozen(self, path, {name[len("body.") :]: value for name, value in body.items() if name.startswith(stages)})

    @staticmethod
    def _block(inputs: int, outputs: int, stride: int, *, first: bool) -> nn.Sequential:
        def act() -> nn.Module:
            return nn.LeakyReLU(0.1)

        if first:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), act())
        return nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            act(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            act(),
        )

    def forward(self, x: Tensor) -> Tensor:
        mean = x.new_tensor([104.0, 117.0, 123.0])[:, None, None]  # of BGR in 8-bit units
        x = x.float().flip(1) * 127.5 + 127.5 - mean
        pooled = []
        for number in range(1, len(self.STAGES) + 1):
            x = getattr(self, f"stage{number}")(x)
            pooled.append(x.mean(dim=(2, 3)))
        return torch.cat(pooled, dim=1)
