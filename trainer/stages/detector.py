"""Stage ``detector``: the RetinaFace mobile0.25 that ships inside ``pfr_core``, from random weights.

The loss is RetinaFace's multi-box loss: cross entropy over the faces' anchors and the worst of the others, smooth L1 on box
and points of the faces' anchors. Where the published RetinaFace labels a photograph, its probability of every
anchor is the target of the cross entropy (ours), and its boxes and points those of the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfr_core.faces.detections import Detections
from pfr_core.faces.retinaface import anchors, decode, describe, normalised, read_network, save, to_input
from pfr_core.faces.retinaface_network import RetinaFaceNetwork

from ..data.dataset import to_signed
from ..data.detector.dataset import PictureBatch
from ..data.detector.photographs import TEACHER, load_teacher
from ..run.config import DetectorConfig
from .base import Phase, Stage, Terms

FACE = 0.35
"""Anchors of a photograph with at least this probability count as faces (ours)."""

BOX_WEIGHT = 0.5
"""Beside 1 for the score (ours; RetinaFace has 2): from random weights, faces must first of all be told from the rest."""

SHOWN, SHOWN_IOU = 0.5, 0.4
"""In the picture grids: smallest score, and overlap of boxes above which only the best is drawn."""

BEND = 0.2
"""Of smooth L1 (RetinaFace: 1): its slope must not fade before the points are right to a few hundredths of a face (ours)."""

MINIMUM_NEGATIVES = 24
"""Background anchors that count in a picture without faces (ours)."""


@dataclass(frozen=True)
class Targets:
    """For each of B pictures and N anchors.

    Attributes:
        score: [B,N] probability of a face; below 0 where the anchor does not count.
        offsets: [B,N,4] coded boxes, used where ``score`` is at least :data:`FACE`.
        points: [B,N,10] coded points, likewise.
    """

    score: Tensor
    offsets: Tensor
    points: Tensor


def multibox_loss(
    output: tuple[Tensor, Tensor, Tensor], targets: Targets, negatives_per_face: int, points_weight: float
) -> dict[str, Tensor]:
    """Return ``score``, ``box`` and ``points`` losses and their weighted sum ``loss``, divided by the number of faces' anchors.

    That number is of these pictures alone: the mean over several passes with few faces is not what one of all their pictures
    gives, least of all of a pass without a face, whose background is divided by 1.

    Args:
        output: the network's raw offsets [B,N,4], logits [B,N,2] and points [B,N,10].
        targets: what they should be.
        negatives_per_face: background anchors for each face's, the ones with the largest loss of each picture.
        points_weight: of the loss of the points, beside 1 for the score.
    """
    offsets, logits, points = (part.float() for part in output)
    faces = targets.score >= FACE
    count = faces.sum().clamp(min=1)
    log_p = F.log_softmax(logits, dim=2)
    entropy = -(targets.score.clamp(min=0) * log_p[..., 1] + (1 - targets.score.clamp(min=0)) * log_p[..., 0])
    background = entropy.detach().masked_fill(faces | (targets.score < 0), -1.0)
    rank = background.argsort(dim=1, descending=True).argsort(dim=1)
    quota = (negatives_per_face * faces.sum(dim=1, keepdim=True)).clamp(min=MINIMUM_NEGATIVES)
    counted = faces | ((rank < quota) & (background >= 0))
    weight = targets.score[faces][:, None]
    losses = {
        "score": entropy[counted].sum() / count,
        "box": (weight * F.smooth_l1_loss(offsets[faces], targets.offsets[faces], reduction="none", beta=BEND)).sum() / count,
        "points": (weight * F.smooth_l1_loss(points[faces], targets.points[faces], reduction="none", beta=BEND)).sum() / count,
    }
    return {"loss": losses["score"] + BOX_WEIGHT * losses["box"] + points_weight * losses["points"], **losses}


class DetectorStage(Stage[PictureBatch]):
    """See the module.

    Raises:
        WeightsError: what it is to start from is no detector.
    """

    config: DetectorConfig

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(config)
        self.net, self.ema = (RetinaFaceNetwork("mobile0.25", raw=True).to(self.device) for _ in range(2))
        if config.init_from:
            self._start(Path(config.init_from))
        self.ema.load_state_dict(self.net.state_dict())
        self.ema.requires_grad_(False).eval()
        self.networks = nn.ModuleDict({"detector": self.net.train()})
        parameters, rate = list(self.net.parameters()), config.learning_rate
        group = {"params": parameters, "name": "detector", "lr": rate, "base_lr": rate}
        # Fused: the network is so small that the ordinary update of each tensor would cost a tenth of the step.
        self.optimisers = {"detector": torch.optim.AdamW([group], weight_decay=config.weight_decay, fused=True)}
        self.phases = [Phase("main", "detector", parameters, norm="gradient" if config.grad_clip else "")]

    def _start(self, path: Path) -> None:
        """Take over the weights of a detector that this stage exported, its scores as they were before they were shifted."""
        described = describe(path)
        provenance = described["provenance"]
        network, _ = read_network("mobile0.25", path, self.device)
        shift = provenance.get("config", {}).get("score_shift", 0.0)
        enlarge_kernels(network)
        self.net.load_state_dict(_shifted(network, -shift).state_dict())
        self.started_from = json.dumps({**provenance, "licence": described["licence"]})

    @property
    def generator(self) -> nn.Module:
        return self.net

    @property
    def title(self) -> str:
        return f"RetinaFace mobile0.25, pictures of {self.config.side} px"

    def to(self, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self.fixed["teacher"] = load_teacher(device).network.requires_grad_(False)
        super().to(device, autocast)

    def loss(self, phase: str, batch: PictureBatch) -> tuple[Tensor, Terms]:
        images = to_input(batch["image"], self.device)
        targets = self._targets(images, batch)
        with self.autocast():
            output = self.net(images)
        losses = multibox_loss(output, targets, self.config.negatives_per_face, self.config.points_weight)
        terms = {name: value.detach() for name, value in losses.items()}
        return losses["loss"], {**terms, "faces": (targets.score >= FACE).sum().float()}

    def _targets(self, images: Tensor, batch: PictureBatch) -> Targets:
        """Return what the network should say of ``images`` [B,3,S,S]; where that is not known, the teacher is asked."""
        targets = Targets(batch["score"].clone(), batch["offsets"].clone(), batch["points"].clone())
        asked = ~batch["exact"]
        if asked.any():
            with torch.no_grad(), self.autocast():
                offsets, probability, points = self.fixed["teacher"](images[asked])
            targets.score[asked] = probability[..., 1].float()
            targets.offsets[asked], targets.points[asked] = offsets.float(), points.float()
        return targets

    @torch.no_grad()
    def look(self, batch: PictureBatch) -> dict[str, Tensor]:
        """Return ``pictures``: with the faces that should be found, and with those that the average finds."""
        images = to_input(batch["image"], self.device)
        wanted = self._targets(images, batch)
        offsets, logits, points = self.ema(images)
        found = Targets(logits.softmax(dim=2)[..., 1], offsets, points)
        return {"pictures": torch.stack([drawn(batch["image"], each) for each in (wanted, found)], dim=1)}

    def export(self, path: Path, provenance: dict[str, Any], licence: str, dtype: torch.dtype) -> list[Path]:
        earlier = provenance.pop("started_from", None)
        told = {
            **provenance,
            "labels": f"boxes, and all of photographs, by {TEACHER} (soft targets); points of aligned faces by their index",
            "initialisation": f"{'an earlier run' if earlier else 'random'}; no published weights are in this file",
            "earlier_run": earlier,
        }
        config, network = self.config, _shifted(self.ema, self.config.score_shift)
        save(network, path, largest_face=config.largest_face, provenance=told, licence=licence, dtype=dtype)
        return [path]

    def modern(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint in today's form; the detector's runs had one of their own before they shared the loop."""
        if "stage" in state:
            return state
        own = self.optimisers["detector"].param_groups[0]
        (group,) = state["optimiser"]["param_groups"]
        optimiser = {**state["optimiser"], "param_groups": [{**group, "name": own["name"], "base_lr": own["base_lr"]}]}
        return {
            "step": state["step"],
            "best": None,
            "faces_per_step": self.config.pictures,
            "started_from": json.dumps(state["earlier"]) if state["earlier"] else "",
            "data": {},
            "stage": {
                "networks": {f"detector.{name}": value for name, value in state["net"].items()},
                "ema": state["ema"],
                "optimisers": {"detector": optimiser},
                "steered": {},
            },
        }


@torch.no_grad()
def enlarge_kernels(network: nn.Module) -> None:
    """Give the kernels before each batch normalisation the spread of random ones, in place: the network computes the same (ours).

    Those of a file's first layer are a fortieth of that, for its pixels are in 0 to 255 (see :func:`save`). AdamW's steps do not
    depend on how large a weight is: within a few of them such kernels would be noise.
    """
    for module in network.modules():
        for (_, convolution), (_, norm) in normalised(module):
            factor = (3 * convolution.weight[0].numel()) ** -0.5 / convolution.weight.square().mean().sqrt()
            convolution.weight.mul_(factor)
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.mul_(factor)
            norm.running_var.add_(norm.eps).mul_(factor**2).sub_(norm.eps)


def drawn(images: Tensor, faces: Targets) -> Tensor:
    """Return ``images`` [B,S,S,3] RGB uint8 with boxes and points of ``faces`` drawn in, as [B,3,S,S] RGB in [-1,1]."""
    at = anchors(images.shape[1], images.shape[2])
    canvases = images.cpu().numpy().copy()
    for canvas, *said in zip(canvases, faces.score, faces.offsets, faces.points, strict=True):
        score, offsets, points = (part.float().cpu().numpy() for part in said)
        kept = score >= SHOWN
        boxes, xy = decode(offsets[kept], points[kept], at[kept])
        shown = Detections(boxes, score[kept], xy.reshape(-1, 5, 2)).suppressed(SHOWN_IOU)
        for (left, top, right, bottom), five in zip(
            shown.boxes.round().astype(int), shown.points.round().astype(int), strict=True
        ):
            cv2.rectangle(canvas, (int(left), int(top)), (int(right), int(bottom)), (0, 255, 0))
            for x, y in five.tolist():
                cv2.circle(canvas, (x, y), 1, (255, 0, 0))
    return to_signed(torch.from_numpy(canvases).permute(0, 3, 1, 2))


def _shifted(net: Any, shift: float) -> Any:
    """Return a copy of ``net`` that adds ``shift`` to the logit of a face, at every anchor."""
    copy = deepcopy(net)
    for head in copy.ClassHead:
        head.conv1x1.bias.data[1::2] += shift  # background, face, background, face: two anchors a cell
    return copy
