"""How good images are, by several measures. One function judges for validation and for ``evaluate``.

PSNR and SSIM: scikit-image on 8-bit RGB (SSIM with its defaults: 7 px uniform window, channels averaged). Sharpness as a share
of the truth's. Perceptual distance, identity similarity and KID by the networks of :mod:`trainer.judge.features`; NIQE of its
own. A network whose features a loss uses flatters the model that was trained on it: see :func:`optimised_for`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from pfr_core.errors import WeightsError
from pfr_core.models.disk import supplied

from ..data.dataset import RGB8, to_signed
from ..losses import unit_distance
from ..run.config import IdentityName, Metric, PerceptualName
from .features import DetectorFeatures, IdentityNetwork, PerceptualNetwork
from .niqe import FILE, SMALLEST, niqe, read_pristine

log = logging.getLogger(__name__)

TITLES: dict[Metric, str] = {
    "psnr": "PSNR (dB) ↑",
    "ssim": "SSIM ↑",
    "sharpness": "sharpness → 1",
    "perceptual": "perceptual ↓",
    "identity": "identity ↑",
    "kid": "KID × 1000 ↓",
    "niqe": "NIQE ↓",
}
HIGHER_IS_BETTER: tuple[Metric, ...] = ("psnr", "ssim", "sharpness", "identity")
assert tuple(TITLES) == get_args(Metric)

Scores = dict[Metric, float]
T = TypeVar("T")
Points = npt.NDArray[np.float64]


class Judge:
    """The networks that metrics need, loaded once. What cannot be had is named in the log and left out.

    Args:
        perceptual: network of the perceptual distance; None does without.
        identity: network of the identity similarity; None does without.
        device: where they run.
    """

    def __init__(self, perceptual: PerceptualName | None, identity: IdentityName | None, device: torch.device) -> None:
        self.device = device
        self.perceptual = self.identity = None
        if perceptual is not None:
            self.perceptual = _had(lambda: PerceptualNetwork(perceptual).to(device), "perceptual distance")
        if identity is not None:
            self.identity = _had(lambda: IdentityNetwork(identity).to(device), "identity similarity")
        self.features = _had(lambda: DetectorFeatures().to(device), "KID")
        self.pristine = _had(lambda: read_pristine(supplied(FILE)), "NIQE")

    @torch.no_grad()
    def __call__(self, images: Sequence[RGB8], truths: Sequence[RGB8], points: Sequence[Points]) -> Scores:
        """Return means over restored images [S,S,3] with their truths and the truths' landmarks [5,2]."""
        found: Scores = {
            "psnr": _mean(psnr(t, i) for i, t in zip(images, truths, strict=True)),
            "ssim": _mean(
                structural_similarity(t, i, channel_axis=2, data_range=255) for i, t in zip(images, truths, strict=True)
            ),
            "sharpness": _mean(sharpness(i) / sharpness(t) for i, t in zip(images, truths, strict=True)),
        }
        pairs = [(self._tensor(i), self._tensor(t)) for i, t in zip(images, truths, strict=True)]
        if self.perceptual is not None:
            found["perceptual"] = _mean(unit_distance(self.perceptual(i), self.perceptual(t)).item() for i, t in pairs)
        if self.identity is not None:
            places = [torch.from_numpy(p)[None].float().to(self.device) for p in points]
            cosines = [(self.identity(i, p) * self.identity(t, p)).sum().item() for (i, t), p in zip(pairs, places, strict=True)]
            found["identity"] = _mean(cosines)
        return found | self.unpaired(images, truths)

    @torch.no_grad()
    def unpaired(self, images: Sequence[RGB8], real: Sequence[RGB8]) -> Scores:
        """Return what needs no pairs: KID of the images against the real ones, and NIQE if they are large enough for it."""
        found: Scores = {}
        if self.features is not None:
            fake, true = (torch.cat([self.features(self._tensor(i)) for i in each]) for each in (images, real))
            found["kid"] = 1000 * kid(fake, true)
        if self.pristine is not None and min(images[0].shape[:2]) >= SMALLEST:
            found["niqe"] = _mean(niqe(image, self.pristine) for image in images)
        return found

    def _tensor(self, image: RGB8) -> Tensor:
        return to_signed(torch.tensor(image, device=self.device).permute(2, 0, 1)[None])


def _had(load: Callable[[], T], what: str) -> T | None:
    try:
        return load()
    except WeightsError as error:
        log.warning("%s is left out: %s", what, error)
        return None


def psnr(truth: RGB8, image: RGB8) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    return float(peak_signal_noise_ratio(truth, image, data_range=255))


def sharpness(face: RGB8) -> float:
    """Return the mean absolute Laplacian of the luma within the face, in 8-bit units (ours): eyes to chin in the FFHQ frame."""
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    inside = grey[height // 4 : height * 7 // 8, width // 4 : width * 3 // 4]
    return float(np.abs(cv2.Laplacian(inside, cv2.CV_64F)).mean()) + 1e-6


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def kid(a: Tensor, b: Tensor) -> float:
    """Return the kernel distance (Bińkowski et al., 2018) of two sets of features [N,D], [M,D].

    It is the unbiased MMD² with the kernel (x·y / D + 1)³, and may be slightly negative.
    """
    a, b = a.double(), b.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.t() / x.shape[1] + 1) ** 3

    n, m = len(a), len(b)
    own_a, own_b = kernel(a, a), kernel(b, b)
    within = (own_a.sum() - own_a.trace()) / (n * (n - 1)) + (own_b.sum() - own_b.trace()) / (m * (m - 1))
    return float(within - 2 * kernel(a, b).mean())


def optimised_for(training: Mapping[str, Any], perceptual: str, identity: str) -> set[Metric]:
    """Return the metrics that a loss of this training optimised; ``training`` is the configuration in a model's provenance."""

    def used(weight: str) -> bool:
        return float(training.get(weight) or 0) > 0

    found: set[Metric] = set()
    if used("l1_weight"):
        found.add("psnr")
    if (used("fm_weight") or used("unit_weight") or used("projected_weight")) and training.get("perceptual") == perceptual:
        found.add("perceptual")
    if used("fp_weight") and training.get("identity") == identity:
        found.add("identity")
    return found


def table(rows: Mapping[str, Scores], caption: str, labelled: set[Metric]) -> str:
    """Return a Markdown table; the columns in ``labelled`` carry a star that is explained below it."""
    columns = [name for name in TITLES if any(name in scores for scores in rows.values())]
    head = [TITLES[name] + (" *" if name in labelled else "") for name in columns]
    digits = {"psnr": 2, "ssim": 4, "sharpness": 2, "perceptual": 4, "identity": 3, "kid": 2, "niqe": 2}
    lines = [f"| {caption} | {' | '.join(head)} |", "| --- " * (len(columns) + 1) + "|"]
    for name, scores in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{scores[c]:.{digits[c]}f}' if c in scores else '' for c in columns)} |")
    if labelled:
        lines += ["", "\\* optimised for: a loss of the model's training uses this measure or its network; judge by the others."]
    return "\n".join(lines)
