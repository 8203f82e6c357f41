"""Validation inside a run: the judging of ``evaluate`` on some held-out faces, or on the prior's samples, at the network's size.

At 512 px a network trained smaller leaves most of a face as it is, and the scores would hardly tell one from another.
"""

from __future__ import annotations

import logging

import torch

from pfr_core import PFR
from pfr_core.errors import InputError

from ..data.dataset import FULL_SIZE, list_faces, read_face, resize, to_bytes
from ..run.config import RunConfig
from ..stages import PriorStage, Stage
from .evaluate import SMALLEST_SIZE, degraded_pairs, restore_with
from .metrics import HIGHER_IS_BETTER, Judge, Scores
from .niqe import SMALLEST

log = logging.getLogger(__name__)

BATCH = 8


class Validation:
    """Held-out faces, read once.

    Raises:
        InputError: there are none, or the metric that decides what is best cannot be computed.
    """

    def __init__(self, config: RunConfig, stage: Stage) -> None:
        self.config = config
        self.size = min(FULL_SIZE, max(SMALLEST_SIZE, config.shape.size))
        prior = isinstance(stage, PriorStage)
        self.judge = Judge(None if prior else config.perceptual, None if prior else config.identity, stage.device)
        have: dict[str, object] = {
            "psnr": True,
            "ssim": True,
            "sharpness": True,
            "perceptual": self.judge.perceptual,
            "identity": self.judge.identity,
            "kid": self.judge.features,
            "niqe": self.judge.pristine if self.size >= SMALLEST else None,
        }
        if have[config.best_by] is None or (prior and config.best_by not in ("kid", "niqe")):
            raise InputError(f"best_by {config.best_by} cannot be computed here; choose another, or --validate-every 0.")
        try:
            if prior:
                held_out = list_faces(config.data, "val")[: config.validate_faces]
                self.real = [resize(read_face(face.stored), self.size) for face in held_out]
            else:
                self.pairs = degraded_pairs(config.data, config.validate_faces, draws=1, size=self.size)
            train = {face.stored for face in list_faces(config.data, "train", min_native=config.min_native)}
            if any(face.stored in train for face in list_faces(config.data, "val")):
                log.warning("%s: has no held-out faces; validation is on training faces and flatters.", config.data)
        except InputError as error:
            raise InputError(f"{error} (for validation; --validate-every 0 does without)") from error

    @torch.no_grad()
    def __call__(self, stage: Stage) -> Scores:
        """Scores of the stage's average."""
        if isinstance(stage, PriorStage):
            numbers = range(len(self.real))
            samples = torch.cat([stage.sample(list(numbers[i : i + BATCH])) for i in range(0, len(numbers), BATCH)])
            faces = [resize(face, self.size) for face in to_bytes(samples).permute(0, 2, 3, 1).cpu().numpy()]
            return self.judge.unpaired(faces, self.real)
        assert isinstance(stage.ema, PFR)
        restore = restore_with(stage.ema, stage.device)
        images = [restore(pair.degraded) for pair in self.pairs]
        return self.judge(images, [pair.truth for pair in self.pairs], [pair.points for pair in self.pairs])

    def rank(self, scores: Scores) -> float:
        """Return the deciding score, turned so that more is better."""
        score = scores[self.config.best_by]
        return score if self.config.best_by in HIGHER_IS_BETTER else -score
