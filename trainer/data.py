"""Training data: aligned faces, degraded on the fly by Eq. 17.

A sample is a pure function of (run seed, sample counter): neither the number of workers nor an interruption changes it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pfr_core import Degradation
from pfr_core.errors import InputError
from pfr_core.image_io import IMAGE_SUFFIXES

FULL_SIZE = 512
"""Faces are degraded at this size, for which the ranges of Eq. 17 are stated, and then resized to the network's."""

MINIMUM_NATIVE = 400
"""Crops magnified from fewer source pixels are never the truth (ours)."""

RGB8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FaceFile:
    """One aligned face on disk."""

    path: Path
    real: bool
    licence: str


def list_faces(folder: str | Path, split: str) -> list[FaceFile]:
    """The faces of ``split`` (``"train"`` or ``"val"``) that can be the truth at full size.

    ``folder`` holds ``index.csv`` (columns split, file, size, kind, native_px, licence) and ``<split>/<file>``; or, without
    an index, images in the FFHQ frame, all of them taken.

    Raises:
        InputError: no such folder, or no usable face in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Pass --data the folder with the aligned faces.")
    index = folder / "index.csv"
    if index.is_file():
        with index.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        faces = [
            FaceFile(folder / split / row["file"], row["kind"] == "real", row["licence"])
            for row in rows
            if int(row["size"]) >= FULL_SIZE and int(row["native_px"] or 0) >= MINIMUM_NATIVE
        ]
    else:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        faces = [FaceFile(path, real=True, licence="not stated") for path in paths]
    if not faces:
        raise InputError(f"{folder}: no {split} faces of at least {MINIMUM_NATIVE} source pixels found.")
    return faces


def read_face(path: Path) -> RGB8:
    """An aligned face as [512,512,3] RGB uint8.

    Raises:
        InputError: the file cannot be read; the message names it.
    """
    try:
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}). Remove it from the training folder.") from error
    return resize(rgb, FULL_SIZE)


def resize(image: RGB8, size: int) -> RGB8:
    """Square resize: averaging areas when shrinking, bicubic when enlarging."""
    if image.shape[:2] == (size, size):
        return image
    smaller = size < image.shape[0]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def to_tensor(image: RGB8) -> Tensor:
    """[H,W,3] uint8 -> [3,H,W] float32 in [-1,1]."""
    return rearrange(torch.from_numpy(np.ascontiguousarray(image)), "h w c -> c h w").float() / 127.5 - 1.0


class DegradedFaces(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (degraded, truth), each [3,size,size] float32 in [-1,1], by sample counter.

    Args:
        faces: what to draw from.
        size: the network's size in px.
        length: number of samples in the run.
        seed: the run's seed.
        real_share: probability that a sample is a real photograph, if there are both kinds.
    """

    def __init__(self, faces: list[FaceFile], size: int, length: int, *, seed: int, real_share: float) -> None:
        self.size, self.length, self.seed, self.real_share = size, length, seed, real_share
        self.real = [face for face in faces if face.real]
        self.other = [face for face in faces if not face.real]
        self.degradation = Degradation()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, counter: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, counter))
        pick_real, place, flip = rng.random(), rng.random(), rng.random() < 0.5
        pool = self.real if self.real and (not self.other or pick_real < self.real_share) else self.other
        truth = read_face(pool[int(place * len(pool))].path)
        if flip:
            truth = np.ascontiguousarray(truth[:, ::-1])
        degraded, _ = self.degradation(truth, seed=(self.seed, counter))
        return to_tensor(resize(degraded, self.size)), to_tensor(resize(truth, self.size))
