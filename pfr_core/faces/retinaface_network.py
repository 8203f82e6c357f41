"""The network of RetinaFace, in the names of the published weights, so that every file of them loads as it is.

Paper: Deng et al., RetinaFace: Single-stage Dense Face Localisation in the Wild, 2019; a feature pyramid, SSH's context modules
and three heads over MobileNetV1 at a quarter of its width, or over ResNet-50. A test holds it against facexlib's class.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Backbone = Literal["mobile0.25", "resnet50"]

_ANCHORS = 2
"""At each cell of each stride."""

_WIDTHS: dict[Backbone, tuple[tuple[int, int, int], int]] = {
    "mobile0.25": ((64, 128, 256), 64),
    "resnet50": ((512, 1024, 2048), 256),
}
"""Channels of the body's three outputs, and of everything behind them."""


class RetinaFaceNetwork(nn.Module):
    """[B,3,H,W] BGR, 0 to 255 without its mean -> boxes [B,N,4], scores [B,N,2] and points [B,N,10], all coded, for N anchors.

    Args:
        backbone: which body.
        raw: scores are logits, as training wants; otherwise probabilities.
    """

    def __init__(self, backbone: Backbone, *, raw: bool = False) -> None:
        super().__init__()
        self.raw = raw
        inner, width = _WIDTHS[backbone]
        self.body = MobileNet() if backbone == "mobile0.25" else ResNet()
        self.fpn = FPN(inner, width)
        self.ssh1, self.ssh2, self.ssh3 = (SSH(width) for _ in range(3))
        self.ClassHead, self.BboxHead, self.LandmarkHead = (
            nn.ModuleList(Head(width, values) for _ in range(3)) for values in (2, 4, 10)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = self.fpn(self.body(x))  # strides 8, 16, 32
        levels = [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]
        scores, boxes, points = (
            torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)
            for heads in (self.ClassHead, self.BboxHead, self.LandmarkHead)
        )
        return boxes, scores if self.raw else scores.softmax(dim=-1), points


class MobileNet(nn.Module):
    """MobileNetV1 of a quarter of the width: [B,3,H,W] -> features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        first = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
        self.stage1 = nn.Sequential(convolution(3, 8, stride=2, leak=0.1), *(separable(*each) for each in first))
        self.stage2 = nn.Sequential(separable(64, 128, 2), *(separable(128, 128, 1) for _ in range(5)))
        self.stage3 = nn.Sequential(separable(128, 256, 2), separable(256, 256, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.stage1(x)
        middle = self.stage2(fine)
        return [fine, middle, self.stage3(middle)]


class ResNet(nn.Module):
    """Torchvision's ResNet-50 without its classifier: [B,3,H,W] -> features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50  # not needed by the detector that most use

        for name, module in resnet50(weights=None).named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for name, module in self.named_children():
            x = module(x)
            if name in ("layer2", "layer3", "layer4"):
                outputs.append(x)
        return outputs


class FPN(nn.Module):
    """The feature pyramid: coarse levels are added to finer ones."""

    def __init__(self, inner: tuple[int, int, int], width: int) -> None:
        super().__init__()
        leak = _leak(width)
        self.output1, self.output2, self.output3 = (convolution(each, width, kernel=1, leak=leak) for each in inner)
        self.merge1, self.merge2 = (convolution(width, width, leak=leak) for _ in range(2))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = self.output1(levels[0]), self.output2(levels[1]), self.output3(levels[2])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        return [fine, middle, coarse]


class SSH(nn.Module):
    """Context of 3, 5 and 7 pixels side by side (Najibi et al., SSH: Single Stage Headless Face Detector, 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half, quarter, leak = width // 2, width // 4, _leak(width)
        self.conv3X3 = convolution(width, half, leak=None)
        self.conv5X5_1 = convolution(width, quarter, leak=leak)
        self.conv5X5_2 = convolution(quarter, quarter, leak=None)
        self.conv7X7_2 = convolution(quarter, quarter, leak=leak)
        self.conv7x7_3 = convolution(quarter, quarter, leak=None)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv5X5_1(x)
        return F.relu(torch.cat([self.conv3X3(x), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))], dim=1))


class Head(nn.Module):
    """[B,C,H,W] -> [B, anchors of all cells, values]."""

    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(width, _ANCHORS * values, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1x1(x)
        return out.permute(0, 2, 3, 1).reshape(len(x), -1, self.values)


def convolution(
    inner: int, outer: int, *, kernel: int = 3, stride: int = 1, groups: int = 1, leak: float | None
) -> nn.Sequential:
    """Return a convolution with its batch normalisation, and a leaky ReLU unless ``leak`` is None."""
    layers = [nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outer)]
    return nn.Sequential(*layers, *([] if leak is None else [nn.LeakyReLU(leak, inplace=True)]))


def separable(inner: int, outer: int, stride: int) -> nn.Sequential:
    """Return a convolution of each channel by itself and one across channels."""
    return nn.Sequential(
        *convolution(inner, inner, stride=stride, groups=inner, leak=0.1), *convolution(inner, outer, kernel=1, leak=0.1)
    )


def _leak(width: int) -> float:
    """Return the slope below 0 that the published networks have at this width."""
    return 0.1 if width <= 64 else 0.0
