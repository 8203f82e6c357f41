"""How good images are, by several measures. One object judges for validation and for ``evaluate``.

PSNR and SSIM: scikit-image on 8-bit RGB (SSIM with its defaults: 7 px uniform window, channels averaged). Sharpness as a share
of the truth's. Perceptual distance and KID by the networks of :mod:`trainer.judge.features`, identity similarity by those of
:mod:`pfr_core.models.identity`; NIQE of its own. LPIPS, DISTS and FID by :mod:`trainer.judge.libraries`. LMD: mean distance of
five points that our own detector finds in result and truth. A network whose features a loss uses flatters the model that was
trained on it: see :func:`optimised_for`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, get_args

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from pfr_core.errors import WeightsError
from pfr_core.models.disk import sha256_of, supplied
from pfr_core.models.download import obtain
from pfr_core.models.identity import IdentityNetwork
from pfr_core.support.choices import IdentityName

from ..data.dataset import RGB8, to_signed
from ..losses import unit_distance
from ..run.config import FEATURE_WEIGHTS, PerceptualName
from .features import DetectorFeatures, PerceptualNetwork
from .landmarks import Landmarks, Points
from .libraries import Dists, Inception, Lpips, fid
from .niqe import FILE, SMALLEST, niqe, read_pristine
from .options import USUAL, Measure, Trunk

log = logging.getLogger(__name__)

TITLES: dict[Measure, str] = {
    "psnr": "PSNR (dB) ↑",
    "ssim": "SSIM ↑",
    "sharpness": "sharpness → 1",
    "perceptual": "perceptual ↓",
    "identity": "identity ↑",
    "kid": "KID × 1000 ↓",
    "niqe": "NIQE ↓",
    "lpips": "LPIPS ↓",
    "dists": "DISTS ↓",
    "lmd": "LMD (px) ↓",
    "fid": "FID ↓",
    "kid_inception": "KID (Inception) × 1000 ↓",
}
HIGHER_IS_BETTER: tuple[Measure, ...] = ("psnr", "ssim", "sharpness", "identity")
OF_SETS: tuple[Measure, ...] = ("kid", "fid", "kid_inception")
"""Measures of a whole set of pictures, which a single one does not have."""
assert tuple(TITLES) == get_args(Measure)

UNSEEN = 60.0
"""PSNR in dB of a quarter of an 8-bit level; what differs less counts as this, for a mean of infinities tells nothing (ours)."""

Scores = dict[Measure, float]
Features = dict[str, Tensor]
"""By the network, ``kid`` (RetinaFace's body) and ``inception``: what pictures look like to it, [N,D]."""
T = TypeVar("T")


class Judge:
    """The networks that measures need, loaded once. What cannot be had is named in the log and left out.

    Args:
        perceptual: network of the perceptual distance; None does without.
        identity: network of the identity similarity; None does without.
        device: where they run.
        measures: those wanted.
        trunk: of LPIPS.
        download: fetch weights of LPIPS, DISTS and FID that are not on this machine.

    Attributes:
        by: what each measure is computed with, of those that can be had; of files with their SHA-256, so that figures of two
            networks are never taken for one's.
        missing: why the others cannot.
    """

    def __init__(
        self,
        perceptual: PerceptualName | None,
        identity: IdentityName | None,
        device: torch.device,
        *,
        measures: Collection[Measure] = USUAL,
        trunk: Trunk = "alexnet",
        download: bool = False,
    ) -> None:
        self.device = device
        self.missing: dict[str, str] = {}

        def had(wanted: bool, load: Callable[[], T], what: str) -> T | None:
            try:
                return load() if wanted else None
            except WeightsError as error:
                log.warning("%s is left out: %s", what, error)
                self.missing[what] = str(error)
                return None

        self.perceptual = self.identity = None
        if perceptual is not None:
            load_perceptual = partial(PerceptualNetwork, perceptual)
            self.perceptual = had("perceptual" in measures, lambda: load_perceptual().to(device), "perceptual distance")
        if identity is not None:
            load_identity = partial(IdentityNetwork, identity)
            self.identity = had("identity" in measures, lambda: load_identity().to(device), "identity similarity")
        self.features = had("kid" in measures, lambda: DetectorFeatures().to(device), "KID")
        self.pristine = had("niqe" in measures, lambda: read_pristine(supplied(FILE)), "NIQE")
        self.lpips = had("lpips" in measures, lambda: Lpips(trunk, device, download), "LPIPS")
        self.dists = had("dists" in measures, lambda: Dists(device, download), "DISTS")
        self.inception = had("fid" in measures or "kid_inception" in measures, lambda: Inception(device, download), "FID")
        self.landmarks = Landmarks(device) if "lmd" in measures else None
        scikit, inception = f"scikit-image {version('scikit-image')}", self.inception.by if self.inception else ""
        detector = hashes(obtain("builtin"), obtain("points")) if self.landmarks else ""
        by: dict[Measure, str] = {
            "psnr": scikit,
            "ssim": scikit,
            "sharpness": "mean absolute Laplacian, share of the truth's",
            "perceptual": f"unit-normalised features of {perceptual}{hashes(self.perceptual.path)}" if self.perceptual else "",
            "identity": f"cosine of {identity}{hashes(self.identity.path)}" if self.identity else "",
            "kid": f"pooled features of RetinaFace's MobileNet body{hashes(self.features.path)}" if self.features else "",
            "niqe": f"{FILE} (SHA-256 {sha256_of(supplied(FILE))})" if self.pristine else "",
            "lpips": self.lpips.by if self.lpips else "",
            "dists": self.dists.by if self.dists else "",
            "lmd": f"five points of PFR's built-in detector in result and truth{detector}",
            "fid": inception,
            "kid_inception": inception,
        }
        self.by: dict[Measure, str] = {name: how for name, how in by.items() if how and name in measures}

    def __call__(self, images: Sequence[RGB8], truths: Sequence[RGB8], points: Sequence[Points]) -> Scores:
        """Return means over restored images [S,S,3] with their truths and the truths' landmarks [5,2]."""
        pairs = [self.pair(i, t, p) for i, t, p in zip(images, truths, points, strict=True)]
        return means(pairs) | self.unpaired(images, truths)

    def unpaired(self, images: Sequence[RGB8], real: Sequence[RGB8]) -> Scores:
        """Return what needs no pairs: KID of the images against the real ones, and NIQE if they are large enough for it."""
        fake, true = (joined([self.embed(i) for i in each]) for each in (images, real))
        return self.apart(fake, true) | means([self.alone(image) for image in images])

    @torch.no_grad()
    def pair(self, image: RGB8, truth: RGB8, points: Points) -> Scores:
        """Return the scores of one image that need its truth; without a face in it it has no LMD."""
        measured: dict[Measure, Callable[[], float | None]] = {
            "ssim": lambda: float(structural_similarity(truth, image, channel_axis=2, data_range=255)),
        }
        a, b = self._tensor(image), self._tensor(truth)
        if (perceptual := self.perceptual) is not None:
            measured["perceptual"] = lambda: unit_distance(perceptual(a), perceptual(b)).item()
        if (identity := self.identity) is not None:
            place = torch.from_numpy(points)[None].float().to(self.device)
            measured["identity"] = lambda: (identity(a, place) * identity(b, place)).sum().item()
        if (lpips := self.lpips) is not None:
            measured["lpips"] = lambda: lpips(a, b)
        if (dists := self.dists) is not None:
            measured["dists"] = lambda: dists(a, b)
        if (landmarks := self.landmarks) is not None:
            measured["lmd"] = lambda: landmarks.distance(image, truth)
        scores = {name: measure() for name, measure in measured.items() if name in self.by}
        plain = {name: score for name, score in fidelity_scores(image, truth).items() if name in self.by}
        return plain | {name: score for name, score in scores.items() if score is not None}

    def alone(self, image: RGB8) -> Scores:
        """Return the scores of one image that need no truth: NIQE, if it is large enough for it."""
        if self.pristine is None or min(image.shape[:2]) < SMALLEST:
            return {}
        return {"niqe": niqe(image, self.pristine)}

    @torch.no_grad()
    def embed(self, image: RGB8) -> Features:
        """Return what measures of sets need of one image."""
        found: Features = {}
        if self.features is not None:
            found["kid"] = self.features(self._tensor(image)).cpu()
        if self.inception is not None:
            found["inception"] = self.inception(torch.tensor(image, device=self.device).permute(2, 0, 1)[None]).cpu()
        return found

    def apart(self, fake: Features, real: Features, faces: Sequence[str] = ()) -> Scores:
        """Return how far two sets are apart, ``faces`` as for :func:`kid`; one picture or face is no such set."""
        few = min([len(each) for features in (fake, real) for each in features.values()], default=0) < 2
        if few or not fake or not real or len({*faces}) == 1:
            return {}
        scores: Scores = {}
        if "kid" in self.by:
            scores["kid"] = 1000 * kid(fake["kid"], real["kid"], faces)
        if "fid" in self.by:
            scores["fid"] = fid(fake["inception"], real["inception"])
        if "kid_inception" in self.by:
            scores["kid_inception"] = 1000 * kid(fake["inception"], real["inception"], faces)
        return scores

    def _tensor(self, image: RGB8) -> Tensor:
        return to_signed(torch.tensor(image, device=self.device).permute(2, 0, 1)[None])


def hashes(*paths: Path) -> str:
    """Return the beginning of each file's SHA-256, in parentheses."""
    return f" (SHA-256 {', '.join(sha256_of(path)[:12] for path in paths)})"


def means(scores: Iterable[Scores]) -> Scores:
    """Return the mean of each measure over the images that have it."""
    found: dict[Measure, list[float]] = {}
    for each in scores:
        for name, score in each.items():
            found.setdefault(name, []).append(score)
    return {name: float(np.mean(values)) for name, values in found.items()}


def joined(features: Sequence[Features]) -> Features:
    """Return the features of several images as those of one set."""
    return {name: torch.cat([each[name] for each in features]) for name in (features[0] if features else {})}


def fidelity_scores(image: RGB8, truth: RGB8) -> Scores:
    """Return what costs nothing to measure: PSNR, at most :data:`UNSEEN`, and sharpness as a share of the truth's."""
    return {"psnr": min(psnr(truth, image), UNSEEN), "sharpness": sharpness(image) / sharpness(truth)}


def psnr(truth: RGB8, image: RGB8) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    with np.errstate(divide="ignore"):  # infinite if nothing differs
        return float(peak_signal_noise_ratio(truth, image, data_range=255))


def sharpness(face: RGB8) -> float:
    """Return the mean absolute Laplacian of the luma within the face, in 8-bit units (ours): eyes to chin in the FFHQ frame."""
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    inside = grey[height // 4 : height * 7 // 8, width // 4 : width * 3 // 4]
    return float(np.abs(cv2.Laplacian(inside, cv2.CV_64F)).mean()) + 1e-6


def kid(a: Tensor, b: Tensor, faces: Sequence[str] = ()) -> float:
    """Return the kernel distance (Bińkowski et al., 2018) of two sets of features [N,D], [M,D].

    It is the unbiased MMD² with the kernel (x·y / D + 1)³, and may be slightly negative. Where ``b`` are the truths of ``a``, the
    pairs of one face between the two lower it: the truths themselves score below 0.

    Args:
        a: features of N pictures.
        b: features of M pictures, all of different faces.
        faces: whose the N are: two of one face are left out of what is within ``a``, as one with itself is, for they are
            alike however good they are. Left out: all are of different faces.
    """
    a, b = a.double(), b.double()
    numbers = {face: number for number, face in enumerate(faces)}
    whose = torch.tensor([numbers[face] for face in faces]) if faces else torch.arange(len(a))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.t() / x.shape[1] + 1) ** 3

    def within(x: Tensor, whose: Tensor) -> Tensor:
        return kernel(x, x)[whose[:, None] != whose].mean()

    return float(within(a, whose) + within(b, torch.arange(len(b))) - 2 * kernel(a, b).mean())


def optimised_for(training: Mapping[str, Any], perceptual: str, identity: str) -> set[Measure]:
    """Return the metrics that a loss of this training optimised; ``training`` is a configuration in a model's provenance."""

    def used(weight: str) -> bool:
        return float(training.get(weight) or 0) > 0

    found: set[Measure] = set()
    if used("l1_weight") or used("psnr_weight"):
        found.add("psnr")
    if any(map(used, FEATURE_WEIGHTS)) and training.get("perceptual") == perceptual:
        found.add("perceptual")
    if used("energy_weight"):
        found.add("sharpness")
    if used("fp_weight") and training.get("identity") == identity:
        found.add("identity")
    return found
