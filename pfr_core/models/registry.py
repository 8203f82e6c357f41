"""What weights there are: the facts about each file. Where they are found is in ``disk``, how they are fetched in ``download``.

Every path to a published file is checked (size, SHA-256) before it leaves this package. What is in the files is the
business of whoever loads them.

No publisher of a restoration network states a checksum: those here are of files found alike at two independent places or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from ..errors import WeightsError
from ..support.choices import EVERY_DTYPE, DetectorName, DTypeName, MaskKind

GFPGAN_DTYPES: tuple[DTypeName, ...] = ("fp32", "bf16")  # StyleGAN2's features leave the range of fp16
CODEBOOK_DTYPES: tuple[DTypeName, ...] = ("fp32",)
"""Of CodeFormer and RestoreFormer: in half precision they may choose another entry of their codebook, another detail instead of a
less precise one."""

GPEN_LICENCE = "GPEN publishes no licence for its weights: no right to use, change or pass on this file is granted with it."
GFPGAN_LICENCE = (
    "Apache-2.0, except for its StyleGAN2 parts (NVIDIA Source Code License) and DFDNet parts (CC BY-NC-SA 4.0), which forbid "
    "commercial use"
)
CODEFORMER_LICENCE = "S-Lab License 1.0, which forbids commercial use"
RESTOREFORMER_LICENCE = "Apache-2.0"
OWN_LICENCE = "non-commercial research only (LICENSE-WEIGHTS.md)"


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    An entry without addresses that is not embedded is one that PFR does not download: the user brings the file.

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
    sha256: str  # 64 lower-case hex digits; empty if embedded or not known
    bytes: int  # size of the file; 0 if embedded or not known
    licence: str  # of the weights, not of our code
    source: str  # who made them
    purpose: str  # what PFR uses them for
    embedded: bool = False  # ships as pfr_core/assets/<file>
    size: int = 0  # side in px of the faces it restores; 0 of what restores none
    options: tuple[str, ...] = ()  # fields of RestoreOptions that only this model has
    dtypes: tuple[DTypeName, ...] = EVERY_DTYPE  # precisions that the network bears
    package: str = ""  # of the network's code, where that is not PFR's own

    @property
    def announcement(self) -> str:
        """What is told before the file is downloaded."""
        return f"{self.name}: {self.file}, {self.bytes / 1e6:.1f} MB, by {self.source}. Licence: {self.licence}."

    @property
    def package_remedy(self) -> str:
        """What is told where the package with the network's code is missing."""
        return f"{self.name}'s code is a package of its own, under {self.licence}: python -m pip install {self.package}"


PARSER = "parsenet"
"""Name of the face parser's weights."""

INSTALL_FACEXLIB = "facexlib is not installed. Install it with: python -m pip install --no-deps facexlib"
"""The remedy where a network is chosen that is facexlib's own: the face parser, ArcFace."""

_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download"
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"
_CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0"  # carries the same files
_GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download"
_REACTOR = "https://huggingface.co/datasets/Gourieff/ReActor/resolve/main/models/facerestore_models"  # a mirror


def _gfpgan(version: str, sha256: str) -> Weights:
    file = f"GFPGANv{version}.pth"
    return Weights(
        name=f"gfpgan-{version}",
        file=file,
        urls=(f"{_GFPGAN}/v1.3.0/{file}", f"{_REACTOR}/{file}"),
        sha256=sha256,
        bytes=348632874,
        licence=GFPGAN_LICENCE,
        source="GFPGAN (Xintao Wang and others)",
        purpose="face restoration",
        size=512,
        dtypes=GFPGAN_DTYPES,
    )


def _gpen(size: int, bytes: int = 0, sha256: str = "") -> Weights:
    return Weights(
        name=f"gpen-{size}",
        file=f"GPEN-BFR-{size}.pth",
        urls=(),  # the publisher withdrew the grant
        sha256=sha256,
        bytes=bytes,
        licence=GPEN_LICENCE,
        source="GPEN (Tao Yang and others)",
        purpose="face restoration",
        size=size,
    )


def _ours(
    name: str, file: str, purpose: str, *, size: int = 0, options: tuple[str, ...] = (), licence: str = OWN_LICENCE
) -> Weights:
    """Return weights that ship with PFR; ``licence`` in the words of the file's metadata."""
    return Weights(
        name=name,
        file=file,
        urls=(),
        sha256="",
        bytes=0,
        licence=licence,
        source="trained by this project",
        purpose=purpose,
        embedded=True,
        size=size,
        options=options,
    )


REGISTRY: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        _ours(
            "default",
            "pfr-default.safetensors",
            "face restoration, the model used unless another is named",
            size=512,
            options=("fidelity",),
            licence="Non-commercial research use only. Trained on faces under several licences, many of them non-commercial or "
            "unstated.",
        ),
        _gfpgan("1.3", "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70"),
        _gfpgan("1.4", "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad"),
        Weights(
            name="codeformer",
            file="codeformer.pth",
            urls=(f"{_CODEFORMER}/codeformer.pth",),
            sha256="1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
            bytes=376637898,
            licence=CODEFORMER_LICENCE,
            source="CodeFormer (Shangchen Zhou and others)",
            purpose="face restoration, with a choice between detail and likeness to the input",
            size=512,
            options=("fidelity",),
            dtypes=CODEBOOK_DTYPES,
            package="spandrel_extra_arches",
        ),
        Weights(
            name="restoreformer",
            file="RestoreFormer.pth",
            urls=(f"{_GFPGAN}/v1.3.4/RestoreFormer.pth",),
            sha256="07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
            bytes=290785322,
            licence=RESTOREFORMER_LICENCE,
            source="RestoreFormer (Zhouxia Wang and others)",
            purpose="face restoration",
            size=512,
            dtypes=CODEBOOK_DTYPES,
        ),
        Weights(
            name="restoreformer++",
            file="RestoreFormer++.ckpt",
            urls=("https://github.com/wzhouxiff/RestoreFormerPlusPlus/releases/download/v1.0.0/RestoreFormer++.ckpt",),
            sha256="613fe52805f86bf8c2bffff08ae9f7a0b99f408be1bf221767af6183038be3a2",
            bytes=294028815,
            licence=RESTOREFORMER_LICENCE,
            source="RestoreFormer++ (Zhouxia Wang and others)",
            purpose="face restoration",
            size=512,
            dtypes=CODEBOOK_DTYPES,
        ),
        _gpen(256),
        _gpen(512, 284085738, "f1002c41add95b0decad69604d80455576f7187dd99ca16bd611bcfd44c10b51"),
        _gpen(1024),
        _gpen(2048),
        _ours("builtin", "pfr-detector.safetensors", "face detection, ships with PFR"),
        _ours("points", "pfr-points.safetensors", "five points of found faces, ships with PFR"),
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
            name=PARSER,
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
        Weights(
            name="alexnet",
            file="alexnet-owt-7be5be79.pth",
            urls=("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            bytes=244408911,
            licence="BSD-3-Clause",
            source="torchvision",
            purpose="evaluation: trunk of LPIPS",
        ),
        Weights(
            name="vgg16",
            file="vgg16-397923af.pth",
            urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            bytes=553433881,
            licence="BSD-3-Clause",
            source="torchvision",
            purpose="evaluation: trunk of DISTS and, if asked for, of LPIPS",
        ),
        Weights(
            name="inception",
            file="weights-inception-2015-12-05-6726825d.pth",
            urls=("https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",),
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            bytes=95628359,
            licence="Apache-2.0",
            source="TensorFlow's Inception of 2015, converted by torch-fidelity",
            purpose="evaluation: features of FID",
        ),
    )
}


def dtypes_of(model: object) -> tuple[DTypeName, ...]:
    """Return the precisions that a model bears, as far as that is known before its file is read: from its published name.

    Example:
        >>> dtypes_of("codeformer"), dtypes_of("mine.pth")
        (('fp32',), ('fp32', 'fp16', 'bf16'))
    """
    return REGISTRY[str(model)].dtypes if str(model) in REGISTRY else EVERY_DTYPE


def check_package(model: object) -> None:
    """Look whether the code of a model's network is here, as far as that is known before its file is there: from its name.

    Raises:
        WeightsError: it is not.
    """
    known = REGISTRY.get(str(model))
    if known is not None and known.package and find_spec(known.package) is None:
        raise WeightsError(known.package_remedy)


def around(detector: DetectorName, mask: MaskKind = "box") -> list[str]:
    """Return the names of the weights by which faces are found and cut out, as far as such a choice needs any.

    Args:
        detector: ``auto`` takes what is on this machine, and needs none.
        mask: without facexlib a mask of the face parser fails for that reason, and its weights are not worth a download.

    Example:
        >>> around("auto"), around("yunet")
        ([], ['yunet'])
    """
    needed: list[str] = [] if detector == "auto" else [detector]
    return [*needed, PARSER] if mask == "parse" and find_spec("facexlib") is not None else needed


def entry(name: str) -> Weights:
    """Return the facts about weights ``name``.

    Raises:
        WeightsError: no such name.
    """
    if name not in REGISTRY:
        raise WeightsError(f"unknown weights {name!r}. Known: {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def restorers() -> list[Weights]:
    """Return the models that restore faces, the default one first.

    Example:
        >>> [each.name for each in restorers()][:3]
        ['default', 'gfpgan-1.3', 'gfpgan-1.4']
    """
    return [weights for weights in REGISTRY.values() if weights.size]


def obtainable() -> list[str]:
    """Return the names of those that come with PFR or can be downloaded.

    Example:
        >>> "gfpgan-1.4" in obtainable(), "gpen-512" in obtainable()
        (True, False)
    """
    return [weights.name for weights in restorers() if weights.embedded or weights.urls]


def published(file: str) -> Weights | None:
    """Return the entry whose file has this name; None for a file that is not in the registry.

    Example:
        >>> published("codeformer.pth").name
        'codeformer'
    """
    return next((weights for weights in REGISTRY.values() if weights.file == file), None)
