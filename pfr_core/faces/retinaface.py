"""RetinaFace: building its network, its anchors, and turning its outputs into faces.

Anchors' sizes and the coding of boxes and points are those of the published weights. What facexlib does in Python loops and for
every anchor is done here in whole arrays and only for those anchors that score (same result, a test compares them). The trainer
of the embedded detector uses the same functions.

Paper: Deng et al., RetinaFace: Single-stage Dense Face Localisation in the Wild, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..models.tensors import described, read_tensors, weights_of, write_described
from .detections import Detections, Floats
from .retinaface_network import Backbone, RetinaFaceNetwork

STRIDES = (8, 16, 32)
SIZES = ((16, 32), (64, 128), (256, 512))
"""Sides in px of the two square anchors at every cell of each stride."""

CENTRE, EXTENT = 0.1, 0.2
"""Offsets are coded in these shares of the anchor's side (SSD's "variances")."""

MEAN_BGR = (104.0, 117.0, 123.0)
"""Subtracted from the pixels, which stay in 0 to 255."""

PUBLISHED_LARGEST_FACE = 320
"""Width in px up to which the published networks find faces reliably; of much larger ones they see parts (ours, measured by
``python -m trainer evaluate-detector PHOTOS --sizes ...``)."""


@lru_cache(maxsize=8)
def anchors(height: int, width: int) -> Floats:
    """Return [N,3] float32: centre x, centre y and side of every anchor in px, in the order of the network's outputs."""
    parts = []
    for stride, sizes in zip(STRIDES, SIZES, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid((np.arange(rows) + 0.5) * stride, (np.arange(columns) + 0.5) * stride, sizes, indexing="ij")
        parts.append(np.stack([x, y, side], axis=-1).reshape(-1, 3))
    result = np.concatenate(parts).astype(np.float32)
    result.flags.writeable = False  # it is shared
    return result


def encode(boxes: Floats, points: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Return what the network should say at anchors ``at`` [N,3] of boxes [N,4] and points [N,10]: offsets [N,4], [N,10]."""
    centre, side = at[:, :2], at[:, 2:]
    middle, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offsets = np.concatenate([(middle - centre) / (CENTRE * side), np.log(extent / side) / EXTENT], axis=1)
    return offsets, (points - np.tile(centre, 5)) / (CENTRE * side)


def decode(offsets: Floats, points: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Return the inverse of :func:`encode`: boxes (left, top, right, bottom) [N,4] and points (x, y, x, y, ...) [N,10] in px."""
    centre, side = at[:, :2], at[:, 2:]
    middle, extent = centre + offsets[:, :2] * (CENTRE * side), side * np.exp(offsets[:, 2:] * EXTENT)
    return np.concatenate([middle - extent / 2, middle + extent / 2], axis=1), np.tile(centre, 5) + points * (CENTRE * side)


def to_input(rgb: npt.NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    """Convert [H,W,3] or [B,H,W,3] RGB uint8 to what the network takes: [B,3,H,W] float32, channels last in memory."""
    pixels = torch.tensor(rgb) if isinstance(rgb, np.ndarray) else rgb  # a copy: those of a photo may be read-only
    batch = pixels if pixels.ndim == 4 else pixels[None]
    return centred(batch.to(device).permute(0, 3, 1, 2))


def centred(rgb: Tensor) -> Tensor:
    """Turn RGB [B,3,H,W] in 0 to 255 to the BGR that the network was trained on, its mean subtracted."""
    return rgb.flip(1) - torch.tensor(MEAN_BGR, device=rgb.device).view(1, 3, 1, 1)


def read_network(backbone: Backbone, path: Path, device: torch.device) -> tuple[RetinaFaceNetwork, int]:
    """Return the network in eval mode with the weights of ``path``, and up to what width in px it finds faces reliably.

    The weights are as published, or what :func:`save` wrote.

    Raises:
        WeightsError: not such weights.
    """
    network, largest_face = RetinaFaceNetwork(backbone).to(device), PUBLISHED_LARGEST_FACE
    with weights_of(f"a RetinaFace {backbone}", path):
        state, metadata = read_tensors(path)
        if path.suffix.lower() == ".safetensors":  # ours
            largest_face = int(metadata["largest_face"])
        network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return network.eval(), largest_face


def fold_norms(network: nn.Module) -> None:
    """Put each batch normalisation into the convolution before it, in place: the same numbers in less time (ours).

    Args:
        network: in eval mode; what it was trained with is gone afterwards.
    """
    for module in list(network.modules()):
        for (first, convolution), (second, norm) in normalised(module):
            setattr(module, first, fuse_conv_bn_eval(convolution, norm))
            setattr(module, second, nn.Identity())


def normalised(module: nn.Module) -> list[tuple[tuple[str, nn.Conv2d], tuple[str, nn.BatchNorm2d]]]:
    """Return names and modules of ``module``'s convolutions with a batch normalisation directly behind them."""
    return [
        ((first, convolution), (second, norm))
        for (first, convolution), (second, norm) in pairwise(module.named_children())
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    ]


class RetinaFace:
    """A RetinaFace network that finds faces.

    Args:
        network: in eval mode.
        largest_face: width in px up to which it finds faces reliably.
    """

    sure = 0.95
    """Score of a face that surely stands upright (ours, from photographs that are not for testing)."""

    def __init__(self, network: RetinaFaceNetwork, largest_face: int = PUBLISHED_LARGEST_FACE) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.largest_face = largest_face
        self.device = next(network.parameters()).device

    @classmethod
    def load(cls, backbone: Backbone, path: Path, device: torch.device) -> RetinaFace:
        """Load the weights of ``path``; raises as :func:`read_network`."""
        network, largest_face = read_network(backbone, path, device)
        fold_norms(network)
        return cls(network, largest_face)

    def detect_faces(self, rgb: npt.NDArray[np.uint8], conf_threshold: float, nms_threshold: float) -> Detections:
        """Return the faces of ``rgb`` [H,W,3] with more than that score.

        Of boxes that overlap with an IoU above ``nms_threshold`` the best stays.
        """
        with torch.inference_mode():
            offsets, scores, points = (out[0] for out in self.network(to_input(rgb, self.device)))
            kept = (scores[:, 1] > conf_threshold).nonzero()[:, 0]
            kept = kept[scores[kept, 1].argsort(descending=True)]
            rows = [part[kept].float().cpu().numpy() for part in (offsets, scores[:, 1], points)]
        boxes, xy = decode(rows[0], rows[2], anchors(*rgb.shape[:2])[kept.cpu().numpy()])
        return Detections(boxes, rows[1], xy.reshape(-1, 5, 2)).suppressed(nms_threshold)


def save(
    network: nn.Module,
    path: Path,
    *,
    largest_face: int,
    provenance: Mapping[str, Any],
    licence: str,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write ``network``'s weights as safetensors, atomically, with what is to be known of them as metadata.

    Variances of a first layer that sees 0 to 255 would overflow float16: each convolution takes over the scale of the
    batch normalisation behind it, which computes the same.

    Raises:
        CheckpointError: the file cannot be written, or does not end in ``.safetensors``.
    """
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    for parent, module in network.named_modules():
        for (first, _), (second, norm) in normalised(module):
            kernel, behind = f"{parent}.{first}.weight", f"{parent}.{second}"
            scale = (state[f"{behind}.running_var"] + norm.eps).rsqrt()
            state[kernel] *= scale.view(-1, 1, 1, 1)
            state[f"{behind}.running_mean"] *= scale
            state[f"{behind}.running_var"].fill_(1 - norm.eps)
    write_described(path, state, dtype=dtype, licence=licence, provenance=provenance, largest_face=str(largest_face))


def describe(path: Path) -> dict[str, Any]:
    """Return what a file that :func:`save` wrote says of itself.

    Raises:
        WeightsError: not such a file.
    """
    with weights_of("a face detector of PFR", path):
        told, metadata = described(path, "RetinaFace mobile0.25")
        return told | {"largest_face": int(metadata["largest_face"])}
