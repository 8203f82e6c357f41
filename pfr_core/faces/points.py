"""A second look at each found face for its five points: a small network on an upright crop of it (all of it ours).

A detector places points with features of a whole photograph, at a scale that suits some of its faces. Here every face is seen at
the same size, turned upright by the points it came with; what comes out is finer, and changes less when the photograph does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.download import obtain
from ..models.tensors import described, read_tensors, weights_of, write_described
from .align import TEMPLATE
from .face import Face
from .geometry import Matrix, invert, region, scale_of, scaled, shifted, similarity, transform, warp
from .retinaface import fold_norms

SIDE, EYES = 64, 21.0
"""Side in px of the crop, and the distance of the eyes in it."""

FRAME = (TEMPLATE - TEMPLATE.mean(axis=0)) * (EYES / np.linalg.norm(TEMPLATE[0] - TEMPLATE[1])) + (SIDE - 1) / 2
"""Where the five points should lie in the crop."""

STRIDE = 4
"""Of the maps in which the points are looked for."""

NAME = "the network of the second look at faces"

BATCH = 32
"""Faces looked at together."""

SMALLEST = 4.0
"""Extent in px of the five points of the smallest face that is looked at."""

LOOKS = 2
"""The second look's crop is laid by the first's points, so that little is left of where the detector put them."""

SEEN, UNSURE = 0.5, 0.12
"""A face keeps its points if the network does not see it there, the right way up, with at least this probability, or if it
expects its own to be further off than this, in distances of the eyes."""

CLEAR = 0.055
"""If it expects to be off by no more than this, the face surely stands the way its points say. Of a face that a detector took for
upright though it lies, or stands on its head, it expects more even where it sees one (ours, from photographs not for testing)."""


class PointsNetwork(nn.Module):
    """[B,1,S,S] of :func:`to_input` -> points [B,5,2] in px of the crop, log of their expected error [B,5], logit of a face [B].

    Residual convolutions down to 4 px, back up to the size of the maps; a point is the mean over its map (soft-argmax).
    """

    def __init__(self) -> None:
        super().__init__()
        self.quarter = nn.Sequential(*_conv(1, 16, 2), *_conv(16, 32, 2), Residual(32))
        self.eighth = nn.Sequential(*_conv(32, 64, 2), Residual(64), Residual(64))
        self.sixteenth = nn.Sequential(*_conv(64, 96, 2), Residual(96))
        self.up16, self.up8 = nn.Conv2d(96, 64, 1), nn.Conv2d(64, 32, 1)
        self.maps = nn.Sequential(*_conv(32, 32, 1), nn.Conv2d(32, 5, 1))
        self.sure = nn.Linear(96, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.quarter(x)  # [B,32,S/4,S/4]
        middle = self.eighth(fine)  # [B,64,S/8,S/8]
        coarse = self.sixteenth(middle)  # [B,96,S/16,S/16]
        middle = middle + F.interpolate(self.up16(coarse), scale_factor=2.0)
        fine = fine + F.interpolate(self.up8(middle), scale_factor=2.0)
        share = self.maps(fine).float().flatten(2).softmax(dim=2).unflatten(2, fine.shape[-2:])  # [B,5,S/4,S/4]
        at = torch.arange(fine.shape[-1], device=x.device) * STRIDE + (STRIDE - 1) / 2
        points = torch.stack([(share.sum(dim=2) * at).sum(dim=2), (share.sum(dim=3) * at).sum(dim=2)], dim=2)
        said = self.sure(coarse.mean(dim=(2, 3))).float()
        return points, said[:, :5], said[:, 5]


class Residual(nn.Module):
    """x + relu(norm(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _conv(channels: int, wanted: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, wanted, 3, stride, 1, bias=False), nn.BatchNorm2d(wanted), nn.ReLU(inplace=True)]


def to_input(gray: Tensor) -> Tensor:
    """Convert crops [B,S,S] uint8 to what the network takes: [B,1,S,S] float32, each with mean 0 and spread 1."""
    pixels = gray.float() / 255
    spread, mean = torch.std_mean(pixels, dim=(1, 2), keepdim=True)
    return ((pixels - mean) / (spread + 0.02))[:, None]


def crop(image: npt.NDArray[np.uint8], matrix: Matrix) -> npt.NDArray[np.uint8]:
    """Return the gray crop [SIDE,SIDE] uint8 that ``matrix`` cuts out of a photograph [H,W,3] RGB uint8, its border repeated."""
    shrink, (height, width) = 1 / scale_of(matrix), image.shape[:2]
    left, top, right, bottom = region(matrix, SIDE, width, height, int(4 * shrink) + 4)
    left, top = min(left, width - 1), min(top, height - 1)  # of a crop beyond the border, the border
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    part, matrix = image[top:bottom, left:right], shifted(matrix, left, top)
    if (times := min(int(shrink), *part.shape[:2])) > 1:
        size = (part.shape[1] // times, part.shape[0] // times)
        part, whole = cv2.resize(part, size, interpolation=cv2.INTER_AREA), part.shape
        matrix = scaled(matrix, size[0] / whole[1], size[1] / whole[0])
    gray = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.clip(warp(gray, matrix, SIDE, SIDE, interpolation=cv2.INTER_LINEAR).round(), 0, 255).astype(np.uint8)


class SecondLook:
    """Places the points of found faces anew.

    Args:
        path: weights that :func:`save` wrote.
        device: where the network runs.

    Raises:
        WeightsError: not such weights.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.network, self.device = PointsNetwork(), device
        with weights_of(NAME, path):
            self.network.load_state_dict(read_tensors(path)[0])
        fold_norms(self.network.eval())
        self.network.to(device).to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, device: torch.device) -> SecondLook:
        """Return the one that ships with PFR.

        Raises:
            WeightsError: it is missing from the installation.
        """
        return cls(obtain("points"), device)

    def __call__(self, image: npt.NDArray[np.uint8], faces: Sequence[Face]) -> list[Face]:
        """Return the faces of a photograph [H,W,3] RGB uint8, their points placed anew where the network is sure of them."""
        return self.judge(image, faces)[0]

    def judge(self, image: npt.NDArray[np.uint8], faces: Sequence[Face]) -> tuple[list[Face], list[bool]]:
        """Return the faces as when called, and which of them are clearly seen to stand the way their points say."""
        placed, clear = list(faces), [False] * len(faces)
        for _ in range(LOOKS):
            placed, clear = self._look(image, placed)
        return placed, clear

    def _look(self, image: npt.NDArray[np.uint8], faces: Sequence[Face]) -> tuple[list[Face], list[bool]]:
        placed, clear = list(faces), [False] * len(faces)
        for start in range(0, len(faces), BATCH):
            matrices = {
                number: similarity(face.points, FRAME)
                for number, face in enumerate(faces[start : start + BATCH], start)
                if np.ptp(face.points, axis=0).max() >= SMALLEST
            }
            if not matrices:
                continue
            crops = torch.from_numpy(np.stack([crop(image, matrix) for matrix in matrices.values()]))
            with torch.inference_mode():
                said = [part.cpu().double() for part in self.network(to_input(crops.to(self.device)))]
            for (number, matrix), points, error, seen in zip(matrices.items(), *said, strict=True):
                off = error.exp().mean()
                if seen.sigmoid() >= SEEN and off <= UNSURE:
                    face = faces[number]
                    placed[number] = Face.of(face.box, face.score, transform(points.numpy(), invert(matrix)))
                    clear[number] = bool(off <= CLEAR)
        return placed, clear


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether the tensors are named as those of a :class:`PointsNetwork`."""
    with torch.device("meta"):
        return tensors.keys() == PointsNetwork().state_dict().keys()


def describe(path: Path) -> dict[str, Any]:
    """Return what a file that :func:`save` wrote says of itself.

    Raises:
        WeightsError: not such a file.
    """
    with weights_of(NAME, path):
        return described(path, "second look")[0]


def save(network: nn.Module, path: Path, *, provenance: Mapping[str, Any], licence: str, dtype: torch.dtype) -> None:
    """Write ``network``'s weights as safetensors, atomically, with what is to be known of them as metadata.

    Raises:
        CheckpointError: the file cannot be written, or does not end in ``.safetensors``.
    """
    write_described(path, network.state_dict(), dtype=dtype, licence=licence, provenance=provenance)
