"""What weights there are: the facts about each file. Where they are found is in ``disk``, how they are fetched in ``download``.

Every path to a published file is checked (size, SHA-256) before it leaves this package. What is in the files is the
business of whoever loads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import WeightsError

GPEN_LICENCE = "GPEN publishes no licence for its weights: no right to use, change or pass on this file is granted with it."
"""Of files that are not in the registry: users bring them."""


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    An embedded file has no addresses, hash or size here: it travels with the code, so a hash beside it would vouch for
    nothing that the code itself does not, and would be a second place to edit at each training run. Damage still shows:
    safetensors checks its length when it is read.

    Example:
        >>> REGISTRY["parsenet"].licence
        'CC BY-NC-SA 4.0'
    """

    name: str  # what users and code call it
    file: str  # file name searched for
    urls: tuple[str, ...]  # the published address, then mirrors; empty if embedded
    sha256: str  # 64 lower-case hex digits; empty if embedded
    bytes: int  # size of the file; 0 if embedded
    licence: str  # of the weights, not of our code
    source: str  # who made them
    purpose: str  # what PFR uses them for
    embedded: bool = False  # ships as pfr_core/assets/<file>


INSTALL_FACEXLIB = "facexlib is not installed. Install it with: python -m pip install --no-deps facexlib"
"""The remedy where a network is chosen that is facexlib's own: the face parser, ArcFace."""

_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download"
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"
_CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0"  # carries the same files

REGISTRY: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name="default",
            file="pfr-default.safetensors",
            urls=(),
            sha256="",
            bytes=0,
            licence="non-commercial research only (LICENSE-WEIGHTS.md)",
            source="trained by this project",
            purpose="face restoration, the model used unless another is named",
            embedded=True,
        ),
        Weights(
            name="builtin",
            file="pfr-detector.safetensors",
            urls=(),
            sha256="",
            bytes=0,
            licence="non-commercial research only (LICENSE-WEIGHTS.md)",
            source="trained by this project",
            purpose="face detection, ships with PFR",
            embedded=True,
        ),
        Weights(
            name="retinaface_mobile0.25",
            file="detection_mobilenet0.25_Final.pth",
            urls=(
                f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth",
                f"{_CODEFORMER}/detection_mobilenet0.25_Final.pth",
            ),
            sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
            bytes=1789735,
            licence="MIT",
            source="Pytorch_Retinaface (biubug6), published by facexlib",
            purpose="face detection, small and fast",
        ),
        Weights(
            name="retinaface_resnet50",
            file="detection_Resnet50_Final.pth",
            urls=(f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth", f"{_CODEFORMER}/detection_Resnet50_Final.pth"),
            sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
            bytes=109497761,
            licence="MIT",
            source="Pytorch_Retinaface (biubug6), published by facexlib",
            purpose="face detection, accurate",
        ),
        Weights(
            name="yunet",
            file="face_detection_yunet_2023mar.onnx",
            urls=(
                f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
                "https://huggingface.co/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx",
            ),
            sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            bytes=232589,
            licence="MIT",
            source="YuNet (Shiqi Yu and others), published by OpenCV Zoo",
            purpose="face detection by OpenCV, smallest and fastest",
        ),
        Weights(
            name="parsenet",
            file="parsing_parsenet.pth",
            urls=(f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth", f"{_CODEFORMER}/parsing_parsenet.pth"),
            sha256="3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
            bytes=85331193,
            # facexlib is MIT, but its ParseNet is taken from PSFR-GAN, whose licence is the stricter one.
            licence="CC BY-NC-SA 4.0",
            source="PSFR-GAN (Chaofeng Chen), published by facexlib",
            purpose="face parsing, for masks that follow skin and hair",
        ),
        Weights(
            name="vgg19",
            file="vgg19-dcbb9e9d.pth",
            urls=("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",),
            sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            bytes=574673361,
            licence="BSD-3-Clause",
            source="torchvision",
            purpose="training: feature-matching loss",
        ),
        Weights(
            name="arcface",
            file="recognition_arcface_ir_se50.pth",
            urls=(f"{_FACEXLIB}/v0.1.0/recognition_arcface_ir_se50.pth",),
            sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
            bytes=175367323,
            licence="MIT",
            source="InsightFace_Pytorch (TreB1eN), published by facexlib",
            purpose="training: face-preserving loss",
        ),
    )
}


def entry(name: str) -> Weights:
    """Return the facts about weights ``name``.

    Raises:
        WeightsError: no such name.
    """
    if name not in REGISTRY:
        raise WeightsError(f"unknown weights {name!r}. Known: {', '.join(REGISTRY)}.")
    return REGISTRY[name]
