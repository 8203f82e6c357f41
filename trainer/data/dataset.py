"""Training data: aligned faces, degraded on the fly by Eq. 17.

A sample is a pure function of (run seed, sample counter): neither the number of workers nor an interruption changes it.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from pfr_core import Degradation
from pfr_core.degradation import degrade
from pfr_core.errors import InputError
from pfr_core.faces.face import MIRRORED
from pfr_core.faces.geometry import rescale
from pfr_core.photo.decode import turned
from pfr_core.photo.pillow import orientation_of

from .. import program
from ..run.randomness import sample_seed
from .components import flip_boxes
from .index import UNREADABLE, FaceFile
from .loader import TrainingSet
from .options import FULL_SIZE
from .shards import Stored

if TYPE_CHECKING:
    from typing import NotRequired  # Python 3.11

log = logging.getLogger(__name__)

MILD = (
    Degradation(blur=("isotropic",), sigma=(0.1, 2.0), scale=(1.5, 5.0), noise=(0.0, 5.0), quality=(60, 95)),
    Degradation(blur=None, scale=(1.0, 4.0), noise=(0.0, 10.0), quality=(20, 80)),
    Degradation(blur=None, scale=(1.5, 6.0), noise=None, quality=None),
    Degradation(blur=None, scale=(1.5, 6.0), noise=None, quality=(75, 98)),
    Degradation(blur=None, scale=None, noise=(5.0, 25.0), quality=None),
    Degradation(blur=None, scale=None, noise=None, quality=(8, 50)),
)
"""What good photographs with small, noisy or much compressed faces went through (ours, equally likely): Eq. 17 blurs them all.

They are enlarged as the pipeline enlarges a small face. One that is only small is to keep its moles and freckles, which a network
that has never seen one without noise takes for noise.
"""

ATTEMPTS = 10
"""Unreadable images in a row after which the set is taken for broken."""

RGB8 = npt.NDArray[np.uint8]


class FaceBatch(TypedDict):
    """B aligned faces of S px.

    Attributes:
        truth: [B,3,S,S] uint8.
        degraded: the same, degraded; only for the stage that restores.
        mask: [B,1,S,S] uint8, 0 beyond the photograph's edge.
        boxes: [B,3,4] float32, of left eye, right eye and mouth in px of S.
        points: [B,5,2] float32, in px of S.
        counter: [B] numbers of the samples.
        skipped: [B] numbers of unreadable images met on the way.
        piece: left and top of the piece of each that features and details are taken of.
        fake: [B,3,S,S] in [-1,1], what the generator made of them in this step.
        fake_features: features of ``fake``, layer by layer, for the heads that judge them.
        real_features: those of ``truth``.
    """

    truth: Tensor
    degraded: NotRequired[Tensor]
    mask: Tensor
    boxes: Tensor
    points: Tensor
    counter: Tensor
    skipped: Tensor
    piece: NotRequired[list[tuple[int, int]]]
    fake: NotRequired[Tensor]
    fake_features: NotRequired[list[Tensor]]
    real_features: NotRequired[list[Tensor]]


def read_face(stored: Stored | Path) -> RGB8:
    """Return an aligned face as [512,512,3] RGB uint8, turned as its EXIF data say, as all that PFR reads.

    Raises:
        InputError: the image cannot be read, or is not square; the message names it.
    """
    stored = stored if isinstance(stored, Stored) else Stored(str(stored))
    data = stored.read()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would cut off what is above 255
                rgb = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            else:
                rgb = np.asarray(image.convert("RGB"))
            rgb = np.ascontiguousarray(turned(rgb, orientation_of(image)))
    except UNREADABLE as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # that one's is about an object in memory
        raise InputError(f"{stored}: cannot be read as an image{reason}. Remove it from the training set.") from error
    if rgb.shape[0] != rgb.shape[1]:
        raise InputError(
            f"{stored}: is not square, so it is no aligned face. Remove it from the training set, or cut its faces out with: "
            f"{program()} prepare PHOTOS FOLDER"
        )
    return resize_square(rgb, FULL_SIZE)


def resize_square(image: RGB8, size: int) -> RGB8:
    """Resize to a square: averaging areas when shrinking, bicubic when enlarging."""
    if image.shape[:2] == (size, size):
        return image
    smaller = size < image.shape[0]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def to_signed(images: Tensor) -> Tensor:
    """Convert uint8 to float32 in [-1,1]."""
    return images.float() / 127.5 - 1.0


def to_bytes(images: Tensor) -> Tensor:
    """Convert [-1,1] to uint8."""
    return (images.detach().float().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


class FaceDataset(TrainingSet):
    """Aligned faces, of which a sample is what a :class:`FaceBatch` holds B of.

    Args:
        faces: what to draw from.
        size: the network's size in px.
        seed: the run's seed.
        real_share: probability that a sample is a real photograph, if there are both kinds.
        degrade: whether to degrade.
        clean_share: share of samples whose degraded face is the truth itself.
        mild_share: share of samples degraded by one of :data:`MILD`.

    Raises:
        InputError: the network is larger than the faces.
    """

    unit = "faces"
    compared = ("faces", "real_faces", "data_licences")

    def __init__(
        self,
        faces: Sequence[FaceFile],
        size: int,
        *,
        seed: int,
        real_share: float,
        degrade: bool,
        clean_share: float = 0.0,
        mild_share: float = 0.0,
    ) -> None:
        if size > FULL_SIZE:  # enlarged faces would be the truth
            raise InputError(f"A network of {size} px: faces are read at {FULL_SIZE} px. Train it with --size {FULL_SIZE}.")
        self.faces, self.size, self.seed, self.real_share, self.degrade = faces, size, seed, real_share, degrade
        self.clean_share, self.mild_share = clean_share, mild_share
        licences = Counter(face.licence for face in faces)
        self.facts = {
            "faces": len(faces),
            "real_faces": sum(face.real for face in faces),
            "data_licences": dict(sorted(licences.items())),
        }
        self.real = [face for face in faces if face.real]
        self.other = [face for face in faces if not face.real]
        self.degradation = Degradation() if degrade else None

    def __str__(self) -> str:
        return f"{len(self.faces)} faces"

    def to_look_at(self) -> FaceDataset:
        """Return the real faces among them, if there are any."""
        return FaceDataset(self.faces, self.size, seed=self.seed, real_share=1.0, degrade=self.degrade)

    def __getitem__(self, counter: int) -> dict[str, Tensor]:
        rng = self._random("face", counter)
        pick_real, place, flip = rng.random(), rng.random(), rng.random() < 0.5
        pool = self.real if self.real and (not self.other or pick_real < self.real_share) else self.other
        face, truth, skipped = self._read(pool, int(place * len(pool)))
        factor = self.size / face.size
        boxes, points = face.boxes * factor, rescale(face.points, factor)
        mask = np.ones((self.size, self.size), np.uint8)
        if face.photo is not None:
            mask[:] = 0
            cv2.fillConvexPoly(mask, np.rint(rescale(face.photo, factor)).astype(np.int32), 1)
        if flip:
            truth, mask = np.ascontiguousarray(truth[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
            boxes = flip_boxes(boxes, self.size)
            points = ((self.size - 1, 0) + points * (-1, 1))[MIRRORED]
        sample = {
            "truth": _channels_first(resize_square(truth, self.size)),
            "mask": torch.from_numpy(mask)[None],
            "boxes": torch.from_numpy(boxes.astype(np.float32)),
            "points": torch.from_numpy(points.astype(np.float32)),
            "counter": torch.tensor(counter),
            "skipped": torch.tensor(skipped),
        }
        if self.degradation is not None:
            sample["degraded"] = _channels_first(resize_square(self._degraded(truth, self.degradation, counter), self.size))
        return sample

    def _degraded(self, truth: RGB8, degradation: Degradation, counter: int) -> RGB8:
        kind = self._random("clean", counter).random()
        if kind < self.clean_share:
            return truth
        seed = sample_seed(self.seed, "degradation", counter)
        if kind < self.clean_share + self.mild_share:
            mild = MILD[int((kind - self.clean_share) / self.mild_share * len(MILD))]
            return degrade(truth, mild.draw(seed), cv2.INTER_CUBIC)
        return degradation(truth, seed)[0]

    def _random(self, purpose: str, counter: int) -> np.random.Generator:
        return np.random.default_rng(sample_seed(self.seed, purpose, counter))

    def _read(self, pool: list[FaceFile], first: int) -> tuple[FaceFile, RGB8, int]:
        """Return the first readable face from number ``first`` on, and how many were not."""
        for skipped in range(min(ATTEMPTS, len(pool))):
            face = pool[(first + skipped) % len(pool)]
            try:
                return face, read_face(face.stored), skipped
            except InputError as error:
                log.warning("skipped: %s", error)
        raise InputError(f"{pool[first].stored}: neither this nor the images after it can be read. Check the training set.")


def _channels_first(image: RGB8) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
