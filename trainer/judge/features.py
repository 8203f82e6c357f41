"""Networks whose features losses and metrics compare: VGG19 or SqueezeNet, RetinaFace's body. Faces are recognised in the core.

All are frozen and in eval mode; the perceptual network follows autocast, the others are in float32. VGG19 and ArcFace are the
paper's; the small ones let the full objective run where those are not to be had. VGG19's, ArcFace's and the detector's weights
are downloaded and checked (``pfr_core.models.download``); the others are files of the stated names in the folders that are
searched for weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_0, vgg19

from pfr_core.faces.retinaface import centred, read_network
from pfr_core.models.disk import supplied
from pfr_core.models.download import obtain
from pfr_core.models.identity import Frozen, imagenet, load_frozen
from pfr_core.models.tensors import read_state_dict

from ..run.config import PerceptualName

LAYERS: dict[str, tuple[int, ...]] = {
    # The last convolution of each block, before its activation: conv1_2, conv2_2, conv3_4, conv4_4, conv5_4.
    "vgg19": (2, 7, 16, 25, 34),
    # The first convolution and the last fire module before each change of resolution, and the last.
    "squeezenet": (0, 5, 10, 12),
}

SQUEEZENET = "squeezenet1_0_features_fp16.safetensors"
"""A file without a published address: the user puts it into a folder of ``PFR_WEIGHTS_DIR``."""


class PerceptualNetwork(Frozen):
    """[B,3,S,S] in [-1,1] -> the features of :data:`LAYERS`, shallow first, in the precision of autocast.

    Attributes:
        path: the file of its weights.

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
        self.path = supplied(SQUEEZENET) if name == "squeezenet" else obtain(name)
        state = read_state_dict(self.path)
        prefix = "features."
        load_frozen(
            name, features, self.path, {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        )
        self.features = features[: self.layers[-1] + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = imagenet(x.float())
        found = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.layers:
                found.append(x)
        return found


class DetectorFeatures(Frozen):
    """Pooled features of RetinaFace's MobileNet body, for KID: [B,3,S,S] in [-1,1] -> [B,448].

    No loss uses them, they know faces, and whoever has the detector has them. They are not Inception's: such a KID compares
    models with each other, not with published figures (ours).

    Attributes:
        path: the file of the weights.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path = obtain("retinaface_mobile0.25")
        network, _ = read_network("mobile0.25", self.path, torch.device("cpu"))
        self.body = network.body.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        stages = self.body(centred(x.float() * 127.5 + 127.5))
        return torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1)
