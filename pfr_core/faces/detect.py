"""Finding faces: RetinaFace or YuNet, at a size the caller can set, in a photograph that may stand on its side."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError, ShouldStop, check_stop
from ..models.disk import on_disk
from ..models.download import obtain
from ..models.registry import entry
from ..photo.arrays import fitted
from ..support.choices import CLOSEST_DETECTION, DETECTION_SIZE, DETECTION_THRESHOLD, DetectorName
from ..support.notice import Notice
from .closer import UNSURE, look_closer
from .detections import Detections
from .face import Face
from .geometry import rescale, unturned
from .points import SecondLook
from .retinaface import RetinaFace
from .retinaface_network import Backbone
from .upright import distinct, is_upright, overlap, stand_upright
from .yunet import YuNet

log = logging.getLogger(__name__)

NMS_IOU = 0.4
"""Of boxes that overlap more the best stays (RetinaFace)."""

SMALLEST_SIDE = 64
"""Smaller images are padded to this: the coarsest feature map needs something to look at."""

SHRINK = 2
"""Faces larger than a network finds reliably are looked for in the photograph shrunk by this, again and again (ours)."""

AROUND_LIMIT = 0.8, 1.2
"""Faces between these shares of the size that a network finds reliably are taken from both pictures, for there each may be the
right one; of those that overlap the better one stays (ours)."""

PART = 0.7
"""A surer large face that a smaller one lies in by this share was seen in full; the smaller one is a part of it (ours)."""

SMALL, WEAK, SEVERAL = 24, 0.4, 5
"""Where so many that might be faces are narrower than this (px as looked at), from this score on, a photograph that was shrunk is
looked at twice as large, and so on. Values ours, from photographs that are not for testing."""

BEST: DetectorName = "retinaface_mobile0.25"
"""The better detector, which ``auto`` takes if it is on this machine."""
BACKBONES: dict[DetectorName, Backbone] = {
    "builtin": "mobile0.25",
    "retinaface_mobile0.25": "mobile0.25",
    "retinaface_resnet50": "resnet50",
}


def on_this_machine(name: DetectorName) -> DetectorName:
    """Return the detector that a name means here: ``auto`` is the better one if its file is on disk, else the one that ships."""
    if name != "auto":
        return name
    return BEST if on_disk(BEST) else "builtin"


class Look(NamedTuple):
    """What was seen in a picture of that width and height, at its size and smaller ones."""

    seen: Detections
    width: int
    height: int


class Detector:
    """A network that finds faces, loaded at the first use.

    Args:
        name: which network. Only those named with ``retinaface`` and ``yunet`` are ever downloaded, when first used.
        device: where it runs; YuNet runs on the CPU whatever is said here.
        weights: a file to use instead of the one that the registry knows under ``name``.
        second_look: place the points of what was found anew (see ``points``), with weights of one's own if that is a file;
            without it they are the network's own.
        closest: longer side in px up to which it goes on by itself where many faces seem small.

    Raises:
        InputError: unknown name.
        WeightsError: the weights cannot be found, downloaded or read (at first use).

    Example:
        >>> from pfr_core.photo.read import read_photo
        >>> len(Detector("builtin").detect(read_photo("examples/two_faces.jpg").pixels, threshold=0.8))
        2
    """

    def __init__(
        self,
        name: DetectorName = "auto",
        device: str | torch.device = "cpu",
        *,
        weights: Path | None = None,
        second_look: bool | Path = True,
        closest: int = CLOSEST_DETECTION,
    ) -> None:
        if name not in get_args(DetectorName):
            raise InputError(f"Unknown detector {name!r}; choose from {', '.join(get_args(DetectorName))}.")
        self.name = name
        self.device = torch.device(device)
        self.weights = weights
        self.second_look = second_look
        self.closest = closest
        self._second_best = self._unsure = False
        self._network: RetinaFace | YuNet | None = None
        self._again: SecondLook | None = None

    def detect(
        self,
        image: npt.NDArray[np.uint8],
        *,
        threshold: float = DETECTION_THRESHOLD,
        size: int = DETECTION_SIZE,
        sideways: bool = False,
        right_way_up: bool = False,
        should_stop: ShouldStop | None = None,
    ) -> list[Face]:
        """Return the faces in ``image`` [H,W,3] RGB uint8, best score first, boxes clipped to the image.

        Args:
            image: the photograph.
            threshold: lowest score that counts as a face, 0 to 1; of the built-in detector's the middling ones are changed by a
                closer look (see ``closer``).
            size: the photograph is shrunk until its longer side is at most this; it is never enlarged. Large faces are
                looked for at half of that size too, and so on; where there seem to be many small ones, the photograph is
                looked at twice as large, and so on, up to ``closest``.
            sideways: look at the photograph turned by 90, 180 and 270 degrees too (four times the work).
            right_way_up: without ``sideways``, see to it that faces which lie are seen the right way up, at little cost; see
                ``upright``.
            should_stop: asked before each run of the network, and while its weights are downloaded.

        Raises:
            WeightsError: the weights cannot be found, downloaded or read.
            Cancelled: ``should_stop`` asked for it.
        """
        if self._network is None:
            self._network = self._load(should_stop)
        closer = self._unsure and not sideways  # of overlapping faces of several turns the best has been chosen already
        low = min(threshold, UNSURE[0]) if closer else threshold
        found, doubted = self._find(image, low, size, range(4) if sideways else (0,), should_stop), list[Face]()
        if closer:
            before = [face for face in found if face.score >= threshold]
            found = [face for face in look_closer(self._see, image, found, should_stop) if face.score >= threshold]
            still = {face.box for face in found}
            doubted = [face for face in before if face.box not in still]
        placed, clear = self._look_again(image, found, should_stop)
        if sideways or not right_way_up:
            return placed
        # What a closer look took for no face may be one that lies.
        known = [*placed, *doubted]
        righted = stand_upright(
            lambda picture, low: self._find(picture, low, max(picture.shape), (0,), should_stop),
            image,
            known,
            [*clear, *[False] * len(doubted)],
            threshold=threshold,
            sure=self._network.sure,
            size=size,
            doubted=doubted,
        )
        turned = [face for face in righted if face not in known]
        anew = dict(zip(turned, self._look_again(image, turned, should_stop)[0], strict=True))
        return [anew.get(face, face) for face in righted]

    def advice(self) -> Notice | None:
        """Return how a better detector is had, if ``auto`` looked for faces with the one that ships with PFR."""
        if not self._second_best:
            return None
        size = entry(BEST).bytes / 1e6
        text = (
            f"a better detector than the one that ships with PFR is a download of {size:.1f} MB away: pfr weights download {BEST}"
        )
        return Notice("better_detector", text, numbers={"megabytes": size})

    def release(self) -> None:
        """Forget the network and its memory; the next use loads it again."""
        self._network = self._again = None

    def _look_again(
        self, image: npt.NDArray[np.uint8], faces: list[Face], should_stop: ShouldStop | None
    ) -> tuple[list[Face], list[bool]]:
        """Return the faces with the points of the second look, if there is to be one, and which it sees clearly."""
        if not (self.second_look and faces):
            return faces, [False] * len(faces)
        check_stop(should_stop)
        if self._again is None:
            given = self.second_look
            self._again = SecondLook(given, self.device) if isinstance(given, Path) else SecondLook.load(self.device)
        return self._again.judge(image, faces)

    def _find(
        self,
        image: npt.NDArray[np.uint8],
        threshold: float,
        size: int,
        turns: Sequence[int],
        should_stop: ShouldStop | None,
        before: Mapping[int, Look] = MappingProxyType({}),
    ) -> list[Face]:
        """Do as :meth:`detect`, with the network's own points, whichever way the faces stand.

        Args:
            image: as there.
            threshold: as there.
            size: as there.
            turns: by how many quarters the photograph is turned to be looked at.
            should_stop: as there.
            before: for each of ``turns``, what was seen at half of ``size``, or more.
        """
        small = fitted(image, size)
        looks = {
            number: self._run_at_scales(
                np.ascontiguousarray(np.rot90(small, number)), min(threshold, WEAK), should_stop, before.get(number)
            )
            for number in turns
        }
        found, narrow = list[Face](), 0
        for number, look in looks.items():
            seen = look.seen
            if len(turns) > 1:
                seen = seen[np.array([is_upright(points) for points in seen.points], bool)]
            narrow = max(narrow, int(((seen.widths < SMALL) & (seen.scores >= WEAK)).sum()))
            found += _to_faces(seen[seen.scores >= threshold], number, small.shape, image.shape)
        if narrow >= SEVERAL and size < max(image.shape[:2]) and size < self.closest:
            log.info("%d small faces, or what may be some, at %d px: a closer look", narrow, size)
            return self._find(image, threshold, min(2 * size, self.closest), turns, should_stop, looks)
        # An empty box was seen in the padding of a small image, or beyond the edge.
        found = [face for face in found if face.box[0] < face.box[2] and face.box[1] < face.box[3]]
        found.sort(key=lambda face: face.score, reverse=True)
        return distinct(found) if len(turns) > 1 else found

    def _run_at_scales(
        self,
        image: npt.NDArray[np.uint8],
        threshold: float,
        should_stop: ShouldStop | None,
        smaller: Look | None = None,
    ) -> Look:
        """Do as :meth:`_run`, and find the faces that are too large for the network in ``image`` shrunk.

        Args:
            image: where faces are looked for.
            threshold: lowest score.
            should_stop: as for :meth:`detect`.
            smaller: what this gave of ``image`` shrunk to a half of it or more, if that was looked at already.
        """
        assert self._network is not None
        check_stop(should_stop)
        found, limit = self._run(image, threshold), self._network.largest_face
        height, width = image.shape[:2]
        if max(height, width) <= limit:
            return Look(found, width, height)
        if smaller is None:
            target = (max(1, width // SHRINK), max(1, height // SHRINK))
            smaller = self._run_at_scales(cv2.resize(image, target, interpolation=cv2.INTER_AREA), threshold, should_stop)
        large = smaller.seen.rescaled(width / smaller.width, height / smaller.height)
        large, found = large[large.widths > AROUND_LIMIT[0] * limit], found[found.widths < AROUND_LIMIT[1] * limit]
        parts = [
            any(surer > score and overlap(box, whole) > PART for whole, surer in zip(large.boxes, large.scores, strict=True))
            for box, score in zip(found.boxes, found.scores, strict=True)
        ]
        return Look((found[~np.array(parts, bool)] + large).suppressed(NMS_IOU), width, height)

    def _see(self, image: npt.NDArray[np.uint8], threshold: float) -> list[Face]:
        """Return the faces that the network sees in ``image`` at its one size."""
        return list(_to_faces(self._run(image, threshold), 0, image.shape, image.shape))

    def _run(self, image: npt.NDArray[np.uint8], threshold: float) -> Detections:
        """Return what the network sees in ``image``."""
        height, width = image.shape[:2]
        bottom, right = max(0, SMALLEST_SIDE - height), max(0, SMALLEST_SIDE - width)
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        assert self._network is not None
        return self._network.detect_faces(image, conf_threshold=threshold, nms_threshold=NMS_IOU)

    def _load(self, should_stop: ShouldStop | None) -> RetinaFace | YuNet:
        name = self.name
        if name == "auto":
            name = on_this_machine(name) if self.weights is None else "builtin"
            self._second_best = name != BEST and self.weights is None
        self._unsure = name == "builtin"  # measured for it alone, with the weights that ship
        path = self.weights or obtain(name, should_stop=should_stop)
        log.info("detector %s from %s", name, path)
        return YuNet(path) if name == "yunet" else RetinaFace.load(BACKBONES[name], path, self.device)


def _to_faces(found: Detections, turns: int, small: tuple[int, ...], full: tuple[int, ...]) -> Iterator[Face]:
    """Yield what was found after ``turns`` quarter turns of the shrunk photo as faces, in pixels of the photograph."""
    height, width = small[:2]
    scale = np.array([full[1] / width, full[0] / height])
    for box, score, points in zip(found.boxes, found.scores, found.points, strict=True):
        xy = np.concatenate([box.reshape(2, 2), points]).astype(np.float64)  # two corners, five points
        xy = rescale(unturned(xy, turns, width, height), scale)
        corners = np.clip(xy[:2], 0, [full[1] - 1, full[0] - 1])
        yield Face.of([*corners.min(axis=0), *corners.max(axis=0)], float(score), xy[2:])
