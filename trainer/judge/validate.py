"""Validation inside a run: the judging of ``evaluate`` on some held-out faces, or on the prior's samples, at the network's size.

At 512 px a network trained smaller leaves most of a face as it is, and the scores would hardly tell one from another.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pfr_core import PFR
from pfr_core.errors import InputError

from ..data.dataset import RGB8, FaceDataset, read_face, resize_square, to_bytes
from ..data.index import FaceFile, list_faces
from ..data.loader import TrainingSet
from ..data.options import FULL_SIZE
from ..run.config import FaceConfig, RestoreConfig, RunConfig
from ..stages import PriorStage, Stage
from .methods import restore_with
from .metrics import HIGHER_IS_BETTER, Judge, Scores
from .niqe import SMALLEST
from .options import SMALLEST_SIZE
from .sources import Case, DegradedFaces, truths_of

log = logging.getLogger(__name__)

SAMPLES_AT_ONCE = 8


def is_due(config: RunConfig, step: int) -> bool:
    """Return whether ``step`` is followed by a validation. A detector's run has none: nothing may be chosen by its test half."""
    if not isinstance(config, FaceConfig) or not config.validate_every:
        return False
    return step % config.validate_every == 0 or step == config.iterations


def open_validation(config: RunConfig, stage: Stage[Any], data: TrainingSet) -> Validation | None:
    """Return the validation of a run, if it has any."""
    if not isinstance(config, FaceConfig) or not config.validate_every:
        return None
    assert isinstance(data, FaceDataset)
    return Validation(config, stage, data.faces)


class Validation:
    """Judges a stage's average on held-out faces, which are read once.

    Args:
        config: the run.
        stage: what will be judged.
        trained_on: its training faces, among which the held-out ones should not be.

    Raises:
        InputError: there are none that can be read, or the metric that decides what is best cannot be computed.
    """

    def __init__(self, config: FaceConfig, stage: Stage[Any], trained_on: Sequence[FaceFile]) -> None:
        self.config = config
        self.size = min(FULL_SIZE, max(SMALLEST_SIZE, config.shape.size))
        prior = isinstance(stage, PriorStage)
        if isinstance(config, RestoreConfig):
            self.judge = Judge(config.perceptual, config.identity, stage.device)
        else:
            self.judge = Judge(None, None, stage.device)
        too_small = config.best_by == "niqe" and self.size < SMALLEST
        if config.best_by not in self.judge.by or too_small or (prior and config.best_by not in ("kid", "niqe")):
            raise InputError(f"best_by {config.best_by} cannot be computed here; choose another, or --validate-every 0.")
        try:
            held_out = list_faces(config.data, "val", min_native=config.min_native)
            shown = held_out[: config.validate_faces]
            source = DegradedFaces(shown, draws=1, size=self.size)
            self.real, self.cases = list[RGB8](), list[Case]()
            for number, (face, full) in enumerate(_readable(shown, config.data)):
                if prior:
                    self.real.append(resize_square(full, self.size))
                else:
                    self.cases += source.cases_of(number, face.name, face, full, probes=False)
            if config.best_by == "kid" and len(self.real) + len(self.cases) < 2:
                raise InputError("best_by kid needs at least two held-out faces; hold out more, or choose another")
            train = {face.stored for face in trained_on}
            if any(face.stored in train for face in held_out):
                log.warning("%s: has no held-out faces; validation is on training faces and flatters.", config.data)
        except InputError as error:
            raise InputError(f"{error} (for validation; --validate-every 0 does without)") from error

    @torch.no_grad()
    def __call__(self, stage: Stage[Any]) -> Scores:
        """Return the scores of the stage's average."""
        if isinstance(stage, PriorStage):
            numbers = range(len(self.real))
            samples = torch.cat(
                [stage.sample(list(numbers[i : i + SAMPLES_AT_ONCE])) for i in range(0, len(numbers), SAMPLES_AT_ONCE)]
            )
            faces = [resize_square(face, self.size) for face in to_bytes(samples).permute(0, 2, 3, 1).cpu().numpy()]
            return self.judge.unpaired(faces, self.real)
        assert isinstance(stage.ema, PFR)
        restore = restore_with(stage.ema, stage.device)
        images = [restore(case.given) for case in self.cases]
        return self.judge(images, *truths_of(self.cases))

    def rank(self, scores: Scores) -> float:
        """Return the deciding score, turned so that more is better."""
        score = scores[self.config.best_by]
        if self.config.best_by == "sharpness":  # a share of the truth's: more than all of it is too much
            return -abs(score - 1)
        return score if self.config.best_by in HIGHER_IS_BETTER else -score


def _readable(faces: Sequence[FaceFile], source: str) -> Iterator[tuple[FaceFile, RGB8]]:
    """Yield the faces that can be read, one after the other, with their pixels; the others are named and counted.

    Raises:
        InputError: none can.
    """
    skipped = 0
    for face in faces:
        try:
            full = read_face(face.stored)
        except InputError as error:
            skipped += 1
            log.warning("skipped: %s", error)
        else:
            yield face, full
    if skipped == len(faces):
        raise InputError(f"{source}: none of {len(faces)} held-out faces can be read. Check the training set.")
    if skipped:
        log.warning("%s: validation is without %d of %d held-out faces.", source, skipped, len(faces))
